"""The cell of the DARTS search network: every operation on every edge, weighted (Liu et al. 2019, section 2).

What the edges of one node share is computed once: the node's ReLU and its two poolings, which have no weights of their
own. They are therefore computed 5 instead of 14 times per cell. `none` is never computed: it adds zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from imbnas.spaces.blocks import of_operation
from imbnas.spaces.darts_genotype import NODES, Cell, edges
from imbnas.spaces.darts_ops import NONE, POOLS, SKIP, Halves, ScaledNorm, conv_body, pooling, projected, reduced
from imbnas.spaces.relaxed import Relaxed

EDGES = edges()


@dataclass(frozen=True)
class EdgeMix:
    """The factors on an edge: of each operation (None: 1), of the bypassed channels, and of the auxiliary skip."""

    scales: dict[str, Tensor | None]
    bypass: Tensor | None = None
    skip: Tensor | None = None


Mix = tuple[EdgeMix | None, ...]
"""One entry an edge; None where there is no edge."""


def mix_of(relaxed: Relaxed, kind: str, operations: Sequence[str]) -> Mix:
    """Return the factors of a relaxation for cells of `kind`."""
    weights = relaxed.operations[kind]
    shares = relaxed.edges.get(kind)
    if shares is not None:
        weights = weights * shares[:, None]
    rows = [row.unbind() for row in weights.unbind()]
    bypass = [None] * len(rows) if shares is None else shares.unbind()
    skips: list[Tensor | None] = [None] * len(rows)
    if relaxed.skip:
        factor = weights.new_full((len(rows),), relaxed.skip) if shares is None else relaxed.skip * shares
        skips = list(factor.unbind())
    return tuple(
        EdgeMix({name: scale for name, scale in zip(operations, row, strict=True) if name != NONE}, past, skip)
        for row, past, skip in zip(rows, bypass, skips, strict=True)
    )


def path_mix(cell: Cell) -> Mix:
    """Return the factors of a discrete cell: its edges at full weight, the others absent."""
    chosen = {(node, source): name for node, entries in enumerate(cell) for source, name in entries}
    return tuple(EdgeMix({chosen[edge]: None}) if edge in chosen else None for edge in EDGES)


class ScaledOp(nn.Module):
    """A convolution or factorised reduction without its ReLU, whose BatchNorm applies the operation's weight."""

    def __init__(self, body: nn.Module, channels: int) -> None:
        """Take the body, which gives `channels`."""
        super().__init__()
        self.body = body
        self.norm = ScaledNorm(channels)

    def forward(self, positive: Tensor, scale: Tensor | None) -> Tensor:
        """Map the input after ReLU (N, C, H, W)."""
        normalised: Tensor = self.norm(self.body(positive), scale)
        return normalised


class Source:
    """A predecessor during one forward pass, with what its edges share."""

    def __init__(self, x: Tensor, width: int, norms: nn.ModuleDict | None) -> None:
        """Take its output (N, C, H, W), of which operations see the first `width` channels."""
        whole = width == x.shape[1]
        self.part = x if whole else x[:, :width]
        self._rest = None if whole else x[:, width:]
        self._norms = norms
        self._positive: Tensor | None = None
        self._pooled: dict[str, Tensor] = {}

    def positive(self) -> Tensor:
        """Return the channels for operations after ReLU."""
        if self._positive is None:
            self._positive = F.relu(self.part)
        return self._positive

    def pooled(self, name: str, stride: int) -> Tensor:
        """Return them pooled and normalised."""
        if name not in self._pooled:
            assert self._norms is not None
            self._pooled[name] = self._norms[name](pooling(name, stride)(self.part))
        return self._pooled[name]

    def bypass(self, stride: int) -> Tensor | None:
        """Return the other channels at the stride's resolution."""
        if self._rest is None or stride == 1:
            return self._rest
        return F.max_pool2d(self._rest, 2, 2, ceil_mode=True)


