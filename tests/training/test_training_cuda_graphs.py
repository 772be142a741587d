"""Recorded steps: when a step is recorded, and that on a GPU nothing but the time differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.images import ImageStore
from imbnas.data.materialise import write_split
from imbnas.data.order import InstanceSampler
from imbnas.data.policy import Policy
from imbnas.data.raw import Raw, Shape
from imbnas.data.stored import read_split
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.longtail.losses import LOSS_NAMES, capturable
from imbnas.longtail.mixing import Mixer
from imbnas.params.longtail import ClassifierParams, ClassifierTraining, WeightingParams
from imbnas.params.recipe import OptimizerParams, RecipeParams, ScheduleParams
from imbnas.params.shared import Numerics, Precision
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.spaces.networks import Supernet
from imbnas.spaces.paths import path_sampler
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.objective import make_objective
from imbnas.training import cuda_graphs, graph_memory
from imbnas.training.definition import Training
from imbnas.training.frozen import FrozenBackbone
from imbnas.training.loop import Trainer
from imbnas.training.optimizer import make_optimizer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

COUNTS = [40, 20, 10, 5]
ROWS, BATCH, SIDE = sum(COUNTS), 32, 8
"""Two whole batches and one of 11 rows an epoch."""


class Played:
    """Stands for a recording where there is no GPU."""

    made: list[tuple[torch.Size, int]] = []

    def __init__(self, step: cuda_graphs.Step, inputs: Tensor, target: Any) -> None:
        self._step = step
        self.made.append((inputs.shape, len(self.made)))

    def replay(self, inputs: Tensor, target: Any) -> Tensor:
        return -self._step(inputs, target)


def test_a_step_is_recorded_when_it_comes_for_the_fourth_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Played, "made", [])
    monkeypatch.setattr(cuda_graphs, "_Recording", Played)
    monkeypatch.setattr(cuda_graphs, "room_for_step", lambda: True)
    recorder, taken = cuda_graphs.GraphedStep(), []

    def step(inputs: Tensor, target: Any) -> Tensor:
        taken.append(inputs.shape[0])
        return inputs.sum()

    def take(key: str, rows: int) -> float:
        return float(recorder(key, step, torch.ones(rows), torch.zeros(rows)))

    # The same whole batches, with a shorter one among them: each is recorded by itself and both are kept.
    found = [take("a", rows) for _ in range(5) for rows in (4, 4, 3)]
    assert found == [4, 4, 3, 4, -4, 3, -4, -4, 3, -4, -4, 3, -4, -4, -3]
    # A new key is another step; it drives out the recording that was played longest ago.
    assert [take("b", 4) for _ in range(4)] == [4, 4, 4, -4]
    assert take("a", 3) == -3
    assert [take("a", 4) for _ in range(2)] == [4, 4]
    # Other shapes of the target are another step as well.
    assert float(recorder("b", step, torch.ones(4), torch.zeros(4, 2))) == 4
    assert [shape[0] for shape, _ in Played.made] == [4, 3, 4]


def test_nothing_is_recorded_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cuda_graphs, "_Recording", None)
    monkeypatch.setattr(cuda_graphs, "room_for_step", lambda: bool(asked.append(1)))
    recorder = cuda_graphs.GraphedStep()
    assert [float(recorder("a", lambda x, _: x.sum(), torch.ones(2), torch.zeros(2))) for _ in range(9)] == [2.0] * 9
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("free", "needed", "expected"), [(70, 20, True), (30, 10, False), (60, 40, False), (80, 40, True), (25, 0, True)]
)
def test_a_recorded_step_leaves_a_quarter_and_as_much_as_it_takes(
    monkeypatch: pytest.MonkeyPatch, free: int, needed: int, expected: bool
) -> None:
    for name, value in {"mem_get_info": (free, 100), "max_memory_allocated": needed + 5, "memory_allocated": 5}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *device, value=value: value)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    assert graph_memory.room_for_step() is expected


class Store:
    """Random images on the device."""

    def __init__(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(1)
        shape = (ROWS, 1, SIDE, SIDE)
        self.images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8).to(device)
        self.labels = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS)).to(device)

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            place = torch.from_numpy(batch).to(self.images.device)
            yield self.images[place], self.labels[place]


def trained(
    folder: Path, recorded: bool, precision: Precision = "fp32", loss: str = "effective-number", mixed: str = ""
) -> tuple[dict[str, Tensor], list[float]]:
    """Train a small network for six epochs on the GPU, its loss re-weighted from half of them on."""
    runtime = Runtime(Numerics(device="cuda", precision=precision, threads=1))
    stages = {"channels": [8, 16], "repeats": [1, 1], "strides": [1, 2]}
    space = make_space(SpaceParams.model_validate({"name": "shufflenet", "stages": stages, "last_channels": 16}))
    torch.manual_seed(0)
    recipe = RecipeParams(
        epochs=6, batch_size=BATCH, optimizer=OptimizerParams(clip=1.0), schedule=ScheduleParams(warmup=0.2)
    )
    training = Training(
        "retrain",
        nn.Sequential(space.build_subnet((0, 3), len(COUNTS), 1), nn.Dropout(0.2)),
        recipe,
        Store(runtime.device),
        Augment(Shape(SIDE, SIDE, 1), "pad", pad=1, flip=True, cutout=0, mean=[0.5], std=[0.25]),
        InstanceSampler(np.zeros(ROWS), 0),
        make_objective(
            ClassifierTraining(loss=loss, weighting=WeightingParams(defer=0.5), classifier=ClassifierParams(scale=1.0)),
            recipe,
            COUNTS,
            runtime.device,
        ),
        0,
        mix=Mixer(mixed, COUNTS) if mixed else None,
        capturable=recorded,
    )
    state = ResumeState(folder / "state", str(recorded), 1e9)
    history = Trainer(training, runtime, state, Log("test")).fit()
    return {name: value.cpu() for name, value in training.model.state_dict().items()}, history


def same(first: tuple[dict[str, Tensor], list[float]], second: tuple[dict[str, Tensor], list[float]]) -> bool:
    return first[1] == second[1] and all(torch.equal(value, second[0][name]) for name, value in first[0].items())


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_recorded_steps_give_the_same_bits(tmp_path: Path, precision: Precision) -> None:
    eager, recorded = (trained(tmp_path, way, precision) for way in (False, True))
    assert same(eager, recorded)
    assert same(trained(tmp_path, True, precision), recorded)


@pytest.mark.cuda
@pytest.mark.parametrize("loss", [name for name in LOSS_NAMES if capturable(name)])  # type: ignore[arg-type]
def test_every_loss_can_be_recorded(tmp_path: Path, loss: str) -> None:
    assert same(*(trained(tmp_path, way, loss=loss) for way in (False, True)))


@pytest.mark.cuda
@pytest.mark.parametrize("mixed", ["mixup", "remix"])
def test_mixed_targets_can_be_recorded(tmp_path: Path, mixed: str) -> None:
    assert same(*(trained(tmp_path, way, mixed=mixed) for way in (False, True)))


@pytest.mark.cuda
def test_steps_are_played_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[int] = []
    real: Callable[..., Tensor] = cuda_graphs._Recording.replay

    def replay(recording: Any, inputs: Tensor, target: Any) -> Tensor:
        played.append(len(inputs))
        return real(recording, inputs, target)

    monkeypatch.setattr(cuda_graphs._Recording, "replay", replay)
    trained(tmp_path, True)
    # Three steps of each kind come first; the weights act from the fourth epoch on, with another loss.
    assert played == [BATCH] * 3 + [BATCH] * 3


SPACES: dict[str, dict[str, Any]] = {
    "shufflenet": {"last_channels": 16},
    "mobile": {"last_channels": None, "mobile": {"kernels": [3, 5], "expansions": [1, 2], "skip": True}},
    "nasbench201": {"last_channels": None},
    "implant": {"last_channels": None},
}


def supernet(name: str, channels: int = 1) -> tuple[SearchSpace, Supernet]:
    stages = {"channels": [16, 32], "repeats": [1, 2], "strides": [1, 2]}
    space = make_space(SpaceParams.model_validate({"name": name, "stages": stages, **SPACES[name]}))
    torch.manual_seed(0)
    return space, space.build_supernet(len(COUNTS), channels)


@pytest.mark.parametrize("name", SPACES)
def test_parts_hold_every_parameter_once_and_a_pass_calls_each_at_most_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, network = supernet(name)
    held = [p for module, _ in network.capturable_modules() for p in module.parameters()]
    assert len(set(held)) == len(held)
    assert set(network.parameters()) - set(held) == set(network.head.parameters())
    images, path = torch.randn(2, 1, SIDE, SIDE), space.sample(np.random.default_rng(0))
    expected, called = network.eval()(images, path), []

    def part(module: nn.Module, call: Callable[[Tensor], Tensor], studio: object) -> Callable[[Tensor], Tensor]:
        return lambda x: (called.append(module), call(x))[1]

    monkeypatch.setattr(cuda_graphs, "_Part", part)
    monkeypatch.setattr(cuda_graphs, "CapturePool", object)
    with cuda_graphs.recorded_parts(FrozenBackbone(network, "frozen").eval()):
        assert torch.equal(network(images, path), expected)
    assert len(set(called)) == len(called)
    used = {p for module in called for p in module.parameters()}
    assert len(used) > 4
    kept = space.build_subnet(path, len(COUNTS), 1)
    assert sum(p.numel() for p in used) == sum(p.numel() for p in kept.parameters()) - len(COUNTS) * (
        kept.head.in_features + 1  # type: ignore[operator]
    )
    called.clear()
    network(images, path)
    assert not called


class Recomputed(cuda_graphs._PartRecording):
    """A recording that computes anew, for a processor: what surrounds it is the real thing."""

    def __init__(self, module: nn.Module, call: Callable[[Tensor], Tensor], studio: object, x: Tensor) -> None:
        self._call, self._wanted = call, x.requires_grad
        self._learned = [p for p in module.parameters() if p.requires_grad]
        self._gradients = [torch.zeros_like(p) for p in self._learned]
        self._backward = self  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            self._x = x.detach().clone().requires_grad_(self._wanted)
            self._out = self._call(self._x)
        self._slope = torch.empty_like(self._out)
        return self._out.detach()

    def replay(self) -> None:
        wanted = [self._x, *self._learned] if self._wanted else self._learned
        found = list(torch.autograd.grad(self._out, wanted, self._slope))
        self._x_gradient = found.pop(0) if self._wanted else None
        torch._foreach_copy_(self._gradients, found)


class Anywhere:
    """A studio with room that needs no GPU."""

    def __init__(self) -> None:
        self.anchor = torch.zeros((), requires_grad=True)

    def has_room(self) -> bool:
        return True


@pytest.mark.parametrize("name", SPACES)
def test_gradients_of_played_parts_add_up_over_the_passes_of_a_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "_PartRecording", Recomputed)
    monkeypatch.setattr(cuda_graphs, "CapturePool", Anywhere)
    states = []
    for eager in (3, 10**9):
        monkeypatch.setattr(cuda_graphs, "EAGER", eager)
        space, network = supernet(name)
        optimizer = make_optimizer(network.train(), OptimizerParams(lr=0.1))
        ends = ((0,) * len(space.choices), (1,) * len(space.choices))
        passes = path_sampler(space, "sandwich", 0, "test", ends)
        images = torch.randn(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
        with cuda_graphs.recorded_parts(network):
            for step in range(8):
                optimizer.zero_grad()
                for path in passes(step):
                    network(images, *path).square().sum().backward()
                optimizer.clip(5.0)
                optimizer.step()
        states.append(network.state_dict())
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []


def supernet_trained(folder: Path, name: str, precision: Precision, frozen: bool) -> dict[str, Tensor]:
    """Train a supernet, or its head alone, by fair paths on the GPU."""
    runtime = Runtime(Numerics(device="cuda", precision=precision, threads=1))
    space, network = supernet(name)
    loss = CrossEntropy(COUNTS)
    training = Training(
        "supernet",
        FrozenBackbone(network, "batch") if frozen else network,
        RecipeParams(epochs=12, batch_size=BATCH, optimizer=OptimizerParams(clip=1.0)),
        Store(runtime.device),
        Augment(Shape(SIDE, SIDE, 1), "pad", pad=1, flip=True, cutout=0, mean=[0.5], std=[0.25]),
        InstanceSampler(np.zeros(ROWS), 0),
        lambda _: loss,
        0,
        passes=path_sampler(space, "sandwich", 0, "supernet", ((0,) * len(space.choices), (1,) * len(space.choices))),
    )
    Trainer(training, runtime, ResumeState(folder / "state", "x", 1e9), Log("test")).fit()
    return {key: value.cpu() for key, value in network.state_dict().items()}


@pytest.mark.cuda
@pytest.mark.parametrize("frozen", [False, True], ids=["all", "head"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", SPACES)
def test_recorded_parts_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: Precision, frozen: bool
) -> None:
    """Sandwich sampling takes two paths anew in every step, and parts of them twice: gradients add up."""
    made: list[object] = []
    real = cuda_graphs._PartRecording.__init__

    def noted(recording: Any, *arguments: Any) -> None:
        made.append(recording)
        real(recording, *arguments)

    monkeypatch.setattr(cuda_graphs._PartRecording, "__init__", noted)
    recorded = supernet_trained(tmp_path, name, precision, frozen)
    assert len(made) > 5
    monkeypatch.setattr(cuda_graphs, "EAGER", 10**9)
    eager = supernet_trained(tmp_path, name, precision, frozen)
    assert [key for key in eager if not torch.equal(eager[key], recorded[key])] == []


@pytest.mark.cuda
def test_no_step_waits_for_the_gpu(tmp_path: Path) -> None:
    runtime = Runtime(Numerics(device="cuda", threads=1))
    space = make_space(SpaceParams(name="nasbench201", last_channels=None))
    store, loss = Store(runtime.device), CrossEntropy(COUNTS).to(runtime.device)
    places = torch.arange(ROWS, device="cuda").split(BATCH)

    class Resident(Store):
        """Positions are on the device already, as `ImageStore` has them; a first epoch fills what is kept there."""

        epoch = 0

        def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
            self.epoch += 1
            # The epoch's end reads the mean loss.
            for place in places:
                checked = self.epoch > 1 and place is not places[-1]
                torch.cuda.set_sync_debug_mode("error" if checked else "default")
                yield store.images.index_select(0, place), store.labels.index_select(0, place)
                torch.cuda.set_sync_debug_mode("default")

    training = Training(
        "supernet",
        space.build_supernet(len(COUNTS), 1),
        RecipeParams(epochs=4, batch_size=BATCH),
        Resident(runtime.device),
        Augment(Shape(SIDE, SIDE, 1), "pad", pad=1, flip=True, cutout=2, mean=[0.5], std=[0.25]),
        InstanceSampler(np.zeros(ROWS), 0),
        lambda _: loss,
        0,
        mix=Mixer("mixup", COUNTS),
        passes=lambda step: [((step % 5, 1, 2, 3, 4, 3),)],
    )

    try:
        Trainer(training, runtime, ResumeState(tmp_path / "s", "x", 1e9), Log("test")).fit()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.cuda
def test_workers_may_hand_over_images_while_a_step_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread takes what they made into pinned memory: CUDA refuses that to all threads unless told otherwise."""
    runtime = Runtime(Numerics(device="cuda", threads=1))
    store = Store(torch.device("cpu"))
    images = store.images.permute(0, 2, 3, 1).numpy()
    raw = Raw(store.labels.numpy(), list("abcd"), images, None, tmp_path)
    options = {"dataset": "digits", "split": "train", "root": "x", "photographs": False}
    write_split(tmp_path / "s", raw, np.arange(ROWS), Shape(SIDE, SIDE, 1), **options)  # type: ignore[arg-type]
    stages = {"channels": [8, 16], "repeats": [1, 1], "strides": [1, 2]}
    space = make_space(SpaceParams.model_validate({"name": "shufflenet", "stages": stages, "last_channels": 16}))
    found = []
    for eager in (cuda_graphs.EAGER, 10**9):
        monkeypatch.setattr(cuda_graphs, "EAGER", eager)
        torch.manual_seed(0)
        model = space.build_subnet((0, 3), len(COUNTS), 1)
        training = Training(
            "retrain",
            model,
            RecipeParams(epochs=8, batch_size=8),
            ImageStore(read_split(tmp_path / "s"), None, runtime.device, workers=2),
            Augment(
                Shape(SIDE, SIDE, 1),
                "pad",
                pad=1,
                flip=True,
                cutout=0,
                mean=[0.5],
                std=[0.25],
                policy=Policy("randaugment"),
            ),
            InstanceSampler(np.zeros(ROWS), 0),
            lambda _: nn.functional.cross_entropy,
            0,
            capturable=True,
        )
        Trainer(training, runtime, ResumeState(tmp_path / f"{eager}.s", "x", 1e9), Log("test")).fit()
        found.append({name: value.cpu() for name, value in model.state_dict().items()})
    assert [key for key, value in found[0].items() if not torch.equal(value, found[1][key])] == []
