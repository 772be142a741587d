"""Cells of NAS-Bench-201 that are chosen for each stage, with kernel sizes and exits (ZO-DARTS++, arXiv 2503.06092)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from itertools import product
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NONE, OPERATIONS, is_connected, live_cell
from imbnas.spaces.bilateral import BilateralSubnet, Branch
from imbnas.spaces.blocks import conv_norm
from imbnas.spaces.cells import CONVOLUTION, Cell, ChoiceCell, Reduction, operation
from imbnas.spaces.chain import Outline
from imbnas.spaces.cost import Cost, Meter, classifier, counting
from imbnas.spaces.implant import StageChoice
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.spaces.space import META, SearchSpace
from imbnas.spaces.stage_cell_costs import Group, StageCellCosts
from imbnas.spaces.stage_supernet import StageSupernet, blocks_used, cells_used, parts_of


@cache
def live_cells(operations: int) -> tuple[Architecture, ...]:
    """Return all canonical, connected cells whose edges have so many operations, `none` among them, ascending."""
    real = range(1, operations)
    patterns = (pattern for pattern in product((NONE, NONE + 1), repeat=len(EDGES)) if is_connected(pattern))
    live = (pattern for pattern in patterns if live_cell(pattern) == pattern)
    return tuple(
        sorted(cell for pattern in live for cell in product(*(real if there else (NONE,) for there in pattern)))
    )


class StageCellsSpace(SearchSpace):
    """An architecture is six choices among the operations for each stage and, with `exits`, how many cells it has.

    The operations are NAS-Bench-201's in their order, then the convolutions with larger kernels. A stage's last choice
    counts its cells from 0: of n, the last n - 1 - choice are not there. Canonical is an architecture whose every cell
    is (`cell_graph.live_cell`); connected is one whose every cell has a way.
    """

    name = "nasbench201"

    def __init__(self, outline: Outline, kernels: Sequence[int] = (3,), *, exits: bool = False) -> None:
        """Take the outline, whose `repeats` are the most cells of each stage, and the kernel sizes, 3 among them."""
        self.operations = (*OPERATIONS, *(f"{CONVOLUTION}{k}x{k}" for k in kernels if k > 3))
        self.kernels, self.exits = tuple(kernels), exits
        choices: list[StageChoice] = []
        for stage, most in enumerate(outline.repeats, 1):
            choices += [StageChoice(stage, f"edge {a} -> {b}", self.operations) for a, b in EDGES]
            if exits:
                choices.append(StageChoice(stage, "cells", tuple(map(str, range(1, most + 1)))))
        super().__init__(choices, outline.channels[-1])
        self.outline = outline
        self.stages = len(outline.channels)
        self.size = len(live_cells(len(self.operations))) ** self.stages * (prod(outline.repeats) if exits else 1)

    def convolution(self, kernel: int) -> int:
        """Return the choice of an edge that is the convolution with this kernel."""
        return self.operations.index(f"{CONVOLUTION}{kernel}x{kernel}")

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the architecture with `none` wherever an operation does not act in its cell."""
        edges = len(EDGES)
        parts = parts_of(architecture, self.stages)
        return tuple(choice for part in parts for choice in (*live_cell(part[:edges]), *part[edges:]))

    def connected(self, architecture: Architecture) -> bool:
        """Return whether there is a way through the cell of every stage."""
        return all(is_connected(part[: len(EDGES)]) for part in parts_of(architecture, self.stages))

    def _draw(self, rng: np.random.Generator) -> Architecture:
        """Draw a canonical cell for each stage: with many stages random tuples hardly ever are."""
        cells, drawn = live_cells(len(self.operations)), list[int]()
        for most in self.outline.repeats:
            drawn += cells[int(rng.integers(len(cells)))]
            drawn += [int(rng.integers(most))] if self.exits else []
        return tuple(drawn)

    # Networks

    def supernet_on_meta(self, num_classes: int, channels: int) -> StageSupernet:
        """Return a supernet without memory for its weights."""
        with torch.device(META):
            blocks: list[nn.Module] = []
            for stage, most in enumerate(self.outline.repeats):
                blocks += self._reduction(stage)
                blocks += [ChoiceCell(self.outline.channels[stage], self.operations) for _ in range(most)]
            stem, last = self._stem(channels), self._last()
            return StageSupernet(stem, blocks, last, self._head(num_classes), self.outline.repeats)

    def subnet_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> Subnet:
        """Return a subnet without memory for its weights; what is behind a stage's exit is not there."""
        with torch.device(META):
            blocks = [block for stage in self._built(architecture) for block in stage]
            return Subnet(self._stem(channels), blocks, self._last(), self._head(num_classes))

    def bilateral_on_meta(self, architecture: Architecture, num_classes: int, channels: int) -> BilateralSubnet:
        """Return a two-branch network without memory for its weights; the last stage is there twice."""
        with torch.device(META):
            stages, other = self._built(architecture), self._built(architecture)
            trunk = [block for stage in stages[:-1] for block in stage]
            branches = Branch(stages[-1], self._last()), Branch(other[-1], self._last())
            head = nn.Linear(2 * self.num_features, num_classes)
            return BilateralSubnet(self._stem(channels), trunk, branches, head)

    def subnet_state(self, supernet_state: dict[str, Tensor], architecture: Sequence[int]) -> dict[str, Tensor]:
        """Return a supernet's weights as the state of `build_subnet(architecture)`: the same tensors, renamed."""
        chosen = self.canonical(self.check(architecture))
        used = {str(block): (str(k), cell) for k, (block, cell) in enumerate(blocks_used(chosen, self.outline.repeats))}
        kept: dict[str, Tensor] = {}
        for key, value in supernet_state.items():
            if not key.startswith("blocks."):
                kept[key] = value
                continue
            _, block, rest = key.split(".", 2)
            if block not in used:
                continue
            place, cell = used[block]
            if cell is None:
                kept[f"blocks.{place}.{rest}"] = value
                continue
            _, edge, choice, name = rest.split(".", 3)
            if int(choice) == cell[int(edge)]:
                kept[f"blocks.{place}.edges.{edge}.{name}"] = value
        return kept

    def _built(self, architecture: Architecture) -> list[list[nn.Module]]:
        """Return the blocks of each stage of a network."""
        stages: list[list[nn.Module]] = []
        for stage, part in enumerate(parts_of(self.canonical(architecture), self.stages)):
            width, count = self.outline.channels[stage], cells_used(part, self.outline.repeats[stage])
            names = [self.operations[choice] for choice in part[: len(EDGES)]]
            cells = [Cell(operation(name, width) for name in names) for _ in range(count)]
            stages.append([*self._reduction(stage), *cells])
        return stages

    def _reduction(self, stage: int) -> list[nn.Module]:
        """Return what precedes the cells of a stage."""
        widths = self.outline.channels
        return [Reduction(widths[stage - 1], widths[stage])] if stage else []

    def _stem(self, channels: int) -> nn.Sequential:
        return nn.Sequential(*conv_norm(channels, self.outline.stem_channels, 3, self.outline.stem_stride))

    def _last(self) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(self.num_features), nn.ReLU(inplace=True))

    # Costs

    def measure(self, image: tuple[int, int, int], num_classes: int, meter: Meter = counting) -> StageCellCosts:
        """Return the costs of all cells; an operation costs the same on each edge of each cell of a stage.

        `none` costs nothing: networks are built without it.
        """
        supernet = self.supernet_on_meta(num_classes, image[2]).eval()
        rows: list[tuple[Cost, ...]] = []
        with meter(image) as (run, x):
            x, fixed = run(supernet.stem, x, "stem")
            for block, begins in zip(supernet.blocks, self._begins, strict=True):
                if not isinstance(block, ChoiceCell):
                    x, cost = run(block, x, "reduction")
                    fixed += cost
                elif begins:
                    candidates = list(block.edges[0].children())
                    costs = [run(candidate, x)[1] for candidate in candidates]
                    rows.append(tuple(Cost(0, 0) if k == NONE else cost for k, cost in enumerate(costs)))
            x, last = run(supernet.last, x, "last")
            fixed += last + classifier(run, supernet, x)
        return self._table(fixed, tuple(rows))

    @property
    def _begins(self) -> list[bool]:
        """Whether each block is the first cell of its stage."""
        found: list[bool] = []
        for stage, most in enumerate(self.outline.repeats):
            found += [False] * bool(stage) + [True] + [False] * (most - 1)
        return found

    @cached_property
    def _by_contents(self) -> dict[Architecture, tuple[Architecture, ...]]:
        """All cells by how many edges have each of the convolutions."""
        found: dict[Architecture, list[Architecture]] = {}
        for cell in live_cells(len(self.operations)):
            found.setdefault(self._contents(cell), []).append(cell)
        return {contents: tuple(cells) for contents, cells in found.items()}

    @cached_property
    def _convolutions(self) -> tuple[int, ...]:
        """The choices of an edge that are convolutions."""
        return tuple(choice for choice, name in enumerate(self.operations) if name.startswith(CONVOLUTION))

    def _contents(self, cell: Architecture) -> Architecture:
        return tuple(map(cell.count, self._convolutions))

    def _first(self, kind: tuple[Architecture, int]) -> Architecture:
        """Return the smallest choices of a stage with these contents and so many cells."""
        return (*self._by_contents[kind[0]][0], kind[1])

    def _table(self, fixed: Cost, rows: tuple[tuple[Cost, ...], ...]) -> StageCellCosts:
        """Bring together the choices of each stage whose cost is the same."""
        blocks, groups = list[tuple[Cost, ...]](), list[tuple[tuple[Group, ...], ...]]()
        place_of: list[dict[tuple[Architecture, int], int]] = []
        for costs, most in zip(rows, self.outline.repeats, strict=True):
            by_cost: dict[Cost, list[tuple[Architecture, int]]] = {}
            for contents, cells in self._by_contents.items():
                one = sum((costs[choice] for choice in cells[0]), Cost(0, 0))
                for count in range(1, most + 1) if self.exits else [most]:
                    by_cost.setdefault(sum([one] * count, Cost(0, 0)), []).append((contents, count))
            # Ties fall to the smaller architecture where places ascend with it.
            by_cost = dict(sorted(by_cost.items(), key=lambda entry: min(self._first(kind) for kind in entry[1])))
            blocks.append(tuple(by_cost))
            behind = (lambda count: (count - 1,)) if self.exits else (lambda count: ())
            groups.append(
                tuple(tuple(Group(self._by_contents[c], behind(n)) for c, n in kinds) for kinds in by_cost.values())
            )
            place_of.append({kind: place for place, kinds in enumerate(by_cost.values()) for kind in kinds})

        def place(stage: int, part: Architecture) -> int | None:
            cell = live_cell(part[: len(EDGES)])
            kind = self._contents(cell), cells_used(part, self.outline.repeats[stage])
            return place_of[stage][kind] if any(cell) else None

        return StageCellCosts(fixed, tuple(blocks), tuple(groups), place, rows)
