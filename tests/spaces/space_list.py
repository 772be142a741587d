"""The spaces of the registry with their defaults, for the tests that every space must pass."""

from __future__ import annotations

from typing import Any

from imbnas.params.ofa_options import OfaChoices
from imbnas.params.space_options import CellChoices, SpaceParams
from imbnas.spaces.chain import ChainSpace
from imbnas.spaces.registry import SPACES, make_space
from imbnas.spaces.space import SearchSpace

NEEDED: dict[str, dict[str, Any]] = {
    "nasbench201": {"last_channels": None},
    "ofa-mobilenetv3": {"ofa": OfaChoices(width=0.125)},
}
"""Parameters without which a space is refused, or too large for tests."""
# torchvision takes colour alone, and has no network of our own: test_spaces_library.py.
PARAMS = {name: SpaceParams(name=name, **NEEDED.get(name, {})) for name in SPACES if name != "torchvision"}
PARAMS["nasbench201 per stage"] = SpaceParams(
    name="nasbench201", last_channels=None, nasbench201=CellChoices(per_stage=True, kernels=[3, 5, 7], exits=True)
)
ALL: dict[str, SearchSpace] = {name: make_space(params) for name, params in PARAMS.items()}
# A network that darts derives is deeper than the one that it searches with.
ONE_DEPTH = {name: space for name, space in ALL.items() if name != "darts"}
CHAINS = {name: space for name, space in ALL.items() if isinstance(space, ChainSpace)}
