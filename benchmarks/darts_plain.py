"""A plain transcription of the bilevel loop of DARTS (Liu et al. 2019), as a yardstick.

It is written after the paper's description in the way in which its public codes go about it: one module per operation
and edge, `none` multiplied by zero, poolings with their BatchNorm on every edge, a full backward pass for weights and
architecture alike, a deep copy of the model and flattened parameters for the second order, a new iterator over the
validation rows in every step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEPS, MULTIPLIER = 4, 4


class Zero(nn.Module):
    """The operation `none`."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x.mul(0.0) if self.stride == 1 else x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Factorized(nn.Module):
    """Halving by two 1x1 convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.first = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.second = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.norm(torch.cat([self.first(x), self.second(x[:, :, 1:, 1:])], dim=1))


def conv(c: int, kernel: int, stride: int, padding: int, dilation: int) -> list[nn.Module]:
    return [
        nn.ReLU(),
        nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False),
        nn.Conv2d(c, c, 1, bias=False),
        nn.BatchNorm2d(c, affine=False),
    ]


def separable(c: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*conv(c, kernel, stride, kernel // 2, 1), *conv(c, kernel, 1, kernel // 2, 1))


OPERATIONS: list[Callable[[int, int], nn.Module]] = [
    lambda c, stride: Zero(stride),
    lambda c, stride: nn.Sequential(nn.MaxPool2d(3, stride, 1), nn.BatchNorm2d(c, affine=False)),
    lambda c, stride: nn.Sequential(
        nn.AvgPool2d(3, stride, 1, count_include_pad=False), nn.BatchNorm2d(c, affine=False)
    ),
    lambda c, stride: nn.Identity() if stride == 1 else Factorized(c, c),
    lambda c, stride: separable(c, 3, stride),
    lambda c, stride: separable(c, 5, stride),
    lambda c, stride: nn.Sequential(*conv(c, 3, stride, 2, 2)),
    lambda c, stride: nn.Sequential(*conv(c, 5, stride, 4, 2)),
]


class Mixed(nn.Module):
    """One edge."""

    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self.ops = nn.ModuleList(make(c, stride) for make in OPERATIONS)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self.ops, strict=True))  # type: ignore[return-value]


class Cell(nn.Module):
    """One cell."""

    def __init__(self, cpp: int, cp: int, c: int, reduction: bool, before: bool) -> None:
        super().__init__()
        self.reduction = reduction
        first = [nn.ReLU(), nn.Conv2d(cpp, c, 1, bias=False), nn.BatchNorm2d(c, affine=False)]
        self.pre0 = Factorized(cpp, c) if before else nn.Sequential(*first)
        self.pre1 = nn.Sequential(nn.ReLU(), nn.Conv2d(cp, c, 1, bias=False), nn.BatchNorm2d(c, affine=False))
        self.ops = nn.ModuleList(Mixed(c, 2 if reduction and j < 2 else 1) for i in range(STEPS) for j in range(2 + i))

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states = [self.pre0(s0), self.pre1(s1)]
        offset = 0
        for _ in range(STEPS):
            s: Any = sum(self.ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[-MULTIPLIER:], dim=1)


class Network(nn.Module):
    """The search network; architecture parameters are no parameters of the module."""

    def __init__(self, channels: int, layers: int, inputs: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        cpp = cp = 3 * channels
        c, before = channels, False
        self.cells = nn.ModuleList()
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            c = 2 * c if reduction else c
            self.cells.append(Cell(cpp, cp, c, reduction, before))
            cpp, cp, before = cp, MULTIPLIER * c, reduction
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(cp, classes)
        self.alphas = [(1e-3 * torch.randn(14, 8)).requires_grad_() for _ in range(2)]

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            weights = F.softmax(self.alphas[int(cell.reduction)], dim=-1)  # type: ignore[arg-type]
            s0, s1 = s1, cell(s0, s1, weights)
        return self.classifier(self.pool(s1).flatten(1))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(self(x), y)


def flat(tensors: Any) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


class Architect:
    """The architecture's step."""

    def __init__(self, model: Network) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.alphas, lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def step(
        self, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], eta: float, sgd: Any, unrolled: bool
    ) -> None:
        self.optimizer.zero_grad()
        if unrolled:
            self._unrolled(train, valid, eta, sgd)
        else:
            self.model.loss(*valid).backward()
        self.optimizer.step()

    def _unrolled(self, train: Any, valid: Any, eta: float, sgd: Any) -> None:
        model = self.model
        loss = model.loss(*train)
        theta = flat(model.parameters()).data
        buffers = [sgd.state[p].get("momentum_buffer") for p in model.parameters()]
        moment = torch.zeros_like(theta) if buffers[0] is None else flat(buffers).mul_(0.9)
        gradient = flat(torch.autograd.grad(loss, list(model.parameters()))).data + 3e-4 * theta
        other = self._copy(theta - eta * (moment + gradient))
        other.loss(*valid).backward()
        direct = [a.grad for a in other.alphas]
        vector = [p.grad.data for p in other.parameters() if p.grad is not None]
        radius = 0.01 / flat(vector).norm()
        sides = []
        for factor in (1.0, -2.0):
            for p, v in zip(model.parameters(), vector, strict=True):
                p.data.add_(v * radius * factor)
            sides.append(torch.autograd.grad(model.loss(*train), model.alphas))
        for p, v in zip(model.parameters(), vector, strict=True):
            p.data.add_(v * radius)
        for a, g, p, n in zip(model.alphas, direct, *sides, strict=True):
            assert g is not None
            a.grad = g - eta * (p - n) / (2 * radius)

    def _copy(self, theta: Tensor) -> Network:
        """Return a new network at other weights, built and filled through its state dictionary."""
        other = copy.deepcopy(self.model)
        state, offset = self.model.state_dict(), 0
        for name, p in self.model.named_parameters():
            state[name] = theta[offset : offset + p.numel()].view(p.shape)
            offset += p.numel()
        other.load_state_dict(state)
        other.alphas = [a.detach().clone().requires_grad_() for a in self.model.alphas]
        return other


def epoch(
    model: Network,
    architect: Architect,
    sgd: torch.optim.SGD,
    train: list[tuple[Tensor, Tensor]],
    valid: Callable[[], tuple[Tensor, Tensor]],
    rate: float,
    unrolled: bool,
) -> None:
    """Take one epoch over the training batches; `valid` gives a validation batch."""
    model.train()
    for batch in train:
        architect.step(batch, valid(), rate, sgd, unrolled)
        sgd.zero_grad()
        model.loss(*batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        sgd.step()
