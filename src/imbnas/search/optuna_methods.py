"""Optuna's samplers by ask-and-tell, for those who want to compare: TPE and NSGA-II."""

from __future__ import annotations

import warnings

import numpy as np
import optuna

from imbnas.search.archive import Archive
from imbnas.search.methods import Field
from imbnas.seeds import derive

PROPOSALS = 10
"""Proposals for each wanted candidate, after which a search ends with fewer: a sampler may keep repeating itself."""


def tpe(field: Field, archive: Archive, candidates: int, seed: int) -> None:
    """Evaluate `candidates` architectures proposed by the tree-structured Parzen estimator (Bergstra et al. 2011)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=_seed(seed), multivariate=True)
    _run(
        optuna.create_study(sampler=sampler, directions=["maximize"]),
        field,
        archive,
        candidates,
        candidates,
    )


def nsga2(field: Field, archive: Archive, population: int, generations: int, seed: int) -> None:
    """Evaluate population x generations architectures proposed by NSGA-II (Deb et al. 2002): score up, cost down."""
    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=_seed(seed))
    study = optuna.create_study(sampler=sampler, directions=["maximize", "minimize"])
    _run(study, field, archive, population * generations, population)


def _run(study: optuna.Study, field: Field, archive: Archive, candidates: int, population: int) -> None:
    """Ask and tell until `candidates` different architectures are evaluated, within a bounded number of proposals.

    A proposal over a limit costs no evaluation: it is told as worthless with its excess, so that the sampler moves
    away. One without a way from input to output is told as failed. One evaluated before, whose canonical form is the
    same, is told its known score. Where a table names the candidates, a proposal stands for the nearest of them: so few
    of a space's architectures are in a table that a sampler would hardly meet one. A resumed search replays the same
    proposals.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, optuna.distributions.BaseDistribution] = {
        f"block{k}": optuna.distributions.CategoricalDistribution(list(range(count)))
        for k, count in enumerate(field.space.choices)
    }
    wanted = min(candidates, field.space.size if field.listed is None else len(field.listed))
    listed = None if field.listed is None else np.array(field.listed)
    for number in range(PROPOSALS * candidates):
        if len(archive.entries) >= wanted:
            return
        trial = study.ask(space)
        proposed = tuple(int(trial.params[name]) for name in space)
        if not field.space.connected(proposed):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        architecture = field.space.canonical(proposed)
        if listed is not None and field.listed is not None:
            architecture = field.listed[int((listed != architecture).sum(axis=1).argmin())]
        over = field.excess(architecture)
        for k, amount in enumerate(over):
            trial.set_constraint(f"limit{k}", amount)
        value = 0.0
        if max(over, default=0.0) <= 0.0:
            archive.evaluate([architecture], number // population)
            value = archive.value(architecture)
        values = [value, float(archive.price(architecture))]
        study.tell(trial, values[: len(study.directions)])


def _seed(seed: int) -> int:
    return derive(seed, "search", "optuna") % 2**32
