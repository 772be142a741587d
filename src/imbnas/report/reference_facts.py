"""The chosen network beside its references: the comparison, and the sentences of cards and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from imbnas.longtail.chance import against_random, beaten, mean_of_networks, verdict
from imbnas.longtail.intervals import differences
from imbnas.longtail.resampling import resample
from imbnas.network_names import FINAL, LARGEST, is_random
from imbnas.report.scores import Answers, Protocol

SHOWN = ("balanced_accuracy", "accuracy", "many", "medium", "few")
"""Scores whose differences are told."""
_NUMBERS = ("value", "low", "high", "p", "covers")


def compare_references(answers: Mapping[str, Answers], protocol: Protocol) -> dict[str, Any] | None:
    """Return the chosen network's differences from the random ones' mean and from the largest one; None for none.

    All are measured on the same resamples of the test rows. `random` holds the number of random networks, their mean
    scores, each score's difference with its interval, in how many the chosen one has the higher balanced accuracy, and
    the verdict on that score; `largest` holds differences whose intervals cover the test rows alone.
    """
    names = list(answers)
    if names == [FINAL]:
        return None
    actual = answers[FINAL].actual
    guesses = [answers[name].predicted for name in names]
    rules = (protocol.counts, protocol.shots)
    runs = resample(
        actual, guesses, *rules, resamples=protocol.resamples, seed=protocol.seed, groups=answers[FINAL].groups
    )
    measured = dict(zip(names, runs, strict=True))
    chosen = measured[FINAL]
    others = [measured[name] for name in names if is_random(name)]
    told: dict[str, Any] = {"random": None, "largest": None}
    if others:
        apart = against_random(chosen, others, protocol.confidence)
        mean = mean_of_networks(others).values
        score = "balanced_accuracy"
        told["random"] = {
            "networks": len(others),
            "mean": {name: mean[name] for name in SHOWN if name in mean},
            "difference": {name: numbers(apart[name]) for name in SHOWN if name in apart},
            "beaten": beaten(chosen.values[score], [one.values[score] for one in others]),
            "verdict": verdict(apart[score]),
        }
    if LARGEST in measured:
        apart = differences([chosen], [measured[LARGEST]], protocol.confidence, "fixed")
        told["largest"] = {"difference": {name: numbers(apart[name]) for name in SHOWN if name in apart}}
    return told


def numbers(difference: Any) -> dict[str, Any]:
    """Return a difference as JSON values."""
    return {name: value for name, value in asdict(difference).items() if name in _NUMBERS}


def reference_sentences(details: Mapping[str, Any]) -> list[str]:
    """Return what a run says of the chosen network beside random ones of its cost; nothing where there are none."""
    found = (details.get("references") or {}).get("random")
    if found is None:
        return []
    number, one = found["networks"], found["difference"]["balanced_accuracy"]
    networks = "1 random network" if number == 1 else f"{number} random networks"
    points = f"{100 * one['value']:+.2f} points [{100 * one['low']:+.2f}, {100 * one['high']:+.2f}]"
    first = (
        f"Balanced accuracy minus the mean of {networks} of its cost: {points}; the chosen network is above "
        f"{found['beaten']} of {number}."
    )
    if number == 1:
        return [
            first,
            "One random network says nothing of others: this run cannot tell if the search beat chance.",
        ]
    if found["verdict"] == "cannot tell":
        return [first, "This run cannot tell if the search beat chance: a study over seeds may."]
    return [first, f"The chosen network is {found['verdict']} than what random ones of its cost would give."]
