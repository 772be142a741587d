"""Sentences about how sure a search is of its choice (results/search.json): for log, cards and terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from imbnas.cost_names import ALWAYS, BESIDE, MACS, named_in, rounded, spoken


def sentences(found: dict[str, Any]) -> list[str]:
    """Return what results/search.json says, as a person says it; nothing where it knows nothing."""
    lines = []
    near, agreement = found["within_one_error"], found["halves"]
    if near is not None and found["evaluated"] > 1:
        lines.append(
            f"{near['count']} of {found['evaluated']} candidates are within one standard error of the best one (of the "
            f"paired difference on the same {found['validation_rows']} rows); the cheapest of them has "
            f"{price(near['cheapest'], f' {MACS.unit}')}, the best one {price(found['best'])}"
        )
    if agreement is not None and agreement["tau"] is not None:
        rows = " and ".join(map(str, agreement["rows"]))
        lines.append(f"two halves of the validation rows ({rows}) rank the candidates with tau {agreement['tau']:.2f}")
    taus = [(name.words, found.get(f"tau_{name.figure}")) for name in (*ALWAYS, *BESIDE)]
    known = [f"{tau:.2f} with {words}" for words, tau in taus if tau is not None]
    if known:
        lines.append(f"the rank correlation (tau) of the score is {spoken(known)}")
    shifting = found.get("shifting")
    if shifting is not None:
        alike = "" if shifting["tau"] is None else f", which rank them with tau {shifting['tau']:.2f} to the first ones"
        lines.append(
            f"the supernet has moved by {shifting['updates']} updates after {shifting['generations']} generations; "
            f"scores are those of its last weights{alike}"
        )
    gap = found.get("discretisation")
    if gap is not None:
        lines.append(
            f"after epoch {gap['epoch']} the search network scores {gap['continuous']:.4f} as a mixture and "
            f"{gap['decoded']:.4f} with the derived operations alone, its weights kept: a gap of {gap['gap']:.4f} "
            f"(standard error {gap['standard_error']:.4f})"
        )
    return lines


def price(candidate: dict[str, Any], unit: str = "", macs: Callable[[int], str] = "{:,}".format) -> str:
    """Return what a candidate of results/search.json costs: its operations with `unit`, and what else is known."""
    taken = [f"{rounded(candidate[name.column])} {name.unit}" for name in named_in(candidate)]
    return spoken([f"{macs(candidate[MACS.column])}{unit}", *taken])
