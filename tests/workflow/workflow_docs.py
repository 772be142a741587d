"""The commands that a page of the documentation tells its readers to type."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from workflow_project import ROOT, Project


def commands(page: str) -> list[str]:
    """Return the commands of docs/`page` in their order: its indented lines, without comments, continuations joined."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    return [" ".join(re.sub(r"\s#\s.*", "", line).split()) for line in lines]


def equip(project: Project) -> None:
    """Give the project what `make` wants: the Makefile, and the environment in which the tests run as its own."""
    for name in ("Makefile", "requirements-uv.lock"):
        shutil.copy2(ROOT / name, project.path)
    (project.path / ".venv").mkdir()
    (project.path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    for name in (".uv", ".ready"):
        (project.path / ".venv" / name).touch()
        os.utime(project.path / ".venv" / name, (2**31, 2**31))
