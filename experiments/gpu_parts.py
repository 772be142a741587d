"""The parts of `make gpu`, in their order. A further one is a script and an entry here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A script that is started with the setting's options, and goes on where its last run ended.

    It exits with 0 when nothing is left to do, with 143 (or by SIGTERM) when something is, and any other code is a
    failure. Its last line of output says how far it is. On SIGTERM it has a few seconds to save what it has.
    """

    name: str
    script: str
    share: float
    """Of the time that is left when its turn comes, how much it may take before those behind it get theirs."""
    results: tuple[str, ...] = ()
    """Files that it leaves in the directory of results, besides the records of its pieces."""


PARTS = (
    Part("tests", "gpu_tests.py", 0.5),
    Part("ratios", "gpu_ratios.py", 0.4),
    Part("truth", "gpu_truth.py", 0.5, ("truth.parquet", "truth-seconds.csv")),
    Part("literature", "gpu_literature.py", 1.0),
)
