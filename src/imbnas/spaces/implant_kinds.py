"""Kinds of implants: searched cells beside a shortcut, or plain adapters with as many parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from imbnas.cell_graph import EDGES, OPERATIONS, live_cell
from imbnas.spaces.blocks import Gate
from imbnas.spaces.chain import Outline
from imbnas.spaces.cost import Cost, Run
from imbnas.spaces.implant import ImplantSpace
from imbnas.spaces.implanted import (
    AdapterChoice,
    CellChoice,
    Implant,
    bottleneck,
    cell,
    is_empty,
)
from imbnas.spaces.networks import Architecture


class CellImplants(ImplantSpace):
    """A cell of NAS-Bench-201 in each stage: six edges with five operations, canonical as there (decision 24)."""

    def __init__(self, outline: Outline) -> None:
        """Lay out the edges of each stage."""
        super().__init__(outline, [(f"edge {source} -> {node}", OPERATIONS) for source, node in EDGES])

    def canonical_part(self, part: Architecture) -> Architecture:
        """Return the cell with `none` wherever an operation does not act; all `none` for one without a way through."""
        return live_cell(part)

    def stage_choice(self, stage: int, channels: int) -> nn.Module:
        """Return a new cell with all operations on every edge."""
        return CellChoice(channels)

    def stage_implant(self, part: Architecture, stage: int, channels: int) -> Implant | None:
        """Return a new cell; None for an empty one."""
        return cell(part, channels)

    def operation_costs(self, choice: nn.Module, run: Run, x: Tensor) -> Callable[[Architecture], Cost]:
        """Return the sum over a cell's edges and its gate; nothing for an empty cell."""
        assert isinstance(choice, CellChoice)
        edges = choice.body.edges[0].children()
        costs, gate = [run(candidate, x)[1] for candidate in edges], run(choice.gate, x)[1]
        return lambda part: Cost(0, 0) if is_empty(part) else sum((costs[one] for one in part), gate)

    def weight_of_path(self, name: str, part: Architecture) -> str | None:
        """Return the weight's name without the operation's number."""
        if is_empty(part):
            return None
        if not name.startswith("body.edges."):
            return name
        edge, operation, rest = name.removeprefix("body.edges.").split(".", 2)
        return f"body.edges.{edge}.{rest}" if part[int(edge)] == int(operation) else None


class AdapterImplants(ImplantSpace):
    """A bottleneck convolution in each stage, or none: the plain rival of the cells, with as many parameters."""

    def __init__(self, outline: Outline, budget: int) -> None:
        """Take the parameters that the adapters of all stages are to have together."""
        self.widths = adapter_widths(outline.channels, budget)
        super().__init__(outline, [("adapter", ("none", "bottleneck"))])

    def canonical_part(self, part: Architecture) -> Architecture:
        """Return the choice itself."""
        return part

    def stage_choice(self, stage: int, channels: int) -> nn.Module:
        """Return a new adapter."""
        return AdapterChoice(channels, self.widths[stage])

    def stage_implant(self, part: Architecture, stage: int, channels: int) -> Implant | None:
        """Return a new adapter, or None."""
        return Implant(bottleneck(channels, self.widths[stage]), Gate(channels)) if part[0] else None

    def operation_costs(self, choice: nn.Module, run: Run, x: Tensor) -> Callable[[Architecture], Cost]:
        """Return the adapter's cost, or nothing."""
        whole = run(choice, x)[1]
        return lambda part: whole if part[0] else Cost(0, 0)

    def weight_of_path(self, name: str, part: Architecture) -> str | None:
        """Return the weight's own name."""
        return name if part[0] else None

    def describe(self, architecture: Sequence[int]) -> list[str]:
        """Return a line per stage, such as "stage 2 adapter: bottleneck of 12"."""
        lines = super().describe(architecture)
        return [
            f"{line} of {width}" if choice else line
            for line, width, choice in zip(lines, self.widths, architecture, strict=True)
        ]


def adapter_parameters(channels: int, width: int) -> int:
    """Return the parameters of a bottleneck of this width with its gate: BatchNorms are two vectors each."""
    return 9 * channels * width + 2 * width + width * channels + 2 * channels + channels


def adapter_widths(channels: Sequence[int], budget: int) -> tuple[int, ...]:
    """Return the widths with which the adapters of all stages have nearly `budget` parameters together.

    A stage's share of it is as its squared channels, as a cell's parameters are. Wide stages come first, and a narrower
    one makes up for what their rounding left, so that the sum is off by no more than half of what one more channel of
    width costs in the narrowest stage, unless the budget is too small for a width of 1 everywhere.
    """
    order = sorted(range(len(channels)), key=lambda stage: -channels[stage])
    widths, left = [1] * len(channels), budget
    for place, stage in enumerate(order):
        squares = sum(channels[other] ** 2 for other in order[place:])
        share = left * channels[stage] ** 2 / squares
        fixed, each = adapter_parameters(channels[stage], 0), adapter_parameters(channels[stage], 1)
        widths[stage] = max(1, round((share - fixed) / (each - fixed)))
        left -= adapter_parameters(channels[stage], widths[stage])
    return tuple(widths)
