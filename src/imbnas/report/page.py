"""Tables and pictures as one HTML page that needs nothing else: for `snakemake --report` and for a browser."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from imbnas.errors import visible
from imbnas.files import write_bytes

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 1.5rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 1.6rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #c9d0d8; vertical-align: baseline; }
th { vertical-align: bottom; } td { white-space: nowrap; }
small { color: #6b7785; font-weight: 400; }
th { border-bottom: 2px solid #6b7785; } .text { text-align: left; } .strong td { font-weight: 600; }
p { color: #6b7785; max-width: 50rem; }
"""


@dataclass(frozen=True)
class Block:
    """A table with a heading and a note; `text` says how many columns on the left hold text."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    text: int = 1
    strong: frozenset[int] = field(default_factory=frozenset)
    """Rows in bold."""


@dataclass(frozen=True)
class Pictures:
    """Rows of pictures, JPEG files, with a heading, a name for each row and a note."""

    heading: str
    rows: Sequence[tuple[str, Sequence[bytes]]]
    note: str = ""


def write_page(path: Path, title: str, blocks: Iterable[Block | Pictures], lead: str = "") -> None:
    """Write tables and pictures as a page, by rename; `lead` is a sentence below the title."""
    first = f"<p>{_text(lead)}</p>\n" if lead else ""
    body = "\n".join(_block(block) if isinstance(block, Block) else _pictures(block) for block in blocks)
    write_bytes(
        path,
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{_text(title)}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{_text(title)}</h1>\n{first}{body}\n</body>\n</html>\n".encode(),
    )


def percent(share: float | None) -> str:
    """Return a share in percent with two decimals, a dash for none."""
    return "-" if share is None or share != share else f"{100 * share:.2f}"


def _block(block: Block) -> str:
    strong = ' class="strong"'
    head = _row("th", block.columns, block.text)
    rows = "\n".join(
        f"<tr{strong if number in block.strong else ''}>{_row('td', row, block.text)}</tr>"
        for number, row in enumerate(block.rows)
    )
    note = f"\n<p>{_text(block.note)}</p>" if block.note else ""
    return f"<h2>{_text(block.heading)}</h2>\n<table>\n<tr>{head}</tr>\n{rows}\n</table>{note}"


def _pictures(block: Pictures) -> str:
    rows = "\n".join(
        f'<tr><td class="text">{_cell(name)}</td><td class="text">{"".join(map(_picture, pictures))}</td></tr>'
        for name, pictures in block.rows
    )
    note = f"\n<p>{_text(block.note)}</p>" if block.note else ""
    return f"<h2>{_text(block.heading)}</h2>\n<table>\n{rows}\n</table>{note}"


def _picture(content: bytes) -> str:
    return f'<img alt="" src="data:image/jpeg;base64,{b64encode(content).decode()}"> '


def _row(kind: str, cells: Sequence[str], text: int) -> str:
    left = ' class="text"'
    return "".join(f"<{kind}{left if k < text else ''}>{_cell(cell)}</{kind}>" for k, cell in enumerate(cells))


def _cell(text: str) -> str:
    """Return a cell's text, what follows a line end in small print below."""
    first, _, rest = text.partition("\n")
    return f"{_text(first)}<br><small>{_text(rest)}</small>" if rest else _text(first)


def _text(text: str) -> str:
    """Return any text as HTML shows it."""
    return escape(visible(text))
