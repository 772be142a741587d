"""The costs of the parts of a derived DARTS network."""

from __future__ import annotations

from collections.abc import Sequence

from imbnas.spaces.cost import Cost, Meter, classifier, counting, of_zeros
from imbnas.spaces.darts_genotype import CELLS, NODES
from imbnas.spaces.darts_network import CellSpec, DerivedCell, Entry
from imbnas.spaces.darts_ops import NONE, single
from imbnas.spaces.networks import Subnet

Edge = tuple[str, int, str]
"""Kind of cell, predecessor, operation."""


def measure_edges(
    model: Subnet,
    specs: Sequence[CellSpec],
    image: tuple[int, int, int],
    operations: Sequence[str],
    meter: Meter = counting,
) -> tuple[Cost, dict[Edge, Cost]]:
    """Return what all networks share, and each operation on each kind of edge, summed over the cells.

    `model` is on the meta device and of any architecture. Edges of equal shape are measured once.
    """
    known: dict[tuple[object, ...], Cost] = {}
    places: dict[Edge, Cost] = {}
    with meter(image) as (run, x):
        assert isinstance(model.stem, Entry)
        y, fixed = run(model.stem.stem, x, "stem")
        states = y, y
        for spec, cell in zip(specs, model.blocks, strict=True):
            assert isinstance(cell, DerivedCell)
            inputs, second = run(cell.previous, states[1], "cell inputs")
            fixed += run(cell.before, states[0], "cell inputs")[1] + second
            for source in range(1 + NODES):
                stride = 2 if spec.reduces and source < 2 else 1
                x = inputs[:, :, ::2, ::2] if spec.reduces and source >= 2 else inputs
                for name in operations:
                    if name == NONE:
                        continue
                    key = (name, stride, tuple(x.shape))
                    if key not in known:
                        known[key] = run(single(name, spec.channels, stride), x)[1]
                    edge = (CELLS[spec.reduces], source, name)
                    places[edge] = places.get(edge, Cost(0, 0)) + known[key]
            states = of_zeros(cell)(states)
        fixed += classifier(run, model, states[1])
    return fixed, places
