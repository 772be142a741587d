"""Step `retrain`: the chosen subnet and its references, from scratch, with one recipe."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tiny_chain
import torch

from imbnas.data.stored import read_split
from imbnas.longtail.temperature import fit_temperature
from imbnas.network_names import by_place
from imbnas.saved import load_subnet
from imbnas.steps.fitted_temperature import TRAINED_ON
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.inputs import batches_of
from imbnas.training.loop import Trainer
from imbnas.training.turns import Turns

FINAL, REFERENCES = "models/final.safetensors", "models/references.safetensors"
LOSSES = "results/plots/retrain.csv"


def test_networks_match_the_architecture_file(chain: Path) -> None:
    record = json.loads((chain / "results/architecture.json").read_text())
    final, references = load_meta(chain / FINAL, "subnet"), load_meta(chain / REFERENCES, "references")
    assert final["architecture"] == record["chosen"]["architecture"]
    assert sorted(references["networks"], key=by_place) == ["random-1", "random-2", "largest"]
    for entry in references["networks"].values():
        assert entry["gap"] == pytest.approx(entry["macs"] / final["macs"] - 1.0, abs=1e-6)
    assert sum(final["counts"]) == len(pd.read_parquet(chain / "data/longtail.parquet"))


def test_the_chosen_network_carries_the_temperature_of_the_validation_rows(chain: Path) -> None:
    network, split = load_subnet(chain / FINAL), read_split(chain / "data/target/validation")
    assert split.images is not None
    images = torch.from_numpy(np.array(split.images)).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = network.model(network.preprocess()(images))
    expected = fit_temperature(logits.double().numpy(), split.index["label"].to_numpy())
    found = network.meta["temperature"]
    assert found["rows"] == len(split) > 0
    assert found["value"] == pytest.approx(expected.value, rel=1e-3)
    assert found["nll"] == pytest.approx(expected.nll, rel=1e-3)
    assert found["nll"][1] < found["nll"][0]
    assert "temperature" not in load_meta(chain / REFERENCES, "references")


def test_the_losses_of_each_network_are_those_that_the_log_tells(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    (root / "logs/retrain.log").unlink()
    assert tiny_chain.run(root, "retrain") == 0
    table = pd.read_csv(root / LOSSES)
    told = re.findall(r"retrain: epoch (\d+) of 3, loss ([0-9.]+)", (root / "logs/retrain.log").read_text())
    assert list(table.epoch) == [int(epoch) for epoch, _ in told]
    assert list(table.loss) == pytest.approx([float(loss) for _, loss in told], abs=6e-5)
    assert list(table.network) == [name for name in ("chosen", "random-1", "random-2", "largest") for _ in range(3)]


def test_weights_decay_undampened_and_those_of_the_last_step_are_kept(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZO-DARTS' published code passes the decay as dampening, so that nothing decays, and reports the best test epoch.

    The test split is absent here, so that nothing can choose by it.
    """
    root = tiny_chain.copy(chain, tmp_path)
    shutil.rmtree(root / "data/target/test")
    steps: list[tuple[float, float]] = []
    ends: list[dict[str, torch.Tensor]] = []
    fused, turns = torch._fused_sgd_, Trainer.turns

    def stepped(*given: Any, **options: Any) -> None:
        steps.append((options["weight_decay"], options["dampening"]))
        fused(*given, **options)

    def ended(self: Trainer) -> Turns[list[float]]:
        history = yield from turns(self)
        ends.append({name: value.clone() for name, value in self.training.model.state_dict().items()})
        return history

    monkeypatch.setattr(torch, "_fused_sgd_", stepped)
    monkeypatch.setattr(Trainer, "turns", ended)
    change = {"retrain__references": False, "retrain__optimizer": {"weight_decay": 0.0123}}
    assert tiny_chain.run(root, "retrain", **change) == 0
    assert set(steps) == {(0.0123, 0.0), (0.0, 0.0)}, "norms and biases do not decay"
    (last,) = ends
    kept, _ = load_weights(root / FINAL)
    same = [name for name in kept if name in last]
    assert any(name.endswith("weight") for name in same)
    assert all(torch.equal(kept[name], last[name]) for name in same)


