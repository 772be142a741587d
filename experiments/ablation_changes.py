"""The changes of `ablation.py`: what each takes out of the default or puts in its place, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from longtail import merged

Tree = dict[str, Any]
DEFAULT, SANDWICH, IN_PLACE = "default", "sandwich", "in-place distillation"
SHIFTING, NONE = "supernet shifting", "the source's head"
SUPERNET, HEAD, CALIBRATION, VALIDATION, SEARCH = "supernet", "adaptation", "calibration", "validation", "search"
TOGETHER = "together"
"""The name of several changes as one."""
FAMILIES = (SUPERNET, HEAD, CALIBRATION, VALIDATION, SEARCH)
"""Comparisons of one family are corrected for their number together."""
OPTIMIZER: Tree = {"lr": 0.1, "weight_decay": 5.0e-4}
SANDWICH_PATHS = 4


VOIDED: dict[str | None, tuple[str, ...]] = {
    "none": ("adapt.", "source.dataset"),
    "finetune": ("adapt.head.", "adapt.feature_cache."),
    "ncm": ("adapt.loss", "adapt.head.epochs"),
}
"""The parameters that a strategy or a head leaves without effect; the source's head has the source's classes."""


@dataclass(frozen=True)
class Lengths:
    """Epochs of the default's trainings: of the supernet on the source, and of its new head, with fair paths."""

    supernet: int = 8
    head: int = 12


@dataclass(frozen=True)
class Change:
    """One way to rank the cells: what differs from the default, and the family of comparisons that it belongs to."""

    family: str
    tree: Tree = field(default_factory=dict)
    per_class: int | None = None
    """Validation rows of each class that judge the cells; None: all."""
    work: float = 1.0
    """About how many times as long a pass takes in the step that the change is in, for the plan."""

    saves: bool = False
    """Whether it is meant to save time: then it may be the default where it is no worse."""

    def excludes(self, other: Change) -> bool:
        """Say whether both set the same parameter, judge by other numbers of rows, or one voids the other."""
        if bool(_leaves(self.tree) & _leaves(other.tree)) or None not in (self.per_class, other.per_class):
            return True
        return self._voids(other) or other._voids(self)

    def _voids(self, other: Change) -> bool:
        """Say whether what the other change sets has no effect beside this one, or cannot be."""
        adapt = self.tree.get("adapt", {})
        chosen = (adapt.get("strategy"), adapt.get("head", {}).get("name"))
        return any(leaf.startswith(VOIDED.get(word, ())) for word in chosen for leaf in _leaves(other.tree))

    @property
    def proposes(self) -> bool:
        """Say whether a search chooses which of the table's cells it scores; else it scores all of them."""
        search = self.tree.get("search", {})
        return search.get("method", "exhaustive") != "exhaustive" and not search.get("shifting")


def _leaves(tree: Tree, prefix: str = "") -> set[str]:
    """Return the dotted names of the parameters that a tree sets."""
    found: set[str] = set()
    for name, value in tree.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return found


def base(lengths: Lengths) -> Tree:
    """Return the default: the package's, with the table's batches and rate, and as many epochs as there is time for."""
    return {
        "supernet": {"sampling": "fair", "epochs": lengths.supernet, "batch_size": 128, "optimizer": OPTIMIZER},
        "adapt": {
            "strategy": "head",
            "sampling": "fair",
            "head": {"epochs": lengths.head, "batch_size": 128, "optimizer": OPTIMIZER},
            "finetune": {"epochs": lengths.head, "batch_size": 128, "optimizer": {**OPTIMIZER, "lr": 0.02}},
        },
        "search": {"method": "exhaustive", "max_macs": None},
        "runtime": {"workers": 0},
    }


