"""Files that only imbnas reads back: each carries a digest of its content, so that a damaged one is never used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, canonical_json, digest_bytes, open_regular, read_text, replacing, write_json

_MARK = b"imbnas sealed 1 "
_HEAD = len(_MARK) + 64 + 1
DIGEST = "sha256"
"""The key of a record's digest."""


class DamagedError(UserError):
    """A sealed file is cut, changed, or another one."""


class _Hashing:
    """A stream to which a library writes: counts into a digest, and keeps an error of the disk for later.

    torch's writer loses such an error and raises one that does not tell what happened.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._state = hashlib.sha256()
        self._error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write bytes and return how many they are."""
        if self._error is None:
            self._state.update(content)
            try:
                self._stream.write(content)
            except OSError as error:
                self._error = error
        return len(content)

    def flush(self) -> None:
        """Do nothing: `replacing` flushes."""

    def digest(self) -> str:
        """Return the digest of what was written; raise the error that it met."""
        if self._error is not None:
            raise self._error
        return self._state.hexdigest()


def write_sealed(path: Path, write: Callable[[BinaryIO], None], wanted: int | None = None) -> None:
    """Write by rename what `write` puts into its stream, with the digest of it in front; see `files.replacing`."""
    with replacing(path, wanted=wanted) as part, part.open("wb") as stream:
        stream.write(b"\0" * _HEAD)
        hashing = _Hashing(stream)
        write(cast(BinaryIO, hashing))
        head = _MARK + hashing.digest().encode() + b"\n"
        stream.seek(0)
        stream.write(head)


@contextmanager
def open_sealed(path: Path) -> Iterator[BinaryIO]:
    """Open what `write_sealed` wrote at the place where its content begins; raise DamagedError before a byte is used.

    Raises FileNotFoundError where there is none.
    """
    with open_regular(path) as stream:
        head = stream.read(_HEAD)
        if len(head) < _HEAD or not head.startswith(_MARK) or not head.endswith(b"\n"):
            raise DamagedError(f"{path}: not a file that imbnas sealed")
        if hashlib.file_digest(stream, "sha256").hexdigest().encode() != head[len(_MARK) : -1]:
            raise DamagedError(f"{path}: its content does not have its digest")
        stream.seek(_HEAD)
        yield stream


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record of JSON values with its digest; NaN and infinity are a ValueError."""
    return {**record, DIGEST: digest_bytes(canonical_json(record).encode())}


def unsealed(found: Any) -> dict[str, Any]:
    """Return the record in what `sealed` returned, or raise ValueError for anything else."""
    if not isinstance(found, dict) or DIGEST not in found:
        raise ValueError("no digest in it")
    record = {key: value for key, value in found.items() if key != DIGEST}
    if sealed(record) != found:
        raise ValueError("its content does not have its digest")
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record and its digest as JSON by rename."""
    write_json(path, sealed(record))


def read_record(path: Path) -> dict[str, Any]:
    """Return what `write_record` wrote. Raises FileNotFoundError where there is none, DamagedError for another file."""
    try:
        return unsealed(json.loads(read_text(path, RECORD_LIMIT)))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path}: {error}") from None
