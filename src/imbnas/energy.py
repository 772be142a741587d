"""The arithmetic's energy for one image, layer by layer: beside the same network in float32 and under exact 8 bits.

Each multiply-accumulate operation of a layer takes the energy of one multiplication and one addition:

    E = sum over layers of MACs * (multiply + add).

Layers with an approximate multiplier take its share of the exact 8-bit multiplication; all others are in float32.
Memory, activations and normalisation are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from imbnas.approximate.convolution import ApproximateConv2d
from imbnas.params.approximate import EnergyParams
from imbnas.spaces.cost import count_layers

DIGITS = 6
"""Of ratios and picojoules in outputs."""


@dataclass(frozen=True)
class LayerEnergy:
    """A layer's multiply-accumulate operations and picojoules, None where its multiplier's energy is not known."""

    name: str
    approximate: bool
    macs: int
    energy: float | None
    float32: float
    exact8: float


@dataclass(frozen=True)
class NetworkEnergy:
    """The layers of a network that multiply, in the order in which they run."""

    layers: list[LayerEnergy]

    @property
    def total(self) -> float | None:
        """Picojoules of all layers."""
        known = [layer.energy for layer in self.layers if layer.energy is not None]
        return sum(known) if len(known) == len(self.layers) else None

    @property
    def against_float32(self) -> float | None:
        """The total as a share of what all layers would take in float32."""
        return self._share(sum(layer.float32 for layer in self.layers))

    @property
    def against_exact8(self) -> float | None:
        """The total as a share of what it would be with the exact 8-bit multiplier in the same layers."""
        return self._share(sum(layer.exact8 for layer in self.layers))

    def _share(self, whole: float) -> float | None:
        return None if self.total is None or not whole else self.total / whole

    def described(self) -> dict[str, Any]:
        """Return totals, both shares and all layers as JSON values, in picojoules."""
        return {
            "picojoules": _rounded(self.total),
            "against_float32": _rounded(self.against_float32),
            "against_exact8": _rounded(self.against_exact8),
            "layers": [
                {
                    "name": layer.name,
                    "approximate": layer.approximate,
                    "macs": layer.macs,
                    "picojoules": _rounded(layer.energy),
                    "float32": _rounded(layer.float32),
                    "exact8": _rounded(layer.exact8),
                }
                for layer in self.layers
            ],
        }


def network_energy(
    network: nn.Module, image: Sequence[int], energies: EnergyParams, relative_energy: float | None
) -> NetworkEnergy:
    """Return the energy of a network of one argument for an image of (height, width, channels).

    `relative_energy` is that of a product as a share of the exact 8-bit multiplier's; None: not known.
    """
    precise = energies.float32.multiply + energies.float32.add
    exact = energies.exact8.multiply + energies.exact8.add
    share = None if relative_energy is None else energies.exact8.multiply * relative_energy + energies.exact8.add
    height, width, channels = image
    parts = dict(network.named_modules())
    layers = []
    for name, macs in count_layers(network, (height, width, channels)).items():
        approximate = isinstance(parts[name], ApproximateConv2d)
        own, in_8_bits = (share, exact) if approximate else (precise, precise)
        taken = None if own is None else macs * own
        layers.append(LayerEnergy(name, approximate, macs, taken, macs * precise, macs * in_8_bits))
    return NetworkEnergy(layers)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def energy_lines(found: NetworkEnergy) -> list[str]:
    """Return a line per layer, tab-separated, and the totals in sentences."""
    rows: list[tuple[str, ...]] = [("layer", "arithmetic", "MACs", "nJ", "nJ in float32", "nJ in exact 8 bits")]
    for layer in found.layers:
        arithmetic = "approximate" if layer.approximate else "float32"
        taken = (layer.energy, layer.float32, layer.exact8)
        rows.append((layer.name, arithmetic, f"{layer.macs:,}", *map(_nanojoules, taken)))
    lines = ["\t".join(row) for row in rows]
    if found.total is None:
        return [*lines, "the multiplier's energy is not known (approximate.relative_energy)"]
    shares = ["unknown" if share is None else f"{share:.2%}" for share in (found.against_float32, found.against_exact8)]
    return [*lines, f"{_nanojoules(found.total)} nJ: {shares[0]} of float32, {shares[1]} of the exact 8-bit multiplier"]


def _nanojoules(picojoules: float | None) -> str:
    return "-" if picojoules is None else f"{picojoules / 1000:.3f}"
