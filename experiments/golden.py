"""Heads on the features of two networks that others trained and published: one page, in a minute on one thread.

    python experiments/golden.py --data DIR

`DIR` holds cifar10-lt-100.npz and cifar100-lt-100.npz: penultimate features of a published ResNet-32 on CIFAR-LT of
ratio 100 (AlvinHan123/LDMLR@b38dc50), with its classifier. Nothing but heads is trained, by the product's own samplers,
losses and heads: what stands beside the published figures is not our training but how we measure and correct.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from experiment_command import run
from torch import Tensor, nn

from imbnas import page_record
from imbnas.data.order import InstanceSampler, Sampler
from imbnas.errors import UserError
from imbnas.longtail.calibration import expected_calibration_error
from imbnas.longtail.heads import (
    CosineHead,
    NearestClassMean,
    ScaledHead,
    linear_head,
    posthoc_adjustment,
    tau_normalise,
)
from imbnas.longtail.intervals import intervals
from imbnas.longtail.losses import build_loss
from imbnas.longtail.metrics import summarise
from imbnas.longtail.resampling import resample
from imbnas.longtail.samplers import ClassAwareSampler
from imbnas.longtail.schedules import switch_epoch
from imbnas.seeds import derive

FILES = {"cifar10-lt-100": "CIFAR-10-LT", "cifar100-lt-100": "CIFAR-100-LT"}
PUBLISHED = {"cifar10-lt-100": (72.46, 80.88), "cifar100-lt-100": (41.28, 48.58)}
"""Accuracy of the published network, and after its post-hoc label shift, in percent."""
EPOCHS, BATCH, RATE = 20, 128, 0.1
"""Of the trained heads."""


@dataclass(frozen=True)
class Golden:
    """A file of features: of training and test rows, and the published network's classifier."""

    train: Tensor
    labels: Tensor
    test: Tensor
    truth: np.ndarray
    head: nn.Linear
    counts: np.ndarray


def read(path: Path) -> Golden:
    """Return the features in a file; UserError where it is not there."""
    if not path.is_file():
        raise UserError(f"{path}: not found, expected features of a published network")
    with np.load(path) as found:
        arrays = {name: found[name] for name in found}
    head = nn.Linear(arrays["weight"].shape[1], len(arrays["weight"]))
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(arrays["weight"]))
        head.bias.copy_(torch.from_numpy(arrays["bias"]))
    return Golden(
        torch.from_numpy(arrays["train_features"]),
        torch.from_numpy(arrays["train_labels"].astype(np.int64)),
        torch.from_numpy(arrays["test_features"]),
        arrays["test_labels"].astype(np.int64),
        head.requires_grad_(False),
        arrays["counts"],
    )


def fit(data: Golden, head: nn.Module, sampler: Sampler, loss: Callable[[int], nn.Module]) -> nn.Module:
    """Train a head on the features: SGD with momentum, the rate falling to 0 as a cosine; `loss` takes the epoch."""
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        for rows in torch.from_numpy(np.asarray(sampler.epoch(epoch))).split(BATCH):
            optimizer.zero_grad()
            loss(epoch)(head(data.train[rows]), data.labels[rows]).backward()
            optimizer.step()
        schedule.step()
    return head


def heads(data: Golden, seed: int) -> dict[str, Callable[[], Tensor]]:
    """Return for each method a function that gives the logits of the test rows."""
    classes, width, counts = len(data.counts), data.train.shape[1], data.counts.tolist()
    labels = data.labels.numpy()
    instance = InstanceSampler(labels, derive(seed, "golden", "rows"))
    aware = ClassAwareSampler(labels, derive(seed, "golden", "rows"), length="natural")

    def trained(head: nn.Module, sampler: Sampler, name: str, weights: str = "none", **options: float) -> Tensor:
        early = late = build_loss(name, counts, **options)
        if weights != "none":
            weighted = {} if name == "effective-number" else {"weighting": weights}
            early = build_loss("ce" if name == "effective-number" else name, counts, **options)
            late = build_loss(name, counts, **weighted, **options)
        switch = switch_epoch(EPOCHS, 0.8)
        logits: Tensor = fit(data, head, sampler, lambda epoch: late if epoch >= switch else early)(data.test)
        return logits

    def linear() -> nn.Module:
        torch.manual_seed(derive(seed, "golden", "head"))
        return linear_head(width, classes)

    def margins(scale: float) -> Tensor:
        torch.manual_seed(derive(seed, "golden", "head"))
        given = {"scale": 1.0, "max_margin": 0.5 * scale}
        return trained(CosineHead(width, classes, scale), instance, "ldam", "effective-number", **given)

    plain = data.head(data.test)
    return {
        "none": lambda: plain,
        "logit adjustment, post-hoc": lambda: posthoc_adjustment(plain, data.counts),
        "tau-norm, tau 1": lambda: tau_normalise(data.head, 1.0)(data.test),
        "NCM": lambda: NearestClassMean.fit(data.train, data.labels, classes)(data.test),
        "cRT": lambda: trained(linear(), aware, "ce"),
        "LWS": lambda: trained(ScaledHead(data.head), aware, "ce"),
        "CE": lambda: trained(linear(), instance, "ce"),
        "CE-DRW": lambda: trained(linear(), instance, "effective-number", "effective-number"),
        "balanced softmax": lambda: trained(linear(), instance, "balanced-softmax"),
        "logit-adjusted loss, tau 1": lambda: trained(linear(), instance, "logit-adjustment", tau=1.0),
        "LDAM-DRW, scale 30": lambda: margins(30.0),
        "LDAM-DRW, scale 10": lambda: margins(10.0),
    }


