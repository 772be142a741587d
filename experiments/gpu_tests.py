"""A part of `make gpu`: the tests with the marker `cuda`, file by file, so that finished files are not repeated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gpu_pieces import Pieces
from gpu_setting import ROOT, Setting, code_digest, given

MARK = "mark.cuda"


def main() -> int:
    """Run what is not finished and return the exit code."""
    setting = given()
    pieces = Pieces(setting, "tests", code_digest(("src", "tests")))
    failed = 0
    for files in groups(setting.tiny):
        name = " ".join(path.relative_to(ROOT).as_posix() for path in files)
        try:
            found = pieces.make(name, lambda files=files: tested(setting, files))  # type: ignore[misc]
            print(f"{name}: {found}", flush=True)
        except AssertionError as error:
            failed += 1
            print(f"{name}: {error}", flush=True)
    records = [pieces.records[name]["value"] for name in pieces.records]
    passed, skipped = (sum(found[key] for found in records) for key in ("passed", "skipped"))
    print(f"{passed} tests passed, {skipped} skipped, {failed} files failed")
    return int(failed > 0)


def groups(together: bool) -> list[list[Path]]:
    """Return the files with such tests, one by one, as an interruption may cost a piece, or together."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if MARK in path.read_text(encoding="utf-8")]
    return [files] if together else [[path] for path in files]


def tested(setting: Setting, files: Sequence[Path]) -> dict[str, Any]:
    """Run the tests of some files and return how many passed and were skipped; AssertionError where one failed.

    On a GPU a file whose tests were all skipped counts as failed, too.
    """
    report = setting.work / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", f"--junitxml={report}"]
    code = subprocess.run([*command, *map(str, files)], cwd=ROOT, check=False).returncode
    if not report.is_file():
        raise AssertionError(f"pytest ended with code {code} and wrote no report")
    counts = counted(report)
    if code or counts["failed"] or not (counts["passed"] or (setting.tiny and counts["skipped"])):
        raise AssertionError(f"pytest ended with code {code}: {counts}")
    return counts


def counted(report: Path) -> dict[str, int]:
    """Return how many tests of a JUnit report passed, failed and were skipped."""
    suites = list(ElementTree.parse(report).iter("testsuite"))
    total, skipped, failures, errors = (
        sum(int(suite.get(name, 0)) for suite in suites) for name in ("tests", "skipped", "failures", "errors")
    )
    return {"passed": total - skipped - failures - errors, "failed": failures + errors, "skipped": skipped}


if __name__ == "__main__":
    raise SystemExit(main())
