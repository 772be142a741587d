"""Pages of results with their figures beside them: a JSON file of the same name, and a last line that names both.

The file holds the page's tables as they are printed, and what a driver adds. The last line names the command, the
commit and the file's digest, so that a figure on a page can be traced to what made it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.files import digest_bytes, read_json, write_bytes

DIGITS = 16
LAST = "Figures: `{file}` (SHA-256 `{digest}`), by `{command}` at commit {commit}.\n"
TRACE = re.compile(
    r"^Figures: `(?P<file>[\w.-]+\.json)` \(SHA-256 `(?P<digest>[0-9a-f]{16})`\), by `(?P<command>[^`]+)` at commit "
    r"(?P<commit>[0-9a-f]{7,}(?:-dirty)?|unknown)\.$",
    re.MULTILINE,
)
"""The last line of a page."""
NOT_CODE = ("docs", "tables", "*.md")
"""Paths that change no figure: the page that is written is one of them."""


def write_page(
    path: Path,
    text: str,
    command: str,
    figures: Mapping[str, Any] | None = None,
    inputs: Sequence[Path] = (),
    at: str | None = None,
) -> None:
    """Write a page and the file of its figures.

    Args:
        path: of the page, which ends in `.md`.
        text: of the page, without the last line.
        command: that makes the page.
        figures: what the page's tables do not hold, or not as exactly.
        inputs: files that the figures come from; their digests are kept.
        at: the commit of the code that measured; None takes the one that is checked out.
    """
    record: dict[str, Any] = {"command": command, "commit": at or commit()}
    record["inputs"] = {file.name: digest_bytes(file.read_bytes())[:DIGITS] for file in inputs}
    _write(path, text, {**record, "figures": dict(figures or {})})


def renew(path: Path) -> None:
    """Write the file of figures anew after an edit of a page's words or settings; command and commit stay.

    Raises:
        UserError: for a page without a last line, which a driver has to write.
    """
    text, beside = path.read_text(encoding="utf-8"), path.with_suffix(".json")
    if TRACE.search(text) is None:
        raise UserError(f"{path}: no last line with command, commit and digest, expected a page of a driver's")
    _write(path, text, {**read_json(beside, "the figures of a page")})


def _write(path: Path, text: str, record: dict[str, Any]) -> None:
    record |= {"tables": tables(text), "listings": listings(text)}
    data = (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    beside = path.with_suffix(".json")
    made = {name: record[name] for name in ("command", "commit")}
    last = LAST.format(file=beside.name, digest=digest_bytes(data)[:DIGITS], **made)
    write_bytes(beside, data)
    write_bytes(path, (body(text).rstrip("\n") + "\n\n" + last).encode())


def body(text: str) -> str:
    """Return a page without its last line, where it has one."""
    return TRACE.sub("", text)


def tables(text: str) -> list[dict[str, Any]]:
    """Return the tables of a page in Markdown: the heading above each, its columns and its rows, as printed."""
    found: list[dict[str, Any]] = []
    heading, lines = "", [*text.splitlines(), ""]
    block: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            block.append([cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]])
            continue
        if len(block) > 1:
            found.append({"heading": heading, "columns": block[0], "rows": block[2:]})
        block = []
        if line.startswith("#"):
            heading = line.lstrip("#").strip()
    return found


def listings(text: str) -> list[list[str]]:
    """Return the blocks of indented lines of a page: output of a program, as it was printed."""
    blocks = re.findall(r"(?:^ {4,}\S.*\n|(?<=\n)\n(?= {4}))+", text + "\n", re.MULTILINE)
    return [[line.rstrip() for line in block.splitlines() if line.strip()] for block in blocks]


def commit(folder: Path | None = None) -> str:
    """Return the short name of the commit of the code, marked where code differs from it; unknown outside of git."""
    git = ["git", "-C", str(folder or Path(__file__).parent)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        excluded = [f":(top,exclude){path}" for path in NOT_CODE]
        differs = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ":(top)", *excluded], check=False)
    except OSError:
        return "unknown"
    if name.returncode:
        return "unknown"
    return name.stdout.strip() + ("-dirty" if differs.returncode else "")