class Sum:
    """A sum of tensors that is made in place once the memory is its own."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.total: Tensor | None = None
        self._owned = False

    def add(self, x: Tensor, scale: Tensor | None = None, *, fresh: bool = False) -> None:
        """Add `scale` times `x`; `fresh` says that nobody else holds `x`."""
        if self.total is None:
            self.total = x if scale is None else x * scale
            self._owned = fresh or scale is not None
            return
        if scale is None:
            self.total = self.total.add_(x) if self._owned else self.total + x
        else:
            self.total = self.total.addcmul_(x, scale) if self._owned else torch.addcmul(self.total, x, scale)
        self._owned = True


class SearchCell(nn.Module):
    """A normal or reduction cell with all operations on its 14 edges."""

    def __init__(
        self,
        inputs: tuple[int, int],
        channels: int,
        operations: Sequence[str],
        *,
        reduces: bool,
        after_reduction: bool,
        partial: int,
    ) -> None:
        """Take the channels of the two input cells, the cell's own, and one over the share that operations see."""
        super().__init__()
        self.kind = "reduce" if reduces else "normal"
        self.partial = partial
        self.width = channels // partial
        self.before = (reduced if after_reduction else projected)(inputs[0], channels, affine=False)
        self.previous = projected(inputs[1], channels, affine=False)
        self.strides = [2 if reduces and source < 2 else 1 for _, source in EDGES]
        self.edges = nn.ModuleList(
            nn.ModuleDict({name: self._candidate(name, stride) for name in operations if _weighted(name, stride)})
            for stride in self.strides
        )
        pools = [name for name in operations if name in POOLS]
        # The last node is nobody's predecessor.
        self.pools = nn.ModuleList(
            nn.ModuleDict({name: ScaledNorm(self.width) for name in pools}) for _ in range(2 + NODES - 1)
        )
        self.skips = nn.ModuleDict()

    def _candidate(self, name: str, stride: int) -> ScaledOp:
        if name == SKIP:
            return ScaledOp(of_operation(name, Halves(self.width, self.width)), self.width)
        return ScaledOp(conv_body(name, self.width, stride, affine=False), self.width)

    def add_skips(self) -> None:
        """Give every edge of stride 2 a factorised reduction of its own for the auxiliary skip connection (DARTS-)."""
        for edge, stride in enumerate(self.strides):
            if stride == 2:
                self.skips[str(edge)] = self._candidate(SKIP, stride)

    def forward(self, before: Tensor, previous: Tensor, mix: Mix) -> Tensor:
        """Return the four nodes side by side: (N, 4 C, H, W), in a reduction cell with half of H and W."""
        norms = [*cast(Iterable[nn.ModuleDict], self.pools), None]
        sources = [
            Source(self.before(before), self.width, norms[0]),
            Source(self.previous(previous), self.width, norms[1]),
        ]
        nodes: list[Tensor] = []
        place = 0
        for node in range(NODES):
            part, rest = Sum(), Sum()
            for source in sources:
                entry = mix[place]
                if entry is not None:
                    self._edge(place, source, entry, part)
                    passed = source.bypass(self.strides[place])
                    if passed is not None:
                        rest.add(passed, entry.bypass)
                place += 1
            nodes.append(self._joined(part, rest))
            sources.append(Source(nodes[-1], self.width, norms[2 + node]))
        return torch.cat(nodes, dim=1)

    def _edge(self, place: int, source: Source, entry: EdgeMix, total: Sum) -> None:
        """Add what an edge carries to a node's sum."""
        stride = self.strides[place]
        candidates = cast(nn.ModuleDict, self.edges[place])
        for name, scale in entry.scales.items():
            if name in candidates:
                total.add(candidates[name](source.positive(), scale), fresh=True)
            elif name == SKIP:
                total.add(source.part, scale)
            else:
                total.add(source.pooled(name, stride), scale)
        if entry.skip is not None:
            if stride == 1:
                total.add(source.part, entry.skip)
            else:
                total.add(self.skips[str(place)](source.positive(), entry.skip), fresh=True)

    def _joined(self, part: Sum, rest: Sum) -> Tensor:
        """Return a node: what its operations gave, mixed with the channels that bypassed them (PC-DARTS)."""
        assert part.total is not None
        if rest.total is None:
            return part.total
        return F.channel_shuffle(torch.cat([part.total, rest.total], dim=1), self.partial)


def _weighted(name: str, stride: int) -> bool:
    """Return whether an operation has weights of its own on an edge of this stride."""
    return name not in (NONE, *POOLS) and not (name == SKIP and stride == 1)
