"""Sentences about how sure a search is of its choice (results/search.json): for log, cards and terminal."""

from __future__ import annotations

from typing import Any


def sentences(found: dict[str, Any]) -> list[str]:
    """Return what results/search.json says, as a person says it; nothing where it knows nothing."""
    lines = []
    near, agreement = found["within_one_error"], found["halves"]
    if near is not None and found["evaluated"] > 1:
        lines.append(
            f"{near['count']} of {found['evaluated']} candidates are within one standard error of the best one (of the "
            f"paired difference on the same {found['validation_rows']} rows); the cheapest of them has "
            f"{_price(near['cheapest'], 'MACs')}, the best one {_price(found['best'])}"
        )
    if agreement is not None and agreement["tau"] is not None:
        rows = " and ".join(map(str, agreement["rows"]))
        lines.append(f"two halves of the validation rows ({rows}) rank the candidates with tau {agreement['tau']:.2f}")
    costs = (("macs", "MACs"), ("params", "parameters"), ("latency", "latency"))
    taus = [(name, found.get(f"tau_{key}")) for key, name in costs]
    known = [f"{tau:.2f} with {name}" for name, tau in taus if tau is not None]
    if known:
        lines.append(f"the rank correlation (tau) of the score is {' and '.join(known)}")
    gap = found.get("discretisation")
    if gap is not None:
        lines.append(
            f"after epoch {gap['epoch']} the search network scores {gap['continuous']:.4f} as a mixture and "
            f"{gap['decoded']:.4f} with the derived operations alone, its weights kept: a gap of {gap['gap']:.4f} "
            f"(standard error {gap['standard_error']:.4f})"
        )
    return lines


def _price(candidate: dict[str, Any], unit: str = "") -> str:
    taken = f" and {candidate['latency_ms']:.3g} ms" if "latency_ms" in candidate else ""
    return f"{candidate['macs']:,} {unit}".rstrip() + taken
