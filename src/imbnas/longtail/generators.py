"""Features generated without training: distribution calibration (Yang et al. 2021) and mixup of features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from imbnas.errors import UserError
from imbnas.longtail.metrics import Floats, Ints
from imbnas.longtail.mixing import Mixed
from imbnas.longtail.weights import check_counts


@dataclass(frozen=True)
class Standard:
    """The mean and the deviation of each feature (F,); a feature that never varies has the deviation 1."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Tensor) -> Standard:
        """Return those of features (N, F), computed in float64 and kept in their precision."""
        wide = features.double()
        deviation = wide.std(dim=0, correction=0)
        return cls(wide.mean(dim=0).to(features), torch.where(deviation > 0, deviation, 1.0).to(features))

    def apply(self, features: Tensor) -> Tensor:
        """Return standardised features."""
        return (features - self.mean) / self.deviation

    def undo(self, standardised: Tensor) -> Tensor:
        """Return features of standardised ones."""
        return standardised * self.deviation + self.mean


@dataclass(frozen=True)
class Generated:
    """Generated features (M, F), class by class, and their labels: one each, or two with the first one's share."""

    features: Tensor
    labels: Mixed

    @classmethod
    def of_classes(cls, features: Tensor, classes: Tensor) -> Generated:
        """Return features each of which is of one class (M,)."""
        return cls(features, Mixed(classes, classes, torch.ones(classes.shape, dtype=torch.float64)))


