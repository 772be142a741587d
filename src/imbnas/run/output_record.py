"""Records of outputs: a digest per file that a step has written, and one of the raw files that it has read.

The workflow compares it with the files that it finds later, see `workflow/lib/outputs.py`. Only a step that ends well
writes one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imbnas.data.fingerprints import noted
from imbnas.errors import UserError
from imbnas.files import canonical_json, digest_file, read_json, write_bytes

RAW = "raw files"
"""The line of a record for what was read to make the outputs."""


@dataclass(frozen=True)
class OutputRecord:
    """The place of a step's record, and the files that it names."""

    file: Path
    outputs: Sequence[str]
    """The files as the workflow calls them."""

    def write(self, root: Path = Path()) -> None:
        """Write the digest of each output, as the last act of the step that made them.

        With them goes what the step has noted of the raw files that it has read, in the project directory `root`.
        """
        digests = digests_of(self.file, self.outputs)
        read = noted(root, Path(self.outputs[0]).parent)
        content = digests if read is None else {**digests, RAW: ":".join(read)}
        write_bytes(self.file, canonical_json(content).encode())


def digests_of(record: Path, files: Iterable[str]) -> dict[str, str]:
    """Return the digest of each existing file; one of the same size and time as before is not read again."""
    memory = record.with_suffix(".times")
    known: dict[str, list[Any]] = read_values(memory, list) or {}
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


def read_values(path: Path, kind: type) -> dict[str, Any] | None:
    """Return a JSON object whose values all are of `kind`, or None where there is none to be read."""
    try:
        value = read_json(path, "what an earlier run has noted")
    except (UserError, RecursionError):
        return None
    return value if isinstance(value, dict) and all(isinstance(part, kind) for part in value.values()) else None
