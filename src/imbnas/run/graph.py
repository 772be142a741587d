"""The graph of the chain: what each step reads and writes, by name, and where that lies by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PATHS: dict[str, str] = {
    "source_train": "data/source/train",
    "source_validation": "data/source/validation",
    "target_train": "data/target/train",
    "target_validation": "data/target/validation",
    "target_test": "data/target/test",
    "longtail": "data/longtail.parquet",
    "imbalance": "results/imbalance.json",
    "supernet": "models/supernet.safetensors",
    "supernet_losses": "results/plots/supernet.csv",
    "adapted": "models/adapted.safetensors",
    "search": "results/search.parquet",
    "search_facts": "results/search.json",
    "front": "results/front.parquet",
    "architecture": "results/architecture.json",
    "handed": "models/handed.safetensors",
    "final": "models/final.safetensors",
    "references": "models/references.safetensors",
    "retrain_losses": "results/plots/retrain.csv",
    "metrics": "results/metrics.json",
    "details": "results/details.json",
    "classes": "results/classes.parquet",
    "predictions": "results/predictions.parquet",
    "model_card": "results/model-card.md",
    "dataset_card": "results/dataset-card.md",
    "table": "results/table.html",
    "figures": "results/figures",
    "plots": "results/plots",
    "cost": "results/cost.json",
}
"""Every file or directory of the chain by its name, relative to the project's root."""


@dataclass(frozen=True)
class Step:
    """One step: the names in `PATHS` that it reads and writes, and what it does in one line."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    summary: str


STEPS: dict[str, Step] = {
    "source": Step((), ("source_train", "source_validation"), "Materialise the balanced source dataset."),
    "target": Step(
        # Of the source the index, so that no image is in both, and how a reused supernet's images are normalised.
        ("source_train", "source_validation"),
        ("target_train", "target_validation", "target_test"),
        "Materialise the target dataset's splits, without the source's images.",
    ),
    "imbalance": Step(("target_train",), ("longtail", "imbalance"), "Choose the long-tailed training rows."),
    "supernet": Step(
        ("source_train", "source_validation"),
        ("supernet", "supernet_losses"),
        "Train the supernet on the balanced source.",
    ),
    "adapt": Step(
        ("supernet", "longtail", "target_train", "target_validation"),
        ("adapted",),
        "Carry the supernet over to the long-tailed target.",
    ),
    "search": Step(
        ("adapted", "longtail", "target_train", "target_validation"),
        ("search", "search_facts", "front", "architecture", "handed"),
        "Rank subnets on the validation rows under a cost constraint.",
    ),
    "retrain": Step(
        # Of the source what `retrain.rows: all` gives back.
        (
            "architecture",
            "handed",
            "longtail",
            "target_train",
            "target_validation",
            "source_train",
            "source_validation",
        ),
        ("final", "references", "retrain_losses"),
        "Train the chosen subnet and its references on the long tail.",
    ),
    "evaluate": Step(
        # Of the training rows those that calibrate the network in 8 bits, for `evaluate.int8`.
        (
            "final",
            "references",
            "search",
            "search_facts",
            "front",
            "architecture",
            "longtail",
            "imbalance",
            "target_train",
            "target_test",
        ),
        ("metrics", "details", "classes", "predictions", "model_card", "dataset_card", "table", "figures", "plots"),
        "Measure the final networks on the test split.",
    ),
}
"""The eight steps in order."""


def cost_details(cost: Path) -> Path:
    """Return the file beside `cost` that holds the cost of each step; `cost` itself is one number, for DVC's tables."""
    return cost.with_name(f"{cost.stem}-details.json")


def maker(name: str) -> str:
    """Return the step that writes the path called `name`."""
    return next(step for step, spec in STEPS.items() if name in spec.outputs)