class Calibrated:
    """Class distributions of which the rarer ones borrow from the larger ones (Yang et al. 2021).

    Base classes are the share `base` of all, the largest first: a feature of one is drawn from the Gaussian with the
    class's mean and unbiased covariance. A feature of another class is drawn from the Gaussian around one of its rows
    x: with S the `neighbours` base classes whose means are nearest to x, its mean is (x + sum of means in S) / (|S| +
    1), and its covariance the mean of those in S with `spread` added to each entry, as in the published code.

    Args:
        features: training features (N, F).
        labels: their classes (N,), each with at least one row.
        counts: training rows of each class (C,), which order the classes.
        base: share of base classes, in (0, 1].
        neighbours: base classes from which a row borrows, at least 1.
        spread: at least 0.
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        counts: ArrayLike,
        *,
        base: float = 0.5,
        neighbours: int = 2,
        spread: float = 0.21,
    ) -> None:
        self._features, self._labels = np.asarray(features, dtype=float), np.asarray(labels)
        rows = check_counts(counts)
        if not (0.0 < base <= 1.0 and neighbours >= 1 and spread >= 0.0):
            raise UserError(
                f"base {base}, neighbours {neighbours} and spread {spread}: expected a share above 0, at least 1 and "
                "at least 0"
            )
        order = np.argsort(-rows, kind="stable")
        self.base: Ints = np.sort(order[: max(1, math.ceil(base * len(rows) - 1e-9))])
        """The base classes, ascending."""
        self._neighbours, self._spread = min(neighbours, len(self.base)), spread
        own = [self._features[self._labels == label] for label in self.base]
        self.means: Floats = np.stack([rows.mean(axis=0) for rows in own])
        """Of the base classes (B, F)."""
        self.covariances: Floats = np.stack([_covariance(rows) for rows in own])
        """Of the base classes (B, F, F)."""
        self._roots = np.stack([_root(covariance) for covariance in self.covariances])

    def nearest(self, row: Floats) -> Ints:
        """Return places in `base` of the base classes from which a row (F,) borrows, the nearest first."""
        distances = np.linalg.norm(self.means - row, axis=1)
        return np.argsort(distances, kind="stable")[: self._neighbours]

    def distribution(self, row: Floats) -> tuple[Floats, Floats]:
        """Return mean (F,) and covariance (F, F) of the Gaussian around a row of a class that is not a base one."""
        chosen = self.nearest(row)
        mean = (row + self.means[chosen].sum(axis=0)) / (len(chosen) + 1)
        return mean, self.covariances[chosen].mean(axis=0) + self._spread

    def draw(self, label: int, number: int, rng: np.random.Generator) -> Floats:
        """Return features (number, F) of a class; rows of a class that is not a base one take turns."""
        width = self._features.shape[1]
        (place,) = np.nonzero(self.base == label)
        if len(place):
            return self.means[place[0]] + rng.standard_normal((number, width)) @ self._roots[place[0]].T
        rows = self._features[self._labels == label]
        rows = rows[rng.permutation(len(rows))]
        found = np.empty((number, width))
        for k in range(number):
            row = rows[k % len(rows)]
            chosen = self.nearest(row)
            # A sum of independent draws has the sum of their covariances, so that no sum has to be decomposed.
            noise = sum(self._roots[one] @ rng.standard_normal(width) for one in chosen) / math.sqrt(len(chosen))
            mean = (row + self.means[chosen].sum(axis=0)) / (len(chosen) + 1)
            found[k] = mean + noise + math.sqrt(self._spread) * rng.standard_normal()
        return found

    def generate(self, numbers: ArrayLike, rng: np.random.Generator) -> Generated:
        """Return as many features of each class as `numbers` (C,) says, float32."""
        parts = [self.draw(label, int(number), rng) for label, number in enumerate(np.asarray(numbers)) if number]
        found = np.concatenate(parts) if parts else np.empty((0, self._features.shape[1]))
        return Generated.of_classes(torch.from_numpy(found).float(), labels_of(numbers))


def mixed_features(
    features: Tensor, labels: Tensor, numbers: ArrayLike, alpha: float, rng: np.random.Generator
) -> Generated:
    """Return mixtures s x_i + (1 - s) x_j with both rows' labels: mixup (Zhang et al. 2018) of features (N, F).

    Class k is given `numbers[k]` of them: x_i is a row of the class and x_j one of all rows, both drawn with
    replacement, and s is the larger of b and 1 - b where b ~ Beta(alpha, alpha), so that the class has the larger part.

    Raises:
        UserError: for an alpha that is not above 0.
    """
    if not (alpha > 0.0 and np.isfinite(alpha)):
        raise UserError(f"mixup alpha: found {alpha}, expected a number above 0")
    found, wanted = labels.cpu().numpy(), np.asarray(numbers)
    own = [rng.choice(np.flatnonzero(found == label), int(number)) for label, number in enumerate(wanted) if number]
    first = np.concatenate(own) if own else np.empty(0, np.int64)
    second = rng.integers(0, len(found), len(first))
    share = torch.from_numpy(np.maximum(part := rng.beta(alpha, alpha, len(first)), 1.0 - part))
    part_of = share.to(features.dtype)[:, None].to(features.device)
    places = [torch.from_numpy(rows).to(features.device) for rows in (first, second)]
    mixed = part_of * features[places[0]] + (1.0 - part_of) * features[places[1]]
    pairs = [labels[place].cpu() for place in places]
    return Generated(mixed, Mixed(pairs[0], pairs[1], share))


def labels_of(numbers: ArrayLike) -> Tensor:
    """Return the classes of generated features (M,), int64: class k as often as `numbers[k]` says."""
    wanted = torch.as_tensor(np.asarray(numbers, dtype=np.int64))
    return torch.arange(len(wanted)).repeat_interleave(wanted)


def _covariance(rows: Floats) -> Floats:
    """Return the unbiased covariance (F, F) of rows (n, F); a single row has none."""
    if len(rows) < 2:
        return np.zeros((rows.shape[1], rows.shape[1]))
    around = rows - rows.mean(axis=0)
    covariance: Floats = around.T @ around / (len(rows) - 1)
    return covariance


def _root(covariance: Floats) -> Floats:
    """Return a matrix R with R R' = the covariance, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors * np.sqrt(np.maximum(values, 0.0))
    return root
