"""Residual networks with implants: small networks beside the last shortcut of each stage, which add nothing at first.

The backbone can be held: it then stays in evaluation mode, so that its statistics do not move either, and gets no
gradients. No module changes its input in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.cell_graph import NONE, OPERATIONS, live_cell
from imbnas.spaces.blocks import BasicBlock, Gate, conv_norm, of_operation
from imbnas.spaces.cells import ActivatedConv, Cell, ChoiceCell, operation
from imbnas.spaces.networks import Architecture, Supernet


class Held(nn.Module):
    """A part of a backbone, which keeps every bit once it is held."""

    held = False

    def hold(self) -> None:
        """Freeze the parameters, and stay in evaluation mode from now on."""
        self.held = True
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Held:
        """Set the training mode, unless held."""
        super().train(mode and not self.held)
        return self


class HeldSequential(Held, nn.Sequential):
    """Layers of a backbone."""


class HeldBlock(Held, BasicBlock):
    """A basic block of a backbone."""


class Implant(nn.Module):
    """A network from a shortcut's output to the same shape, ended by a gate."""

    def __init__(self, body: nn.Module, gate: Gate) -> None:
        """Take both, of equal channels."""
        super().__init__()
        self.body = body
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        y: Tensor = self.gate(self.body(x))
        return y


class Choice(Protocol):
    """The candidates of one place."""

    def chosen(self, part: Architecture) -> Implant | None:
        """Return the implant that one place's choices name, of shared weights; None for nothing."""
        ...


class CellChoice(nn.Module):
    """All cells of one place: five operations on each of six edges, and the gate that they share."""

    def __init__(self, channels: int) -> None:
        """Build all operations."""
        super().__init__()
        self.body = ChoiceCell(channels)
        self.gate = Gate(channels)

    def chosen(self, part: Architecture) -> Implant | None:
        """Return the cell that six choices name; None for one without a way from input to output."""
        return None if is_empty(part) else Implant(Cell(self.body.chosen(part)), self.gate)


class AdapterChoice(Implant):
    """A bottleneck convolution, or nothing."""

    def __init__(self, channels: int, width: int) -> None:
        """Build it."""
        super().__init__(bottleneck(channels, width), Gate(channels))

    def chosen(self, part: Architecture) -> Implant | None:
        """Return the adapter for the choice 1, None for 0."""
        return self if part[0] else None


def is_empty(part: Architecture) -> bool:
    """Return whether a cell has no way from its input to its output, so that nothing is implanted."""
    return set(live_cell(part)) == {NONE}


def cell(part: Architecture, channels: int) -> Implant | None:
    """Return a new cell of six choices, of what acts in it; None where nothing does."""
    if is_empty(part):
        return None
    return Implant(Cell(operation(OPERATIONS[choice], channels) for choice in live_cell(part)), Gate(channels))


def bottleneck(channels: int, width: int) -> nn.Sequential:
    """Return an adapter: ReLU, 3x3 convolution to `width` with BatchNorm and ReLU, 1x1 convolution with BatchNorm."""
    layers = [*conv_norm(channels, width, 3, activation=nn.ReLU), *conv_norm(width, channels, 1)]
    # Not in place: the input is the shortcut's.
    return of_operation("bottleneck", nn.Sequential(nn.ReLU(), *layers))


class ImplantedBlock(nn.Module):
    """A basic block with an implant beside its shortcut, added before the last ReLU; without one it is the block."""

    def __init__(self, block: HeldBlock, implant: nn.Module | None) -> None:
        """Take the block, and the implant or the choice of one."""
        super().__init__()
        self.block = block
        self.implant = implant

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H/stride, W/stride)."""
        if self.implant is None:
            y: Tensor = self.block(x)
            return y
        shortcut = self.block.shortcut(x)
        # The backbone's own sum comes first: adding zeros to it changes no bit.
        return F.relu(self.block.branch(x) + shortcut + self.implant(shortcut))


def hold_backbone(network: nn.Module) -> None:
    """Hold all parts of a network's backbone: implants and head alone learn."""
    for module in network.modules():
        if isinstance(module, Held):
            module.hold()


class ImplantSupernet(Supernet):
    """A backbone with all implants; an architecture names as many choices for each stage.

    State keys of an implant are `blocks.<i>.implant.`, of its block `blocks.<i>.block.`, of other blocks `blocks.<i>.`.
    """

    def __init__(
        self, stem: nn.Module, blocks: Iterable[nn.Module], last: nn.Module, head: nn.Linear, choices: int
    ) -> None:
        """Take the parts, whose channels must fit each other, and the number of choices of one stage."""
        super().__init__(stem, [], last, head)
        self.blocks = nn.ModuleList(blocks)
        self._choices = choices

    def steps(self, architecture: Architecture) -> list[nn.Module]:
        """Return the path's modules, stem to pooling; implanted blocks are put together anew, of shared parts."""
        return [self.stem, *self._path(architecture), self.last, self.pool]

    def _path(self, architecture: Architecture) -> Iterator[nn.Module]:
        stage = 0
        for block in self.blocks:
            if not isinstance(block, ImplantedBlock):
                yield block
                continue
            part = architecture[stage * self._choices : (stage + 1) * self._choices]
            stage += 1
            implant = cast(Choice, block.implant).chosen(part)
            yield block.block if implant is None else ImplantedBlock(block.block, implant)

    def capturable_modules(self) -> list[tuple[nn.Module, str]]:
        """Return what passes are put together of: the backbone's parts, cells' convolutions, adapters, gates."""
        ends = (part for part in (self.stem, self.last) if any(True for _ in part.parameters()))
        found = [(part, "forward") for part in ends]
        for block in self.blocks:
            if not isinstance(block, ImplantedBlock):
                found.append((block, "forward"))
                continue
            found.append((block.block.branch, "forward"))
            choice = cast(nn.Module, block.implant)
            if isinstance(choice, AdapterChoice):
                found.append((choice.body, "forward"))
            found += [(module, "forward") for module in choice.modules() if isinstance(module, Gate)]
            found += [(module, "after_relu") for module in choice.modules() if isinstance(module, ActivatedConv)]
        return found

    def shared_steps(self, first: Architecture, second: Architecture) -> int:
        """Return how many steps two different architectures have in common: up to the first stage that differs."""
        stage = [a == b for a, b in zip(first, second, strict=True)].index(False) // self._choices
        return 1 + [k for k, block in enumerate(self.blocks) if isinstance(block, ImplantedBlock)][stage]
