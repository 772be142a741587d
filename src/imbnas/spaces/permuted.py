"""The paths of a fair step of a supernet in one pass: the work is the same in each step, only who feeds whom changes.

In a fair step every choice of a block serves exactly one path, if all blocks have equally many choices. The activations
of the m paths are stacked, path after path; a block gives each choice the rows of its path, computes the choices beside
each other, and gives every path the rows of its choice back. Which path that is lies in tensors on the device, so that
a recorded step can be played back with other paths.

What separate passes would do is done: each path has BatchNorm statistics of its own, running statistics take the paths
up in their order, and an operation that acts in no path leaves its running statistics as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.cell_graph import EDGES, NODES, NONE
from imbnas.spaces.cells import ActivatedConv, CellSupernet, ChoiceCell, Nothing
from imbnas.spaces.nasbench201 import NasBench201Space
from imbnas.spaces.networks import Architecture, Supernet, classify
from imbnas.spaces.path_statistics import once_for_all, path_by_path, where_it_acts
from imbnas.spaces.space import SearchSpace


class Routes(NamedTuple):
    """The flow of rows in a step of m paths over B blocks, or edges of a cell: who feeds whom."""

    path_of: Tensor
    """int64 (B, m): the path that each choice serves."""
    choice_of: Tensor
    """int64 (B, m): the choice of each path, the inverse permutation."""
    acts: Tensor
    """bool (B, m): whether each path's choice acts in it."""


def routes(paths: Sequence[Architecture], choices: Sequence[int], idle: int | None, device: torch.device) -> Routes:
    """Return the routes of a fair step's paths in canonical form; ValueError where they are not such paths.

    `idle` is the choice that stands in a path for one that does not act, None where all act. The choices that are left
    over serve such paths, and nothing comes of it.
    """
    width = len(paths)
    path_of, choice_of, acts = [], [], []
    for place, count in enumerate(choices):
        column = [path[place] for path in paths]
        acting = [choice for choice in column if choice != idle]
        if count != width or len(set(acting)) < len(acting):
            raise ValueError(f"block {place} takes {column} of {count} choices, expected each choice once")
        left = iter(sorted(set(range(count)) - set(acting)))
        chosen = [choice if choice != idle else next(left) for choice in column]
        choice_of.append(chosen)
        path_of.append([chosen.index(choice) for choice in range(count)])
        acts.append([choice != idle for choice in column])
    return Routes(
        torch.tensor(path_of, device=device), torch.tensor(choice_of, device=device), torch.tensor(acts, device=device)
    )


@dataclass(frozen=True)
class PermutedPasses:
    """The passes of a fair step, taken together; what `training.loop` wants of them."""

    space: SearchSpace
    frozen: bool = False
    """Whether the supernet is the backbone of a head that alone learns."""

    def routes(self, passes: Sequence[tuple[Architecture]], device: torch.device) -> Routes:
        """Return who feeds whom."""
        idle = NONE if isinstance(self.space, NasBench201Space) else None
        return routes([path for (path,) in passes], [len(block.choices) for block in self.space.blocks], idle, device)

    def outputs(self, model: Any, images: Tensor, found: Routes) -> Tensor:
        """Return the logits (m N, classes), path after path."""
        if not self.frozen:
            return logits(model, images, found)
        with torch.no_grad():
            seen = features(model.network, images, found)
        scores: Tensor = model.network.head(seen)
        return scores

    def unmoved(
        self, model: nn.Module, found: Routes, momenta: Mapping[Tensor, Mapping[str, Tensor]]
    ) -> AbstractContextManager[None]:
        """Leave what acts in no path as it is while an optimiser moves."""
        return nullcontext() if self.frozen else unmoved(model, found, momenta)


class _Gathered(torch.autograd.Function):
    """Equal parts of a tensor in another order, whose gradient takes the inverse order.

    The gradient of torch's own gather adds rows up, which on CUDA is a sort where bits must repeat.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return _parts_in_order(x, order)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        _, inverse = ctx.saved_tensors
        return _parts_in_order(slope, inverse), None, None


def _parts_in_order(x: Tensor, order: Tensor) -> Tensor:
    """Return the len(order) equal parts of x (m N, C, H, W) in another order, in the memory layout that x has."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    rows = x.permute(0, 2, 3, 1) if last else x
    moved = rows.reshape(len(order), -1).index_select(0, order).reshape(rows.shape)
    return moved.permute(0, 3, 1, 2) if last else moved


