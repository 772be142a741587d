"""A limit on the energy of a subnet's arithmetic (`search.max_energy`), as a limit on its operations.

What all subnets share takes the same energy in each, and every operation of a candidate as much as any other: all are
under the multiplier, or none (the parameters refuse a choice of operations). So energy grows with the number of
operations alone, and a limit on one is a limit on the other, exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from imbnas.approximate.chosen_table import described
from imbnas.errors import UserError
from imbnas.params.approximate import ApproximateParams
from imbnas.spaces.constraints import largest, minimum
from imbnas.spaces.cost import CostTable
from imbnas.spaces.limits import Limits

NANOJOULE = 1000
"""In picojoules."""


def with_energy(
    limits: Limits, limit: float | str | None, params: ApproximateParams, table: CostTable, head: int
) -> Limits:
    """Return limits that also keep a subnet within nanojoules, or a share of what the largest architecture takes.

    `head` is the head's number of operations, which are in float32. UserError where no subnet is within the energy.
    """
    if limit is None:
        return limits
    precise, own = _per_operation(params)
    shared = table.fixed.macs - head
    fixed = head * precise + shared * (own if params.skeleton else precise)

    def energy(macs: int) -> Fraction:
        return fixed + (macs - table.fixed.macs) * own

    if isinstance(limit, str):
        budget = Fraction(limit.removesuffix("x")) * energy(table.cost(largest(table, Limits())).macs)
    else:
        budget = Fraction(str(limit)) * NANOJOULE
    least = minimum(table).macs
    if energy(least) > budget:
        words = f"{limit} ({float(budget / NANOJOULE):g} nJ)" if isinstance(limit, str) else f"{limit:g} nJ"
        needed = float(energy(least) / NANOJOULE)
        raise UserError(f"search.max_energy: found {words}, expected at least {needed:.6g} nJ, the smallest subnet's")
    if not own:
        return limits
    most = table.fixed.macs + math.floor((budget - fixed) / own)
    if limits.max_macs is not None and limits.max_macs <= most:
        return limits
    _, params_word, latency_word = limits.words
    return replace(limits, max_macs=most, given=(f"{most}, by search.max_energy {limit}", params_word, latency_word))


def _per_operation(params: ApproximateParams) -> tuple[Fraction, Fraction]:
    """Return the picojoules of an operation in float32, and of one of a candidate."""
    energies = params.energy
    precise = Fraction(energies.float32.multiply) + Fraction(energies.float32.add)
    known = described(params)
    if known is None:
        return precise, precise
    share = Fraction(known["relative_energy"])
    return precise, Fraction(energies.exact8.multiply) * share + Fraction(energies.exact8.add)
