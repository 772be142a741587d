"""The energy of a network's arithmetic as a cost of its parts, where some convolutions are approximate.

It is the model of `imbnas.energy`, E = sum of MACs * (multiply + add), as whole numbers that add up exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from torch import Tensor, nn

from imbnas.approximate.chosen_table import described
from imbnas.approximate.placement import chosen_convolutions
from imbnas.params.approximate import ApproximateParams
from imbnas.spaces.cost import Cost, Meter, Run, counting

PICOJOULE = 10**6
"""In attojoules."""


@dataclass(frozen=True)
class OperationEnergies:
    """Attojoules of one multiply-accumulate operation: in float32, and under the approximate multiplier.

    Each is rounded once, so that energy is a whole multiple of operations: rounded sums would tell networks apart that
    take the same.
    """

    float32: int
    approximate: int

    @classmethod
    def of(cls, params: ApproximateParams) -> Self | None:
        """Return what the parameters say; None where no multiplier is approximate, or its energy is not known."""
        known = described(params)
        if known is None or known["relative_energy"] is None:
            return None
        float32, exact8, share = params.energy.float32, params.energy.exact8, Fraction(known["relative_energy"])
        return cls(
            round(PICOJOULE * (Fraction(float32.multiply) + Fraction(float32.add))),
            round(PICOJOULE * (Fraction(exact8.multiply) * share + Fraction(exact8.add))),
        )

    def described(self) -> dict[str, float]:
        """Return both in picojoules."""
        return {"float32_pj": self.float32 / PICOJOULE, "approximate_pj": self.approximate / PICOJOULE}


def energy_meter(params: ApproximateParams, energies: OperationEnergies) -> Meter:
    """Return a meter that counts as `counting` does, and adds the energy of what it counts.

    Networks need not be approximate yet: a convolution is taken for one where the parameters choose it.
    """

    @contextmanager
    def metering(image: tuple[int, int, int]) -> Iterator[tuple[Run, Tensor]]:
        with counting(image) as (count, first):

            def run(module: nn.Module, x: Tensor, part: str = "") -> tuple[Tensor, Cost]:
                cheap = 0

                def add(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                    nonlocal cheap
                    cheap += output.numel() * conv.weight[0].numel()

                convs = chosen_convolutions(module, params.operations, params.skeleton)
                handles = [conv.register_forward_hook(add) for conv in convs]
                try:
                    y, cost = count(module, x, part)
                finally:
                    for handle in handles:
                        handle.remove()
                energy = cheap * energies.approximate + (cost.macs - cheap) * energies.float32
                return y, replace(cost, energy=energy)

            yield run, first

    return metering
