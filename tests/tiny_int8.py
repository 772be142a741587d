"""A tiny project whose chosen network was measured and exported in 8 bits, for the tests of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_chain
import yaml
from typer.testing import CliRunner

import imbnas.export_int8 as module
from imbnas.cli import app
from imbnas.run.graph import PATHS

RULE = {"evaluate__shots": "thirds"}


def evaluated(root: Path, int8: bool) -> None:
    """Run the step without its figures, which take longer than all else; they show networks in float alone."""
    from imbnas.steps import evaluate

    drawn: list[set[str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "draw_figures", lambda *given: drawn.append(set(given[4]["network"])))
        patch.setattr(evaluate, "draw_references", lambda path, networks, found: drawn.append(set(networks)))
        assert tiny_chain.run(root, "evaluate", evaluate__int8=int8, **RULE) == 0
    assert drawn == [{"final", "random-1", "random-2", "largest"}] * 2


def make(chain: Path, root: Path) -> None:
    """Copy the chain to `root`, evaluate and export there, and keep what the latter says in said.txt and warned.txt."""
    tiny_chain.copy(chain, root)
    evaluated(root, True)
    (root / "params.yaml").write_text(yaml.safe_dump(tiny_chain.changed(**RULE)))
    given = ["--config", str(root / "params.yaml"), "--root", str(root)]
    test = root / PATHS["target_test"]
    # No row of the test split may be looked at.
    shutil.move(test, root / "hidden")
    with pytest.MonkeyPatch.context() as patch:
        # No two files agree on more rows than there are.
        patch.setattr(module, "AGREEMENT", 1.01)
        done = CliRunner().invoke(app, ["export", str(root / PATHS["final"]), "--int8", *given])
    shutil.move(root / "hidden", test)
    assert done.exit_code == 0, done.output
    (root / "said.txt").write_text(done.stdout)
    (root / "warned.txt").write_text(done.stderr)
