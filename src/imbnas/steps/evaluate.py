"""Step `evaluate`: measure the final networks on the test split, which no other step opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from imbnas.data.stored import Info, Split, read_columns, read_split, write_table
from imbnas.errors import UserError
from imbnas.files import TABLE_LIMIT, check_regular, read_json, write_json
from imbnas.longtail.shots import GROUPS, Rule, make_rule, rule_text, shot_groups, thresholds_of
from imbnas.params.evaluate import EvaluateView
from imbnas.report.architecture import draw_architecture
from imbnas.report.cards import write_dataset_card, write_model_card, write_results_page
from imbnas.report.classes import draw_classes
from imbnas.report.confusion import draw_confusion
from imbnas.report.front_figure import draw_front
from imbnas.report.front_table import read_front
from imbnas.report.norms import draw_weights
from imbnas.report.plots import write_classes, write_confusion, write_reliability, write_search
from imbnas.report.reliability import draw_reliability
from imbnas.report.scores import BIN_RULE, INTERVAL_RULE, Answers, Protocol, class_table, reliability, rounded, score
from imbnas.report.search_figure import Reference, draw_search
from imbnas.report.trajectory import draw_trajectory
from imbnas.run.context import Context
from imbnas.saved import Network, load_references, load_subnet
from imbnas.seeds import derive
from imbnas.spaces.drawing import graphs
from imbnas.spaces.registry import make_space
from imbnas.steps.answers import answer, class_norms, write_predictions
from imbnas.training.runtime import Runtime

HEADLINE = ("balanced_accuracy", "accuracy", "many", "medium", "few", "macro_f1", "ece", "macs", "params")
"""What metrics.json holds of the chosen network, one number each: `dvc exp show` makes a column of every number there.

Beside them stands `test_overlap`: published test rows that the source has too.
"""
ERRORS = {"all": "ece", **{group: f"ece_{group}" for group in GROUPS}}
"""The name of each group's calibration error among the intervals."""
FACTS = ("choose", "best", "within_one_error", "halves", "tau_macs", "tau_params")
"""What of results/search.json details.json repeats."""
CLASS_TYPES = {
    "network": pa.string(),
    "label": pa.int64(),
    "class": pa.string(),
    "count": pa.int64(),
    "group": pa.string(),
    "support": pa.int64(),
    "recall": pa.float64(),
    "precision": pa.float64(),
    "f1": pa.float64(),
    "predicted": pa.int64(),
    "norm": pa.float64(),
}


@dataclass(frozen=True)
class Inputs:
    """The inputs of the step: the test split, the training rows of each class, the search, the networks by name."""

    test: Split
    counts: np.ndarray
    imbalance: dict[str, Any]
    search: dict[str, Any]
    facts: dict[str, Any]
    candidates: pd.DataFrame
    front: pd.DataFrame
    networks: dict[str, Network]


