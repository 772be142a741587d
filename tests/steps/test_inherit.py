"""A final training that begins with the weights of the supernet: what is handed on, what is taken, what is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch
from torch import Tensor

from imbnas.longtail.heads import make_head
from imbnas.params.config import parse
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.saved import load_references, load_subnet
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.steps.recalibration import calibration_rows
from imbnas.steps.rows import make_augment, make_store, read_tail
from imbnas.steps.workbench import TrainingStep
from imbnas.training.batchnorm import averaged
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Batches
from imbnas.training.state import ResumeState

HANDED, FINAL, REFERENCES = "models/handed.safetensors", "models/final.safetensors", "models/references.safetensors"
ADAPTED = "models/adapted.safetensors"
INHERIT: dict[str, Any] = {"retrain__init": "handed", "retrain__finetune": {"epochs": 2, "calibration": {"rows": 64}}}
UNTRAINED: dict[str, Any] = {"retrain__init": "handed", "retrain__finetune": {"epochs": 0, "calibration": {"rows": 64}}}
CELLS: dict[str, Any] = {
    "name": "nasbench201",
    "stem": {"channels": 4},
    "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
    "last_channels": None,
}


def images(root: Path, changes: dict[str, Any]) -> Tensor:
    """Return the long tail's images as networks take them."""
    tail, _ = read_tail(Context("search", root, Log("test")))
    runtime = Runtime(parse(tiny_chain.changed(**changes), "test").view("search").runtime)  # type: ignore[attr-defined]
    store = make_store(tail, runtime, Context("search", root, Log("test")))
    batch, _ = next(iter(store.ordered(len(tail))))
    return runtime.lay_out(make_augment(tail.split, None)(batch, None))


def path_logits(root: Path, architecture: Architecture, file: str, **changes: Any) -> Tensor:
    """Return the logits of a supernet's path after the search's calibration, written anew from the supernet's side."""
    params = parse(tiny_chain.changed(**changes), "test")
    weights, meta = load_weights(root / file, "supernet")
    space = make_space(params.space)
    supernet = space.build_supernet(len(meta["classes"]), meta["shape"][2])
    supernet.head = make_head(meta["head"], space.num_features, len(meta["classes"]))
    supernet.load_state_dict(weights)
    context = Context("search", root, Log("test"))
    calibration, (tail, _) = params.search.calibration, read_tail(context)
    step = TrainingStep.start(context, params.runtime, space, tail, params.seed)
    rows, runtime = calibration_rows(step, calibration), step.runtime
    augment = make_augment(tail.split, None)
    runtime.place(supernet).train()
    with torch.no_grad():
        for batch, _ in averaged(supernet, Batches(make_store(rows, runtime, context), calibration.batch_size)):
            supernet(runtime.lay_out(augment(batch, None)), architecture)
        return supernet.eval()(images(root, changes), architecture)


