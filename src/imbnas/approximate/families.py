"""The multipliers that need no table: exact, and those that truncate their operands, by name."""

from __future__ import annotations

from dataclasses import dataclass

from imbnas.approximate.product_tables import ProductTable, truncated
from imbnas.params.approximate import OWN

EXACT_POWER = 0.425
"""Power of EvoApproxLib's exact signed 8-bit multiplier in mW, against which the others' are given."""


@dataclass(frozen=True)
class Family:
    """Two signed operands that lose their lowest bits before an exact product.

    `circuit` is the circuit of EvoApproxLib (version of July 2022, commit d321f7f) that has the same table, and `power`
    that circuit's in mW, for 45 nm (PDK45), both from the library's meta.json (Mrazek et al. 2017, MIT licence).
    """

    first: int
    second: int
    circuit: str
    power: float

    @property
    def relative_energy(self) -> float:
        """The energy of a product as a share of the exact multiplier's."""
        return self.power / EXACT_POWER

    def table(self, name: str) -> ProductTable:
        """Return the table of products."""
        return truncated(self.first, self.second, OWN, name)


FAMILIES: dict[str, Family] = {
    "exact": Family(0, 0, "mul8s_1KV8", EXACT_POWER),
    "truncated-1": Family(1, 1, "mul8s_1L2H", 0.301),
    "truncated-2": Family(2, 2, "mul8s_1L2D", 0.200),
    "truncated-3": Family(3, 3, "mul8s_1L1G", 0.126),
    "first-truncated-6": Family(6, 0, "mul8s_1KR3", 0.052),
}
"""All of them: `truncated-k` drops k bits of both operands, `first-truncated-6` six bits of the input alone."""
