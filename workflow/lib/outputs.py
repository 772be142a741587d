"""A rule's record of its outputs: which bytes its last job wrote, so that other bytes in their place are noticed.

Snakemake compares outputs with nothing, and forgives changed parameters where it has no memory of a file, as in a
fresh clone. The record is an input of its rule, always newer than the outputs, so that Snakemake compares it by content
with the one that it remembers. The rule's job writes it; and where the controller finds other files than it says
(`dvc checkout`, `dvc exp apply`, a step run by hand), it writes the record anew. Both that and no memory make the rule
stale, until it has run or `snakemake --touch` accepts the files.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from imbnas.data.fingerprints import noted
from imbnas.errors import UserError, naming_files
from imbnas.files import canonical_json, digest_file, read_json, write_bytes

RAW = "raw files"
"""The line of a record for what was read to make the outputs."""
SEEN: dict[Path, dict[str, str]] = {}
"""What `settle` found of each record's outputs: what Snakemake decides by."""


def settle(record: Path, files: Iterable[str], raw: Callable[[Path, str | None], str | None] | None = None) -> str:
    """Compare the rule's outputs `files` with their record, write it anew where they differ, and return its path.

    Every output that is there counts, whether the record names it or not: one made before there were any outputs, as by
    `snakemake -n` in a fresh clone, must not pass for the record of what was brought there since. Looking twice changes
    nothing, so that a dry run leaves later decisions as they are. Outputs that are missing are Snakemake's concern.
    A record that is damaged counts as none. Where all outputs are there, `raw` tells what has become of the raw files
    that they were made of: it takes the first of their directories and what the record says.
    """
    known = _read(record, str)
    files = list(files)
    found = _digests(record, files)
    SEEN[record] = found
    former = (known or {}).get(RAW)
    read = raw(Path(files[0]).parent, former) if raw and len(found) == len(files) else former
    if known is None or found.items() - known.items() or read != former:
        # A record without outputs says nothing yet; a study begins with thousands of them.
        kept = {file: digest for file, digest in {**(known or {}), **found}.items() if file in files}
        if read is not None:
            kept[RAW] = read
        write_bytes(record, canonical_json(kept).encode(), durable=bool(found))
    newest = max((Path(file).stat().st_mtime_ns for file in found), default=0)
    if newest >= record.stat().st_mtime_ns:
        # Also where the outputs' dates lie ahead of this machine's clock. Snakemake compares dates as floating-point
        # seconds, which tell a microsecond.
        now = max(time.time_ns(), newest + 1_000_000)
        os.utime(record, ns=(now, now))
    return record.as_posix()


def moved() -> list[str]:
    """Return the outputs that were there when `settle` looked, and have changed or gone since."""
    return [
        file
        for record, found in SEEN.items()
        for file, digest in found.items()
        if _digests(record, found).get(file) != digest
    ]


def note(record: Path, outputs: Iterable[str]) -> None:
    """Write the digest of each file in `outputs` to `record`, as the last act of the job that made them.

    With them goes what the job has noted of the raw files that it has read.
    """
    outputs = list(outputs)
    digests = _digests(record, outputs)
    read = noted(Path(), Path(outputs[0]).parent)
    write_bytes(record, canonical_json(digests if read is None else {**digests, RAW: ":".join(read)}).encode())


def _digests(record: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the digest of each existing file; one of the same size and time as before is not read again."""
    memory = record.with_suffix(".times")
    known: dict[str, list[Any]] = _read(memory, list) or {}
    fresh: dict[str, list[Any]] = {}
    for file in files:
        if not Path(file).exists():
            continue
        state = Path(file).stat()
        times = [state.st_size, state.st_mtime_ns]
        entry = known.get(file, [])
        whole = entry[:2] == times and len(entry) == 3 and isinstance(entry[2], str)
        fresh[file] = entry if whole else [*times, digest_file(Path(file))]
    if fresh != known:
        write_bytes(memory, canonical_json(fresh).encode())
    return {file: entry[2] for file, entry in fresh.items()}


def _read(path: Path, kind: type) -> dict[str, Any] | None:
    """Return a JSON object whose values all are of `kind`, or None where there is none to be read."""
    try:
        value = read_json(path, "what an earlier run has noted")
    except (UserError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(isinstance(part, kind) for part in value.values()) else None


if __name__ == "__main__":
    try:
        with naming_files():
            note(Path(sys.argv[1]), sys.argv[2:])
    except UserError as error:
        sys.exit(f"error: {error}")
