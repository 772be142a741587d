"""Writes code.json, the digest of each step's code: what DVC's stages depend on in place of their source files.

With them goes the digest of the one file that `supernet.reuse` names, `none` where it names none: DVC cannot name a
file that need not be there, and were the directory a dependency of `supernet`, any other file in it would train anew.

The stage `code` calls it, and `make record` and `make accept` do before they ask DVC anything. The digests lie one
level down, so that one pattern keeps them out of DVC's table of experiments.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from controller import CODE_FILE, codes
from identity import reused_digest

from imbnas.errors import UserError
from imbnas.files import canonical_json, write_bytes
from imbnas.params.config import load


def write(project: Path) -> None:
    """Write the file, unless it says that already: a file that stays need not be read again."""
    reused = reused_digest(load(project / "params.yaml"), project)
    file, text = project / CODE_FILE, canonical_json({"code": {**codes(), "reused": reused}}).encode()
    if not file.is_file() or file.read_bytes() != text:
        write_bytes(file, text)


if __name__ == "__main__":
    try:
        write(Path.cwd())
    except UserError as error:
        sys.exit(f"error: {error}")
