"""Trainings on streams of their own: the same bytes as alone, each time; and when memory lets another one begin."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.order import InstanceSampler
from imbnas.data.raw import Shape
from imbnas.errors import Interrupted
from imbnas.params.recipe import OptimizerParams, RecipeParams, ScheduleParams
from imbnas.params.shared import Numerics, Precision
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.spaces.registry import make_space
from imbnas.training import cuda_graphs, lanes
from imbnas.training.definition import Training
from imbnas.training.lanes import CudaLanes
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.training.turns import Job, in_turn

ROWS, BATCH, SIDE, CLASSES, EPOCHS = 75, 32, 8, 4, 6
QUIET = Log("test", silent=True)
GIB = 2**30


class Free:
    """Stands for a GPU of 16 GiB: each training that begins takes 1 of those that are free."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gibibytes = 15.0
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        monkeypatch.setattr(torch.cuda, "Stream", lambda device=None: object())
        monkeypatch.setattr(lanes, "memory", lambda device=None: (int(self.gibibytes * GIB), 16 * GIB))
        monkeypatch.setattr(CudaLanes, "_streams", {})


def begun(found: CudaLanes, free: Free, each: float) -> int:
    """Return how many trainings begin that take so many GiB each."""
    count = 0
    while count < found.count and (not count or found.has_room(count)):
        count += 1
        free.gibibytes -= each
    return count


def test_trainings_begin_as_long_as_a_quarter_stays_free(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 0)
    for each, expected in ((0.1, 8), (1.0, 5), (4.0, 1), (9.0, 1)):
        free = Free(monkeypatch)
        assert begun(CudaLanes(8, device, bounded=True), free, each) == expected, each
    free = Free(monkeypatch)
    assert begun(CudaLanes(3, device, bounded=False), free, 9.0) == 3, "as the parameter says"


def test_streams_are_made_once_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Free(monkeypatch)
    device = torch.device("cuda", 0)
    CudaLanes(3, device, bounded=False)
    before = list(CudaLanes._streams[device])
    CudaLanes(2, device, bounded=True)
    CudaLanes(4, device, bounded=False)
    assert CudaLanes._streams[device][:3] == before
    assert len(set(CudaLanes._streams[device])) == 4


