"""The energy of a network's arithmetic, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from imbnas.approximate.families import FAMILIES
from imbnas.approximate.placement import Placement
from imbnas.energy import energy_lines, network_energy
from imbnas.params.approximate import EnergyParams
from imbnas.params.space_options import SpaceParams
from imbnas.report.card_facts import arithmetic
from imbnas.spaces.blocks import GlobalPool, of_operation
from imbnas.spaces.cost import count
from imbnas.spaces.registry import make_space


def small() -> nn.Sequential:
    """Return a stem, an operation of a depthwise and a 1x1 convolution, and a head, for images of 8 x 8."""
    operation = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.Conv2d(4, 6, 1, bias=False))
    stem = nn.Conv2d(1, 4, 3, stride=2, padding=1)
    return nn.Sequential(stem, of_operation("sep", operation), GlobalPool(), nn.Linear(6, 10))


MACS = {"0": 16 * 4 * 9, "1.0": 16 * 4 * 9, "1.1": 16 * 4 * 6, "3": 60}


def placed(name: str, network: nn.Module, skeleton: bool = False) -> float:
    Placement(FAMILIES[name].table(name), None, skeleton, {}).apply(network)
    return FAMILIES[name].relative_energy


def test_energy_by_hand() -> None:
    network = small()
    found = network_energy(network, (8, 8, 1), EnergyParams(), placed("truncated-2", network))
    assert {layer.name: layer.macs for layer in found.layers} == MACS
    assert [layer.approximate for layer in found.layers] == [False, True, True, False]
    # 576 + 60 operations of 4.6 pJ in float32; 960 of 0.2 * 0.200 / 0.425 + 0.1 pJ under the multiplier.
    assert found.total == pytest.approx(636 * 4.6 + 960 * (0.2 * 0.200 / 0.425 + 0.1), rel=1e-3)
    assert found.against_float32 == pytest.approx(3111.9529 / (1596 * 4.6), rel=1e-3)
    assert found.against_exact8 == pytest.approx(3111.9529 / (636 * 4.6 + 960 * 0.3), rel=1e-3)
    by_layer = {layer.name: layer.energy for layer in found.layers}
    assert by_layer["1.1"] == pytest.approx(384 * 0.194118, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "saving"),
    [
        ("exact", 0.0),
        ("truncated-1", 29.18),
        ("truncated-2", 52.94),
        ("truncated-3", 70.35),
        ("first-truncated-6", 87.76),
    ],
)
def test_a_multiplication_saves_what_the_library_says(name: str, saving: float) -> None:
    network = small()
    table = EnergyParams.model_validate(
        {"float32": {"multiply": 2.0, "add": 0.0}, "exact8": {"multiply": 1.0, "add": 0.0}}
    )
    share = placed(name, network, skeleton=True)
    found = [layer for layer in network_energy(network, (8, 8, 1), table, share).layers if layer.approximate]
    assert len(found) == 3
    for layer in found:
        assert layer.energy is not None
        assert 100.0 * (1.0 - layer.energy / layer.exact8) == pytest.approx(saving, abs=0.01)
        assert layer.float32 == 2 * layer.exact8


def test_a_multiplier_of_unknown_energy_says_so() -> None:
    network = small()
    placed("truncated-2", network)
    found = network_energy(network, (8, 8, 1), EnergyParams(), None)
    assert found.total is None
    assert found.described()["against_exact8"] is None
    assert energy_lines(found)[-1] == "the multiplier's energy is not known (approximate.relative_energy)"


@pytest.mark.parametrize("name", ["nasbench201", "darts", "mobile"])
def test_layers_add_up_to_the_network(name: str) -> None:
    given: dict[str, Any] = {"name": name, "darts": {"derived_channels": 4, "derived_layers": 3}}
    if name == "nasbench201":
        given["last_channels"] = None
    space = make_space(SpaceParams.model_validate(given))
    # Cells of convolutions; the smallest inverted residuals.
    chosen = {"nasbench201": [3, 2, 1, 4, 3, 2], "darts": [number - 1 for number in space.choices]}
    network = space.build_subnet(chosen.get(name, [0] * len(space.choices)), 10, 3)
    whole = count(network, (8, 8, 3)).macs
    placed("truncated-1", network)
    found = network_energy(network, (8, 8, 3), EnergyParams(), 1.0)
    assert sum(layer.macs for layer in found.layers) == whole
    assert found.against_exact8 == 1.0
    assert 0.0 < (found.against_float32 or 0.0) < 1.0


def test_a_card_tells_the_multiplier_and_both_shares() -> None:
    known = {"library": "imbnas", "name": "truncated-1", "sha256": "0" * 64, "operations": None, "skeleton": True}
    energy = {"picojoules": 10.0, "against_float32": 0.25, "against_exact8": 0.9}
    (_, text) = arithmetic({"approximate": known, "energy": energy})
    assert "all operations and of the skeleton" in text
    assert "25.00% of their energy in float32 and 90.00% of that under the exact 8-bit multiplier" in text
    assert arithmetic({}) == []
