"""Step `evaluate`: measure the final networks on the test split, which no other step opens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from imbnas.data.stored import write_table
from imbnas.files import write_json
from imbnas.longtail.shots import make_rule
from imbnas.network_names import INT8
from imbnas.params.evaluate import EvaluateView
from imbnas.report.cards import write_dataset_card, write_model_card, write_results_page
from imbnas.report.int8_facts import int8_headline, int8_sentences
from imbnas.report.reference_facts import compare_references, reference_sentences
from imbnas.report.reference_figure import draw_references
from imbnas.report.scores import Protocol, class_table, rounded, score
from imbnas.run.context import Context
from imbnas.saved import Network
from imbnas.seeds import derive
from imbnas.steps.answers import answer, class_norms, write_predictions
from imbnas.steps.evaluate_details import make_details
from imbnas.steps.evaluate_figures import draw_figures
from imbnas.steps.evaluate_inputs import read_inputs
from imbnas.steps.evaluate_int8 import answer_int8
from imbnas.training.runtime import Runtime

HEADLINE = ("balanced_accuracy", "accuracy", "many", "medium", "few", "macro_f1", "ece", "macs", "params")
"""What metrics.json holds of the chosen network, one number each: `dvc exp show` makes a column of every number there.

Beside them stand `test_overlap`, published test rows that the source has too, and balanced accuracies of references:
the random ones' mean (`random_mean`), the chosen one's minus that (`over_random`), and the largest one's (`largest`).
Of the network in 8 bits (`evaluate.int8`) also balanced accuracy, its change, that of each shot group, and the share of
rows with the same class. Of an approximate network also the energy of its arithmetic, as shares.
"""
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


def run(view: EvaluateView, context: Context) -> None:
    """Write metrics, details, tables of classes and predictions, cards, figures, and the files for `dvc plots`."""
    params = view.evaluate
    inputs = read_inputs(view, context)
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
    eight = answer_int8(view, context, inputs.test) if params.int8 else None
    scores: dict[str, dict[str, Any]] = {}
    for name, network in networks.items():
        scores[name] = {**score(answers[name], names, protocol), **_described(network)}
        figures = [f"{key.replace('_', ' ')} {scores[name][key]:.4f}" for key in ("balanced_accuracy", "accuracy")]
        context.log(f"{name}: {', '.join(figures)}")
    norms = {name: class_norms(network.model.head) for name, network in networks.items()}
    table = pd.concat(
        [class_table(name, answers[name], names, protocol).assign(norm=norms[name][1]) for name in networks],
        ignore_index=True,
    )
    references = compare_references(answers, protocol)
    final, head = scores["final"], norms["final"][0]
    draw_figures(view, context, inputs, protocol, table, answers["final"], final["intervals"], head)
    int8 = None
    if eight is not None:
        answers[INT8] = eight.answers
        int8 = eight.described(names, protocol, answers["final"])
        table = pd.concat([table, class_table(INT8, eight.answers, names, protocol).assign(norm=np.nan)])
    arrow = pa.Table.from_pandas(table, pa.schema(list(CLASS_TYPES.items())), preserve_index=False)
    write_table(context.path("classes"), arrow)
    write_predictions(context.path("predictions"), answers)
    details = rounded(make_details(view, inputs, protocol.shots, scores, references, int8))
    write_json(context.path("details"), details)
    draw_references(context.path("figures") / "references.png", details["networks"], details["references"])
    write_model_card(context.path("model_card"), details)
    write_dataset_card(context.path("dataset_card"), details, table)
    write_results_page(context.path("table"), details)
    for line in (*reference_sentences(details), *int8_sentences(details)):
        context.log(line)
    write_json(context.path("metrics"), _headline(details))


def _described(network: Network) -> dict[str, Any]:
    """Return what results/details.json says of a network beside its scores."""
    meta = network.meta
    described = {key: meta[key] for key in ("architecture", "blocks", "macs", "params")}
    if "gap" in meta:
        described["gap"] = meta["gap"]
    return described | {"head": meta.get("head", {"name": "linear"}), "branches": meta.get("branches", 1)}


def _headline(details: dict[str, Any]) -> dict[str, Any]:
    """Return one number each of the chosen network and of its references, where there are any."""
    networks, random = details["networks"], (details["references"] or {}).get("random")
    found = {key: networks["final"][key] for key in HEADLINE} | {"test_overlap": details["overlap"]["source"]}
    if random is not None:
        difference = random["difference"]["balanced_accuracy"]
        found |= {"random_mean": random["mean"]["balanced_accuracy"], "over_random": difference["value"]}
    if "largest" in networks:
        found["largest"] = networks["largest"]["balanced_accuracy"]
    found |= int8_headline(details)
    for name in ("against_float32", "against_exact8"):
        if details.get("energy", {}).get(name) is not None:
            found[f"energy_{name}"] = details["energy"][name]
    return found