class Images:
    """Random images on the device."""

    def __init__(self, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(1)
        images = torch.randint(0, 256, (ROWS, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        self.images, self.labels = images.to(device), (torch.arange(ROWS) % CLASSES).to(device)
        self.side = (SIDE, SIDE)

    def taken(self, place: Tensor) -> tuple[Tensor, Tensor]:
        return self.images.index_select(0, place), self.labels.index_select(0, place)

    def batches(self, batches: list[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        return (self.taken(torch.from_numpy(batch).to(self.labels.device)) for batch in batches)


CELLS = ((3, 1, 2, 3, 2, 3), (1, 2, 3, 1, 4, 2), (3, 3, 3, 3, 3, 3), (2, 3, 1, 4, 3, 1))


class Several:
    """Four networks of different cells on the GPU, the last one with dropout, which no recording may hold."""

    def __init__(self, folder: Path, precision: Precision) -> None:
        self.runtime = Runtime(Numerics(device="cuda", precision=precision, threads=1))
        stages = {"channels": [8, 16], "repeats": [1, 1], "strides": [1, 2]}
        space = make_space(SpaceParams.model_validate({"name": "nasbench201", "stages": stages, "last_channels": None}))
        self.models, self.trainers, loss = [], [], nn.CrossEntropyLoss()
        for number, cell in enumerate(CELLS):
            torch.manual_seed(number)
            model: Any = space.build_subnet(cell, CLASSES, 3)
            self.models.append(nn.Sequential(model, nn.Dropout(0.2)) if number == 3 else model)
            training = Training(
                "retrain",
                self.models[-1],
                RecipeParams(
                    epochs=EPOCHS,
                    batch_size=BATCH,
                    optimizer=OptimizerParams(clip=1.0),
                    schedule=ScheduleParams(warmup=0.2),
                ),
                Images(self.runtime.device),
                Augment(Shape(SIDE, SIDE, 3), "pad", pad=1, flip=True, cutout=2, mean=[0.5] * 3, std=[0.25] * 3),
                InstanceSampler(np.zeros(ROWS), number),
                lambda epoch: loss,
                number,
                capturable=True,
            )
            state = ResumeState(folder / "state", str(number), 1e9)
            self.trainers.append(Trainer(training, self.runtime, state, QUIET))

    def run(self, count: int = 4, bounded: bool = False) -> None:
        places = CudaLanes(count, self.runtime.device, bounded)
        in_turn([Job(str(k), one.turns) for k, one in enumerate(self.trainers)], places, QUIET)

    def alone(self) -> None:
        for one in self.trainers:
            one.fit()

    def outcome(self) -> tuple[list[Tensor], list[list[float]]]:
        weights = [value.cpu() for model in self.models for value in model.state_dict().values()]
        return weights, [one.losses.history for one in self.trainers]


def same(first: Several, second: Several) -> bool:
    (weights, losses), (others, told) = first.outcome(), second.outcome()
    return losses == told and all(torch.equal(a, b) for a, b in zip(weights, others, strict=True))


@pytest.mark.cuda
@pytest.mark.parametrize(("precision", "repeats"), [("fp32", 20), ("bf16", 20), ("tf32", 5)])
def test_side_by_side_they_end_in_the_same_bytes_each_time(tmp_path: Path, precision: Precision, repeats: int) -> None:
    alone = Several(tmp_path / "alone", precision)
    alone.alone()
    for turn in range(repeats):
        beside = Several(tmp_path / str(turn), precision)
        beside.run(2 + turn % 3, bounded=turn % 2 == 1)
        assert same(alone, beside), turn


@pytest.mark.cuda
def test_each_is_recorded_on_its_own_stream_and_none_that_draws_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[int] = []
    real = cuda_graphs._Recording.__init__

    def noted(recording: Any, *given: Any) -> None:
        streams.append(torch.cuda.current_stream().cuda_stream)
        real(recording, *given)

    monkeypatch.setattr(cuda_graphs._Recording, "__init__", noted)
    Several(tmp_path, "fp32").run()
    # Whole batches and shorter ones of each of three; the fourth has dropout.
    assert len(streams) == 6
    assert len(set(streams)) == 3
    assert torch.cuda.default_stream().cuda_stream not in streams


@pytest.mark.cuda
def test_one_that_is_stopped_beside_others_resumes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone, tick, ticks = Several(tmp_path / "alone", "bf16"), ResumeState.tick, []
    alone.alone()

    def stopping(self: ResumeState, state: Any) -> None:
        ticks.append(self)
        if len(ticks) >= 50:
            self._note(15, None)
        tick(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "tick", stopping)
        with pytest.raises(Interrupted):
            Several(tmp_path / "beside", "bf16").run()
    Several(tmp_path / "beside", "bf16").trainers[1].fit()
    again = Several(tmp_path / "beside", "bf16")
    again.run(3)
    assert same(alone, again)


@pytest.mark.cuda
def test_states_that_are_saved_on_the_way_are_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were asked for some steps before they are written, and each goes on to the same end."""
    from imbnas.training import snapshots

    alone = Several(tmp_path / "alone", "fp32")
    alone.alone()
    monkeypatch.setattr(snapshots, "AHEAD", 0.0)
    monkeypatch.setattr(ResumeState, "due", lambda self, within: True)
    saved: list[int] = []
    save = ResumeState.save

    def once(self: ResumeState, state: dict[str, Any]) -> None:
        saved.append(state["step"])
        if len(saved) == 9:
            save(self, state)
            raise KeyboardInterrupt
        save(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "save", once)
        with pytest.raises(KeyboardInterrupt):
            Several(tmp_path / "beside", "fp32").run()
    assert max(saved) > 1
    again = Several(tmp_path / "beside", "fp32")
    again.run()
    assert same(alone, again)
