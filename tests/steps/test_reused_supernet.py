"""`supernet.reuse`: the chain goes on from another project's supernet, without the source's files or a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny_chain
import torch
from typer.testing import CliRunner

from imbnas.cli import app
from imbnas.data.stored import read_split
from imbnas.files import digest_file
from imbnas.run.graph import PATHS
from imbnas.sealed import read_record, write_record
from imbnas.steps import source as source_step
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.loop import Trainer

FILE = "supernets/a.safetensors"
REUSE = {"supernet__reuse": FILE}
SHORT: dict[str, Any] = {
    "adapt__head": {"epochs": 1},
    "search__candidates": 3,
    "retrain__epochs": 1,
    "retrain__references": {"random": 1, "largest": False},
}
FIRST = ("source", "target", "imbalance", "supernet")


def bring(chain: Path, root: Path) -> Path:
    """Start a project whose `supernets/` holds the finished one's supernet, and return that file."""
    file = root / FILE
    file.parent.mkdir(parents=True)
    shutil.copy(chain / PATHS["supernet"], file)
    return file


@pytest.fixture(scope="module")
def begun(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that has taken over a supernet, without training and without reading a source."""
    root = tmp_path_factory.mktemp("begun")
    file = bring(chain, root)
    write_record(file.with_suffix(".cost.json"), {"steps": {"supernet": {"seconds": 1234.5}}, "total_seconds": 1234.5})

    def refused(*arguments: object, **named: object) -> None:
        raise AssertionError("no file of the source is read, and nothing is trained")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(source_step, "open_dataset", refused)
        patched.setattr(Trainer, "step", refused)
        assert tiny_chain.run(root, *FIRST, **REUSE) == 0
    return root


def test_the_weights_are_the_files_and_the_metadata_say_so(chain: Path, begun: Path) -> None:
    theirs, known = load_weights(chain / PATHS["supernet"])
    ours, meta = load_weights(begun / PATHS["supernet"])
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert meta == {**known, "reused": {"sha256": digest_file(begun / FILE)}}
    assert "reuse" not in known["recipe"], "the bytes of a supernet that is trained here are as before"
    assert (begun / PATHS["supernet_losses"]).read_text() == "epoch,loss\n"


def test_the_source_is_empty_and_the_target_takes_all(chain: Path, begun: Path) -> None:
    known = read_split(chain / PATHS["source_train"]).info
    for name in ("source_train", "source_validation"):
        info = read_split(begun / PATHS[name]).info
        assert (info.rows, info.classes, info.mean, info.std) == (0, known.classes, known.mean, known.std)
    rows = {root: sum(len(read_split(root / f"data/target/{part}")) for part in ("train", "validation", "test"))
            for root in (chain, begun)}  # fmt: skip
    assert rows[begun] == 1797
    assert rows[chain] < 1300
    log = (begun / "logs/source.log").read_text()
    assert f"no rows and no raw files: {FILE} was trained on digits in another project" in log
    assert f"warning: {FILE} was trained on rows of digits, and so is the target" in log


def test_what_it_took_elsewhere_stands_apart(begun: Path) -> None:
    details = read_record(begun / "results/cost-details.json")
    assert details["steps"]["supernet"]["reused_supernet_seconds"] == 1234.5
    assert details["total_seconds"] < 1000
    cost = json.loads((begun / PATHS["cost"]).read_text())
    assert cost == {"seconds": details["total_seconds"], "reused_supernet_seconds": 1234.5}


def test_an_unknown_cost_is_told_and_left_out(chain: Path, tmp_path: Path) -> None:
    file = bring(chain, tmp_path)
    assert tiny_chain.run(tmp_path, "source", "supernet", **REUSE) == 0
    assert "what it took is not known" in (tmp_path / "logs/supernet.log").read_text()
    assert set(json.loads((tmp_path / PATHS["cost"]).read_text())) == {"seconds"}
    before = tiny_chain.digests(tmp_path, "source", "supernet")
    # A supernet that was taken over can be taken over again.
    shutil.copy(tmp_path / PATHS["supernet"], file)
    file.with_suffix(".cost.json").write_text("{}")
    assert tiny_chain.run(tmp_path, "source", "supernet", **REUSE) == 0
    assert "is not results/cost-details.json as a project writes it" in (tmp_path / "logs/supernet.log").read_text()
    reused = load_meta(tmp_path / PATHS["supernet"])["reused"]
    assert reused == {"sha256": digest_file(file), "earlier": {"sha256": digest_file(chain / PATHS["supernet"])}}
    # Back to the first file: the same bytes, however often.
    shutil.copy(chain / PATHS["supernet"], file)
    assert tiny_chain.run(tmp_path, "source", "supernet", **REUSE) == 0
    assert tiny_chain.digests(tmp_path, "source", "supernet") == before


@pytest.mark.parametrize("init", ["scratch", "handed"])
def test_the_chain_ends_and_says_that_the_supernet_was_reused(
    begun: Path, tmp_path: Path, init: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(begun, tmp_path)
    changes = {**REUSE, **SHORT, "retrain__init": init, "retrain__finetune": {"epochs": 1}}
    assert tiny_chain.run(root, "adapt", "search", "retrain", "evaluate", **changes) == 0
    details = json.loads((root / PATHS["details"]).read_text())
    assert details["supernet"] == {"sha256": digest_file(root / FILE), "dataset": "digits", "classes": 10}
    assert ("init" in details) == (init == "handed")
    said = "The supernet was reused, not trained here: another project trained it on digits (10 classes)"
    for name in ("model_card", "table"):
        text = (root / PATHS[name]).read_text()
        assert said in text
        assert "validation and test rows may be among those it saw" in text
    capsys.readouterr()
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app, ["table"])
    assert done.exit_code == 0
    shown = " ".join(done.output.split())
    assert "The supernet was reused, not trained here" in shown
    assert "(1,234.5)" in shown
    assert CliRunner().invoke(app, ["export", PATHS["final"], "--output", "final.pt2"]).exit_code == 0


def test_a_supernet_from_scratch_owes_nothing_to_the_file(begun: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(begun, tmp_path)
    assert tiny_chain.run(root, "adapt", **REUSE, adapt__strategy="scratch") == 0
    assert "reused" not in load_meta(root / PATHS["adapted"])


def test_what_does_not_fit_is_refused_by_every_door(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(begun, tmp_path)
    before = tiny_chain.digests(root, "source", "supernet")
    for step in ("source", "supernet"):
        assert tiny_chain.run(root, step, **REUSE, space__last_channels=24) == 2
        told = capsys.readouterr().err
        assert told == f"error: supernet.reuse: {root / FILE}: its space.last_channels is 16, expected 24\n"
    assert tiny_chain.digests(root, "source", "supernet") == before
    monkeypatch.chdir(root)
    tree = tiny_chain.changed(**REUSE)
    Path("p.json").write_text(json.dumps(tree))
    done = CliRunner().invoke(app, ["check", "--config", "p.json"])
    assert done.exit_code == 0, done.output
    assert f"p.json: {FILE} -> digits" in done.output
    assert "supernet.epochs has no effect: supernet.reuse takes a trained supernet" in done.output
    Path(FILE).write_bytes(Path(FILE).read_bytes()[:-8])
    done = CliRunner().invoke(app, ["check", "--config", "p.json"])
    assert "not a whole safetensors file" in str(done.exception)


def test_weights_that_are_not_the_spaces_or_not_finite_are_refused(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save

    file = bring(chain, tmp_path)
    weights, meta = load_weights(file)
    assert tiny_chain.run(tmp_path, "source", **REUSE) == 0
    name = next(iter(weights))
    text = {"imbnas": json.dumps(meta)}
    file.write_bytes(save({key: value for key, value in weights.items() if key != name}, metadata=text))
    assert tiny_chain.run(tmp_path, "supernet", **REUSE) == 2
    assert f"has no tensor {name}, expected" in capsys.readouterr().err
    file.write_bytes(save({**weights, name: torch.full_like(weights[name], float("nan"))}, metadata=text))
    assert tiny_chain.run(tmp_path, "supernet", **REUSE) == 2
    assert capsys.readouterr().err.startswith(
        f"error: supernet.reuse: {file}: tensor {name} holds numbers that are not"
    )
    assert not (tmp_path / PATHS["supernet"]).exists()


def test_one_process_copies_where_several_would_train(chain: Path, tmp_path: Path) -> None:
    bring(chain, tmp_path)
    assert tiny_chain.run(tmp_path, "source", "supernet", **REUSE, runtime__processes=2) == 0
    assert "in 2 processes" not in (tmp_path / "logs/supernet.log").read_text()
    assert pd.read_csv(tmp_path / PATHS["supernet_losses"]).empty
