"""Step `evaluate`: measure the final networks on the test split, which no other step opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from imbnas.data.images import ImageStore
from imbnas.data.split import Split, read_columns, read_split, write_table
from imbnas.errors import UserError
from imbnas.files import read_json, write_json
from imbnas.longtail.shots import GROUPS, rule_text, shot_groups
from imbnas.networks import Network, load_references, load_subnet
from imbnas.params.evaluate import EvaluateView
from imbnas.report.cells import draw_architecture
from imbnas.report.classes import draw_classes
from imbnas.report.confusion import draw_confusion
from imbnas.report.plots import write_classes, write_confusion, write_search
from imbnas.report.scores import BIN_RULE, INTERVAL_RULE, Answers, Protocol, class_table, score
from imbnas.report.search import Reference, draw_search
from imbnas.report.trajectory import draw_trajectory
from imbnas.seeds import derive
from imbnas.spaces.graphs import graphs
from imbnas.spaces.registry import make_space
from imbnas.steps.context import Context
from imbnas.training.runtime import Runtime

HEADLINE = ("balanced_accuracy", "accuracy", "many", "medium", "few", "macro_f1", "ece", "macs", "params")
"""What metrics.json holds, one number each: `dvc exp show` makes a column of every number it finds there."""
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
}


@dataclass(frozen=True)
class Inputs:
    """What the step has read: the test split, the training rows of each class, the search, the networks by name."""

    test: Split
    counts: np.ndarray
    imbalance: dict[str, Any]
    search: dict[str, Any]
    candidates: pd.DataFrame
    networks: dict[str, Network]


def run(view: EvaluateView, context: Context) -> None:
    """Write metrics, details, the table of classes, figures, and the files for `dvc plots`."""
    params = view.evaluate
    inputs = _read(view, context)
    runtime = Runtime(view.runtime)
    context.device = runtime.device_name
    protocol = Protocol(
        inputs.counts,
        params.shots,
        params.bins,
        params.confidence,
        params.resamples,
        derive(view.seed, "evaluate", "bootstrap"),
    )
    names, networks = inputs.test.info.classes, inputs.networks
    answers = {name: answer(networks[name], inputs.test, runtime, context, params.batch_size) for name in networks}
    scores: dict[str, dict[str, Any]] = {}
    for name, network in networks.items():
        described = {key: network.meta[key] for key in ("architecture", "blocks", "macs", "params")}
        scores[name] = {**score(answers[name], names, protocol), **described}
        figures = [f"{key.replace('_', ' ')} {scores[name][key]:.4f}" for key in ("balanced_accuracy", "accuracy")]
        context.log(f"{name}: {', '.join(figures)}")
    table = pd.concat([class_table(name, answers[name], names, protocol) for name in networks], ignore_index=True)
    _draw(view, context, inputs, table, answers["final"])
    arrow = pa.Table.from_pandas(table, pa.schema(list(CLASS_TYPES.items())), preserve_index=False)
    write_table(context.path("classes"), arrow)
    write_json(context.path("details"), rounded(_details(view, inputs, scores)))
    write_json(context.path("metrics"), rounded({key: scores["final"][key] for key in HEADLINE}))


@torch.inference_mode()
def answer(network: Network, test: Split, runtime: Runtime, context: Context, batch_size: int) -> Answers:
    """Return the network's answers on all rows of the test split, in evaluation mode and without augmentation."""
    size = network.load_side if test.images is None else None
    store = ImageStore(test, None, runtime.device, context.workers, size)
    preprocess = network.preprocess()
    model = runtime.place(network.model)
    predicted, confidence = [], []
    with context.log.bar("test rows", len(store)) as bar:
        for images, _ in store.ordered(batch_size):
            with runtime.autocast():
                logits = model(runtime.lay_out(preprocess(images)))
            best = logits.double().softmax(dim=1).max(dim=1)
            predicted.append(best.indices)
            confidence.append(best.values)
            bar.advance(len(images))
    return Answers(
        store.labels.cpu().numpy(),
        torch.cat(predicted).cpu().numpy(),
        # Rounding may lift a sum of shares above 1.
        torch.cat(confidence).clamp(max=1.0).cpu().numpy(),
    )


def rounded(value: Any) -> Any:
    """Return JSON values with every float rounded to six decimals."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(value, 6) if isinstance(value, float) else value


def _read(view: EvaluateView, context: Context) -> Inputs:
    """Read all inputs and check that they belong together."""
    test = read_split(context.path("target_test"), context.root)
    if not test.info.rows:
        raise UserError(f"{context.path('target_test')}: holds no rows, expected a test split, run target")
    counts, imbalance = _read_tail(context, len(test.info.classes))
    search = read_json(context.path("architecture"), "the output of `imbnas search`")
    if not isinstance(search, dict) or not {"chosen", "references", "objective", "limits"} <= set(search):
        raise UserError(f"{context.path('architecture')}: not an architecture file, run search")
    references = load_references(context.path("references"))
    networks = {"final": load_subnet(context.path("final")), **references}
    for name, network in networks.items():
        _check(context, "final" if name == "final" else "references", network, view, test, counts)
    final = networks["final"].meta
    if final["architecture"] != search["chosen"]["architecture"]:
        raise UserError(
            f"{context.path('final')}: another architecture than {context.path('architecture')}, run retrain"
        )
    return Inputs(test, counts, imbalance, search, _read_candidates(context), networks)


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


def _draw(view: EvaluateView, context: Context, inputs: Inputs, table: pd.DataFrame, final: Answers) -> None:
    rule = view.evaluate.shots
    figures, plots, names = context.path("figures"), context.path("plots"), inputs.test.info.classes
    groups = np.asarray(shot_groups(inputs.counts, rule))
    draw_classes(figures / "classes.png", table, rule_text(rule))
    draw_confusion(figures / "confusion.png", final.actual, final.predicted, names, inputs.counts, groups)
    references = [
        Reference(name, "-".join(map(str, entry["architecture"])), entry["macs"])
        for name, entry in inputs.search["references"].items()
    ]
    limit = inputs.search["limits"]["max_macs"]
    if inputs.search.get("method") == "darts":
        draw_trajectory(figures / "search.png", pd.read_parquet(context.path("search")), inputs.search["objective"])
    else:
        draw_search(figures / "search.png", inputs.candidates, references, inputs.search["objective"], limit)
    drawn = graphs(make_space(view.space), inputs.search["chosen"]["architecture"])
    draw_architecture([figures / f"architecture.{kind}" for kind in ("png", "svg")], drawn)
    write_confusion(plots / "confusion.csv", final.actual, final.predicted, names, inputs.counts)
    write_classes(plots / "classes.csv", table)
    write_search(plots / "search.csv", inputs.candidates)


def _details(view: EvaluateView, inputs: Inputs, scores: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what stands behind the metrics: how they were made, and those of the other networks."""
    params, info, meta = view.evaluate, inputs.test.info, inputs.networks["final"].meta
    groups = shot_groups(inputs.counts, params.shots)
    chosen = inputs.search["chosen"]
    return {
        "dataset": info.dataset,
        "seed": view.seed,
        "test_rows": info.rows,
        "digests": {
            **meta.get("digests", {}),
            "target_test": info.digest,
            "longtail": inputs.imbalance["digest"],
        },
        "imbalance": inputs.imbalance,
        "recipe": meta.get("recipe"),
        "epoch_rule": meta.get("epoch_rule"),
        "shots": {
            "rule": params.shots,
            "text": rule_text(params.shots),
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
        },
        "networks": scores,
    }