def changes(lengths: Lengths, table: Tree, other: Tree | None) -> dict[str, Change]:
    """Return the changes by name, the default first.

    `table` are the chain's parameters under the table's condition; `other` is a source of other classes, None where
    there is none. Supernets that differ in their paths make as many passes: a fair step is one of each operation.
    """
    space, share = table["space"], table["source"]["share"]
    widths = [2 * width for width in space["stages"]["channels"]]
    wide = {"space": {"stem": {"channels": 2 * space["stem"]["channels"]}, "stages": {"channels": widths}}}
    found = {
        DEFAULT: Change(DEFAULT),
        "half the epochs": _supernet({"epochs": max(1, lengths.supernet // 2)}, saves=True),
        "twice the epochs": _supernet({"epochs": 2 * lengths.supernet}),
        "uniform paths": _supernet({"sampling": "uniform", "epochs": OPERATIONS * lengths.supernet}),
        SANDWICH: _supernet(_sandwich(lengths)),
        IN_PLACE: _supernet({**_sandwich(lengths), "inplace_distillation": True}),
        "half the rate": _supernet({"optimizer": {**OPTIMIZER, "lr": 0.05}}),
        "twice the rate": _supernet({"optimizer": {**OPTIMIZER, "lr": 0.2}}),
        "twice the width": Change(SUPERNET, wide, work=3),
        "half the source": Change(
            SUPERNET, {"source": {"share": share / 2}, "supernet": {"epochs": 2 * lengths.supernet}}
        ),
    }
    if other is not None:
        found["other classes"] = Change(SUPERNET, {"source": other})
    found |= _heads(lengths)
    if table["source"]["dataset"] == table["target"]["dataset"]:
        found[NONE] = Change(HEAD, {"adapt": {"strategy": "none"}}, work=0, saves=True)
    return {**found, **_scoring(), **_searches()}


OPERATIONS = 5
"""Of a cell of NAS-Bench-201: the paths of a fair step."""


def _supernet(section: Tree, saves: bool = False) -> Change:
    return Change(SUPERNET, {"supernet": section}, saves=saves)


def _sandwich(lengths: Lengths) -> Tree:
    return {"sampling": "sandwich", "epochs": max(1, round(lengths.supernet * OPERATIONS / SANDWICH_PATHS))}


def _heads(lengths: Lengths) -> dict[str, Change]:
    """Return the changes of the adaptation."""

    def head(section: Tree, work: float = 1.0, saves: bool = False) -> Change:
        return Change(HEAD, {"adapt": section}, work=work, saves=saves)

    return {
        "cross-entropy": head({"loss": "ce"}),
        "balanced softmax": head({"loss": "balanced-softmax"}),
        "cRT": head({"head": {"name": "crt"}}),
        "class means": head({"head": {"name": "ncm"}}, 0.3, saves=True),
        "a third of the head's epochs": head({"head": {"epochs": max(1, lengths.head // 3)}}, saves=True),
        "three times the head's epochs": head({"head": {"epochs": 3 * lengths.head}}),
        "cached features": head({"feature_cache": {"paths": 20, "views": 2}}, 0.2, saves=True),
        "finetune": head({"strategy": "finetune"}, 3),
    }


def _scoring() -> dict[str, Change]:
    """Return the changes of how a path's statistics are measured, and of what judges it."""

    def calibrated(**options: Any) -> Change:
        return Change(CALIBRATION, {"search": {"calibration": options}})

    def judged(objective: str) -> Change:
        return Change(VALIDATION, {"search": {"objective": objective}})

    return {
        "128 calibration rows": replace(calibrated(rows=128), saves=True),
        "2,048 calibration rows": calibrated(rows=2048),
        "balanced calibration rows": calibrated(sampling="balanced"),
        "100 validation rows per class": Change(VALIDATION, per_class=100),
        "25 validation rows per class": Change(VALIDATION, per_class=25),
        "accuracy": judged("accuracy"),
        "worst class": judged("worst_class"),
    }


def _searches() -> dict[str, Change]:
    """Return the changes of which cells are scored, when, and which of them is taken."""

    def evolution(population: int, generations: int) -> Change:
        sizes = {"population": population, "generations": generations, "parents": max(1, population // 2)}
        return Change(SEARCH, {"search": {"method": "evolution", **sizes}})

    return {
        "evolution, 24 cells": evolution(6, 4),
        "evolution, 12 cells": evolution(4, 3),
        "random, 24 cells": Change(SEARCH, {"search": {"method": "random", "candidates": 24}}),
        "cheapest within one error": Change(SEARCH, {"search": {"choose": "cheapest-within-one-error"}}),
        SHIFTING: Change(SEARCH, {"search": {"method": "evolution", "shifting": {"updates": 1}}}),
    }


def together(found: dict[str, Change], names: list[str]) -> Change:
    """Return several changes as one; where two set the same value the later one counts."""
    tree: Tree = {}
    for name in names:
        tree = merged(tree, found[name].tree)
    rows = [found[name].per_class for name in names if found[name].per_class is not None]
    return Change(TOGETHER, tree, rows[-1] if rows else None, max(found[name].work for name in names))
