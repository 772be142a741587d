"""The commands that a page of the documentation tells its readers to type."""

from __future__ import annotations

import re

from workflow_project import ROOT


def commands(page: str) -> list[str]:
    """Return the commands of docs/`page` in their order: its indented lines, without comments, continuations joined."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    return [" ".join(re.sub(r"\s#\s.*", "", line).split()) for line in lines]
