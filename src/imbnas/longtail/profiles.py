"""Profiles of generation: how many features each class of a long tail is given in addition to its rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from imbnas.errors import UserError
from imbnas.longtail.metrics import Ints
from imbnas.longtail.weights import check_counts
from imbnas.params.synthesis_options import SynthesisParams


def generated_counts(counts: ArrayLike, params: SynthesisParams) -> Ints:
    """Return how many features are to be generated for each class (C,), int64, by its training rows n_k (C,).

    `published` is max(round(share n_k), least), as in LDMLR's code; a half is rounded to the even number. The others
    fill every class up to a least number of rows and features together and leave larger classes as they are: max n for
    `balanced`, the ceiling of max n / ratio for `ratio`, `per_class` for `per-class`.

    Raises:
        UserError: for a class without rows.
    """
    rows = check_counts(counts).astype(np.int64)
    if params.profile == "published":
        return np.maximum(np.rint(params.share * rows).astype(np.int64), params.least)
    largest = int(rows.max())
    wanted = {
        "balanced": largest,
        # Not above it by a quotient's rounding: 50 / 1.1 / ... of whole numbers may end just above one.
        "ratio": math.ceil(largest / params.ratio - 1e-9),
        "per-class": params.per_class,
    }
    if params.profile not in wanted:
        raise UserError(f"profile: found {params.profile!r}, expected published, {', '.join(wanted)}")
    return np.maximum(wanted[params.profile] - rows, 0)
