"""The chosen network in 8 bits beside itself in float: the comparison, its row in tables, and the sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imbnas.longtail.intervals import differences
from imbnas.longtail.resampling import resample
from imbnas.longtail.shots import GROUPS
from imbnas.network_names import FINAL, INT8
from imbnas.report.reference_facts import SHOWN, numbers
from imbnas.report.scores import Answers, Protocol


def compare_int8(final: Answers, int8: Answers, protocol: Protocol) -> dict[str, Any]:
    """Return for what share of the test rows both give the same class, and the differences, 8 bits minus float.

    Both are measured on the same resamples of the test rows, whose noise alone is in the intervals.
    """
    runs = resample(
        final.actual,
        [int8.predicted, final.predicted],
        protocol.counts,
        protocol.shots,
        resamples=protocol.resamples,
        seed=protocol.seed,
        groups=final.groups,
    )
    apart = differences(runs[:1], runs[1:], protocol.confidence, "fixed")
    return {
        "agreement": float((int8.predicted == final.predicted).mean()),
        "difference": {name: numbers(apart[name]) for name in SHOWN if name in apart},
    }


def shown_networks(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return the networks of a table of results, the chosen one in 8 bits after itself where it was measured."""
    networks: dict[str, Any] = dict(details["networks"])
    found = details.get("int8")
    if found is None:
        return networks
    final = networks.pop(FINAL)
    return {FINAL: final, INT8: {**final, **found["scores"]}, **networks}


def int8_headline(details: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers for results/metrics.json; nothing where the network was not measured in 8 bits."""
    found = details.get("int8")
    if found is None:
        return {}
    apart = found["difference"]
    changes = {name: apart[name]["value"] if name in apart else None for name in GROUPS}
    return {
        "int8": found["scores"]["balanced_accuracy"],
        "int8_change": apart["balanced_accuracy"]["value"],
        **{f"int8_change_{name}": value for name, value in changes.items()},
        "int8_agreement": found["agreement"],
    }


def int8_sentences(details: Mapping[str, Any]) -> list[str]:
    """Return what is said of the network in 8 bits; nothing where it was not measured."""
    found = details.get("int8")
    if found is None:
        return []
    told = [f"balanced accuracy {_points(found['difference']['balanced_accuracy'])}"]
    told += [f"{name}-shot {_points(found['difference'][name])}" for name in GROUPS if name in found["difference"]]
    return [
        f"In 8 bits, as `imbnas export --int8` writes it, it names the same class for {found['agreement']:.1%} of the "
        f"test rows, and changes by these points: {', '.join(told)}; the intervals cover the test rows alone."
    ]


def _points(found: Mapping[str, Any]) -> str:
    return f"{100 * found['value']:+.2f} [{100 * found['low']:+.2f}, {100 * found['high']:+.2f}]"
