"""One step on the summed loss of several paths, against the gradient in float64."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from imbnas.params.recipe import OptimizerParams
from imbnas.params.shared import Numerics
from imbnas.training.optimizer import make_optimizer
from imbnas.training.runtime import Runtime
from imbnas.training.summed_step import summed_step


class Paths(nn.Module):
    """Two paths that share a layer and normalise by the batch, and a layer of a third path."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 6)
        self.norms = nn.ModuleList([nn.BatchNorm1d(6) for _ in range(2)])
        self.heads = nn.ModuleList([nn.Linear(6, 3) for _ in range(3)])

    def forward(self, inputs: Tensor, path: int) -> Tensor:
        logits: Tensor = self.heads[path](self.norms[path](self.shared(inputs)))
        return logits


def test_the_weights_move_by_the_gradient_of_the_sum_at_one_place() -> None:
    torch.manual_seed(0)
    model = Paths()
    exact = copy.deepcopy(model).double()
    inputs, labels = torch.randn(12, 4), torch.arange(12) % 3
    ce = nn.functional.cross_entropy
    sum(ce(exact(inputs.double(), path), labels) for path in (0, 1)).backward()  # type: ignore[union-attr]
    params = OptimizerParams(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.5, clip=0.0)
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    runtime = Runtime(Numerics(device="cpu", threads=1))
    summed_step(runtime, model, make_optimizer(model, params), ce, (inputs, labels), [0, 1], seed=1)
    for name, value in model.named_parameters():
        gradient = dict(exact.named_parameters())[name].grad
        if gradient is None:
            assert name.startswith("heads.2")
            assert torch.equal(value, before[name])
            continue
        decay = 0.5 * before[name].double() if value.ndim > 1 else 0.0
        assert torch.allclose(value.double(), before[name].double() - 0.1 * (gradient + decay), atol=1e-6), name
    assert all(torch.equal(value, buffers[name]) for name, value in model.named_buffers()), "statistics of no path"
