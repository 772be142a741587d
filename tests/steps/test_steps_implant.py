"""Implants in the chain: the backbone keeps every bit from `supernet` to `retrain`, implants and head learn."""

from __future__ import annotations

import json
import shutil
import signal
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.steps.supernets import Adapted, build_adapted
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.state import ResumeState

SUPERNET, ADAPTED, HANDED = (f"models/{name}.safetensors" for name in ("supernet", "adapted", "handed"))
FINAL, REFERENCES = "models/final.safetensors", "models/references.safetensors"
SPACE: dict[str, Any] = {
    "name": "implant",
    "stem": {"channels": 4},
    "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
    "last_channels": None,
    "implant": {"kind": "cells"},
}
FEW: dict[str, Any] = {"epochs": 1, "batch_size": 64}
CONVOLUTIONS = (3,) * 12
IMPLANT: dict[str, Any] = {
    "space": SPACE,
    "supernet__epochs": 1,
    "adapt__strategy": "implant",
    "adapt__implant": FEW,
    "search__candidates": 2,
    "retrain__init": "handed",
    "retrain__finetune": {**FEW, "backbone": "frozen", "calibration": {"rows": 64}},
    "retrain__references": {"random": 1},
}


def run(root: Path, *steps: str, **changes: Any) -> int:
    return tiny_chain.run(root, *steps, **{**deepcopy(IMPLANT), **changes})


def backbone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if ".implant." not in name and not name.startswith("head.")}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def implanted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose chain has run with frozen backbones up to `retrain`; copy it before changing anything."""
    root = tmp_path_factory.mktemp("implanted") / "project"
    assert run(root, "source", "target", "imbalance", "supernet", "adapt", "search", "retrain") == 0
    return root


def test_the_source_trains_the_backbone_alone(implanted: Path) -> None:
    trained, _ = load_weights(implanted / SUPERNET)
    gates = {name for name in trained if name.endswith("gate.weight")}
    assert len(gates) == 2
    assert not any(trained[name].any() for name in gates)
    counters = {name for name in trained if name.endswith("num_batches_tracked")}
    assert {name for name in counters if trained[name] > 0} == counters & backbone(trained).keys()


def test_the_backbone_keeps_every_bit_while_implants_and_head_learn(implanted: Path) -> None:
    source, adapted = (load_weights(implanted / name)[0] for name in (SUPERNET, ADAPTED))
    final, meta = load_weights(implanted / FINAL)
    for tensors in (adapted, final):
        assert equal(backbone(source), backbone(tensors))
    references, _ = load_weights(implanted / REFERENCES)
    for name in load_meta(implanted / REFERENCES)["networks"]:
        own = {key.removeprefix(f"{name}."): value for key, value in references.items() if key.startswith(f"{name}.")}
        assert equal(backbone(source), backbone(own))
    assert all(adapted[name].any() for name in adapted if name.endswith("gate.weight"))
    start = make_space(parse(tiny_chain.changed(**deepcopy(IMPLANT)), "test").space).subnet_state(
        adapted, meta["architecture"]
    )
    learned = {name for name, value in final.items() if not torch.equal(value, start[name])}
    assert {"head.weight", "head.bias"} < learned
    assert any(".implant." in name for name in learned)
    assert meta["recipe"]["backbone"] == "frozen"


def test_finetuning_moves_the_backbone(implanted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(implanted, tmp_path)
    assert run(root, "retrain", retrain__finetune={**FEW, "calibration": {"rows": 64}}, retrain__references=False) == 0
    source, final = load_weights(root / SUPERNET)[0], load_weights(root / FINAL)[0]
    kept = {name for name, value in backbone(final).items() if torch.equal(value, source[name])}
    assert not any(final[name].ndim > 1 for name in kept)
    assert "backbone" not in load_meta(root / FINAL)["recipe"]


def logits(root: Path, file: str, architecture: Architecture) -> Tensor:
    """Return the logits of a supernet's path, as the search builds it, for images of noise."""
    space = parse(tiny_chain.changed(**deepcopy(IMPLANT)), "test").space
    adapted = Adapted(*load_weights(root / file, "supernet"))
    supernet = build_adapted(make_space(space), adapted).eval()
    with torch.no_grad():
        return supernet(torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)), architecture)  # type: ignore[no-any-return]


