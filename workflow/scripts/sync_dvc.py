"""Writes into dvc.yaml, below each stage's `# code (make sync)`, the source files that it imports.

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
from imbnas.run.graph import STEPS  # noqa: E402

MARK = "      # code (make sync)\n"
FILE = "dvc.yaml"


def stages() -> dict[str, list[str]]:
    """Return the stages with the code of each."""
    return {step: step_files(step) for step in STEPS}


def synced(text: str, code: dict[str, list[str]]) -> str:
    """Return the text of dvc.yaml with the code lines of its stages renewed; ValueError where one has no mark."""
    for stage, files in code.items():
        lines = re.compile(rf"(^  {stage}:\n(?:    .*\n)*?{re.escape(MARK)})((?:      - src/.*\n)*)", re.MULTILINE)
        found = lines.search(text)
        if not found:
            raise ValueError(f"stage {stage}: no line {MARK.strip()!r} among its deps, expected one")
        text = text[: found.end(1)] + "".join(f"      - {file}\n" for file in files) + text[found.end() :]
    return text


def main(arguments: list[str]) -> int:
    """Write the file, or with `--check` say whether it is up to date."""
    file = PROJECT / FILE
    text = file.read_text(encoding="utf-8")
    new = synced(text, stages())
    if new != text and "--check" in arguments:
        print(f"error: {FILE}: the code of a stage is not what it imports, run `make sync`", file=sys.stderr)
        return 1
    if new != text:
        write_bytes(file, new.encode())
        print(f"{FILE}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
