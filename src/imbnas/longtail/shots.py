"""Many-, medium- and few-shot classes: which rule groups them by their training counts (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from imbnas.errors import UserError

GROUPS: tuple[str, str, str] = ("many", "medium", "few")
"""The groups, from frequent to rare."""


@dataclass(frozen=True)
class Thresholds:
    """Absolute thresholds on the training rows of a class."""

    many_above: int
    """Classes with more rows than this are many-shot."""
    few_below: int
    """Classes with fewer rows than this are few-shot; the rest is medium-shot."""

    def __post_init__(self) -> None:
        if not 0 <= self.few_below <= self.many_above + 1:
            raise UserError(
                f"shot thresholds: found many above {self.many_above} and few below {self.few_below}, "
                "expected 0 <= few_below <= many_above + 1, so that no class is both"
            )


Rule = str | Thresholds
"""`kang`, `oltr`, `thirds` or thresholds of one's own, whose name is `custom`."""

_NAMED = {"kang": Thresholds(many_above=100, few_below=20), "oltr": Thresholds(many_above=99, few_below=21)}


def make_rule(name: str, many_above: int, few_below: int) -> Rule:
    """Return the rule called `name`; the two thresholds are those of `custom` and matter for no other.

    Raises:
        UserError: for an unknown name or thresholds that make a class both many- and few-shot.
    """
    rule: Rule = Thresholds(many_above, few_below) if name == "custom" else name
    thresholds_of(rule)
    return rule


def thresholds_of(rule: Rule) -> Thresholds | None:
    """Return the thresholds of a rule; None for `thirds`, which has none.

    Raises:
        UserError: for an unknown rule.
    """
    if isinstance(rule, Thresholds):
        return rule
    if rule == "thirds":
        return None
    if rule not in _NAMED:
        raise UserError(f"shot rule: found {rule!r}, expected kang, oltr, thirds or thresholds")
    return _NAMED[rule]


def shot_groups(counts: ArrayLike, rule: Rule) -> list[str]:
    """Return `many`, `medium` or `few` for each class, by its training rows `counts` (C,).

    `kang` (Kang et al. 2020): more than 100, 20 to 100, fewer than 20. `oltr` (Liu et al. 2019): 100 and
    more, 21 to 99, 20 and fewer. `thirds`: the C // 3 largest classes, the next C // 3, and the rest, equal
    counts in label order.

    Raises:
        UserError: for an unknown rule or a negative count.
    """
    values = np.asarray(counts)
    if values.ndim != 1 or (values < 0).any():
        raise UserError("class counts: found a negative count or no list, expected one number of at least 0 a class")
    limits = thresholds_of(rule)
    if limits is None:
        third = len(values) // 3
        rank = np.empty(len(values), dtype=np.int64)
        rank[np.argsort(-values.astype(np.int64), kind="stable")] = np.arange(len(values))
        index = np.minimum(rank // third, 2) if third else np.full(len(values), 2)
    else:
        index = np.where(values > limits.many_above, 0, np.where(values < limits.few_below, 2, 1))
    return [GROUPS[i] for i in index]


def rule_text(rule: Rule) -> str:
    """Return the rule in words, to be printed beside every number that depends on it.

    Raises:
        UserError: for an unknown rule.
    """
    limits = thresholds_of(rule)
    if limits is None:
        return "thirds of the classes ranked by training rows"
    name = rule if isinstance(rule, str) else "custom"
    return (
        f"many: more than {limits.many_above} training rows, medium: {limits.few_below} to {limits.many_above}, "
        f"few: fewer than {limits.few_below} ({name})"
    )
