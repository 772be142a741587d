"""Trainings in turn: their order, what each takes, failures and stops; on a processor, so that no stream is tested."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from imbnas.data.order import InstanceSampler
from imbnas.errors import Interrupted, UserError
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.shared import Numerics
from imbnas.progress import Log
from imbnas.training import epoch_losses, snapshots
from imbnas.training import turns as turns_module
from imbnas.training.definition import Training
from imbnas.training.frozen import FeatureStore
from imbnas.training.lanes import Lanes, lanes, workers_each
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState
from imbnas.training.turns import Clock, Job, Turns, in_turn, is_broken, is_starved

ROWS, EPOCHS = 40, 3
QUIET = Log("test", silent=True)
CPU = torch.device("cpu")


class Fake:
    """Trainings that note their steps, and end as they are told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.taken: list[str] = []

    def job(self, name: str, steps: int, end: Callable[[], None] = lambda: None, images: int = 4) -> Job[str]:
        def turns() -> Turns[str]:
            yield 0
            for _ in range(steps):
                self.taken.append(name)
                yield images
            end()
            return name.upper()

        return Job(name, turns)

    def run(self, jobs: list[Job[str]], count: int) -> list[str]:
        return in_turn(jobs, Lanes(count), self.told.append)


def failing(error: BaseException) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


def test_each_takes_its_first_steps_alone_and_then_all_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "WARM", 2)
    fake = Fake()
    assert fake.run([fake.job("a", 4), fake.job("b", 2), fake.job("c", 3)], 2) == ["A", "B", "C"]
    # The first of two calls begins a training. Where b has ended, c begins.
    assert "".join(fake.taken) == "ab" + "ab" + "a" + "c" + "ac" + "c"


def test_one_at_a_time_is_one_after_the_other() -> None:
    fake = Fake()
    assert fake.run([fake.job("a", 2), fake.job("b", 1)], 1) == ["A", "B"]
    assert "".join(fake.taken) == "aab"


