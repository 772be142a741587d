"""How often an interval of a difference excludes 0 where there is none: over numbers of runs, row noise and pairing.

    python experiments/interval_coverage.py

writes docs/results/intervals.md in seconds. Both methods have one true score, so that the share is to be one minus the
level. Runs differ by one point (standard deviation of a paired difference) and the test rows by what the table says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from imbnas import page_record
from imbnas.longtail.student import Estimate, difference_of_runs, mean_of_runs
from imbnas.seeds import stream

RUNS, NOISE = (2, 3, 5, 10), (0.0, 0.3, 0.6)
LEVEL = 0.95
HEAD = """# How often the intervals over seeds err

`make coverage`: {trials:,} simulated comparisons of two methods whose true difference is 0, for each row. The table
shows the share of 95 % intervals that exclude 0, in percent. The nominal share is 5, and the error of a share is at
most {error:.1f}.

Paired differences between runs have a standard deviation of one point, and so do unpaired ones. The test rows shift
all runs of a method together by `row noise`, in points. *runs resampled* is the percentile bootstrap of runs and rows
that imbnas used before. With S runs it sees only (S - 1) / S of their variance, and it uses a normal quantile where
Student's t belongs. Two runs are too few to conclude anything, and the interval is not meant for them.

| runs of each | row noise | Student's t, paired | Student's t, unpaired (Welch) | runs resampled, paired |
|---:|---:|---:|---:|---:|
"""
DRAWN = """
## With test rows themselves

The same for answers on {rows} simulated test rows of one class, {trials:,} comparisons. A row is classified
correctly where a sum is above 0. The sum has a part common to all runs (the row's difficulty), a part of the method's
runs, a part of the run, and a part of this run and row. The last part is counted in the variance over runs and in that
of the rows, so these intervals are too wide rather than too narrow.

| runs of each | Student's t, paired | Student's t, unpaired (Welch) |
|---:|---:|---:|
"""


def errs(estimate: Estimate) -> float:
    """Return the share of intervals that exclude 0."""
    low, high = estimate.ends(LEVEL)
    return float(((low > 0.0) | (high < 0.0)).mean())


def scores(runs: int, noise: float, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores (trials, runs) of two methods without a true difference, in points."""
    rng = stream(0, "experiment", "coverage", runs, int(10 * noise))
    a, b = rng.normal(0.0, 0.5**0.5, (2, trials, runs))
    return a + rng.normal(0.0, noise, (trials, 1)), b


def resampled(difference: np.ndarray, noise: float, draws: int = 400) -> float:
    """Return the share of intervals that exclude 0 where runs are resampled too, and ends are percentiles."""
    rng = stream(0, "experiment", "coverage", "resampled")
    runs = difference.shape[1]
    # Which runs make up a resample is the same for all comparisons: they are independent all the same.
    picks = rng.integers(0, runs, (draws, runs))
    weights = np.stack([(picks == run).mean(axis=1) for run in range(runs)])
    means = difference @ weights + rng.normal(0.0, noise, (len(difference), draws))
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=1)
    return float(((low > 0.0) | (high < 0.0)).mean())


def row(runs: int, noise: float, trials: int) -> tuple[float, float, float]:
    """Return the shares of the first table: paired, unpaired, and with runs resampled."""
    a, b = scores(runs, noise, trials)
    known = noise**2
    old = resampled((a - b)[:2000], noise)
    return errs(mean_of_runs(a - b, known)), errs(difference_of_runs(a, b, known)), old


def answers(runs: int, rows: int, trials: int, chunk: int = 50) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return accuracies (trials, runs) of two methods, and the variance of their difference over the rows (trials,)."""
    rng = stream(0, "experiment", "coverage", "rows", runs)
    found: list[tuple[np.ndarray, ...]] = []
    for _ in range(0, trials, chunk):
        difficulty = rng.standard_normal((chunk, 1, 1, rows), np.float32) + np.float32(0.5)
        method = 0.5 * rng.standard_normal((chunk, 2, 1, rows), np.float32)
        run = 0.05 * rng.standard_normal((chunk, 2, runs, 1), np.float32)
        own = 0.5 * rng.standard_normal((chunk, 2, runs, rows), np.float32)
        right = difficulty + method + run + own > 0.0
        mean = right.mean(axis=2)
        found.append((*right.mean(axis=3).transpose(1, 0, 2), (mean[:, 0] - mean[:, 1]).var(axis=1) / rows))
    a, b, variance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return a, b, variance


def page(trials: int, rows: int) -> str:
    """Return the page."""
    lines = [HEAD.format(trials=trials, error=100 * (LEVEL * (1 - LEVEL) / trials) ** 0.5)]
    for runs in RUNS:
        for noise in NOISE:
            cells = " | ".join(f"{100 * share:.1f}" for share in row(runs, noise, trials))
            lines.append(f"| {runs} | {noise:g} | {cells} |\n")
    drawn = trials // 5
    lines.append(DRAWN.format(rows=rows, trials=drawn))
    for runs in RUNS:
        a, b, variance = answers(runs, rows, drawn)
        paired, unpaired = errs(mean_of_runs(a - b, variance)), errs(difference_of_runs(a, b, variance))
        lines.append(f"| {runs} | {100 * paired:.1f} | {100 * unpaired:.1f} |\n")
    return "".join(lines)


def main() -> int:
    """Simulate and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=20000)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("docs/results/intervals.md"))
    options = parser.parse_args()
    content = page(options.trials, options.rows)
    page_record.write_page(options.output, content, "make coverage")
    print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