def run(view: EvaluateView, context: Context) -> None:
    """Write metrics, details, tables of classes and predictions, cards, figures, and the files for `dvc plots`."""
    params = view.evaluate
    inputs = _read(view, context)
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    protocol = Protocol(
        inputs.counts,
        make_rule(params.shots, params.thresholds.many, params.thresholds.few),
        params.bins,
        params.confidence,
        params.resamples,
        derive(view.seed, "evaluate", "bootstrap"),
    )
    names, networks = inputs.test.info.classes, inputs.networks
    answers = {
        name: answer(network, inputs.test, runtime, context, params.batch_size, params.logit_adjustment)
        for name, network in networks.items()
    }
    scores: dict[str, dict[str, Any]] = {}
    for name, network in networks.items():
        described = {key: network.meta[key] for key in ("architecture", "blocks", "macs", "params")}
        if "gap" in network.meta:
            described["gap"] = network.meta["gap"]
        described |= {"head": network.meta.get("head", {"name": "linear"}), "branches": network.meta.get("branches", 1)}
        scores[name] = {**score(answers[name], names, protocol), **described}
        figures = [f"{key.replace('_', ' ')} {scores[name][key]:.4f}" for key in ("balanced_accuracy", "accuracy")]
        context.log(f"{name}: {', '.join(figures)}")
    norms = {name: class_norms(network.model.head) for name, network in networks.items()}
    table = pd.concat(
        [class_table(name, answers[name], names, protocol).assign(norm=norms[name][1]) for name in networks],
        ignore_index=True,
    )
    _draw(view, context, inputs, protocol, table, answers["final"], scores["final"]["intervals"], norms["final"][0])
    arrow = pa.Table.from_pandas(table, pa.schema(list(CLASS_TYPES.items())), preserve_index=False)
    write_table(context.path("classes"), arrow)
    write_predictions(context.path("predictions"), answers)
    details = rounded(_details(view, inputs, protocol.shots, scores))
    write_json(context.path("details"), details)
    write_model_card(context.path("model_card"), details)
    write_dataset_card(context.path("dataset_card"), details, table)
    write_results_page(context.path("table"), details)
    headline = {key: scores["final"][key] for key in HEADLINE} | {"test_overlap": details["overlap"]["source"]}
    write_json(context.path("metrics"), rounded(headline))


def _read(view: EvaluateView, context: Context) -> Inputs:
    """Read all inputs and check that they belong together."""
    test = read_split(context.path("target_test"), context.root)
    if not test.info.rows:
        raise UserError(f"{context.path('target_test')}: holds no rows, expected a test split, run target")
    counts, imbalance = _read_tail(context, len(test.info.classes))
    search = read_json(context.path("architecture"), "the output of `imbnas search`")
    if not isinstance(search, dict) or not {"chosen", "objective", "limits"} <= set(search):
        raise UserError(f"{context.path('architecture')}: not an architecture file, run search")
    facts = read_json(context.path("search_facts"), "the output of `imbnas search`")
    if not isinstance(facts, dict) or not set(FACTS) <= set(facts):
        raise UserError(f"{context.path('search_facts')}: not the facts of a search, run search")
    references = load_references(context.path("references"))
    networks = {"final": load_subnet(context.path("final")), **references}
    for name, network in networks.items():
        _check(context, "final" if name == "final" else "references", network, view, test, counts)
    final = networks["final"].meta
    if final["architecture"] != search["chosen"]["architecture"]:
        raise UserError(
            f"{context.path('final')}: another architecture than {context.path('architecture')}, run retrain"
        )
    front = read_front(context.path("front"))
    return Inputs(test, counts, imbalance, search, facts, _read_candidates(context), front, networks)


