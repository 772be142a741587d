"""The chosen network in 8 bits on the test rows: the file of `imbnas export --int8`, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import tiny_int8
import torch
import yaml
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score

from imbnas.cli import check
from imbnas.data.stored import read_split
from imbnas.deploy import libraries
from imbnas.deploy.classifier import open_classifier
from imbnas.errors import UserError
from imbnas.files import digest_file
from imbnas.params.config import parse
from imbnas.report.guide import guide
from imbnas.report.tables import print_results
from imbnas.run.graph import PATHS

pytest.importorskip("onnx")
GROUPS = ("many", "medium", "few")


@pytest.fixture(scope="module")
def project(quantised: Path) -> Path:
    return quantised


@pytest.fixture(scope="module")
def details(project: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project / PATHS["details"]).read_text())
    return found


def test_the_file_is_that_of_export(project: Path, details: dict[str, Any]) -> None:
    assert digest_file(project / "models/final.int8.onnx") == details["int8"]["sha256"]


def test_scores_and_changes_are_those_of_its_answers(project: Path, details: dict[str, Any]) -> None:
    split = read_split(project / PATHS["target_test"])
    assert split.images is not None
    images = np.ascontiguousarray(np.array(split.images).transpose(0, 3, 1, 2))
    labels = split.index["label"].to_numpy()
    found = open_classifier(project / "models/final.int8.onnx").answer(torch.from_numpy(images)).argmax(dim=1).numpy()
    table = pd.read_parquet(project / PATHS["predictions"])
    own = {name: table[table["network"] == name]["predicted"].to_numpy() for name in ("final", "final-int8")}
    assert own["final-int8"].tolist() == found.tolist()
    metrics, int8 = json.loads((project / PATHS["metrics"]).read_text()), details["int8"]
    score = balanced_accuracy_score(labels, found)
    assert metrics["int8"] == pytest.approx(score, abs=1e-6)
    assert metrics["int8_change"] == pytest.approx(score - balanced_accuracy_score(labels, own["final"]), abs=2e-6)
    assert metrics["int8_agreement"] == pytest.approx((own["final"] == found).mean(), abs=1e-6)
    # Thirds of the ten classes by their counts, which fall with the label as the profile has them.
    counts = np.array(details["imbalance"]["counts"])
    order = np.argsort(-counts, kind="stable")
    parts = dict(zip(GROUPS, (order[:3], order[3:6], order[6:]), strict=True))
    for name, classes in parts.items():
        recalls = [
            np.mean([(guess[labels == label] == label).mean() for label in classes]) for guess in (found, own["final"])
        ]
        change = int8["difference"][name]
        assert metrics[f"int8_change_{name}"] == pytest.approx(recalls[0] - recalls[1], abs=2e-6)
        assert change["low"] <= change["value"] <= change["high"]
        assert change["covers"] == "rows"
    recall = pd.read_parquet(project / PATHS["classes"]).query("network == 'final-int8'")["recall"]
    assert recall.mean() == pytest.approx(score)


def test_tables_show_it_beside_the_network(project: Path, details: dict[str, Any]) -> None:
    console = Console(width=200, record=True)
    print_results(project / PATHS["details"], project / "none.json", console)
    lines = [line.split("  ")[0].strip() for line in console.export_text().splitlines()]
    assert lines.index("chosen, 8 bits") == lines.index("chosen") + 1
    value = details["int8"]["difference"]["few"]["value"]
    places = {name: project / path for name, path in PATHS.items()}
    texts = [(project / PATHS[name]).read_text() for name in ("model_card", "table")]
    for text in (*texts, " ".join(guide(details, places, False).split())):
        assert f"few-shot {100 * value:+.2f} [" in text
    assert texts[1].index("chosen, 8 bits") > texts[1].index("chosen")


def test_all_else_is_as_without_it(project: Path, chain: Path, tmp_path: Path) -> None:
    plain = tiny_chain.copy(chain, tmp_path)
    tiny_int8.evaluated(plain, False)
    ours, theirs = (tiny_chain.digests(root, "evaluate") for root in (project, plain))
    changed = {name for name in ours if ours[name] != theirs[name]}
    told = ("metrics", "details", "classes", "predictions", "model_card", "table")
    assert changed == {PATHS[name] for name in told}
    assert ours.keys() == theirs.keys()


def test_libraries_are_missed_before_any_step_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name != "onnx" else object())
    assert tiny_chain.run(tmp_path, "source", evaluate__int8=True) == 2
    told = "evaluate.int8: onnxscript, onnxruntime not installed, expected the libraries of ONNX: pip install 'imbnas"
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {told}")
    assert not (tmp_path / "data").exists()
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(tiny_chain.changed(evaluate__int8=True)))
    with pytest.raises(UserError, match=r"^evaluate\.int8: onnxscript, onnxruntime not installed"):
        check(tmp_path / "p.yaml")


def test_a_network_in_8_bits_already_is_refused() -> None:
    tree = {"evaluate": {"int8": True}, "approximate": {"multiplier": "exact"}}
    with pytest.raises(UserError, match=r"evaluate\.int8 is true with approximate\.multiplier exact, expected false"):
        parse(tree, "p.yaml")