def gather(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """Return equal parts of x in the order that `order` names; `inverse` is the inverse permutation."""
    y: Tensor = _Gathered.apply(x, order, inverse)
    return y


def logits(supernet: nn.Module, x: Tensor, found: Routes) -> Tensor:
    """Return the logits (m N, classes) of the step's paths for images (N, C, H, W), path after path.

    The supernet is in training mode, or frozen with the batch's own statistics.
    """
    assert isinstance(supernet, Supernet | CellSupernet)
    return classify(supernet.head, features(supernet, x, found))


def features(supernet: Supernet | CellSupernet, x: Tensor, found: Routes) -> Tensor:
    """Return what the head sees, (m N, num_features)."""
    width = found.path_of.shape[1]
    with once_for_all(supernet.stem, width):
        x = supernet.stem(x)
    x = x.repeat(width, 1, 1, 1).contiguous(memory_format=_layout(x))
    for number, block in enumerate(supernet.blocks):
        if isinstance(block, ChoiceCell):
            x = _cell(block, x, found)
        elif isinstance(block, nn.ModuleList):
            x = _block(block, x, found.path_of[number], found.choice_of[number])
        else:
            with path_by_path(block, width):
                x = block(x)
    with path_by_path(supernet.last, width):
        x = supernet.last(x)
    y: Tensor = supernet.pool(x)
    return y


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _block(candidates: nn.ModuleList, x: Tensor, path_of: Tensor, choice_of: Tensor) -> Tensor:
    """Return the stacked outputs of a block, whose choices all act."""
    parts = gather(x, path_of, choice_of).chunk(len(candidates))
    made = torch.cat([candidate(part) for candidate, part in zip(candidates, parts, strict=True)])
    return gather(made, choice_of, path_of)


def _cell(cell: ChoiceCell, x: Tensor, found: Routes) -> Tensor:
    """Return the stacked outputs of a cell: a node is the sum of its edges, as in `cells.run_cell`."""
    nodes, activated = [x], cast(list[Tensor | None], [None] * NODES)
    for node in range(1, NODES):
        total: Tensor | None = None
        for number, ((source, end), candidates) in enumerate(zip(EDGES, cell.edges, strict=True)):
            if end != node:
                continue
            if (shared := activated[source]) is None:
                shared = activated[source] = F.relu(nodes[source])
            edge = Routes(*(part[number] for part in found))
            y = _edge(cast(nn.ModuleList, candidates), nodes[source], shared, edge)
            total = y if total is None else total + y
        assert total is not None
        nodes.append(total)
    return nodes[-1]


def _edge(candidates: nn.ModuleList, x: Tensor, activated: Tensor, edge: Routes) -> Tensor:
    """Return what an edge adds to its node in each path, zeros where its operation does not act."""
    width = len(candidates)
    plain = gather(x, edge.path_of, edge.choice_of).chunk(width)
    relu = gather(activated, edge.path_of, edge.choice_of).chunk(width)
    acts = edge.acts.index_select(0, edge.path_of)
    made = []
    for choice, candidate in enumerate(candidates):
        if isinstance(candidate, Nothing):
            made.append(torch.zeros_like(plain[choice]))
        elif isinstance(candidate, ActivatedConv):
            with where_it_acts(candidate, acts[choice]):
                made.append(candidate.after_relu(relu[choice]))
        else:
            made.append(candidate(plain[choice]))
    y = gather(torch.cat(made), edge.choice_of, edge.path_of)
    # Not times the mask: what does not act may be infinite.
    parts = y.unflatten(0, (width, -1))
    return torch.where(edge.acts.view(width, 1, 1, 1, 1), parts, torch.zeros_like(parts)).flatten(0, 1)


@contextmanager
def unmoved(supernet: nn.Module, found: Routes, momenta: Mapping[Tensor, Mapping[str, Tensor]]) -> Iterator[None]:
    """Leave weights and momentum of operations that act in no path of the step as they are while an optimiser moves.

    In separate passes they have no gradient, so that neither momentum nor weight decay moves them.
    """
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    acts = found.acts.gather(1, found.path_of)
    for cell in (module for module in supernet.modules() if isinstance(module, ChoiceCell)):
        for number, candidates in enumerate(cell.edges):
            for choice, candidate in enumerate(candidates.children()):
                for parameter in candidate.parameters():
                    held = [parameter.data, *momenta.get(parameter, {}).values()]
                    kept += [(acts[number, choice], tensor, tensor.clone()) for tensor in held]
    yield
    with torch.no_grad():
        for mask, tensor, old in kept:
            tensor.copy_(torch.where(mask, tensor, old))