def _read_tail(context: Context, classes: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the long tail's training rows of each class, and what results/imbalance.json says of it."""
    path = context.path("imbalance")
    table = read_columns(context.path("longtail"), {"label": pa.int64(), "split": pa.string()}).to_pandas()
    counts = np.bincount(table.loc[table["split"] == "train", "label"], minlength=classes)
    imbalance = read_json(path, "the output of `imbnas imbalance`")
    if not isinstance(imbalance, dict) or imbalance.get("counts") != counts.tolist():
        raise UserError(f"{path}: its counts are not those of {context.path('longtail')}, run imbalance")
    return counts, imbalance


def _read_candidates(context: Context) -> pd.DataFrame:
    path = context.path("search")
    columns = ["evaluation", "generation", "architecture", "score", "standard_error", "macs", "params", "chosen"]
    try:
        check_regular(path, TABLE_LIMIT)
        return pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a table of candidates ({str(error).splitlines()[0]}), run search") from None


def _check(context: Context, file: str, network: Network, view: EvaluateView, test: Split, counts: np.ndarray) -> None:
    """Raise UserError when a network was made for another space, other images, or another long tail."""
    path, meta, info = context.path(file), network.meta, test.info
    expected = {
        "space": view.space.model_dump(mode="json"),
        "classes": list(info.classes),
        "shape": list(info.shape),
        "counts": counts.tolist(),
    }
    for key, value in expected.items():
        if meta.get(key) != value:
            raise UserError(f"{path}: its {key} are not those of the parameters and the target, run retrain")
    if view.evaluate.logit_adjustment > 0.0:
        _check_adjustable(path, meta.get("trained_counts"), len(info.classes))


def _check_adjustable(path: Path, counts: Any, classes: int) -> None:
    """Raise UserError unless a network's metadata say on how many rows of each class it was trained, none on 0."""
    if not isinstance(counts, list) or len(counts) != classes:
        raise UserError(f"{path}: has no trained_counts, which evaluate.logit_adjustment needs, run retrain")
    if min(counts) < 1:
        raise UserError(
            f"evaluate.logit_adjustment: class {counts.index(min(counts))} of {path} has no training rows, "
            "expected some of every class, or a logit_adjustment of 0.0"
        )


def _draw(
    view: EvaluateView,
    context: Context,
    inputs: Inputs,
    protocol: Protocol,
    table: pd.DataFrame,
    final: Answers,
    intervals: dict[str, Any],
    head: str,
) -> None:
    figures, plots, names = context.path("figures"), context.path("plots"), inputs.test.info.classes
    groups, rule = np.asarray(shot_groups(inputs.counts, protocol.shots)), rule_text(protocol.shots)
    draw_classes(figures / "classes.png", table, rule)
    draw_confusion(figures / "confusion.png", final.actual, final.predicted, names, inputs.counts, groups)
    draw_weights(figures / "weights.png", table, head, rule)
    bins = reliability(final, protocol)
    errors = {group: intervals[name] for group, name in ERRORS.items() if name in intervals}
    note = f"{protocol.bins} {BIN_RULE}; groups by the true class, {rule}"
    draw_reliability(figures / "reliability.png", bins, errors, note)
    write_reliability(plots / "reliability.csv", bins)
    references = [
        Reference(name, "-".join(map(str, network.meta["architecture"])), network.meta["macs"])
        for name, network in inputs.networks.items()
        if name != "final"
    ]
    limit = inputs.search["limits"]["max_macs"]
    if inputs.search.get("method") == "darts":
        draw_trajectory(figures / "search.png", pd.read_parquet(context.path("search")), inputs.search["objective"])
    else:
        draw_search(figures / "search.png", inputs.candidates, references, inputs.search["objective"], limit)
    draw_front(figures / "front.png", inputs.candidates, inputs.front, inputs.search["objective"])
    drawn = graphs(make_space(view.space), inputs.search["chosen"]["architecture"])
    draw_architecture([figures / f"architecture.{kind}" for kind in ("png", "svg")], drawn)
    write_confusion(plots / "confusion.csv", final.actual, final.predicted, names, inputs.counts)
    write_classes(plots / "classes.csv", table)
    write_search(plots / "search.csv", inputs.candidates)


def _details(view: EvaluateView, inputs: Inputs, rule: Rule, scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what stands behind the metrics: how they were made, and those of the other networks."""
    params, info, meta = view.evaluate, inputs.test.info, inputs.networks["final"].meta
    groups, limits = shot_groups(inputs.counts, rule), thresholds_of(rule)
    chosen = inputs.search["chosen"]
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
        **({"init": meta["init"]} if "init" in meta else {}),
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
        "confidence": {"level": params.confidence, "resamples": params.resamples, "rule": INTERVAL_RULE},
        "search": {
            "method": inputs.search.get("method"),
            "objective": inputs.search["objective"],
            "validation_rows": inputs.search.get("validation_rows"),
            "evaluated": int(inputs.candidates["score"].notna().sum()),
            "score": chosen["score"],
            "standard_error": chosen["standard_error"],
            "limits": inputs.search["limits"],
            **{name: inputs.facts[name] for name in FACTS},
        },
        "networks": scores,
    }


def _overlap(info: Info) -> dict[str, int]:
    """Return what splits have in common, see `split.Info`, with the zeros that a split's description leaves out."""
    return dict.fromkeys(("train", "validation", "source", "training"), 0) | (info.overlap or {})
