"""Checks of the parameters that take all paths of a step in one pass."""

from __future__ import annotations

from imbnas.params.adapt import AdaptParams
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams


def check_passes(space: SpaceParams, supernet: SupernetParams, adapt: AdaptParams, processes: int) -> None:
    """Raise ValueError where the paths of a step cannot be taken in one pass."""
    for section, passes, sampling in (
        ("supernet", supernet.passes, supernet.sampling),
        ("adapt", adapt.passes, adapt.sampling),
    ):
        found = f"{section}.passes is together"
        if passes == "separate":
            continue
        if space.name not in ("shufflenet", "nasbench201"):
            raise ValueError(
                f"{found} in the space {space.name}, expected separate: only the blocks of shufflenet and nasbench201 "
                "have equally many choices, each served by one path of a step"
            )
        if space.staged:
            raise ValueError(f"{found} with space.nasbench201.per_stage true, expected separate, or per_stage false")
        if sampling != "fair":
            raise ValueError(f"{found} with {section}.sampling {sampling}, expected separate, or sampling fair")
        if processes > 1:
            raise ValueError(f"{found} with runtime.processes {processes}, expected separate, or one process")
    if adapt.passes == "together" and (adapt.strategy != "head" or adapt.feature_cache.paths):
        what = f"strategy {adapt.strategy}" if adapt.strategy != "head" else "a feature cache"
        raise ValueError(f"adapt.passes is together with {what}, expected separate, or strategy head without a cache")
