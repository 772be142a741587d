"""The limit on energy: what it allows is what the layers' energies add up to."""

from __future__ import annotations

from typing import Any

import pytest

from imbnas.approximate.placement import Placement
from imbnas.energy import network_energy
from imbnas.errors import UserError
from imbnas.params.approximate import ApproximateParams
from imbnas.params.config import parse
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.constraints import Limits
from imbnas.spaces.registry import make_space
from imbnas.steps.energy_limit import with_energy

SPACE = SpaceParams.model_validate(
    {
        "name": "mobile",
        "stem": {"channels": 4},
        "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
        "last_channels": 8,
    }
)
IMAGE, CLASSES = (8, 8, 1), 10


@pytest.mark.parametrize("skeleton", [False, True])
@pytest.mark.parametrize("name", ["truncated-2", None])
def test_the_limit_allows_what_takes_no_more_energy(tmp_path: Any, name: Any, skeleton: bool) -> None:
    params = ApproximateParams(multiplier=name, skeleton=skeleton and name is not None)
    space = make_space(SPACE)
    table, placement = space.cost_table(IMAGE, CLASSES), Placement.of(params, tmp_path)
    share = None if placement is None else placement.meta["relative_energy"]
    energies = {}
    for architecture in list(space.enumerate())[::5]:
        network = space.build_subnet(architecture, CLASSES, 1)
        if placement is not None:
            placement.apply(network)
        energies[architecture] = network_energy(network, IMAGE, params.energy, share).total
    head = space.subnet_features * CLASSES
    ordered = sorted(energy for energy in energies.values() if energy is not None)
    # Between two neighbours, and a hair above one.
    for budget in ((ordered[2] + ordered[3]) / 2, ordered[5] * (1 + 1e-9)):
        limits = with_energy(Limits(), budget / 1000, params, table, head)
        allowed = {one for one in energies if limits.allow(table.cost(one))}
        assert allowed == {one for one, energy in energies.items() if energy is not None and energy <= budget}
        assert 0 < len(allowed) < len(energies)


def test_the_stricter_limit_acts_and_none_is_refused() -> None:
    space, params = make_space(SPACE), ApproximateParams(multiplier="exact")
    table, head = space.cost_table(IMAGE, CLASSES), space.subnet_features * CLASSES
    whole = with_energy(Limits(), "1x", params, table, head)
    assert whole.max_macs == max(table.cost(one).macs for one in space.enumerate())
    assert with_energy(Limits(max_macs=5), "1x", params, table, head) == Limits(max_macs=5)
    with pytest.raises(UserError, match=r"search\.max_energy: found 0\.001 nJ, expected at least .* the smallest"):
        with_energy(Limits(), 0.001, params, table, head)


def test_energy_that_does_not_follow_from_macs_is_refused() -> None:
    section = {"multiplier": "exact", "operations": ["nor_conv_3x3"]}
    space = {"name": "nasbench201", "last_channels": None}
    with pytest.raises(UserError, match=r"search\.max_energy is .* with approximate\.operations"):
        parse({"space": space, "search": {"max_energy": 5.0, "max_macs": None}, "approximate": section}, "p.yaml")
