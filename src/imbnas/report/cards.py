"""A model card and a dataset card in Markdown, and the results as a page: all from results/details.json's content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from imbnas.files import write_bytes
from imbnas.network_names import title
from imbnas.params.medmnist import MEDMNIST
from imbnas.report.card_facts import arithmetic, beside, choice, facts, sizes, start, taken_over, taught
from imbnas.report.escape import code, markdown
from imbnas.report.int8_facts import shown_networks
from imbnas.report.page import Block, percent, write_page

_SCORES = ("balanced_accuracy", "accuracy", "many", "medium", "few", "macro_f1", "ece")


def write_model_card(path: Path, details: dict[str, Any]) -> None:
    """Write what the chosen network is, how it was made, how well it does, and what it is not for."""
    final, shots = details["networks"]["final"], details["shots"]
    imbalance, level = details["imbalance"], f"{details['confidence']['level']:.0%}"
    blocks = [(str(place), markdown(name)) for place, name in enumerate(final["blocks"], 1)]
    recipe = [(markdown(name), code(value)) for name, value in _leaves(details["recipe"] or {})]
    parts = [
        f"# Model card: a classifier for {markdown(details['dataset'])}",
        f"`models/final.safetensors`: a network of the space {code(details['space']['name'])} with {final['params']:,} "
        f"parameters and {final['macs']:,} multiply-accumulate operations an image, for {len(imbalance['classes'])} "
        f"classes, trained on the long-tailed dataset that `results/dataset-card.md` describes.",
        "## Use",
        "    imbnas predict models/final.safetensors photo.png\n"
        "    imbnas export models/final.safetensors --output final.pt2",
        "The file holds preprocessing and class names. It is meant for images like those of the dataset, and for the "
        "comparison of methods. It knows no other classes, and its confidence is no probability of being right: see "
        "the calibration error. Rare classes are recognised less often than frequent ones; look at their rows in "
        "`results/classes.parquet` before relying on them.",
        "## Training",
        f"{imbalance['rows']:,} images, imbalance ratio {imbalance['measured_ratio']:.4g}, seed {details['seed']}. "
        f"Kept: the {details['epoch_rule']} epoch. The test split was opened once all was chosen.",
        *start(details),
        *taught(details),
        _table(("parameter", "value"), recipe),
        "## Architecture",
        choice(details["search"]),
        *taken_over(details, markdown),
        _table(("block", "choice"), blocks),
        *arithmetic(details),
        "## Evaluation",
        f"On {details['test_rows']:,} test rows, percent, with {level} intervals ({details['confidence']['rule']}). "
        f"{sizes(shots)}: {shots['text']}.",
        _table(("network", *(name.replace("_", " ") for name in _SCORES)), _scores(details)),
        f"Lowest recall of a class: {percent(final['worst_class'])} ({markdown(final['worst_class_name'])}). "
        f"Calibration error: {details['ece']['bins']} {details['ece']['rule']}. "
        "One run: the intervals say nothing of other seeds.",
        *beside(details),
    ]
    _write(path, parts)


def write_dataset_card(path: Path, details: dict[str, Any], table: pd.DataFrame) -> None:
    """Write what the long-tailed dataset is; `table` is that of results/classes.parquet."""
    imbalance, final = details["imbalance"], table[table["network"] == "final"]
    held = imbalance["validation_counts"]
    rows = [
        (markdown(row["class"]), f"{row['count']:,}", row["group"], f"{held[place]:,}", f"{row['support']:,}")
        for place, (_, row) in enumerate(final.iterrows())
    ]
    shape = {"natural": "as the dataset has them", "counts": "with given class counts"}.get(imbalance["profile"])
    if shape is None:
        shape = (
            f"of the profile {code(imbalance['profile'])}, asked for ratio {imbalance['ratio']:g}, classes in "
            f"{markdown(imbalance['order'])} order"
        )
    parts = [
        f"# Dataset card: {markdown(details['dataset'])}, long-tailed",
        f"Images of {len(imbalance['classes'])} classes for classification. {imbalance['rows']:,} training rows "
        f"{shape}; largest over smallest class "
        f"{imbalance['measured_ratio']:.4g}. {details['test_rows']:,} test rows.{_licence(details['dataset'])}",
        "## Classes",
        _table(("class", "training rows", "group", "held out for validation", "test rows"), rows),
        f"Groups: {details['shots']['text']}.",
        "## Splits",
        "Training rows were chosen by a seeded draw within each class; rows for validation were put aside as "
        "`params.yaml` says. Only the step `evaluate` reads the test split. Content digests:",
        _table(
            ("split", "digest"), [(markdown(name), code(digest)) for name, digest in sorted(details["digests"].items())]
        ),
        _overlap(details["overlap"]),
        "## Limits",
        "The tail was made from a dataset that people collected and labelled, with their choices and errors in it; "
        "class frequencies do not reflect those in the real world."
        if imbalance["profile"] not in ("natural", "counts")
        else "The class counts are the dataset's own or given by its user; labels were not checked.",
        "Scores of a rare class rest on few test rows where its column above is small.",
    ]
    _write(path, parts)


def _licence(dataset: str) -> str:
    """Return under which licence one of MedMNIST's datasets is published; nothing of another."""
    found = MEDMNIST.get(dataset)
    return "" if found is None else f" The images are MedMNIST's (Yang et al. 2023), licence {found.licence}."