def test_seconds_side_by_side_are_shared_by_images_and_the_rest_is_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step takes 4 s here, whoever takes it, a beginning 1 s and an end 10 s."""
    monkeypatch.setattr(turns_module, "WARM", 1)
    now = [0.0]
    monkeypatch.setattr(turns_module.time, "monotonic", lambda: now[0])

    def turns(steps: int, images: int) -> Turns[None]:
        now[0] += 1.0
        yield 0
        for _ in range(steps):
            now[0] += 4.0
            yield images
        now[0] += 10.0

    clocks = [Clock(), Clock()]
    jobs = [Job(str(k), lambda k=k: turns(3, 1 + 2 * k), clocks[k]) for k in (0, 1)]  # type: ignore[misc]
    in_turn(jobs, Lanes(2), print)
    assert [clock() for clock in clocks] == [1 + 3 * 2 + 10, 1 + 3 * 6 + 10]
    assert sum(clock() for clock in clocks) == now[0]


@pytest.mark.parametrize("error", [UserError("diverged"), MemoryError("none"), OSError("no disk")])
def test_one_that_fails_leaves_those_beside_it_to_their_end(error: Exception) -> None:
    fake = Fake()
    jobs = [fake.job("a", 7, failing(error)), fake.job("b", 9), fake.job("c", 9)]
    with pytest.raises(type(error), match=str(error)):
        fake.run(jobs, 2)
    assert fake.taken.count("b") == 9
    assert "c" not in fake.taken, "it had not begun"
    assert fake.told == [f"a: failed, the others that have begun end first ({error})"]


def test_one_that_fails_alone_ends_all_at_once() -> None:
    fake = Fake()
    with pytest.raises(UserError, match="diverged"):
        fake.run([fake.job("a", 1, failing(UserError("diverged"))), fake.job("b", 1)], 1)
    assert fake.taken == ["a"]


def test_a_broken_device_ends_all_at_once() -> None:
    fake, closed = Fake(), []

    def other() -> Turns[str]:
        try:
            while True:
                yield 1
        finally:
            closed.append("b")

    error = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    jobs = [fake.job("a", 9, failing(error)), Job("b", other)]
    with pytest.raises(RuntimeError, match="illegal memory access"):
        fake.run(jobs, 2)
    assert closed == ["b"]
    assert fake.told == []


def test_one_without_memory_begins_again_alone_after_the_others() -> None:
    fake, ends = Fake(), []

    def once() -> None:
        ends.append(len(fake.taken))
        if len(ends) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert fake.run([fake.job("a", 7, once), fake.job("b", 9)], 2) == ["A", "B"]
    assert "".join(fake.taken)[-7:] == "a" * 7
    assert fake.taken.count("b") == 9
    assert fake.told == ["a: memory ran out beside others, begins again once they have ended"]
    with pytest.raises(torch.OutOfMemoryError):
        fake.run([fake.job("a", 7, failing(torch.OutOfMemoryError("none"))), fake.job("b", 9)], 2)


@pytest.mark.parametrize(
    ("error", "starved", "broken"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (torch.AcceleratorError("CUDA error: out of memory"), True, False),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False, True),
        (RuntimeError("CUDA error: device-side assert triggered"), False, True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False, False),
        (UserError("a file named out of memory"), False, False),
    ],
)
def test_errors_of_memory_are_told_from_those_of_the_device(error: Exception, starved: bool, broken: bool) -> None:
    assert (is_starved(error), is_broken(error)) == (starved, broken)
    # The end of a recording in which memory ran out may fail by itself.
    after = torch.AcceleratorError("CUDA error: operation failed due to a previous error during capture")
    after.__context__ = error
    assert is_starved(after) is starved


def test_places_follow_parameter_device_and_processes() -> None:
    assert [lanes(*given).count for given in (("auto", CPU, 9), (4, CPU, 9), (4, CPU, 2), (4, CPU, 9, 2))] == [
        1, 4, 2, 1
    ]  # fmt: skip
    assert [workers_each(*given) for given in ((0, 4), (2, 1), (2, 8), (9, 4))] == [0, 2, 1, 3]


def training(seed: int, width: int, rate: float = 0.1) -> Training:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    return Training(
        "retrain",
        # Dropout draws from the generator that all trainings of the process share.
        nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.Dropout(0.3), nn.Linear(width, 3)),
        RecipeParams(epochs=EPOCHS, batch_size=16, optimizer=OptimizerParams(lr=rate)),
        FeatureStore(torch.randn(ROWS, 6, generator=generator), torch.arange(ROWS) % 3),
        lambda x, _: x,
        InstanceSampler(torch.zeros(ROWS).numpy(), seed),
        lambda epoch: nn.functional.cross_entropy,
        seed,
    )


class Three:
    """Three small trainings whose states lie in a folder."""

    def __init__(self, folder: Path, rates: tuple[float, ...] = (0.1, 0.1, 0.1)) -> None:
        runtime = Runtime(Numerics(device="cpu", threads=1))
        self.trainers = [
            Trainer(training(k, 4 + k, rate), runtime, ResumeState(folder / "state", str(k), 1e9), QUIET)
            for k, rate in enumerate(rates)
        ]

    def run(self, count: int) -> None:
        in_turn([Job(str(k), one.turns) for k, one in enumerate(self.trainers)], Lanes(count), QUIET)

    def weights(self) -> list[Tensor]:
        return [value for one in self.trainers for value in one.training.model.state_dict().values()]

    def history(self) -> list[list[float]]:
        return [one.losses.history for one in self.trainers]


def same(first: Three, second: Three) -> bool:
    pairs = zip(first.weights(), second.weights(), strict=True)
    return first.history() == second.history() and all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture
def alone(tmp_path: Path) -> Three:
    """Three trainings, each from its beginning to its end by itself."""
    found = Three(tmp_path / "alone")
    for one in found.trainers:
        one.fit()
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_side_by_side_they_end_in_the_bytes_in_which_they_end_alone(alone: Three, count: int, tmp_path: Path) -> None:
    beside = Three(tmp_path / "beside")
    beside.run(count)
    assert same(alone, beside)


def test_stopped_side_by_side_each_resumes_alone_or_beside_the_others(
    alone: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, tick, ticks = signal.getsignal(signal.SIGTERM), ResumeState.tick, []

    def stopping(self: ResumeState, state: Callable[[], dict]) -> None:
        ticks.append(self)
        if len(ticks) == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        tick(self, state)

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "tick", stopping)
        with pytest.raises(Interrupted):
            Three(tmp_path / "beside").run(3)
    assert signal.getsignal(signal.SIGTERM) == before
    assert len(list((tmp_path / "beside").glob("*.pt"))) == 3, "each has saved its state"
    # One goes on by itself, the others beside each other and a training that has ended.
    Three(tmp_path / "beside").trainers[1].fit()
    again = Three(tmp_path / "beside")
    again.run(2)
    assert same(alone, again)


def test_one_that_diverges_does_not_touch_the_others(
    alone: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns_module, "WARM", 1)
    beside = Three(tmp_path / "beside", (0.1, 1e12, 0.1))
    with pytest.raises(UserError, match="retrain: "):
        beside.run(3)
    for k in (0, 2):
        states = (found.trainers[k].training.model.state_dict() for found in (alone, beside))
        first, second = (list(state.values()) for state in states)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class Late:
    """Stands for values on their way from a GPU: they have come when they are asked for the third time."""

    def __init__(self, value: Any) -> None:
        self._value, self._asked = deepcopy(value), 0

    @property
    def ready(self) -> bool:
        self._asked += 1
        return self._asked > 2

    def get(self) -> Any:
        return self._value


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let losses and states come late, as from a GPU on which others train."""
    for module in (epoch_losses, snapshots):
        monkeypatch.setattr(module, "beside", lambda device: True)
        monkeypatch.setattr(module, "Fetched", Late)


@pytest.mark.usefixtures("late")
def test_losses_that_are_read_late_are_the_same_and_tell_of_a_failure(alone: Three, tmp_path: Path) -> None:
    beside = Three(tmp_path / "beside")
    beside.run(3)
    assert same(alone, beside)
    with pytest.raises(UserError, match="in epoch 1, expected a finite one"):
        Three(tmp_path / "failing", (0.1, 1e12, 0.1)).run(2)


@pytest.mark.usefixtures("late")
def test_a_state_that_was_asked_for_some_steps_ago_is_whole(
    alone: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []
    save = ResumeState.save
    beside = Three(tmp_path / "beside")

    def killed(self: ResumeState, state: dict[str, Any]) -> None:
        (trainer,) = (one for one in beside.trainers if one._state is self)
        saved.append((trainer.done, state["step"]))
        save(self, state)
        if len(saved) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ResumeState, "due", lambda self, within: True)
        patch.setattr(ResumeState, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            beside.run(3)
    assert all(step < done for done, step in saved)
    again = Three(tmp_path / "beside")
    again.run(3)
    assert same(alone, again)
