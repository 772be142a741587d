"""The content of results/details.json: how the scores were made, and those of every network."""

from __future__ import annotations

from typing import Any

from imbnas.data.grouping import COLUMN
from imbnas.data.stored import Info
from imbnas.energy import network_energy
from imbnas.longtail.shots import GROUPS, Rule, rule_text, shot_groups, thresholds_of
from imbnas.params.evaluate import EvaluateView
from imbnas.report.scores import BIN_RULE, GROUP_RULE, INTERVAL_RULE
from imbnas.saved import Network
from imbnas.steps.evaluate_inputs import FACTS, OTHER_FACTS, Inputs


def make_details(
    view: EvaluateView,
    inputs: Inputs,
    rule: Rule,
    scores: dict[str, dict[str, Any]],
    references: dict[str, Any] | None,
    int8: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what stands behind the metrics: how they were made, and those of the other networks."""
    params, info, meta = view.evaluate, inputs.test.info, inputs.networks["final"].meta
    groups, limits = shot_groups(inputs.counts, rule), thresholds_of(rule)
    chosen = inputs.search["chosen"]
    interval_rule = GROUP_RULE if COLUMN in inputs.test.index else INTERVAL_RULE
    return {
        "dataset": info.dataset,
        "seed": view.seed,
        "test_rows": info.rows,
        "overlap": _overlap(info),
        "digests": {
            **meta.get("digests", {}),
            "target_test": info.digest,
            "longtail": inputs.imbalance["digest"],
        },
        "imbalance": inputs.imbalance,
        "space": meta["space"],
        "recipe": meta.get("recipe"),
        **({name: meta[name] for name in ("init", "approximate", "teacher") if name in meta}),
        **({"mixture": chosen["mixture"]} if "mixture" in meta else {}),
        "epoch_rule": meta.get("epoch_rule"),
        "logit_adjustment": {
            "tau": params.logit_adjustment,
            "counts": meta["trained_counts"] if params.logit_adjustment else None,
        },
        "shots": {
            "rule": params.shots,
            "thresholds": limits and {"many": limits.many_above, "few": limits.few_below},
            "text": rule_text(rule),
            "classes": {group: groups.count(group) for group in GROUPS},
        },
        "ece": {"bins": params.bins, "rule": BIN_RULE},
        "confidence": {"level": params.confidence, "resamples": params.resamples, "rule": interval_rule},
        "search": {
            "method": inputs.search.get("method"),
            "objective": inputs.search["objective"],
            "validation_rows": inputs.search.get("validation_rows"),
            "evaluated": int(inputs.candidates["score"].notna().sum()),
            "score": chosen["score"],
            "standard_error": chosen["standard_error"],
            "limits": inputs.search["limits"],
            **{name: inputs.facts[name] for name in (*FACTS, *OTHER_FACTS) if name in inputs.facts},
        },
        **({"supernet": inputs.facts["supernet"]} if "supernet" in inputs.facts else {}),
        "references": references,
        "networks": scores,
        **({} if int8 is None else {"int8": int8}),
        **_energy(view, inputs.networks["final"]),
    }


def _energy(view: EvaluateView, network: Network) -> dict[str, Any]:
    """Return the energy of the chosen network's arithmetic where a multiplier is approximate."""
    approximate = network.meta.get("approximate")
    if approximate is None:
        return {}
    found = network_energy(
        network.model, network.meta["shape"], view.approximate.energy, approximate["relative_energy"]
    ).described()
    return {"energy": {"table": view.approximate.energy.model_dump(mode="json"), **found}}


def _overlap(info: Info) -> dict[str, int]:
    """Return what splits have in common, see `split.Info`, with the zeros that a split's description leaves out."""
    return dict.fromkeys(("train", "validation", "source", "training"), 0) | (info.overlap or {})
