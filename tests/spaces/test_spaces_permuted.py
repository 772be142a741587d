"""A fair step in one pass equals its paths one after the other: weights, momentum and running statistics."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.cell_graph import NONE
from imbnas.params.recipe import OptimizerParams
from imbnas.params.space_options import SpaceParams
from imbnas.seeds import stream
from imbnas.spaces import permuted
from imbnas.spaces.networks import Architecture
from imbnas.spaces.paths import fair_paths
from imbnas.spaces.registry import make_space
from imbnas.training.optimizer import SGD, make_optimizer

SPACES: dict[str, Any] = {
    "shufflenet": {
        "name": "shufflenet",
        "stem": {"channels": 8, "stride": 1},
        "stages": {"channels": [8, 12], "repeats": [1, 2], "strides": [1, 2]},
        "last_channels": 16,
    },
    "nasbench201": {
        "name": "nasbench201",
        "stem": {"channels": 4, "stride": 1},
        "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
        "last_channels": None,
    },
}
STEPS = 4


def separate(model: nn.Module, optimizer: SGD, paths: list[Architecture], x: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    for path in paths:
        F.cross_entropy(model(x, path), labels).backward()
    optimizer.step()


def together(
    model: nn.Module, optimizer: SGD, paths: list[Architecture], counts: tuple[int, ...], x: Tensor, labels: Tensor
) -> None:
    idle = NONE if len(counts) == 6 else None
    found = permuted.routes(paths, counts, idle, x.device)
    optimizer.zero_grad()
    parts = permuted.logits(model, x, found).chunk(len(paths))
    torch.stack([F.cross_entropy(part, labels) for part in parts]).sum().backward()
    with permuted.unmoved(model, found, optimizer.state):
        optimizer.step()


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_step_in_one_pass_equals_separate_passes(name: str, layout: torch.memory_format) -> None:
    space = make_space(SpaceParams.model_validate(SPACES[name]))
    torch.manual_seed(0)
    one = space.build_supernet(3, 1).double().to(memory_format=layout).train()
    other = copy.deepcopy(one)
    options = OptimizerParams(lr=0.1, momentum=0.9, weight_decay=1e-3)
    optimizers = [make_optimizer(model, options) for model in (one, other)]
    cut = 0
    for number in range(STEPS):
        paths = fair_paths(space, stream(7, "test", number))
        cut += sum(choice == NONE for path in paths for choice in path) - len(space.choices)
        x = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(number))
        x, labels = x.contiguous(memory_format=layout), torch.arange(6) % 3
        separate(one, optimizers[0], paths, x, labels)
        together(other, optimizers[1], paths, space.choices, x, labels)
    if name == "nasbench201":
        assert cut > 0, "some operations were cut off by a later none"
    for (key, expected), found in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12, msg=key)
    momenta = [[state["momentum_buffer"] for state in optimizer.state.values()] for optimizer in optimizers]
    torch.testing.assert_close(momenta[1], momenta[0], rtol=1e-12, atol=1e-12)


def test_the_gradient_of_a_gather_is_the_inverse_gather() -> None:
    order = torch.tensor([2, 0, 1])
    inverse = torch.argsort(order)
    x = torch.randn(6, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    for layout in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=layout)
        y = permuted.gather(given, order, inverse)
        assert torch.equal(y, torch.cat([given.chunk(3)[place] for place in order]))
        assert y.is_contiguous(memory_format=layout)
    assert torch.autograd.gradcheck(lambda x: permuted.gather(x, order, inverse), (x,))


def test_paths_that_are_not_fair_are_refused() -> None:
    with pytest.raises(ValueError, match="expected each choice once"):
        permuted.routes([(0, 1), (0, 0)], (2, 2), None, torch.device("cpu"))
