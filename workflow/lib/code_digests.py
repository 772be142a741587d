"""Writes code.json, the digest of each step's code: what DVC's stages depend on in place of their source files.

The stage `code` calls it, and `make record` and `make accept` do before they ask DVC anything. The digests lie one
level down, so that one pattern keeps them out of DVC's table of experiments.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from controller import CODE_FILE, codes

from imbnas.files import canonical_json, write_bytes


def write(project: Path) -> None:
    """Write the file, unless it says that already: a file that stays need not be read again."""
    file, text = project / CODE_FILE, canonical_json({"code": codes()}).encode()
    if not file.is_file() or file.read_bytes() != text:
        write_bytes(file, text)


if __name__ == "__main__":
    write(Path.cwd())
