"""Networks that a study's job has trained and judged: what they answered to the test rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from study_jobs import Jobs

from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.params.truth import text_of


@dataclass(frozen=True)
class Trained:
    """A network of one seed that was trained and judged: its cell, and which test rows it has right (rows,)."""

    cell: str
    right: np.ndarray
    labels: np.ndarray

    @property
    def score(self) -> float:
        """Balanced accuracy on the test rows."""
        return float(self.recalls.mean())

    @property
    def recalls(self) -> np.ndarray:
        """Return each class's share of right answers."""
        support = np.bincount(self.labels)
        return np.asarray(np.bincount(self.labels, self.right, len(support)) / support)


@dataclass(frozen=True)
class Answered(Trained):
    """The same with the answers themselves (rows,), the network's MACs, and its recall over few-shot classes."""

    predicted: np.ndarray
    macs: int
    few: float | None

    @property
    def kappa(self) -> float:
        """Cohen's kappa with quadratic weights, for classes that are ordered by their number."""
        # Half a second to import, and few experiments have ordered classes.
        from sklearn.metrics import cohen_kappa_score

        return float(cohen_kappa_score(self.labels, self.predicted, weights="quadratic"))


def answered(jobs: Jobs, cell: int) -> dict[str, Answered]:
    """Return the networks of a cell by their names, the chosen one and its references."""
    file = jobs.file(cell, "predictions")
    table = pd.read_parquet(file, columns=["network", "label", "predicted"])
    found = {}
    for name, one in read_json(jobs.file(cell, "details"), "a cell's results")["networks"].items():
        own = table[table["network"] == name]
        if not len(own):
            raise UserError(f"{file}: no answers of {name}, expected some")
        labels, predicted = own["label"].to_numpy(), own["predicted"].to_numpy()
        right = (predicted == labels).astype(float)
        architecture = text_of(tuple(one["architecture"]))
        found[name] = Answered(architecture, right, labels, predicted, int(one["macs"]), one.get("few"))
    return found
