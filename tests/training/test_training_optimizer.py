"""The learning rate's course, and which tensors decay."""

from __future__ import annotations

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from imbnas.params.recipe import OptimizerParams, ScheduleParams
from imbnas.training.optimizer import make_optimizer, rate_factor


def test_cosine_with_warmup_by_hand() -> None:
    schedule = ScheduleParams(name="cosine", warmup=0.1)
    factors = [rate_factor(schedule, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[9] == pytest.approx(10 / 11)
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a <= b for a, b in pairwise(factors[:11]))
    assert all(a > b for a, b in pairwise(factors[10:]))


def test_step_schedule_drops_at_160_and_180_of_200() -> None:
    schedule = ScheduleParams(name="step", warmup=0.0, milestones=[0.8, 0.9], gamma=0.01)
    assert [rate_factor(schedule, step, 200) for step in (159, 160, 179, 180)] == pytest.approx([1, 0.01, 0.01, 1e-4])


def test_constant() -> None:
    assert rate_factor(ScheduleParams(name="constant", warmup=0.0), 7, 9) == 1.0


def test_only_weights_decay_and_frozen_ones_are_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    model[2].requires_grad_(False)
    groups = make_optimizer(model, OptimizerParams(weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], [tuple(p.shape) for p in group["params"]]) for group in groups] == [
        (0.1, [(2, 1, 3, 3)]),
        (0.0, [(2,), (2,), (2,)]),
    ]


def test_decay_norms_decays_every_trainable_tensor_in_one_group() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    model[2].requires_grad_(False)
    optimizer = make_optimizer(model, OptimizerParams(weight_decay=0.1, decay_norms=True, nesterov=False, momentum=0.0))
    (group,) = optimizer.param_groups
    assert group["weight_decay"] == 0.1
    assert [tuple(p.shape) for p in group["params"]] == [(2, 1, 3, 3), (2,), (2,), (2,)]
    scale = model[1].weight
    for parameter in group["params"]:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    # A step without a gradient is the decay alone: 1 - lr * weight_decay.
    assert torch.allclose(scale, torch.full((2,), 1 - 0.1 * 0.1))


def test_a_step_equals_nesterov_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
    model = nn.Module()
    model.register_parameter("weight", weight)
    optimizer = make_optimizer(model, OptimizerParams(lr=0.1, momentum=0.9, weight_decay=0.5))
    expected, velocity = torch.tensor([[1.0, -2.0]], dtype=torch.float64), 0.0
    for gradient in (torch.tensor([[0.3, 0.1]]), torch.tensor([[-0.2, 0.4]])):
        weight.grad = gradient.clone()
        optimizer.step()
        whole = gradient.double() + 0.5 * expected
        velocity = 0.9 * velocity + whole
        expected = expected - 0.1 * (whole + 0.9 * velocity)
    assert torch.allclose(weight.double(), expected, atol=1e-6)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, False)])
def test_sgd_is_torch_s_own_bit_by_bit_and_resumes(momentum: float, nesterov: bool) -> None:
    torch.manual_seed(0)
    params = OptimizerParams(lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    twin = copy.deepcopy(model)
    ours = make_optimizer(model, params)
    decayed = [p for p in twin.parameters() if p.ndim > 1]
    others = [p for p in twin.parameters() if p.ndim == 1]
    theirs = torch.optim.SGD(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=0.1,
        momentum=momentum,
        nesterov=nesterov,
        fused=True,
    )
    for step in range(4):
        if step == 2:
            saved = ours.state_dict()
            ours = make_optimizer(model, params)
            ours.load_state_dict(saved)
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            mine.grad = other.grad = torch.randn_like(mine)
        # A path that is not taken leaves its parameters without a gradient, in either.
        model[2].bias.grad = twin[2].bias.grad = None if step == 3 else torch.ones(2)
        ours.step()
        theirs.step()
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_sgd_refuses_the_buffers_of_another_network() -> None:
    saved = make_optimizer(nn.Linear(2, 2), OptimizerParams()).state_dict()
    with pytest.raises(ValueError, match="2 momentum buffers that do not fit"):
        make_optimizer(nn.Linear(2, 3), OptimizerParams()).load_state_dict(saved)


@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_clipping_is_torch_s_own_bit_by_bit(limit: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    optimizer = make_optimizer(model, OptimizerParams())
    gradients = [torch.randn_like(p) for p in model.parameters()]
    gradients[2] = None  # of a part that the path did not take
    clipped = []
    for clip in (optimizer.clip, lambda most: torch.nn.utils.clip_grad_norm_(model.parameters(), most)):
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = None if gradient is None else gradient.clone()
        norm = clip(limit)
        assert norm.equal(torch.stack([g.norm() for g in gradients if g is not None]).norm())
        clipped.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*clipped, strict=True))
    whole = torch.stack([g.norm() for g in clipped[0]]).norm()
    assert float(whole) == pytest.approx(min(limit, float(norm)), rel=1e-5)
    optimizer.zero_grad()
    assert float(optimizer.clip(1.0)) == 0.0


def test_a_gradient_without_end_is_not_taken_for_a_small_one() -> None:
    model = nn.Linear(2, 1, bias=False)
    optimizer = make_optimizer(model, OptimizerParams())
    model.weight.grad = torch.tensor([[float("nan"), 1.0]])
    assert torch.isnan(optimizer.clip(1e9))
    assert torch.isnan(model.weight.grad).all()


def test_threads_change_no_bit_of_a_step_and_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []
    for small in (0, 2**17, 2**30):
        monkeypatch.setattr("imbnas.training.optimizer.SMALL", small)
        torch.manual_seed(0)
        # Odd sizes: what is left over from whole vectors falls to one thread or another.
        model = nn.Sequential(nn.Linear(1003, 7), nn.Linear(7, 40_001), nn.BatchNorm1d(40_001))
        optimizer = make_optimizer(model, OptimizerParams(lr=0.1, weight_decay=0.01))
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        try:
            for _ in range(2):
                for parameter in model.parameters():
                    parameter.grad = torch.randn_like(parameter)
                optimizer.step()
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        steps.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*steps, strict=True))
