"""The answers of adapted supernets to the validation rows, for each change of `ablation.py`, and what comes of them.

Answers are kept as bits. Changes that touch neither supernet nor adaptation nor calibration need no others than the
default's.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from ablation_changes import Change, Lengths, Tree, base, changes
from longtail import merged
from shared_steps import SharedSteps, kept_record, turn

from imbnas.closure import step_digest
from imbnas.params.config import Params, parse
from imbnas.params.search import SearchView
from imbnas.params.truth import text_of
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.run.graph import PATHS
from imbnas.sealed import write_record
from imbnas.search.archive import Archive, Score
from imbnas.search.findings import choose, halves
from imbnas.search.marking import Marking
from imbnas.search.methods import METHODS, Field
from imbnas.search.rank_correlation import kendall
from imbnas.seeds import stream
from imbnas.spaces.cost import CostTable
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.steps.rows import read_tail, read_validation
from imbnas.steps.search_scoring import make_scoring
from imbnas.steps.search_setting import explore, make_setting
from imbnas.steps.workbench import TrainingStep
from imbnas.truth.places import Table, listing

PROPOSALS = 50
"""Searches on one supernet where a method chooses which cells are scored: they cost nothing, and one is mostly luck."""
UNSCORED = 10**6
"""The place of a cell that a search has not looked at."""


@dataclass(frozen=True)
class Outcome:
    """A change's result with one supernet: scores (cells,), and the cells' places by each search (searches, cells).

    Place 0 is that of the cell that is taken.
    """

    scores: np.ndarray
    places: np.ndarray
    seconds: float


class Ablation:
    """The changes under one condition of a table, kept below its working files."""

    def __init__(self, table: Table, condition: str, lengths: Lengths, other: Tree | None = None) -> None:
        """Take the table, whose rows are made, the condition, the default's epochs, and a source of other classes."""
        self.table, self.condition = table, condition
        self.cells = table.spec.architectures
        self.changes = changes(lengths, table.tree(condition), other)
        self._base = base(lengths)
        code = {step: step_digest(step) for step in ("source", "supernet", "adapt", "search")}
        rows = [table.rows.name, table.files(condition)["longtail"].parent.name]
        self.steps = SharedSteps(table.root, table.work / "ablation", [rows, code])

    def params(self, name: str, seed: int) -> Params:
        """Return the chain's parameters under a change."""
        tree = merged(merged(self.table.tree(self.condition, seed), self._base), self.changes[name].tree)
        return parse(tree, str(self.table.file))

    def noted(self, name: str) -> Path:
        """Return the file of a note that holds for this default, its lengths and the code."""
        return self.steps.root / f"{name}-{self.steps.digest(self._base)}.json"

    def kept(self, name: str, seed: int) -> Tree | None:
        """Return the answers that an earlier call has kept, None where it has not."""
        return kept_record(self.record(name, seed))

    def record(self, name: str, seed: int) -> Path:
        """Return the file of a change's answers: of all changes that have the same ones."""
        search = self.params(name, seed).search
        acting = {"calibration": search.calibration.model_dump()}
        if search.shifting.updates:
            budget = {"population", "generations", "parents", "mutation", "shifting", "method"}
            acting["search"] = search.model_dump(mode="json", include=budget)
        cells = [text_of(cell) for cell in self.cells]
        made = self.steps.digest(self.folders(name, seed)["adapt"].parent.name, acting, cells)
        return self.steps.root / f"answers-{made}" / f"{seed}.json"

    def folders(self, name: str, seed: int) -> dict[str, Path]:
        """Return where the steps of a change lie, by the step; changes that have one alike share its directory."""
        params, found = self.params(name, seed), {}
        read: list[object] = []
        if "source" in self.changes[name].tree:
            found["source"] = self.steps.folder("source", params, 0, self._files(params))
            read = [found["source"].parent.name]
        found["supernet"] = self.steps.folder("supernet", params, seed, *read)
        found["adapt"] = self.steps.folder("adapt", params, seed, found["supernet"].parent.name)
        return found

    def answers(self, name: str, seed: int, wait: bool = True) -> Tree | None:
        """Return the answers to each cell and the seconds they took, now or in an earlier call.

        None where another process works on them and this one does not wait.
        """
        file = self.record(name, seed)
        with turn(file.with_suffix(".lock"), wait) as own:
            if not own:
                return None
            kept = kept_record(file)
            if kept is None:
                kept = self._answers(name, seed)
                write_record(file, kept)
        return kept

    def outcome(self, name: str, seed: int) -> Outcome:
        """Return what a change comes to with the supernet of a seed."""
        found = self.answers(name, seed)
        assert found is not None
        change, search = self.changes[name], self.params(name, seed).search
        every = np.arange(len(self.labels))
        places = every if change.per_class is None else self._drawn_rows(change.per_class, seed)
        marking = Marking(self.labels[places], self.classes, search.objective)
        whole = Marking(self.labels, self.classes, search.objective)
        bits = [marking.pack(whole.unpack(base64.b64decode(one))[places]) for one in found["answers"]]
        scores = dict(zip(self.cells, map(marking.score, bits), strict=True))
        values = np.array([scores[cell].value for cell in self.cells])
        return Outcome(values, self._places(change, name, seed, scores, marking), found["seconds"])

    def halved(self, name: str, seed: int) -> float:
        """Return tau of a change's scores on the two halves of the validation rows."""
        found, objective = self.answers(name, seed), self.params(name, seed).search.objective
        assert found is not None
        marking, bits = Marking(self.labels, self.classes, objective), [base64.b64decode(a) for a in found["answers"]]
        first, second = ([marking.value_on(one, part) for one in bits] for part in halves(self.labels, seed))
        return kendall(first, second) or 0.0

    def _places(
        self, change: Change, name: str, seed: int, scores: dict[Architecture, Score], marking: Marking
    ) -> np.ndarray:
        """Let the change's search, or each of several, look at the cells, and return the places they come to."""
        search, known = self.params(name, seed).search, frozenset(self.cells)

        def score(cells: Sequence[Architecture]) -> list[tuple[Architecture, Score]]:
            return [(cell, scores[cell]) for cell in cells]

        def draw(rng: np.random.Generator) -> Architecture:
            return self.cells[int(rng.integers(len(self.cells)))]

        field = Field(self.space, known.__contains__, draw, listed=self.cells)
        method = METHODS[search.method if change.proposes else "exhaustive"]
        rows = []
        for number in range(PROPOSALS if change.proposes else 1):
            archive = Archive(score, self.costs.cost)
            method(field, archive, search, PROPOSALS * seed + number)
            taken = choose(archive, search.choose, marking).chosen.architecture
            order = [taken, *(entry.architecture for entry in archive.ranked() if entry.architecture != taken)]
            place = {cell: k for k, cell in enumerate(order)}
            rows.append([place.get(cell, UNSCORED) for cell in self.cells])
        return np.array(rows)

    def _answers(self, name: str, seed: int) -> Tree:
        """Run the steps that are missing and let the supernet classify the validation rows by each cell."""
        params, folders = self.params(name, seed), self.folders(name, seed)
        files, seconds = self.table.files(self.condition), 0.0
        if "source" in folders:
            self.steps.run("source", params, folders["source"], ("source_train", "source_validation"), files)
            files |= {key: folders["source"] / Path(PATHS[key]).name for key in ("source_train", "source_validation")}
        for step, outputs in (("supernet", ("supernet", "supernet_losses")), ("adapt", ("adapted",))):
            seconds += self.steps.run(step, params, folders[step], outputs, files)
            files[outputs[0]] = folders[step] / Path(PATHS[outputs[0]]).name
        begin = time.monotonic()
        answers = [base64.b64encode(one).decode() for one in self._classified(params, files)]
        return {"answers": answers, "seconds": seconds + time.monotonic() - begin}

    def _classified(self, params: Params, files: dict[str, Path]) -> list[bytes]:
        """Return the answers by each cell; a supernet that moves has moved through a search of the space before."""
        view = params.view("search")
        assert isinstance(view, SearchView)
        context = self._context(files)
        context.identify(view.model_dump_json(by_alias=True), {})
        tail, held_out = read_tail(context)
        step = TrainingStep.start(context, view.runtime, make_space(view.space), tail, view.seed)
        setting = make_setting(view, context, tail)
        scoring = make_scoring(step, view, setting.table, held_out, lambda: None)
        if scoring.shifting is not None:
            explore(view, setting, Archive(scoring.score, setting.table.cost, scoring.shifting.shift))
        found = dict(scoring.score(self.cells))
        if scoring.shifting is not None:
            scoring.shifting.finish()
        return [found[cell].right or b"" for cell in self.cells]

    def _context(self, files: dict[str, Path]) -> Context:
        return Context("search", self.table.root, Log("ablation", silent=True), files)

    @cached_property
    def labels(self) -> np.ndarray:
        """The classes of the validation rows."""
        context = self._context(self.table.files(self.condition))
        return read_validation(context, read_tail(context)[1], "the ablation").labels

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.labels.max()) + 1

    @cached_property
    def space(self) -> SearchSpace:
        """The table's space."""
        return make_space(self.table.spec.space)

    @cached_property
    def costs(self) -> CostTable:
        """The costs of the table's cells, which break ties and guide a cheap choice."""
        context = self._context(self.table.files(self.condition))
        height, width, channels = read_tail(context)[0].split.info.shape
        return self.space.cost_table((height, width, channels), self.classes)

    def _drawn_rows(self, per_class: int, seed: int) -> np.ndarray:
        """Return the places of some validation rows of each class; fewer of a seed are among its more.

        Each seed draws its own, so that the interval over seeds covers the luck of the draw.
        """
        order = stream(seed, "ablation", "validation").permutation(len(self.labels))
        chosen = [order[self.labels[order] == label][:per_class] for label in range(self.classes)]
        return np.sort(np.concatenate(chosen))

    def _files(self, params: Params) -> list[object]:
        """Return what raw files another source has: those of the table's own are checked by their readers."""
        root = self.table.root / params.source.root
        return [] if params.source.dataset == self.table.spec.source.dataset else [listing(root)]
