"""Distillation: the losses against their formulas, and who gets gradients of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbnas.data.order import InstanceSampler
from imbnas.params.recipe import OptimizerParams, RecipeParams, ScheduleParams
from imbnas.params.shared import Numerics
from imbnas.progress import Log
from imbnas.training.definition import Taught, Training
from imbnas.training.distillation import Distilled, InPlace
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

INPUTS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
RECIPE = RecipeParams(
    epochs=1,
    batch_size=6,
    optimizer=OptimizerParams(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0, clip=0.0),
    schedule=ScheduleParams(name="constant", warmup=0.0),
)


class Store:
    """Six rows in memory."""

    def batches(self, batches: list[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            yield INPUTS[batch], LABELS[batch]


class Paths(nn.Module):
    """A network of two paths without a common weight."""

    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList([nn.Linear(4, 3), nn.Linear(4, 3)])

    def forward(self, inputs: Tensor, path: int) -> Tensor:
        logits: Tensor = self.paths[path](inputs)
        return logits


def ce(logits: Tensor, labels: Any) -> Tensor:
    return nn.functional.cross_entropy(logits, labels)


def fitted(tmp_path: Path, model: nn.Module, **changes: Any) -> nn.Module:
    given: dict[str, Any] = {
        "name": "taught",
        "model": model,
        "recipe": RECIPE,
        "store": Store(),
        "augment": lambda inputs, generator: inputs,
        "sampler": InstanceSampler(LABELS.numpy(), 1),
        "objective": lambda epoch: ce,
        "seed": 5,
    }
    state = ResumeState(tmp_path / "state", "taught", 1e9)
    training = Training(**{**given, **changes})
    Trainer(training, Runtime(Numerics(device="cpu", threads=1)), state, Log("taught", tmp_path / "log")).fit()
    state.finish()
    return model


def shares(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


@pytest.mark.parametrize(("weight", "temperature"), [(0.9, 4.0), (0.25, 1.0), (1.0, 2.0)])
def test_the_loss_is_hintons(weight: float, temperature: float) -> None:
    logits, teacher = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 2, 1, 1, 0])
    found = Distilled(ce, weight, temperature)(logits, Taught(labels, teacher))
    p, q = shares(teacher.numpy() / temperature), shares(logits.numpy() / temperature)
    hard = -np.log(shares(logits.numpy())[np.arange(5), labels.numpy()]).mean()
    soft = (p * np.log(p / q)).sum(1).mean()
    assert found.item() == pytest.approx((1 - weight) * hard + weight * temperature**2 * soft, rel=1e-12)


def test_a_weight_of_one_reads_no_label() -> None:
    def unread(logits: Tensor, labels: Any) -> Tensor:
        raise AssertionError

    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    assert Distilled(unread, 1.0, 4.0)(logits, Taught(None, logits)).item() == pytest.approx(0.0, abs=1e-6)


def test_pupils_in_place_have_the_cross_entropy_with_their_teachers_probabilities() -> None:
    logits, teacher = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 2, 1, 1, 0])
    loss = InPlace(ce)
    expected = -(shares(teacher.numpy()) * np.log(shares(logits.numpy()))).sum(1).mean()
    assert loss(logits, Taught(labels, teacher)).item() == pytest.approx(expected, rel=1e-12)
    assert loss(logits, labels).item() == ce(logits, labels).item()


def test_a_teacher_sees_what_the_model_sees_and_learns_nothing(tmp_path: Path) -> None:
    teacher = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    seen: list[Any] = []

    def loss(logits: Tensor, target: Any) -> Tensor:
        seen.append(target)
        return Distilled(ce, 0.5, 2.0)(logits, target)

    def mix(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Any]:
        return 2.0 * inputs, labels

    fitted(tmp_path, nn.Linear(4, 3), teacher=teacher.train(), mix=mix, objective=lambda epoch: loss)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    order = InstanceSampler(LABELS.numpy(), 1).epoch(0)
    assert torch.equal(seen[0].labels, LABELS[order])
    assert torch.equal(seen[0].logits, teacher.eval()(2.0 * INPUTS[order]))
    assert not seen[0].logits.requires_grad


def test_the_first_path_of_a_step_learns_from_labels_alone_and_teaches_the_second(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = Paths().state_dict()

    def model() -> Paths:
        made = Paths()
        made.load_state_dict(first)
        return made

    together = fitted(
        tmp_path,
        model(),
        passes=lambda step: [(0,), (1,)],
        first_pass_teaches=True,
        objective=lambda epoch: InPlace(ce),
    )
    alone = fitted(tmp_path, model(), passes=lambda step: [(0,)])
    found, expected = together.state_dict(), alone.state_dict()
    assert torch.equal(found["paths.0.weight"], expected["paths.0.weight"])
    order = InstanceSampler(LABELS.numpy(), 1).epoch(0)
    begun = model()
    # The gradient of the cross-entropy for the logits is q - p.
    slope = (begun(INPUTS[order], 1).softmax(1) - begun(INPUTS[order], 0).softmax(1)).T @ INPUTS[order] / 6
    assert torch.allclose(found["paths.1.weight"], first["paths.1.weight"] - 0.1 * slope, atol=1e-6)
