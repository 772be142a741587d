"""User-facing errors: one-line messages whose file names are printable on any terminal and in any log file."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# Control characters, which terminals obey; the line separators of Unicode; signs without width and those that turn the
# direction of text; and surrogates, Python's stand-ins for bytes that are no UTF-8.
_UNSHOWN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

_HEAD, _TAIL = 2000, 1000


def visible(text: object) -> str:
    """Return a name as one line of valid UTF-8: a newline becomes \\n, a byte that is not UTF-8 becomes \\xff.

    All other names stay as they are, including their backslashes.
    """
    return _UNSHOWN.sub(lambda match: _escape(match[0]), str(text))


def visible_json(text: str) -> str:
    """Return a JSON text, lines and all, with the signs that `visible` escapes written as JSON escapes them."""
    return "\n".join(_UNSHOWN.sub(lambda match: f"\\u{ord(match[0]):04x}", line) for line in text.split("\n"))


def is_utf8(name: object) -> bool:
    """Return whether a name can be written as it is, that is, whether all its bytes are UTF-8."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def _cut(message: str) -> str:
    """Leave out the middle of a long message: its ends name the place and what was expected there."""
    left_out = len(message) - _HEAD - _TAIL
    return message if left_out <= 0 else f"{message[:_HEAD]} ... ({left_out} characters) ... {message[-_TAIL:]}"


def _escape(character: str) -> str:
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else repr(character)[1:-1]


class UserError(Exception):
    """Bad input: the message is one line that names the file, parameter or row, what was found and what was expected.

    The command line prints it without a traceback and exits with code 2. Names in it may hold any character: those that
    would break the line are escaped.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        """Take the message, and lines that a log file holds beside it."""
        super().__init__(visible(_cut(message)))
        self.details = tuple(map(visible, details))


class Interrupted(Exception):  # noqa: N818 - it is a request, not an error
    """The step was asked to stop (SIGTERM or SIGINT) and has saved its state; running it again goes on from there."""


class PeerLost(Exception):  # noqa: N818 - what went wrong is told by the other process
    """Another process of the same training has ended, without which this one cannot go on."""


_EXPECTED = {
    errno.EACCES: "permission to use it",
    errno.EPERM: "permission to use it",
    errno.EROFS: "a place that can be written",
    errno.ENOSPC: "space for it",
    errno.EDQUOT: "space for it",
    errno.EFBIG: "files of that size to be allowed",
    errno.ENOENT: "it there",
    errno.EEXIST: "a directory there",
    errno.ENOTDIR: "a directory",
    errno.EISDIR: "a file",
    errno.ELOOP: "a link that leads to a file",
    errno.ENAMETOOLONG: "a shorter name",
}


@contextmanager
def naming_files() -> Iterator[None]:
    """Turn an OSError that names a file into a UserError that does; one without a name may be anything and passes.

    That there is no space is told all the same: `disk.room_for` names the file where one is written.
    """
    try:
        yield
    except OSError as error:
        # A number is a file that is open already.
        named = error.filename is not None and not isinstance(error.filename, int)
        if not named and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        name = os.fsdecode(error.filename) if named else "a file that is being written"
        expected = _EXPECTED.get(error.errno or 0, "a file or directory that can be used")
        raise UserError(f"{name}: {error.strerror}, expected {expected}") from error


def prints_unicode() -> bool:
    """Return whether standard output can show every letter, which JSON otherwise has escapes for."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().replace("-", "").startswith("utf")
