"""Writes into dvc.yaml, below each stage's `# code (make sync)`, the source files that its step imports.

`make sync` calls it after an import has changed. With `--check` it changes nothing and fails where something would
change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "src"))

from imbnas.closure import step_files  # noqa: E402
from imbnas.files import write_bytes  # noqa: E402
from imbnas.steps.graph import STEPS  # noqa: E402

MARK = "      # code (make sync)\n"


def synced(text: str) -> str:
    """Return the text of dvc.yaml with the code lines of every stage renewed; ValueError where a stage has no mark."""
    for step in STEPS:
        stage = re.compile(rf"(^  {step}:\n(?:    .*\n)*?{re.escape(MARK)})((?:      - src/.*\n)*)", re.MULTILINE)
        found = stage.search(text)
        if not found:
            raise ValueError(f"dvc.yaml: stage {step}: no line {MARK.strip()!r} among its deps, expected one")
        code = "".join(f"      - {file}\n" for file in step_files(step))
        text = text[: found.end(1)] + code + text[found.end() :]
    return text


def main(arguments: list[str]) -> int:
    """Write dvc.yaml, or with `--check` say whether it is up to date."""
    file = PROJECT / "dvc.yaml"
    text = file.read_text(encoding="utf-8")
    if synced(text) == text:
        return 0
    if "--check" in arguments:
        print("error: dvc.yaml: the code of a stage is not what its step imports, run `make sync`", file=sys.stderr)
        return 1
    write_bytes(file, synced(text).encode())
    print("dvc.yaml: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
