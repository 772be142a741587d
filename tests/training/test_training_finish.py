"""What is published was looked at: a network that its last step has ruined never gets its name."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch
from torch import nn

from imbnas.errors import UserError
from imbnas.longtail.crossentropy import CrossEntropy
from imbnas.training import loop
from imbnas.training.batchnorm import untracked
from imbnas.training.checkpoint import not_finite, save_weights
from imbnas.training.divergence import has_diverged
from imbnas.training.optimizer import SGD

RUINS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "NaN": lambda values: values * math.nan,
    "beyond": lambda values: values + 1e35,
}


@pytest.mark.parametrize("ruin", RUINS)
@pytest.mark.parametrize(("step", "options"), [("supernet", {}), ("adapt", {}), ("retrain", {})])
def test_a_network_ruined_by_its_last_step_is_not_published(
    chain: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    step: str,
    options: dict[str, Any],
    ruin: str,
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    outputs = tiny_chain.digests(root, step)
    steps, counted, move = 0, 0, SGD.step

    def counting(self: SGD) -> None:
        nonlocal steps
        steps += 1
        move(self)

    def last_ruins(self: SGD) -> None:
        nonlocal counted
        counted += 1
        move(self)
        if counted == steps:
            with torch.no_grad():
                for parameter in self.parameters:
                    parameter.copy_(RUINS[ruin](parameter))

    def ended(self: loop.Trainer) -> None:
        raise UserError("the first training has ended")

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "check_finished", ended)
        patch.setattr(SGD, "step", counting)
        assert tiny_chain.run(root, step, **options) == 2
    monkeypatch.setattr(SGD, "step", last_ruins)
    capsys.readouterr()
    assert tiny_chain.run(root, step, **options) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "after the last step" in line
    assert "lower its optimizer.lr" in line
    assert tiny_chain.digests(root, step) == outputs


@pytest.mark.parametrize(
    ("loss", "failed"), [(0.0, False), (-3.0, False), (1e8, False), (1e29, True), (math.nan, True)]
)
def test_a_huge_loss_is_divergence(loss: float, failed: bool) -> None:
    assert has_diverged(loss) is failed
    assert has_diverged(-math.inf)


def test_the_first_ruined_tensor_is_named(tmp_path: Path) -> None:
    state = {
        "count": torch.tensor(3),
        "a": torch.zeros(2),
        "b": torch.tensor([1.0, math.inf]),
        "c": torch.tensor(math.nan),
    }
    assert not_finite(state) == "b"
    assert not_finite({"count": torch.tensor(3)}) is None
    with pytest.raises(UserError, match="net: not written, the new b holds numbers that are not finite"):
        save_weights(tmp_path / "net", state, {"kind": "subnet"})
    assert not list(tmp_path.iterdir())


def test_looking_moves_no_buffer() -> None:
    layer = nn.BatchNorm2d(2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with untracked(layer):
        layer(torch.randn(3, 2, 4, 4))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    layer(torch.randn(3, 2, 4, 4))
    assert not torch.equal(layer.running_mean, before["running_mean"])


@pytest.mark.parametrize(
    ("step", "options"),
    [
        ("supernet", {}),
        ("adapt", {}),
        ("retrain", {}),
        ("retrain", {"retrain__epochs": 0, "retrain__head": {"name": "crt", "epochs": 1}}),
    ],
)
def test_few_frames_lie_between_a_step_and_its_loss(
    chain: Path, tmp_path: Path, step: str, options: dict[str, Any]
) -> None:
    """A traceback out of the loss is what a contributor reads first; torch's two frames of a module count too."""

    def lost(self: CrossEntropy, *arguments: Any) -> torch.Tensor:
        raise MemoryError

    with pytest.MonkeyPatch.context() as patch, pytest.raises(MemoryError) as raised:
        patch.setattr(CrossEntropy, "forward", lost)
        tiny_chain.run(tiny_chain.copy(chain, tmp_path), step, **options)
    names = [frame.name for frame in traceback.extract_tb(raised.tb)]
    frames = names[names.index("run_step") :]
    assert frames[-1] == "lost"
    assert len(frames) <= 12, frames
