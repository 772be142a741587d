"""Writes into dvc.yaml and study/dvc.yaml, below each stage's `# code (make sync)`, the source files that it imports.

`make sync` calls it after an import has changed. With `--check` it changes nothing and fails where something would
change.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "src"))

from imbnas.closure import module_files, step_files  # noqa: E402
from imbnas.files import write_bytes  # noqa: E402
from imbnas.steps.graph import STEPS  # noqa: E402

MARK = "      # code (make sync)\n"
FILES = ("dvc.yaml", "study/dvc.yaml")


def stages(file: str) -> dict[str, list[str]]:
    """Return the stages of one of FILES with the code of each."""
    steps = {step: step_files(step) for step in STEPS}
    if file == "dvc.yaml":
        return steps
    return {
        "study": sorted({*module_files("imbnas.study.collect"), *(name for names in steps.values() for name in names)})
    }


def synced(text: str, code: dict[str, list[str]]) -> str:
    """Return the text of a dvc.yaml with the code lines of its stages renewed; ValueError where one has no mark."""
    for stage, files in code.items():
        lines = re.compile(rf"(^  {stage}:\n(?:    .*\n)*?{re.escape(MARK)})((?:      - src/.*\n)*)", re.MULTILINE)
        found = lines.search(text)
        if not found:
            raise ValueError(f"stage {stage}: no line {MARK.strip()!r} among its deps, expected one")
        text = text[: found.end(1)] + "".join(f"      - {file}\n" for file in files) + text[found.end() :]
    return text


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` say whether they are up to date."""
    for name in FILES:
        file = PROJECT / name
        text = file.read_text(encoding="utf-8")
        new = synced(text, stages(name))
        if new != text and "--check" in arguments:
            print(f"error: {name}: the code of a stage is not what it imports, run `make sync`", file=sys.stderr)
            return 1
        if new != text:
            write_bytes(file, new.encode())
            print(f"{name}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
