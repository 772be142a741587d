"""Energy as a cost of a space's parts: what the layers of the built, approximate network add up to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imbnas.approximate.placement import Placement
from imbnas.energy import network_energy
from imbnas.params.approximate import ApproximateParams
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.energy_cost import OperationEnergies, energy_meter
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace

IMAGE, CLASSES = (8, 8, 1), 5
SMALL = {
    "stem": {"channels": 4, "stride": 1},
    "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
    "last_channels": None,
}
SPACES: dict[str, dict[str, Any]] = {
    "shufflenet": {**SMALL, "last_channels": 8},
    "mobile": {**SMALL, "last_channels": 8},
    "resnet": SMALL,
    "nasbench201": SMALL,
    "darts": {"stem": {"channels": 4}, "darts": {"layers": 3}},
    "implant": SMALL,
}
CHOSEN: dict[str, list[str] | None] = {
    "nasbench201": ["nor_conv_3x3"],
    "darts": ["skip_connect", "sep_conv_5x5"],
    "implant": ["nor_conv_1x1"],
}


def small(name: str) -> SearchSpace:
    return make_space(SpaceParams.model_validate({"name": name, **SPACES[name]}))


@pytest.mark.parametrize("skeleton", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_parts_add_up_to_the_layers_of_an_approximate_network(name: str, skeleton: bool, tmp_path: Path) -> None:
    params = ApproximateParams(multiplier="truncated-1", skeleton=skeleton, operations=CHOSEN.get(name))
    energies, placement, space = OperationEnergies.of(params), Placement.of(params, tmp_path), small(name)
    assert energies is not None
    assert placement is not None
    table = space.measure(IMAGE, CLASSES, energy_meter(params, energies))
    rng, found = np.random.default_rng(0), set()
    for architecture in [space.sample(rng) for _ in range(4)]:
        network = space.build_subnet(architecture, CLASSES, IMAGE[2])
        placement.apply(network)
        layers = network_energy(network, IMAGE, params.energy, placement.meta["relative_energy"])
        cost = table.cost(architecture)
        assert layers.total is not None
        assert cost.energy / 10**6 == pytest.approx(layers.total, rel=1e-6)
        cheap = sum(layer.macs for layer in layers.layers if layer.approximate)
        assert cost.energy == cheap * energies.approximate + (cost.macs - cheap) * energies.float32
        found.add(cheap)
        plain = space.cost(architecture, IMAGE, CLASSES)
        assert (cost.macs, cost.params, plain.energy) == (plain.macs, plain.params, 0)
    assert max(found) > 0


def test_measuring_leaves_no_hook_behind() -> None:
    params = ApproximateParams(multiplier="exact", skeleton=True)
    energies, network = OperationEnergies.of(params), small("resnet").supernet_on_meta(CLASSES, 1)
    assert energies is not None
    with energy_meter(params, energies)(IMAGE) as (run, x):
        run(network.stem, x)
    assert not any(part._forward_hooks for part in network.modules())


def test_energy_is_a_cost_only_where_it_is_known() -> None:
    assert OperationEnergies.of(ApproximateParams()) is None
    own = ApproximateParams(multiplier="table", file="tables/own.npy", library="own 1.0", name="noisy")
    assert OperationEnergies.of(own) is None
    known = OperationEnergies.of(own.model_copy(update={"relative_energy": 0.5}))
    # 3.7 + 0.9 and 0.2 / 2 + 0.1 picojoules.
    assert known == OperationEnergies(4_600_000, 200_000)
