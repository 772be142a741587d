"""The figures of `transfer.py` for two balanced data sets, from the published table of NAS-Bench-201."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from transfer_statistics import Statistic, correlation, interval

from imbnas.errors import UserError
from imbnas.files import RECORD_LIMIT, check_regular
from imbnas.longtail.metrics import Floats
from imbnas.params.truth import architecture_of
from imbnas.search.lookup import NAME
from imbnas.search.scored_cells import CUT_OFF, PUBLISHED
from imbnas.spaces.nasbench201 import to_string
from imbnas.truth.agreement import Figure

FUNCTION = "UniqueString"
"""The column that is equal for cells which compute the same function."""


@dataclass(frozen=True)
class Control:
    """Transfer from CIFAR-10 to CIFAR-100; accuracies are shares in [0, 1]."""

    noise: tuple[float, float]
    """The standard deviation of one entry around its function's mean."""
    between: tuple[float, float]
    corrected: Figure
    plain: Figure
    pearson: Figure
    share: Figure
    regret: Figure
    regret_top: Figure


def published(path: Path, cells: tuple[str, ...], resamples: int) -> Control:
    """Return the figures for cells; UserError for a file that is not such a table."""
    columns = [PUBLISHED["cifar10"], PUBLISHED["cifar100"]]
    try:
        check_regular(path, RECORD_LIMIT)
        table = pd.read_csv(path, usecols=[NAME, FUNCTION, *columns])
    except (OSError, ValueError, *CUT_OFF) as error:
        raise UserError(
            f"{path}: not a table of NAS-Bench-201 ({str(error).splitlines()[0]}), expected a CSV file with the "
            f"columns {', '.join([NAME, FUNCTION, *columns])}"
        ) from None
    wanted = [to_string(found) for cell in cells if (found := architecture_of(cell)) is not None]
    by_name = table.set_index(NAME)
    if missing := [name for name in wanted if name not in by_name.index]:
        raise UserError(f"{path}: holds no {missing[0]}, expected all {len(cells)} cells of the truth table")
    own = by_name.loc[wanted, columns].to_numpy(dtype=float).T / 100.0
    return figures(own, _noise(table, columns, float(own[0].min())), resamples)


def _noise(table: pd.DataFrame, columns: list[str], least: float) -> tuple[float, float]:
    """Return the standard deviations of equal functions' entries, of functions as good as the worst drawn cell."""
    groups = table.groupby(FUNCTION)[columns]
    good = (groups.transform("mean")[columns[0]] >= 100.0 * least) & (groups.transform("size") > 1)
    kept = table[good].groupby(FUNCTION)[columns]
    squares, free = kept.var(ddof=1).mul(kept.size() - 1, axis=0).sum(), (kept.size() - 1).sum()
    one, other = np.sqrt(squares / free) / 100.0
    return float(one), float(other)


def figures(scores: Floats, noise: tuple[float, float], resamples: int) -> Control:
    """Return the figures of scores (2, cells) with this noise; the best of the second ones is judged by itself."""
    cells = scores.shape[1]

    def trust(places: np.ndarray) -> Floats:
        share = [1.0 - error**2 / own[places].var(axis=-1, ddof=1) for own, error in zip(scores, noise, strict=True)]
        product = share[0] * share[1]
        return np.sqrt(np.where(np.minimum(*share) > 0.0, product, np.nan))

    def plain(places: np.ndarray) -> Floats:
        return correlation(*(rankdata(own[places], axis=-1) for own in scores))

    def pearson(places: np.ndarray) -> Floats:
        return correlation(*(own[places] for own in scores)) / trust(places)

    def lost(top: int) -> Statistic:
        def found(places: np.ndarray) -> Floats:
            worth = []
            for own in scores:
                chosen = np.argsort(-own[places], axis=-1, kind="stable")[..., :top]
                worth.append(np.take_along_axis(scores[1][places], chosen, axis=-1).mean(axis=-1))
            return np.asarray(worth[1] - worth[0])

        return found

    between = [max(0.0, own.var(ddof=1) - error**2) ** 0.5 for own, error in zip(scores, noise, strict=True)]
    return Control(
        noise,
        (between[0], between[1]),
        interval(lambda places: plain(places) / trust(places), cells, resamples),
        interval(plain, cells, resamples),
        interval(pearson, cells, resamples),
        interval(lambda places: 1.0 - pearson(places), cells, resamples),
        interval(lost(1), cells, resamples),
        interval(lost(5), cells, resamples),
    )
