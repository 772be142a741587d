"""Approximate convolutions in a network: which ones they are, and the multiplier that they share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from torch import nn

from imbnas.approximate.chosen_table import chosen_table, described
from imbnas.approximate.convolution import ApproximateConv2d
from imbnas.approximate.emulation import Multiplier
from imbnas.approximate.product_tables import ProductTable
from imbnas.params.approximate import ApproximateParams

OPERATION = "operation"
"""The attribute by which a module says of which operation of a search space it is; other parts are the skeleton."""


def convolutions(module: nn.Module, operation: str | None = None) -> Iterator[tuple[nn.Conv2d, str | None]]:
    """Yield each convolution at or below a module, and the operation of a space that it is of; None: the skeleton."""
    inside = getattr(module, OPERATION, operation)
    if isinstance(module, nn.Conv2d):
        yield module, inside
    for child in module.children():
        yield from convolutions(child, inside)


def chosen_convolutions(module: nn.Module, operations: Sequence[str] | None, skeleton: bool) -> list[nn.Conv2d]:
    """Return the convolutions at or below a module that are of some operations, of all (None), or of the skeleton.

    Each comes once.
    """
    chosen = {
        conv: None
        for conv, operation in convolutions(module)
        if (skeleton if operation is None else operations is None or operation in operations)
    }
    return list(chosen)


@dataclass(frozen=True)
class Placement:
    """A multiplier and the convolutions that it is for, those of some operations or of all (None), and the skeleton's.

    `meta` is what outputs say of it.
    """

    table: ProductTable
    operations: Sequence[str] | None
    skeleton: bool
    meta: Mapping[str, Any]

    @classmethod
    def of(cls, params: ApproximateParams, root: Path) -> Self | None:
        """Return what the parameters say, None where all stays in float32; UserError for a bad table."""
        table = chosen_table(params, root)
        meta = described(params)
        return None if table is None or meta is None else cls(table, params.operations, params.skeleton, meta)

    def apply(self, network: nn.Module) -> None:
        """Put approximate convolutions in the places of chosen ones; parameters, and names of a state, stay."""
        chosen = set(chosen_convolutions(network, self.operations, self.skeleton))
        multiplier = Multiplier(self.table)
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, nn.Conv2d) and child in chosen:
                    setattr(parent, name, ApproximateConv2d.of(child, multiplier))
