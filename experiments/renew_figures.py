"""Writes the files of figures of docs/results anew, after pages were edited by hand; nothing is measured.

    python experiments/renew_figures.py

docs/evidence.md repeats the digests of some pages: those are renewed too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from imbnas.errors import UserError
from imbnas.files import write_bytes
from imbnas.page_record import TRACE, renew

DOCS = Path("docs")


def main() -> int:
    """Renew all pages."""
    try:
        pages = sorted((DOCS / "results").glob("*.md"))
        for page in pages:
            renew(page)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    evidence = DOCS / "evidence.md"
    write_bytes(
        evidence, re.sub(r"^\*From\* \[([\w-]+)\].*$", _trace, evidence.read_text(), flags=re.MULTILINE).encode()
    )
    print(f"{len(pages)} pages have the figures that they print")
    return 0


def _trace(line: re.Match[str]) -> str:
    found = TRACE.search((DOCS / f"results/{line[1]}.md").read_text(encoding="utf-8"))
    assert found is not None
    return (
        f"*From* [{line[1]}](results/{line[1]}.md): `{found['command']}` at commit {found['commit']}, figures "
        f"`{found['file']}` (SHA-256 `{found['digest']}`)."
    )


if __name__ == "__main__":
    sys.exit(main())
