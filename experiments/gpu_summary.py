"""The few files of a run of `make gpu` that come back, among them the state from which a later run goes on."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_parts import PARTS
from gpu_setting import Setting

if TYPE_CHECKING:
    from gpu_run import Outcome

STATE, PAGE, RESULTS, LOG = "state.tar", "summary.md", "results.json", "log.txt"
FILES = (STATE, PAGE, RESULTS, LOG, *(name for part in PARTS for name in part.results))
"""Everything that comes back: at most eight files."""
LARGEST = 16 * 2**20
"""Bytes of each at most."""
LOGGED = 2**20
"""Bytes of the end of a part's log."""
LEFT_OUT = ("site", "rows", "data", "logs", "results")
"""Directories of a run's work that no later one needs: packages, images, and what comes back by itself."""


def write(setting: Setting, out: Path, facts: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Write all files into `out` and return the page."""
    runs_file = setting.work / "runs.json"
    runs = json.loads(runs_file.read_text()) if runs_file.is_file() else []
    runs.append({**facts, "parts": [asdict(one) for one in outcomes]})
    runs_file.write_text(json.dumps(runs))
    _write_log(setting, out / LOG)
    pieces = {file.stem: json.loads(file.read_text()) for file in sorted((setting.work / "pieces").glob("*.json"))}
    (out / RESULTS).write_text(json.dumps({"runs": runs, "pieces": pieces}, indent=1) + "\n")
    for file in sorted(setting.results.iterdir()):
        shutil.copy(file, out / file.name)
    with tarfile.open(out / STATE, "w") as archive:
        for file in _kept(setting.work):
            archive.add(file, file.relative_to(setting.work).as_posix())
    text = page(facts, outcomes, large(out))
    (out / PAGE).write_text(text)
    return text


def restore(previous: Path, work: Path) -> None:
    """Take over what an earlier run has left, unless this machine has it already."""
    archive = previous / STATE
    if archive.is_file() and not (work / "runs.json").exists():
        work.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as stream:
            stream.extractall(work, filter="data")


def large(out: Path) -> list[str]:
    """Return a line for each file that is too large to come back."""
    return [
        f"{name}: {(out / name).stat().st_size / 2**20:.1f} MiB, expected at most {LARGEST // 2**20}"
        for name in FILES
        if (out / name).is_file() and (out / name).stat().st_size > LARGEST
    ]


def page(facts: dict[str, Any], outcomes: Sequence[Outcome], warnings: Sequence[str]) -> str:
    """Return the summary: the machine, the code, and how far each part is."""
    where = ", ".join(
        [
            str(facts.get("hardware", facts["device"])),
            f"torch {facts.get('torch', 'unknown')}",
            f"Python {facts.get('python', 'unknown')}",
            f"commit {facts['commit']}",
        ]
    )
    lines = ["# A run of `make gpu`", "", f"{where}; {facts['seconds']:.0f} of {facts['budget']:.0f} s.", ""]
    lines += ["| part | state | seconds | last line |", "|---|---|---:|---|"]
    for one in outcomes:
        last = (one.lines or [""])[-1].replace("|", "\\|")[:200]
        lines.append(f"| {one.part} | {one.state} | {one.seconds:.0f} | {last} |")
    for one in outcomes:
        if one.state == "failed":
            lines += ["", f"## {one.part} failed", "", *(f"    {line[:200]}" for line in one.lines)]
    if warnings:
        lines += ["", "## Too large", "", *(f"- {line}" for line in warnings)]
    return "\n".join(lines) + "\n"


def _write_log(setting: Setting, file: Path) -> None:
    """Join the ends of the parts' logs."""
    with file.open("wb") as stream:
        for log in sorted((setting.work / "logs").glob("*.log")):
            stream.write(f"==== {log.stem}\n".encode())
            stream.write(log.read_bytes()[-LOGGED:])


def _kept(work: Path) -> Iterator[Path]:
    """Yield the files that a later run needs: finished pieces, and the states of unfinished trainings."""
    for file in sorted(work.rglob("*")):
        parts = file.relative_to(work).parts
        if file.is_file() and not set(parts) & set(LEFT_OUT) and file.suffix not in (".lock", ".part", ".xml"):
            yield file
