"""Finding images with identical bytes, so that a split never separates them.

The rule (see `splits`): rows are drawn among first occurrences only, and a copy goes where its first occurrence goes if
that is the training split, and is left out otherwise. No image of a drawn validation or test split is then among the
training rows, nor one of the source's in the target. A split that is published is taken as it is published.
"""

from __future__ import annotations

import numpy as np

from imbnas.data.contents import contents, first_of
from imbnas.data.raw import Raw


def first_occurrence(raw: Raw) -> np.ndarray:
    """Return, for each of N rows, the first row with the same bytes: int64 (N,), the row itself when it is the first.

    Array images compare by their pixels, files by their content.
    """
    return first_of(contents(raw))