def test_equal_architectures_are_trained_once_and_are_equal(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    file = root / "results/architecture.json"
    record = json.loads(file.read_text())
    largest = load_meta(chain / REFERENCES)["networks"]["largest"]
    record["chosen"] = {**largest, "score": 0.5, "standard_error": 0.1}
    file.write_text(json.dumps(record))
    trained = []
    real = Trainer.turns
    monkeypatch.setattr(Trainer, "turns", lambda self: (trained.append(self.training), real(self))[1])
    assert tiny_chain.run(root, "retrain") == 0
    # The largest one is trained already, as a reference of another choice.
    assert len(trained) == 2
    final, _ = load_weights(root / FINAL)
    references, _ = load_weights(root / REFERENCES)
    assert all(torch.equal(value, references[f"largest.{name}"]) for name, value in final.items())
    losses = {name: list(part.loss) for name, part in pd.read_csv(root / LOSSES).groupby("network")}
    assert losses["chosen"] == losses["largest"] != losses["random-1"]


def test_references_and_validation_rows_are_options_that_act(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    before, _ = load_weights(root / FINAL)
    assert tiny_chain.run(root, "retrain", retrain__references=False) == 0
    tensors, meta = load_weights(root / REFERENCES)
    assert tensors == {}
    assert meta["networks"] == {}
    same, _ = load_weights(root / FINAL)
    assert all(torch.equal(before[name], same[name]) for name in before)
    assert tiny_chain.run(root, "retrain", retrain__references=False, retrain__rows="train+validation") == 0
    more = load_meta(root / FINAL)
    assert sum(more["trained_counts"]) == sum(more["counts"]) + 100
    assert more["temperature"] == {"value": None, "reason": TRAINED_ON}


def test_all_rows_are_the_target_s_and_those_that_the_source_took(tmp_path: Path) -> None:
    wanted = {"imbalance__profile": "natural", "retrain__references": False, "retrain__epochs": 1}
    chain = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain")
    untrained = {"supernet__epochs": 0, "adapt__head": {"epochs": 0}, "search__candidates": 1}
    assert tiny_chain.run(tmp_path, *chain, **wanted, **untrained, retrain__rows="all") == 0
    meta = load_meta(tmp_path / FINAL)
    tested = len(pd.read_parquet(tmp_path / "data/target/test/index.parquet"))
    # Digits have 1,797 images, one of which a test row is or not.
    assert sum(meta["trained_counts"]) == 1797 - tested
    assert sum(meta["counts"]) < 1797 - tested
    log = (tmp_path / "logs/retrain.log").read_text()
    assert f"{1797 - tested - sum(meta['counts'])} rows besides the {sum(meta['counts'])} of the long tail" in log


def test_a_kill_between_networks_repeats_no_training(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    expected = tiny_chain.digests(root, "retrain")
    real, steps, calls = Trainer.turns, [], []

    def killed(self: Trainer) -> Turns[list[float]]:
        calls.append(self)
        if len(calls) == 2:
            raise MemoryError("killed")
        return real(self)

    monkeypatch.setattr(Trainer, "turns", killed)
    with pytest.raises(MemoryError):
        tiny_chain.run(root, "retrain")
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *a: (steps.append(self.done), step(self, *a))[1])
    monkeypatch.setattr(Trainer, "turns", real)
    assert tiny_chain.run(root, "retrain") == 0
    per_network = 3 * len(batches_of(np.arange(sum(load_meta(root / FINAL)["counts"])), 32))
    assert len(steps) == 3 * per_network
    assert tiny_chain.digests(root, "retrain") == expected


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda r: r.pop("chosen"), "not an architecture file"),
        (lambda r: r.update(space="mobile"), "is of the space mobile"),
        (lambda r: r["chosen"].update(architecture=[9, 9, 9]), "chosen"),
    ],
)
def test_a_foreign_architecture_file_is_refused(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: object, message: str
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    file = root / "results/architecture.json"
    record = json.loads(file.read_text())
    edit(record)  # type: ignore[operator]
    file.write_text(json.dumps(record))
    assert tiny_chain.run(root, "retrain") == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert "architecture.json" in error
    assert message in error


def test_a_two_branch_network_is_trained_measured_and_counted(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    before = load_meta(root / FINAL)
    change = {"retrain__branches": "bilateral", "retrain__loss": "ce", "retrain__epochs": 6}
    assert tiny_chain.run(root, "retrain", "evaluate", **change) == 0
    state, meta = load_weights(root / FINAL)
    assert meta["branches"] == 2
    assert meta["params"] == sum(
        value.numel() for name, value in state.items() if "running" not in name and "num_batches" not in name
    )
    assert before["params"] < meta["params"] < 2 * before["params"]
    assert before["macs"] < meta["macs"] < 2 * before["macs"]
    assert json.loads((root / "results/metrics.json").read_text())["balanced_accuracy"] > 0.12
    first = tiny_chain.digests(root, "retrain")
    assert tiny_chain.run(root, "retrain", **change) == 0
    assert tiny_chain.digests(root, "retrain") == first


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"retrain__loss": "seql"}, False), ({"retrain__head": {"name": "linear", "epochs": 1}}, True)],
    ids=["ce", "seql", "head"],
)
def test_a_gpu_may_record_trainings_that_draw_nothing_on_the_processor(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict, expected: bool
) -> None:
    trainings, real = [], Trainer.turns
    monkeypatch.setattr(Trainer, "turns", lambda self: (trainings.append(self.training), real(self))[1])
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "retrain", retrain__epochs=1, retrain__references=False, **change) == 0
    expected_names = {"retrain", *(["retrain-head"] if "retrain__head" in change else [])}
    assert {training.name for training in trainings} == expected_names
    assert {training.capturable for training in trainings} == {expected}