def test_adaptation_begins_with_the_trained_networks_logits(implanted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(implanted, tmp_path)
    assert run(root, "adapt", adapt__implant={**FEW, "epochs": 0}) == 0
    before, _ = load_weights(root / SUPERNET, "supernet")
    assert equal(before, load_weights(root / ADAPTED, "supernet")[0]), "the head of the same classes is kept, too"
    alone = logits(root, ADAPTED, (0,) * 12)
    assert torch.equal(logits(root, ADAPTED, CONVOLUTIONS), alone)
    after = logits(implanted, ADAPTED, CONVOLUTIONS)
    assert not torch.equal(after, logits(implanted, ADAPTED, (0,) * 12))


@pytest.mark.parametrize("step", ["adapt", "retrain"])
def test_a_killed_step_ends_with_the_same_bytes(
    step: str, implanted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(implanted, tmp_path)
    before = tiny_chain.digests(root, step)
    ticks, tick = 0, ResumeState.tick

    def interrupted(self: ResumeState, state: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks == 2:
            self._note(signal.SIGTERM, None)
        tick(self, state)

    shutil.rmtree(root / ".imbnas/kept")
    monkeypatch.setattr(ResumeState, "tick", interrupted)
    assert run(root, step) == 128 + signal.SIGTERM
    monkeypatch.setattr(ResumeState, "tick", tick)
    assert run(root, step) == 0
    models = [name for name in before if name.startswith("models/")]
    assert models
    after = tiny_chain.digests(root, step)
    assert {name: after[name] for name in models} == {name: before[name] for name in models}


def test_adapters_are_trained_as_cells_are(implanted: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(implanted, tmp_path)
    space = {**SPACE, "implant": {"kind": "adapters", "budget": 900}}
    adapters = {"space": space, "search__method": "fixed", "search__architecture": [1, 1], "retrain__references": False}
    assert run(root, "supernet", "adapt", "search", "retrain", **adapters) == 0
    source, final = load_weights(root / SUPERNET)[0], load_weights(root / FINAL)[0]
    assert equal(backbone(source), backbone(final))
    chosen = json.loads((root / "results/architecture.json").read_text())["chosen"]
    added = chosen["params"] - sum(value.numel() for name, value in backbone(final).items() if trainable(name)) - 90
    assert abs(added - 900) <= 21


def trainable(name: str) -> bool:
    return not name.endswith(("running_mean", "running_var", "num_batches_tracked"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"supernet__sampling": "sandwich"}, "supernet.sampling is sandwich in the space implant"),
        ({"search__method": "synflow"}, "search.method is synflow in the space implant"),
        ({"adapt__strategy": "head"}, "search.method is random with adapt.strategy head in the space implant"),
        ({"adapt__strategy": "finetune"}, "retrain.finetune.backbone is frozen with adapt.strategy finetune"),
        ({"space__name": "resnet"}, "adapt.strategy is implant in the space resnet"),
        (
            {"space__name": "resnet", "adapt__strategy": "head", "search__method": "fixed"},
            "retrain.finetune.backbone is frozen in the space resnet",
        ),
        ({"search__method": "darts"}, "search.method is darts in the space implant"),
        ({"space__stages__channels": [8, 4]}, "expected widths that never fall"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(tiny_chain.changed(**{**deepcopy(IMPLANT), **changes}), "params.yaml")


def test_metadata_of_other_spaces_and_strategies_are_as_they_were(chain: Path) -> None:
    for file in (SUPERNET, ADAPTED, FINAL):
        assert "implant" not in load_meta(chain / file)["space"]
    assert "implant" not in load_meta(chain / ADAPTED)["recipe"]
