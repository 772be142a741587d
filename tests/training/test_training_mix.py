"""The loop's hook for mixing: what it gets, where its results go, and the same bytes after an interruption."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.order import InstanceSampler
from imbnas.data.raw import Shape
from imbnas.params.recipe import RecipeParams
from imbnas.params.shared import Numerics
from imbnas.progress import Log
from imbnas.seeds import derive
from imbnas.training.checkpoint import load_weights
from imbnas.training.definition import Training
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

SHAPE = Shape(4, 4, 1)
IMAGES = torch.randint(0, 256, (6, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


class Store:
    """Six images in memory."""

    def batches(self, batches: list[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            yield IMAGES[batch], LABELS[batch]


class Net(nn.Module):
    """A linear network that notes its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)
        self.seen: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen.append(inputs.detach().clone())
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits


def test_inputs_and_target_of_the_hook_reach_network_and_loss(tmp_path: Path) -> None:
    calls: list[tuple[Tensor, Tensor, int]] = []
    targets: list[Any] = []

    def mix(inputs: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Any]:
        calls.append((inputs.clone(), labels.clone(), generator.initial_seed()))
        return inputs + 100 * len(calls), ("target", labels)

    def loss(logits: Tensor, target: Any) -> Tensor:
        targets.append(target)
        word, labels = target
        assert word == "target"
        return nn.functional.cross_entropy(logits, labels)

    model = Net()
    training = Training(
        name="mixed",
        model=model,
        recipe=RecipeParams(epochs=2, batch_size=3),
        store=Store(),  # type: ignore[arg-type]
        augment=Augment(SHAPE, "pad", 1, True, 0, [0.5], [0.25]),
        sampler=InstanceSampler(LABELS.numpy(), 1),
        objective=lambda epoch: loss,
        seed=5,
        mix=mix,
    )
    state = ResumeState(tmp_path / "state", "mixed", 1e9)
    Trainer(training, Runtime(Numerics(device="cpu", threads=1)), state, Log("mixed", tmp_path / "log")).fit()
    # The finished network is checked once more on the last batch.
    assert (len(calls), len(targets)) == (4, 5)
    # A generator of its own for every step, apart from the augmentation's.
    assert [seed for _, _, seed in calls] == [derive(5, "mixed", "mix", step) for step in range(4)]
    batches = [rows for epoch in range(2) for rows in np.split(training.sampler.epoch(epoch), 2)]
    for step, (inputs, labels, _) in enumerate(calls):
        generator = torch.Generator().manual_seed(derive(5, "mixed", "augment", step))
        assert torch.equal(inputs, training.augment(IMAGES[batches[step]], generator))
        assert torch.equal(labels, LABELS[batches[step]])
        assert torch.equal(targets[step][1], labels)
        assert torch.equal(model.seen[step], inputs + 100 * (step + 1))


MIXED = {
    "supernet__epochs": 2,
    "supernet__augment": {"policy": "randaugment", "cutout": 2},
    "supernet__mixing": {"name": "remix", "kappa": 1.0},
    "supernet__optimizer": {"decay_norms": True},
}


def test_an_interrupted_training_with_policy_and_mixing_ends_in_the_same_bytes(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "supernet", **MIXED) == 0
    expected = tiny_chain.digests(root, "supernet")
    _, meta = load_weights(root / "models/supernet.safetensors")
    assert meta["recipe"]["mixing"] == {"name": "remix", "alpha": 1.0, "kappa": 1.0, "tau": 0.5}
    assert meta["recipe"]["augment"]["policy"] == "randaugment"
    (root / "models/supernet.safetensors").unlink()
    steps, real = 0, Trainer.step

    def counted(*arguments: object, **named: object) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == 7:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "step", counted)
    assert tiny_chain.run(root, "supernet", **MIXED) == 143
    torch.manual_seed(99)
    assert tiny_chain.run(root, "supernet", **MIXED) == 0
    assert tiny_chain.digests(root, "supernet") == expected


def weights(root: Path, **changes: object) -> dict[str, Tensor]:
    assert tiny_chain.run(root, "supernet", supernet__epochs=1, **changes) == 0
    return load_weights(root / "models/supernet.safetensors")[0]


@pytest.mark.parametrize("change", [{"mixing": {"name": "mixup"}}, {"augment": {"policy": "autoaugment-svhn"}}])
def test_each_option_reaches_the_supernet(chain: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    before = weights(root)
    after = weights(root, **{f"supernet__{name}": value for name, value in change.items()})
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("step", ["adapt", "retrain"])
def test_each_option_reaches_the_steps_on_the_long_tail(chain: Path, tmp_path: Path, step: str) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    recipe = "adapt__head" if step == "adapt" else "retrain"
    results = set()
    for mixing in ({"name": "none"}, {"name": "mixup"}, {"name": "remix"}):
        assert tiny_chain.run(root, step, **{f"{recipe}__mixing": mixing, f"{recipe}__epochs": 2}) == 0
        name = "adapted" if step == "adapt" else "final"
        found = load_weights(root / f"models/{name}.safetensors")[0]
        results.add(found["head.weight"].numpy().tobytes())
    assert len(results) == 3