@pytest.fixture(scope="module")
def inherited(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose final networks are slices of the supernet, without any training."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("inherited") / "project")
    assert tiny_chain.run(root, "search", "retrain", **UNTRAINED) == 0
    return root


def test_before_its_training_each_network_answers_as_its_path_does(inherited: Path) -> None:
    shown = images(inherited, {})
    networks = {"final": load_subnet(inherited / FINAL), **load_references(inherited / REFERENCES)}
    answers = []
    for network in networks.values():
        architecture = tuple(network.meta["architecture"])
        with torch.no_grad():
            answers.append(network.model.to(memory_format=torch.channels_last)(shown))  # type: ignore[call-overload]
        assert torch.equal(answers[-1], path_logits(inherited, architecture, ADAPTED))
    assert not torch.equal(answers[0], answers[1]), "networks that answer alike would make this test empty"


def test_what_is_handed_on_is_the_adapted_supernet(chain: Path, inherited: Path) -> None:
    adapted, _ = load_weights(inherited / ADAPTED)
    handed, meta = load_weights(inherited / HANDED)
    assert adapted.keys() == handed.keys()
    assert all(torch.equal(adapted[name], handed[name]) for name in adapted)
    assert (meta["step"], meta["method"]) == ("search", "random")
    assert meta["source"] == {"dataset": "digits", "classes": [str(digit) for digit in range(10)]}
    assert load_weights(chain / HANDED) == ({}, {"format": 1, "kind": "nothing"})


def test_nothing_is_handed_on_in_the_same_bytes_whatever_the_supernet(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    before = (root / HANDED).read_bytes()
    fixed = {"search__method": "fixed", "search__architecture": [1, 2, 3]}
    for change in ({"adapt__strategy": "finetune"}, {"adapt__strategy": "scratch", **fixed}):
        assert tiny_chain.run(root, "adapt", "search", **change) == 0
        assert (root / HANDED).read_bytes() == before


def test_a_training_goes_on_from_the_slice_by_its_own_recipe(inherited: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(inherited, tmp_path)
    assert tiny_chain.run(root, "retrain", "evaluate", **INHERIT) == 0
    start, _ = load_weights(inherited / FINAL)
    state, meta = load_weights(root / FINAL)
    moved = (state["head.weight"] - start["head.weight"]).norm() / start["head.weight"].norm()
    assert 0.0 < moved < 0.5, "two epochs at a small rate stay near where they began"
    assert meta["recipe"]["epochs"] == 2
    assert meta["recipe"]["optimizer"]["lr"] == 0.02
    assert meta["recipe"]["init"] == "handed"
    assert "finetune" not in meta["recipe"]
    said = {"weights": "handed", "method": "random", "strategy": "head", "head": "handed"}
    assert meta["init"] == {**said, "source": {"dataset": "digits", "classes": 10, "shared": 10}}
    assert load_meta(root / REFERENCES)["init"] == meta["init"]
    assert json.loads((root / "results/details.json").read_text())["init"] == meta["init"]
    card = (root / "results/model-card.md").read_text()
    assert "trained on digits, which has 10 of the 10 classes by name" in card
    cost = json.loads((root / "results/cost-details.json").read_text())
    assert cost["steps"]["retrain"]["init"] == "handed, source digits"


def test_a_network_from_scratch_says_nothing_of_a_start(chain: Path) -> None:
    meta = load_meta(chain / FINAL)
    assert "init" not in meta
    assert not {"init", "finetune"} & set(meta["recipe"])
    assert "synthesis" not in meta["recipe"]["head"], "no head here learns from generated features"


def test_a_killed_fine_tuning_ends_with_the_same_bytes(
    inherited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tiny_chain.copy(inherited, tmp_path / "whole"), tiny_chain.copy(inherited, tmp_path / "cut")
    assert tiny_chain.run(whole, "retrain", **INHERIT) == 0
    ticks, tick = 0, ResumeState.tick

    def interrupted(self: ResumeState, state: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks <= 2:
            self._note(signal.SIGTERM, None)
        tick(self, state)

    monkeypatch.setattr(ResumeState, "tick", interrupted)
    codes = [tiny_chain.run(cut, "retrain", **INHERIT) for _ in range(3)]
    assert codes == [143, 143, 0]
    assert tiny_chain.digests(cut, "retrain") == tiny_chain.digests(whole, "retrain")


@pytest.mark.parametrize(
    ("change", "head"),
    [
        ({"retrain__loss": "balanced-softmax"}, "handed"),
        ({"retrain__loss": "ldam"}, "new"),
        ({"retrain__loss": "ce", "retrain__head": {"name": "crt", "epochs": 1}}, "handed"),
        ({"retrain__sampler": {"name": "class-balanced"}}, "handed"),
    ],
    ids=["balanced-softmax", "ldam", "crt", "class-balanced"],
)
def test_losses_samplers_and_heads_work_on_inherited_weights(
    inherited: Path, tmp_path: Path, change: dict[str, Any], head: str
) -> None:
    root = tiny_chain.copy(inherited, tmp_path)
    assert tiny_chain.run(root, "retrain", **{**INHERIT, **change}) == 0
    assert load_meta(root / FINAL)["init"]["head"] == head
    load_subnet(root / FINAL)


def test_a_cosine_head_is_inherited_with_the_training_s_own_scale(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    cosine = {"adapt__loss": "ldam", "adapt__head": {"name": "cosine", "epochs": 1}, "retrain__loss": "ldam"}
    scaled = {**UNTRAINED, **cosine, "retrain__classifier": {"scale": 7.0}}
    assert tiny_chain.run(root, "adapt", "search", "retrain", **scaled) == 0
    adapted, _ = load_weights(root / ADAPTED)
    final, meta = load_weights(root / FINAL)
    assert torch.equal(final["head.weight"], adapted["head.weight"])
    assert meta["head"] == {"name": "cosine", "scale": 7.0}


def test_another_head_trains_nothing_again(inherited: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imbnas.training.loop import Trainer

    root = tiny_chain.copy(inherited, tmp_path)
    assert tiny_chain.run(root, "retrain", **INHERIT, retrain__head={"name": "crt", "epochs": 1}) == 0
    names, real = [], Trainer.turns
    monkeypatch.setattr(Trainer, "turns", lambda self: (names.append(self.training.name), real(self))[1])
    assert tiny_chain.run(root, "retrain", **INHERIT, retrain__head={"name": "linear", "epochs": 1}) == 0
    assert set(names) == {"retrain-head"}
    names.clear()
    more = {**INHERIT, "retrain__finetune": {"epochs": 3, "calibration": {"rows": 64}}}
    assert tiny_chain.run(root, "retrain", **more, retrain__head={"name": "linear", "epochs": 1}) == 0
    assert "retrain" in names, "another recipe is another network"


def test_a_differentiable_search_hands_on_what_it_has_trained(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    search = {"search__method": "darts", "search__darts": {"epochs": 1, "batch_size": 70}}
    change = {"space": CELLS, "supernet__epochs": 1, "adapt__strategy": "finetune", **search, **UNTRAINED}
    assert tiny_chain.run(root, "supernet", "adapt", "search", "retrain", **change) == 0
    adapted, handed = load_weights(root / ADAPTED)[0], load_weights(root / HANDED)[0]
    assert not torch.equal(adapted["stem.0.weight"], handed["stem.0.weight"])
    network = load_subnet(root / FINAL)
    with torch.no_grad():
        answer = network.model.to(memory_format=torch.channels_last)(images(root, change))  # type: ignore[call-overload]
    assert torch.equal(answer, path_logits(root, tuple(network.meta["architecture"]), HANDED, **change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": {"name": "darts"}, "adapt__sampling": "mixture", "supernet__sampling": "mixture"}, "space darts"),
        ({"supernet__epochs": 0}, "with supernet.epochs 0 and adapt.strategy head"),
        ({"supernet__epochs": 0, "search__method": "fixed", "search__architecture": [1, 2, 3]}, "first weights alone"),
        ({"adapt__strategy": "scratch", "adapt__scratch": {"epochs": 0}}, "adapt.strategy scratch"),
        ({"retrain__branches": "bilateral"}, "retrain.branches is bilateral with init handed"),
        ({"retrain__pretrain": {"epochs": 1}}, "retrain.pretrain.epochs is 1 with init handed"),
        (
            {"retrain__loss": "label-aware-smoothing", "retrain__finetune": {"label_smoothing": 0.1}},
            "retrain.finetune.label_smoothing is 0.1",
        ),
        (
            {
                "space": CELLS,
                "search__method": "darts",
                "adapt__strategy": "finetune",
                "search__darts": {"objective": "barlow-twins"},
            },
            "search.darts.objective barlow-twins",
        ),
    ],
)
def test_what_cannot_be_inherited_is_refused_with_the_parameters(change: dict[str, Any], message: str) -> None:
    from imbnas.errors import UserError

    with pytest.raises(UserError) as refused:
        parse(tiny_chain.changed(**{"retrain__init": "handed", **change}), "params.yaml")
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    parse(tiny_chain.changed(**{**change, "retrain__finetune": {}}), "params.yaml")


@pytest.mark.parametrize(
    ("source", "message"),
    [("nothing", "holds no weights, expected those for retrain.init handed, run search"), (FINAL, "holds a subnet")],
)
def test_a_file_without_a_supernet_is_refused_before_any_training(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    if source != "nothing":
        (root / HANDED).write_bytes((root / source).read_bytes())
    before = (root / FINAL).read_bytes()
    assert tiny_chain.run(root, "retrain", **INHERIT) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert message in error
    assert (root / FINAL).read_bytes() == before


def test_a_supernet_of_other_classes_is_refused(
    inherited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from imbnas.training.checkpoint import save_weights

    root = tiny_chain.copy(inherited, tmp_path)
    state, meta = load_weights(root / HANDED)
    save_weights(root / HANDED, state, {**meta, "classes": [*meta["classes"][:-1], "other"]})
    assert tiny_chain.run(root, "retrain", **INHERIT) == 2
    assert "made for other classes or images than the target's" in capsys.readouterr().err
