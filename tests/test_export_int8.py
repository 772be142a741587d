"""An ONNX file in 8 bits: calibrated and judged on the project's own rows, and warned of where it answers otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import imbnas.export_int8 as module
from imbnas import cli_deploy
from imbnas.cli import app
from imbnas.data.stored import read_split
from imbnas.deploy.classifier import open_classifier
from imbnas.deploy.deployed import EXTRA
from imbnas.errors import UserError
from imbnas.longtail.metrics import summarise
from imbnas.saved import load_subnet
from imbnas.steps.project_rows import project_rows
from imbnas.training.checkpoint import load_weights, save_weights

onnx = pytest.importorskip("onnx")
FINAL = "models/final.safetensors"


@pytest.fixture(scope="module")
def project(quantised: Path) -> Path:
    return quantised


@pytest.fixture(scope="module")
def said(quantised: Path) -> str:
    return (quantised / "said.txt").read_text()


def test_what_is_printed_is_what_the_files_answer_on_the_validation_rows(project: Path, said: str) -> None:
    split = read_split(project / "data/target/validation")
    assert split.images is not None
    images = np.ascontiguousarray(np.array(split.images).transpose(0, 3, 1, 2))
    labels = split.index["label"].to_numpy()
    answers = {}
    for name in ("final.onnx", "final.int8.onnx"):
        logits = open_classifier(project / "models" / name).answer(torch.from_numpy(images))
        answers[name] = logits.argmax(dim=1).numpy()
    agreement = (answers["final.onnx"] == answers["final.int8.onnx"]).mean()
    assert f"the same for {agreement:.1%} of {len(labels)} validation rows" in said
    assert agreement > 0.8
    counts = load_subnet(project / FINAL).meta["counts"]
    scores = [summarise(labels, found, counts, "thirds") for found in answers.values()]
    for name, label in (("balanced_accuracy", "balanced accuracy"), ("few", "few-shot"), ("many", "many-shot")):
        before, after = (100 * score[name] for score in scores)
        found = re.search(rf"\n  {label} +([\d.]+) +([\d.]+) +([+-][\d.]+)\n", said)
        assert found is not None, said
        assert [float(value) for value in found.groups()] == pytest.approx([before, after, after - before], abs=0.006)


def test_weights_are_in_8_bits_and_the_metadata_the_same(project: Path, said: str) -> None:
    whole, small = (onnx.load(project / "models" / name) for name in ("final.onnx", "final.int8.onnx"))
    meta = [json.loads({entry.key: entry.value for entry in one.metadata_props}[EXTRA]) for one in (whole, small)]
    assert meta[0] == meta[1]
    kinds = {entry.name: entry.data_type for entry in small.graph.initializer}
    weights = [name for name, kind in kinds.items() if kind == onnx.TensorProto.INT8]
    assert len(weights) >= sum(node.op_type in ("Conv", "Gemm") for node in whole.graph.node) > 0


def test_another_answer_is_warned_of(project: Path) -> None:
    told = r"warning: \S+final\.int8\.onnx: 8 bits change the likeliest class of [\d.]+% of the rows, expected .*\n"
    assert re.fullmatch(told, (project / "warned.txt").read_text())


@pytest.mark.parametrize(("agreement", "warned"), [(0.97, False), (0.9699, True)])
def test_the_warning_begins_below_97_percent(capfd: pytest.CaptureFixture[str], agreement: float, warned: bool) -> None:
    cli_deploy._told(module.Quantised(Path("x.int8.onnx"), agreement, ["lines"]))
    out, err = capfd.readouterr()
    assert out == "lines\n"
    assert bool(err) is warned


def test_rows_of_another_project_are_refused(project: Path, tmp_path: Path) -> None:
    state, meta = load_weights(project / FINAL)
    save_weights(tmp_path / "m.safetensors", state, {**meta, "digests": {"target_train": "0" * 64}})
    with pytest.raises(UserError, match=r"m\.safetensors: was trained on other images than those of .*train, expected"):
        project_rows(load_subnet(tmp_path / "m.safetensors"), project, {})


def test_calibration_serves_all_classes_alike(project: Path) -> None:
    rows = project_rows(load_subnet(project / FINAL), project, {})
    counts = np.array(rows.calibration.counts)
    assert counts.sum() <= 256
    assert counts.min() >= 1
    assert rows.judges.split.info.split == "validation"


def test_eight_bits_of_another_format_are_refused(project: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(project / FINAL), "--int8", "--output", str(tmp_path / "x.pt2")])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("--int8: found without ONNX, expected --format onnx")
