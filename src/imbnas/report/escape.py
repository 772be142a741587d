"""Names in what people open: one function per format, after which a name is shown and does nothing else.

Names of classes come from directories and files that others made. HTML has its own in `page.py`, CSV in `csv_text.py`,
terminals `errors.visible`, figures `style.readable`.
"""

from __future__ import annotations

import re

from imbnas.errors import visible

# An underscore within a word means nothing, nor does a sign that closes what cannot have begun.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"&": "&amp;", "<": "&lt;"}
_LINKS = re.compile(r":(?=//)|(?<=\bwww)\.|@", re.IGNORECASE)


def markdown(text: object) -> str:
    """Return a name as Markdown shows it: no HTML, link, emphasis, formula or end of a table's cell comes of it."""
    line = visible(" ".join(str(text).split()))
    marked = _MARKS.sub(lambda match: f"\\{match[0]}", re.sub("[&<]", lambda match: _ENTITIES[match[0]], line))
    return _LINKS.sub(lambda match: f"&#{ord(match[0])};", marked)


def code(text: object) -> str:
    """Return a value in Markdown's code font, within a table too."""
    return f"`{visible(' '.join(str(text).split())).replace('`', chr(39)).replace('|', chr(92) + '|')}`"