def _overlap(overlap: dict[str, int]) -> str:
    """Return what source, training, validation and test rows have in common, compared by content."""
    dropped, kept = overlap["train"] + overlap["validation"], overlap["source"]
    found = [
        f"{dropped:,} training or validation rows were left out because the source (or the test split drawn here) has "
        "the same image, or one of the same group"
        if dropped
        else "No training or validation row was left out on account of the source",
        f"{kept:,} of the published test rows are in the source too" if kept else "no test row is in the source",
    ]
    if overlap["training"]:
        found.append(f"{overlap['training']:,} of the published test rows are among the training or validation rows")
    if overlap.get("near"):
        found.append(f"{overlap['near']:,} test rows look like a row of another split (perceptual hashes)")
    return f"Images compared by content: {'; '.join(found)}."


def write_results_page(path: Path, details: dict[str, Any]) -> None:
    """Write the networks' scores with their intervals as an HTML page."""
    rows = _scores(details, "\n")
    level = f"{details['confidence']['level']:.0%}"
    note = (
        f"{details['dataset']}, seed {details['seed']}: {details['imbalance']['rows']:,} training rows, imbalance "
        f"ratio {details['imbalance']['measured_ratio']:.4g}, {details['test_rows']:,} test rows. "
        f"{sizes(details['shots'])}: {details['shots']['text']}. {' '.join(facts(details['search']))}"
    ).rstrip()
    columns = ["network", *(name.replace("_", " ") for name in _SCORES), "MACs", "parameters"]
    costs = [[f"{entry['macs']:,}", f"{entry['params']:,}"] for entry in shown_networks(details).values()]
    block = Block(
        f"Percent of the test rows, with {level} intervals",
        columns,
        [[*row, *cost] for row, cost in zip(rows, costs, strict=True)],
        note,
        strong=frozenset({list(details["networks"]).index("final")}),
    )
    write_page(path, "Results", [replace(block, note=" ".join([note, *taken_over(details), *beside(details)]))])


def _scores(details: dict[str, Any], mark: str = " ") -> list[list[str]]:
    """Return a row per network: its name and each score, `mark` and its interval, in percent."""
    rows = []
    for name, entry in shown_networks(details).items():
        cells = []
        for score in _SCORES:
            low, high = entry["intervals"].get(score) or (None, None)
            cells.append(percent(entry[score]) + ("" if low is None else f"{mark}[{percent(low)}, {percent(high)}]"))
        rows.append([title(name), *cells])
    return rows


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield every parameter with its dotted name; of what is switched off (`name: none`) no options."""
    for name, value in tree.items():
        if isinstance(value, dict) and value.get("name") == "none":
            yield f"{prefix}{name}.name", "none"
        elif isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _write(path: Path, parts: Sequence[str]) -> None:
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())
