"""The rows of a published validation split that judge subnets: those that no other split has, by image and by group.

Apart from `partition`, which the step `imbalance` imports too: contents are told by decoded images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from imbnas.data.contents import first_of
from imbnas.data.grouping import joined, numbered
from imbnas.data.raw import Raw
from imbnas.errors import UserError


def published_validation(
    left_out: np.ndarray, keys: Mapping[str, np.ndarray], raws: Mapping[str, Raw | None]
) -> np.ndarray:
    """Return the rows of a published validation split that judge subnets, ascending.

    `left_out` (bool, (N,)) marks those whose image the source or the drawn test split has; where rows have groups, the
    groups of these are left out whole, and those that have an image in common with training or test rows. `keys` and
    `raws` are the contents and rows of the published splits. Raises UserError where no row remains.
    """
    found = {split: (keys[split], raw.groups) for split, raw in raws.items() if raw is not None}
    own, groups = found.pop("validation")
    if groups is not None:
        others = [(other, names) for other, names in found.values() if names is not None]
        left_out = _whole_groups_of(left_out, (own, groups), others)
    if left_out.all():
        their = "" if groups is None else ", or their groups there or in the training rows"
        raise UserError(
            f"target.splits.validation: all {len(left_out)} rows are in the source or the test split too{their}, "
            "expected some that are not"
        )
    return np.flatnonzero(~left_out)


def _whole_groups_of(
    chosen: np.ndarray, split: tuple[np.ndarray, list[str]], others: Sequence[tuple[np.ndarray, list[str]]]
) -> np.ndarray:
    """Return which rows of a published split to leave out, so that none of its groups is parted or in another split.

    `chosen` (bool, (N,)) marks rows that are left out already. `split` and `others` give the key of each row's content,
    (N,), and the name of its group; groups that have an image in common are one, in whatever splits they are. A group
    with a chosen row, or with rows in another split, is left out whole.
    """
    parts = [split, *others]
    groups = numbered(joined(first_of(np.concatenate([keys for keys, _ in parts])), [g for _, gs in parts for g in gs]))
    own, beside = groups[: len(chosen)], groups[len(chosen) :]
    found: np.ndarray = np.isin(own, np.concatenate([own[chosen], beside]))
    return found
