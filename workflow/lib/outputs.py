"""A rule's record of its outputs: which bytes its last job wrote, so that other bytes in their place are noticed.

Snakemake compares outputs with nothing, and forgives changed parameters where it has no memory of a file, as in a
fresh clone. The record is an input of its rule, always newer than the outputs, so that Snakemake compares it by content
with the one that it remembers. The rule's step writes it after its outputs (`imbnas STEP --record`, in
`imbnas.run.output_record`); and where the controller finds other files than it says (`dvc checkout`, `dvc exp apply`, a
step run by hand), it writes the record anew. Both that and no memory make the rule stale, until it has run or
`snakemake --touch` accepts the files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from imbnas.files import canonical_json, write_bytes
from imbnas.run.output_record import RAW, digests_of, read_values

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
    known = read_values(record, str)
    files = list(files)
    found = digests_of(record, files)
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
        if digests_of(record, found).get(file) != digest
    ]
