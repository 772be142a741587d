"""Reading and writing files so that nothing is ever half-written: a temporary name first, then a rename."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, TextIO

from imbnas.disk import room_for
from imbnas.errors import UserError

PARAMETERS_LIMIT = 1 << 20
RECORD_LIMIT = 256 << 20
LIST_LIMIT = 4 << 30
IMAGE_LIMIT = 1 << 30
ARRAYS_LIMIT = 16 << 30
TABLE_LIMIT = MODEL_LIMIT = 64 << 30
"""The most bytes of a file that a user may hand over, by its kind: several times what the largest use needs."""

_POLL_SECONDS = 0.05
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


class NotRegularError(UserError):
    """A path leads to something that must not be opened; `fault` is the message without the path."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(f"{path}: {fault}")
        self.fault = fault


def check_regular(path: Path, limit: int | None = None) -> None:
    """Raise NotRegularError unless `path` leads to a regular file of at most `limit` bytes; OSError as `open` does.

    For libraries that open files themselves. Opening a pipe would wait for ever, and a device may have no end.
    """
    _check(path.stat(), path, limit)


def check_named(path: Path, parameter: str) -> None:
    """Raise UserError that begins with the dotted `parameter` unless `path`, which it names, is a regular file."""
    try:
        check_regular(path)
    except NotRegularError as error:
        raise UserError(f"{parameter}: {error}") from None
    except OSError as error:
        raise UserError(f"{parameter}: {path}: {error.strerror}, expected a file") from None


def open_regular(path: Path, limit: int | None = None) -> BufferedReader:
    """Open a file to read its bytes, after the checks of `check_regular`."""
    check_regular(path, limit)
    # It might have become a pipe since.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check(os.fstat(descriptor), path, limit)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, limit: int) -> bytes:
    """Return the bytes of a file, after the checks of `check_regular`; it may say that it is empty and not be."""
    with open_regular(path, limit) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise NotRegularError(path, _too_large(len(content), limit))
    return content


def read_text(path: Path, limit: int, encoding: str = "utf-8") -> str:
    """Return the text of a file as `Path.read_text` does, after the checks of `check_regular`."""
    return read_regular(path, limit).decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def _check(status: os.stat_result, path: Path, limit: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        found = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotRegularError(path, f"found {found}, expected a regular file")
    if limit is not None and status.st_size > limit:
        raise NotRegularError(path, _too_large(status.st_size, limit))


def _too_large(found: int, limit: int) -> str:
    return f"found at least {found:,} bytes, expected at most {limit:,} in such a file"


def check_writable(path: Path) -> None:
    """Raise UserError where no file can be written to `path`: before the work whose result it is to hold."""
    check_place(path, path.parent)
    for look in (lambda: check_regular(path), lambda: _part(path).lstat()):
        try:
            look()
        except FileNotFoundError:
            pass
        except IsADirectoryError:
            raise UserError(f"{path}: a directory, expected a file") from None
        except OSError as error:
            # The temporary name may be too long where the other is not.
            raise UserError(f"{path}: {error.strerror}, expected a file that can be written") from None


def check_place(path: Path, folder: Path) -> None:
    """Raise UserError that begins with `path` where nothing can be written in `folder`, which need not be there yet."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{path}: {folder} is a file, expected a directory")
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise UserError(f"{path}: the directory {folder} cannot be written, expected permission to write there")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.part")


@contextmanager
def replacing(path: Path, durable: bool = True, wanted: int | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed to disk and renamed to `path`, else removed.

    What need not outlive a crash of the machine is not `durable`: thousands of small files are flushed one by one.
    Raises UserError where the file, of `wanted` bytes if that is known, has no room. The file's permissions are those
    that the umask leaves, whatever the library that writes it would give it.
    """
    part, begun = _part(path), False
    try:
        with room_for(path, wanted, lambda: part.stat().st_size if begun and part.exists() else 0):
            path.parent.mkdir(parents=True, exist_ok=True)
            # Libraries that write files do not all say which one could not be opened.
            part.touch()
            begun, mode = True, part.stat().st_mode
            yield part
            if part.stat().st_mode != mode:
                part.chmod(mode)
            if durable:
                with part.open("rb+") as stream:
                    os.fsync(stream.fileno())
            part.replace(path)
    except OSError as error:
        # The temporary name tells nobody anything.
        if error.filename in (part, str(part)):
            error.filename = str(path)
        raise
    finally:
        if begun:
            part.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """Remove what killed processes have left half-written of the file `path`, or of the files in the directory `path`.

    Only for whoever keeps others from writing there: nothing tells a left-over from a file that is being written.
    """
    folder, name = (path, ".+") if path.is_dir() else (path.parent, re.escape(path.name))
    left = re.compile(rf"\.{name}\.\d+\.part", re.DOTALL)
    for part in folder.iterdir() if folder.is_dir() else ():
        if left.fullmatch(part.name):
            part.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Write `content` to `path` by rename; see `replacing` for `durable`."""
    with replacing(path, durable, len(content)) as part:
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
        return json.loads(read_text(path, RECORD_LIMIT))
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected {what}") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}, expected {what}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}), expected {what}") from None


def digest_bytes(content: bytes) -> str:
    """Return the SHA-256 of `content` in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal, read in pieces."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_with(path: Path, write: Callable[[Path], None], wanted: int | None = None) -> None:
    """Call `write` with a temporary path and rename the result to `path`; see `replacing`."""
    with replacing(path, wanted=wanted) as part:
        write(part)


def taken(stream: TextIO, wait: float = 0.0) -> bool:
    """Lock an open file for this process and return True, or False when another holds it longer than `wait` seconds.

    A file system without locks (Lustre mounted without `flock`) counts as free: refusing to work there helps nobody.
    """
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_SECONDS)
            continue
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        return True


def controlled() -> bool:
    """Return whether a workflow's controller started this process; unless killed, it will hear how the process ends."""
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
