"""Approximate convolutions in a network: which ones they are, and the multiplier that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        self._replace(network, Multiplier(self.table), None)

    def _replace(self, parent: nn.Module, multiplier: Multiplier, operation: str | None) -> None:
        """Replace the chosen convolutions below a module of an operation, or of the skeleton (None)."""
        for name, child in list(parent.named_children()):
            inside = getattr(child, OPERATION, operation)
            if isinstance(child, nn.Conv2d) and self._chosen(inside):
                setattr(parent, name, ApproximateConv2d.of(child, multiplier))
            else:
                self._replace(child, multiplier, inside)

    def _chosen(self, operation: str | None) -> bool:
        if operation is None:
            return self.skeleton
        return self.operations is None or operation in self.operations
