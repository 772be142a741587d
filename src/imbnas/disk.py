"""A full disk, a quota or a limit on file sizes: told in one line that names the file and the space it wants."""

from __future__ import annotations

import errno
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imbnas.errors import UserError

_LACKING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TOLD = re.compile(r"\((?:os error|errno) (\d+)\)", re.IGNORECASE)
"""How libraries in other languages put the number of an error of the system into their message."""


def lacking(error: BaseException) -> int | None:
    """Return the number of a system's error that means that there is no room to write, None for any other error."""
    if isinstance(error, UserError):
        return None
    told = _TOLD.search(str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    return number if number in _LACKING else None


@contextmanager
def room_for(path: Path, wanted: int | None = None, written: Callable[[], int] = lambda: 0) -> Iterator[None]:
    """Turn the failure to write `path`, which takes `wanted` bytes, for lack of room into a UserError that says so.

    `written` counts the bytes that the failure has left and that are free once more; without `wanted` more are missing.
    """
    try:
        yield
    except Exception as error:
        number = lacking(error)
        if number is None:
            raise
        left = written()
        size = f"{amount(wanted)}" if wanted is not None else f"more than {amount(left)}"
        if number == errno.EFBIG:
            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
            found = "" if limit == resource.RLIM_INFINITY else f" (found {amount(limit)})"
            expected = f"files of {size} to be allowed, see `ulimit -f`{found}"
        else:
            expected = f"room for {size} (found {amount(_free(path) + left)})"
        raise UserError(f"{path}: {os.strerror(number)}, expected {expected}") from error


def _free(path: Path) -> int:
    """Return the bytes that are free where `path` lies or would lie; 0 where nobody can say."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        found = os.statvfs(place)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize


def amount(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    if count < 2**20:
        return f"{count:,} bytes"
    return f"{count / 2**30:.2f} GiB" if count >= 2**27 else f"{count / 2**20:.2f} MiB"
