"""Scores of two networks that others trained and published, from their features: equal to the printed digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from imbnas.longtail.calibration import expected_calibration_error
from imbnas.longtail.heads import NearestClassMean, posthoc_adjustment, tau_normalise
from imbnas.longtail.losses import build_loss
from imbnas.longtail.metrics import summarise
from imbnas.longtail.shots import shot_groups

pytestmark = pytest.mark.data

MEASURED = {
    # name, shifted: accuracy, many, medium, few in percent, ECE of 15 bins (a, b]
    ("cifar10-lt-100", False): ("72.49", "80.40", "40.85", None, "0.0535"),
    ("cifar10-lt-100", True): ("80.86", "82.62", "73.80", None, "0.0313"),
    ("cifar100-lt-100", False): ("41.28", "71.37", "40.23", "7.40", "0.1168"),
    ("cifar100-lt-100", True): ("48.59", "64.49", "50.77", "27.50", "0.0362"),
}
"""Measured on the networks themselves by a program of its own, but for the shifted groups of CIFAR-10-LT."""
PUBLISHED = {"cifar10-lt-100": (72.46, 80.88), "cifar100-lt-100": (41.28, 48.58)}


def arrays(folder: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(folder / f"{name}.npz") as found:
        return {key: found[key] for key in found}


def classifier(data: dict[str, np.ndarray]) -> torch.nn.Linear:
    head = torch.nn.Linear(data["weight"].shape[1], len(data["weight"])).requires_grad_(False)
    head.weight.copy_(torch.from_numpy(data["weight"]))
    head.bias.copy_(torch.from_numpy(data["bias"]))
    return head


@pytest.mark.parametrize(("name", "shifted"), list(MEASURED))
def test_scores_equal_the_published_networks(golden: Path, name: str, shifted: bool) -> None:
    data = arrays(golden, name)
    logits = classifier(data)(torch.from_numpy(data["test_features"]))
    if shifted:
        logits = posthoc_adjustment(logits, data["counts"])
    sure, guess = logits.softmax(dim=1).max(dim=1)
    scores = summarise(data["test_labels"], guess.numpy(), data["counts"], "kang")
    right = guess.numpy() == data["test_labels"]
    found = [
        None if scores[key] is None else f"{100 * scores[key]:.2f}" for key in ("accuracy", "many", "medium", "few")
    ]
    error = expected_calibration_error(sure.double().numpy(), right, 15)
    assert (*found, f"{error:.4f}") == MEASURED[name, shifted]
    assert 100 * scores["balanced_accuracy"] == pytest.approx(100 * scores["accuracy"]), "test classes are of one size"
    assert 100 * scores["accuracy"] == pytest.approx(PUBLISHED[name][shifted], abs=0.035)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_the_adjustment_is_the_published_label_shift(golden: Path, name: str) -> None:
    """Probabilities over class counts, renormalised."""
    data = arrays(golden, name)
    logits = classifier(data)(torch.from_numpy(data["test_features"])).double()
    shifted = logits.softmax(dim=1).numpy() / data["counts"]
    expected = shifted / shifted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posthoc_adjustment(logits, data["counts"]).softmax(dim=1).numpy(), expected, atol=1e-12)


def test_rules_of_shot_groups_differ_where_a_class_has_twenty_rows(golden: Path) -> None:
    counts = arrays(golden, "cifar100-lt-100")["counts"]
    kang, oltr = shot_groups(counts, "kang"), shot_groups(counts, "oltr")
    assert [kang.count(group) for group in ("many", "medium", "few")] == [35, 35, 30]
    assert [oltr.count(group) for group in ("many", "medium", "few")] == [35, 34, 31]
    assert [int(counts[k]) for k in range(100) if kang[k] != oltr[k]] == [20]


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_balanced_softmax_is_the_logit_adjusted_loss_at_tau_one(golden: Path, name: str) -> None:
    data = arrays(golden, name)
    logits = classifier(data)(torch.from_numpy(data["train_features"][:2000])).double()
    labels, counts = torch.from_numpy(data["train_labels"][:2000].astype(np.int64)), data["counts"].tolist()
    balanced, adjusted = (build_loss(kind, counts)(logits, labels) for kind in ("balanced-softmax", "logit-adjustment"))
    assert float(balanced) == pytest.approx(float(adjusted), rel=1e-12)
    assert float(balanced) != pytest.approx(float(build_loss("ce", counts)(logits, labels)), rel=0.01)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_corrections_without_training_help_the_rare_classes(golden: Path, name: str) -> None:
    """As Kang et al. 2020 found: the features are better than the classifier that was trained with them."""
    data = arrays(golden, name)
    head, test = classifier(data), torch.from_numpy(data["test_features"])
    train, labels = torch.from_numpy(data["train_features"]), torch.from_numpy(data["train_labels"].astype(np.int64))
    rare = "medium" if name.startswith("cifar10-") else "few"

    def score(logits: torch.Tensor) -> dict[str, float]:
        found = summarise(data["test_labels"], logits.argmax(dim=1).numpy(), data["counts"], "kang")
        return {key: 100 * found[key] for key in ("accuracy", rare)}

    plain = score(head(test))
    means = NearestClassMean.fit(train, labels, len(data["counts"]))
    for logits in (tau_normalise(head, 1.0)(test), means(test)):
        assert score(logits)["accuracy"] > plain["accuracy"] + 2.0
        assert score(logits)[rare] > plain[rare] + 5.0
