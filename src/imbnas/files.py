"""Reading and writing files so that nothing is ever half-written: a temporary name first, then a rename."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from imbnas.errors import UserError


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`, else removed.

    What need not outlive a crash of the machine is not `durable`: thousands of small files are flushed one by one.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Libraries that write files do not all say which one could not be opened.
        part.touch()
        try:
            yield part
            if durable:
                with part.open("rb+") as stream:
                    os.fsync(stream.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        # The temporary name tells nobody anything.
        if error.filename in (part, str(part)):
            error.filename = str(path)
        raise


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Write `content` to `path` by rename; see `replacing` for `durable`."""
    with replacing(path, durable) as part:
        part.write_bytes(content)


def canonical_json(value: Any) -> str:
    """Return `value` as JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON in its own key order, ending in a newline; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def read_json(path: Path, what: str) -> Any:
    """Return the JSON value in `path`; `what` names it in the UserError raised when it is absent or not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected {what}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, expected {what}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}), expected {what}") from None


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_tree(path: Path) -> str:
    """Return a SHA-256 over the names and contents of a file, or of all files below a directory."""
    if path.is_file():
        return digest_file(path)
    state = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        state.update(f"{file.relative_to(path).as_posix()}\0{digest_file(file)}\n".encode())
    return state.hexdigest()


def write_with(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary path and rename the result to `path`."""
    with replacing(path) as part:
        write(part)


def taken(stream: TextIO, wait: bool = False) -> bool:
    """Lock an open file for this process and return True, or False when another holds it and we do not `wait`.

    A file system without locks (Lustre mounted without `flock`) counts as free: refusing to work there helps nobody.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
    return True


def controlled() -> bool:
    """Say whether a workflow's controller has started this process, and will hear how it ends unless it was killed."""
    return bool(os.environ.get("IMBNAS_RUN"))


def discard(path: Path) -> None:
    """Delete a state that the outputs have made needless.

    Under a controller only mark it: should the controller have been killed meanwhile, it cannot know that the outputs
    are whole and starts the step again, which then repeats no training. It deletes what is marked when a run succeeds.
    """
    if controlled() and path.exists():
        write_bytes(path.with_name(f"{path.name}.done"), b"")
    else:
        path.unlink(missing_ok=True)