FIXED = ("none", "logit adjustment, post-hoc", "tau-norm, tau 1", "NCM")
"""Methods without a training, and so without seeds."""


def row(data: Golden, name: str, seeds: int) -> str:
    """Return a method's row of the table: means over the seeds, in percent."""
    logits = [heads(data, seed)[name]().detach() for seed in range(1 if name in FIXED else seeds)]
    chances = [one.softmax(dim=1).max(dim=1) for one in logits]
    guesses = [one.indices.numpy() for one in chances]
    runs = resample(data.truth, guesses, data.counts, "kang", seed=derive(0, "golden", "bootstrap"))
    low, high = intervals(runs)["accuracy"]
    found = [summarise(data.truth, guess, data.counts, "kang") for guess in guesses]
    groups = []
    for group in ("many", "medium", "few"):
        values = [one[group] for one in found if one[group] is not None]
        groups.append(f"{100 * np.mean(values):.2f}" if values else "-")
    # Distances are no logits: what a softmax of them says is no confidence.
    ece = "-"
    if name != "NCM":
        errors = [
            expected_calibration_error(one.values.double().numpy(), guess == data.truth)
            for one, guess in zip(chances, guesses, strict=True)
        ]
        ece = f"{np.mean(errors):.4f}"
    mean = 100 * np.mean([one["accuracy"] for one in found])
    cells = [name, str(len(runs)), f"{mean:.2f}", f"[{100 * low:.2f}, {100 * high:.2f}]", *groups, ece]
    return f"| {' | '.join(cells)} |"


HEAD = """# Heads on published features

`make golden GOLDEN=DIR` makes this page. Others trained two ResNet-32 with cross-entropy and mixup for 200 epochs on
CIFAR-10-LT and CIFAR-100-LT of ratio 100, and published them with their results (AlvinHan123/LDMLR@b38dc50). We take
their penultimate features as they are and change only the heads. The page thus shows how imbnas measures and
corrects, apart from how it trains.

Trained heads: {epochs} epochs, batches of {batch}, SGD with rate {rate} falling to 0, {seeds} seeds. Intervals are of
95 %: Student's t over the seeds with the variance of the test rows added; for a single run, the test rows alone. ECE
has 15 bins (a, b]. Groups: many more than 100 training rows, few fewer than 20.
"""
NOTES = """
## Where conventions differ

- The row `none` is the accuracy of the published network. It equals the published figure except for 3 of 10,000 rows;
  this difference comes with the features, before we measure anything.
- The published label shift divides probabilities by the class counts and renormalises. This gives the same answers and
  confidences as subtracting tau log(n_k / N) from the logits with tau 1.
- Balanced softmax adds log n_k to the logits in training, and the logit-adjusted loss adds tau log(n_k / N). With tau
  1 they differ by log N in every logit, which cross-entropy ignores, so the two rows coincide.
- LDMLR counts a class as many-shot from 100 rows on. No class of either file has exactly 100, so Kang's rule (more
  than 100) gives the same groups. One class of CIFAR-100-LT has exactly 20: medium by Kang's rule, few by that of
  OLTR.
- Kang et al. choose the tau of tau-norm on validation rows. There are none here, and training rows cannot replace
  them: the features were trained on them, and on CIFAR-10-LT they choose 0. We therefore use tau 1, the plain unit
  rows.
- The heads are trained for 20 epochs without weight decay, on features that already fit the training rows, so they
  are overconfident (ECE). The scores of tau-norm are not those of a likelihood. Those of NCM are distances and give
  no confidence.
- LDAM-DRW with its published scale of 30 is above CE-DRW here, as published. With 10 it is better still on
  CIFAR-10-LT, and not better on CIFAR-100-LT. [cifar10-lt.md](cifar10-lt.md) shows a small network for which 30 is
  too much.
"""


def main() -> int:
    """Write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Write and return the page."""
    torch.set_num_threads(1)
    lines = [HEAD.format(epochs=EPOCHS, batch=BATCH, rate=RATE, seeds=options.seeds)]
    for name, title in FILES.items():
        data = read(options.data / f"{name}.npz")
        plain, shifted = PUBLISHED[name]
        lines += [f"## {title}", "", f"Published: {plain} %, after the label shift {shifted} %.", ""]
        lines += ["| head | runs | accuracy | 95 % interval | many | medium | few | ECE |"]
        lines += ["|---|---:|---:|---:|---:|---:|---:|---:|"]
        lines += [row(data, method, options.seeds) for method in heads(data, 0)]
        lines.append("")
    page = "\n".join(lines).rstrip("\n") + "\n" + NOTES
    page_record.write_page(options.output, page, "make golden")
    return page


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("datasets/golden"))
    parser.add_argument("--output", type=Path, default=Path("docs/results/golden.md"))
    parser.add_argument("--seeds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
