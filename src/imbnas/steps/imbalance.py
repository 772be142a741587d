"""Step `imbalance`: choose the target's long-tailed training rows."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from imbnas.data.class_sizes import SHAPED, choose_rows, class_counts, index_digest, inverse_ratio
from imbnas.data.grouping import draw_groups, read_groups
from imbnas.data.links import refuse_linked
from imbnas.data.partition import hold_out
from imbnas.data.raw import relative_path
from imbnas.data.stored import read_labels
from imbnas.data.tail import LongTail, write_longtail
from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.params.imbalance import ImbalanceParams, ImbalanceView
from imbnas.run.context import Context
from imbnas.seeds import stream


def run(view: ImbalanceView, context: Context) -> None:
    """Write `longtail.parquet` and `imbalance.json`; UserError names the class or file that does not fit."""
    params, validation = view.imbalance, view.target.validation
    labels, info = read_labels(context.path("target_train"))
    total = class_counts(
        params.profile,
        params.ratio,
        np.bincount(labels, minlength=len(info.classes)),
        params.n_max,
        params.order,
        params.seed,
        _counts_file(params, context.root / view.target.root),
        info.classes,
    )
    held = np.zeros_like(total)
    if validation.from_ == "longtail":
        held = hold_out(total, validation.fraction, info.classes)
    rows = choose_rows(labels, total, params.seed)
    groups = read_groups(context.path("target_train"))
    flags = _last_of_each(total, held) if groups is None else _groups_of_each(labels[rows], groups[rows], held, params)
    # Whole groups are held out, so that there may be more or fewer rows than `held`.
    held = np.bincount(labels[rows][flags], minlength=len(total))
    counts = total - held
    write_longtail(context.path("longtail"), LongTail(rows, labels[rows], flags))
    ratio = float(counts.max() / counts.min())
    inverse = inverse_ratio(params.ratio)
    shaped = params.profile in SHAPED
    summary = {
        "profile": params.profile,
        "order": params.order if shaped else None,
        "ratio": _canonical(params.ratio) if shaped else None,
        "inverse": inverse if shaped else None,
        "requested": params.ratio if shaped else None,
        "measured_ratio": ratio,
        "classes": info.classes,
        "counts": counts.tolist(),
        "validation_counts": held.tolist(),
        "rows": len(rows),
        "digest": index_digest(rows),
        "target_digest": info.digest,
    }
    write_json(context.path("imbalance"), summary)
    if shaped:
        context.log(
            f"{params.profile}: imbalance ratio {_canonical(params.ratio):g} (n_max / n_min), which is {inverse:g} as "
            f"n_min / n_max; found {params.ratio:g} in imbalance.ratio"
        )
    else:
        context.log(f"{params.profile}: imbalance.ratio, n_max and order do not apply")
    context.log(
        f"{counts.sum()} training rows, {counts.max()} to {counts.min()} a class (measured ratio {ratio:g}), "
        f"{held.sum()} validation rows, digest {summary['digest']}"
    )


def _canonical(ratio: float) -> float:
    """Return the ratio as n_max / n_min, at least 1."""
    return ratio if ratio >= 1 else 1 / ratio


def _counts_file(params: ImbalanceParams, root: Path) -> Path | None:
    if params.counts is None:
        return None
    try:
        name = relative_path(params.counts)
    except ValueError as error:
        raise UserError(f"imbalance.counts: {params.counts!r}: {error}") from None
    refuse_linked(root, [str(PurePosixPath(name).parent)])
    return root / name


def _groups_of_each(labels: np.ndarray, groups: np.ndarray, held: np.ndarray, params: ImbalanceParams) -> np.ndarray:
    """Return True for rows in whole groups, about `held` of each class."""
    flags = np.zeros(len(labels), dtype=bool)
    flags[draw_groups(labels, groups, held, stream(params.seed, "imbalance", "validation"))] = True
    return flags


def _last_of_each(total: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return, for rows class by class with `total` a class, True for the last `held` of each.

    The rows of a class are in random order, so its last ones are as random as any.
    """
    place = np.arange(total.sum()) - np.repeat(np.cumsum(total) - total, total)
    return place >= np.repeat(total - held, total)
