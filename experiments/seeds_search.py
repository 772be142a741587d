"""The searches of `seeds_results.py`, by the product's own steps: each is kept with its cells and its seconds."""

from __future__ import annotations

from pathlib import Path

from longtail import merged
from seeds_methods import APPROXIMATE, DRAWS, RANDOM, Epochs, Method, Tree, methods
from shared_steps import SharedSteps, kept_record

from imbnas.closure import step_digest
from imbnas.data.stored import read_split
from imbnas.energy import network_energy
from imbnas.files import read_json
from imbnas.params.config import Params, parse
from imbnas.params.truth import text_of
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.run.graph import PATHS
from imbnas.saved import load_subnet
from imbnas.sealed import write_record
from imbnas.seeds import stream
from imbnas.spaces.registry import make_space
from imbnas.steps.answers import answer
from imbnas.training.runtime import Runtime
from imbnas.truth.data_rows import groups
from imbnas.truth.places import Table
from imbnas.truth.train_cell import BATCH, by_group, recalls

SEARCHING = ("supernet", "adapt", "search")
PICOJOULES_OF_NANO = 1000.0


class Searches:
    """The searches under one condition of a table, kept below its working files."""

    def __init__(self, table: Table, condition: str, epochs: Epochs) -> None:
        """Take the table, whose rows are made, the condition to search under, and the epochs of the trainings."""
        self.table, self.condition = table, condition
        retrain = table.tree(condition)["retrain"]
        self.methods = methods(epochs, retrain)
        code = {step: step_digest(step) for step in (*SEARCHING, "retrain")}
        rows = [table.rows.name, table.files(condition)["longtail"].parent.name]
        self._steps = SharedSteps(table.root, table.work / "seeds", [rows, table.stated, code])

    def params(self, name: str, seed: int) -> Params:
        """Return the chain's parameters of a method and a seed."""
        method = self.methods[name]
        tree = merged(self.table.tree(self.condition, seed), method.changes)
        return parse(merged(tree, {"runtime": {"workers": 0}, **_final(method)}), str(self.table.file))

    def kept(self, name: str, seed: int) -> Tree | None:
        """Return what an earlier call has found: cells, seconds, and the figures of a network."""
        return kept_record(self._folder(name, seed) / "found.json")

    def found(self, name: str, seed: int) -> Tree:
        """Return what a method finds with a seed, now or in an earlier call."""
        file = self._folder(name, seed) / "found.json"
        kept = kept_record(file)
        if kept is None:
            kept = self._search(name, seed, file.parent)
            write_record(file, kept)
        return kept

    def under_multiplier(self, name: str, seed: int) -> Tree:
        """Return the figures of a method's cell trained under the multiplier it was searched with, once per seed."""
        file = self._folder(name, seed) / "approximate.json"
        kept = kept_record(file)
        if kept is None:
            assert name in APPROXIMATE
            self.found(name, seed)
            kept = self._trained(name, seed, file.parent)
            write_record(file, kept)
        return kept

    def _search(self, name: str, seed: int, folder: Path) -> Tree:
        method = self.methods[name]
        params = self.params(name, seed)
        space = make_space(params.space)
        if method.kind == "draws":
            rng = stream(seed, "seeds results", RANDOM)
            return {"cells": [text_of(space.sample(rng)) for _ in range(DRAWS)], "seconds": 0.0}
        seconds = 0.0
        supernet = self._steps.folder("supernet", params, seed)
        seconds += self._step("supernet", params, supernet, ("supernet", "supernet_losses"))
        read = {"supernet": supernet / Path(PATHS["supernet"]).name}
        seconds += self._step("adapt", params, folder, ("adapted",), read)
        outputs = ("search", "search_facts", "front", "architecture", "handed")
        seconds += self._step("search", params, folder, outputs, {"adapted": folder / Path(PATHS["adapted"]).name})
        if method.kind == "network":
            return {"cells": [], "seconds": seconds, **self._trained(name, seed, folder)}
        chosen = read_json(folder / Path(PATHS["architecture"]).name, "the output of `imbnas search`")["chosen"]
        return {"cells": [text_of(space.accept(chosen["architecture"]))], "seconds": seconds}

    def _trained(self, name: str, seed: int, folder: Path) -> Tree:
        """Let `retrain` make the final network of a search, and return its figures, named as in a truth table."""
        params = self.params(name, seed)
        read = {key: folder / Path(PATHS[key]).name for key in ("architecture", "handed")}
        self._step("retrain", params, folder, ("final", "references", "retrain_losses"), read)
        network = load_subnet(folder / Path(PATHS["final"]).name)
        context = Context("evaluate", self.table.root, Log("seeds", silent=True), self.table.files(self.condition))
        test = read_split(context.path("target_test"), context.root)
        figures: Tree = {}
        for column, tau in (("test", 0.0), ("adjusted_test", 1.0)):
            answers = answer(network, test, Runtime(params.runtime), context, BATCH, tau)
            own = recalls(answers.actual, answers.predicted, len(test.info.classes))
            figures |= {column: float(own.mean())} | (by_group(own, groups(self.table)) if not tau else {})
        share = (network.meta.get("approximate") or {}).get("relative_energy")
        energy = network_energy(network.model, network.meta["shape"], params.approximate.energy, share)
        assert energy.total is not None
        shares = {"of_float32": energy.against_float32, "of_exact8": energy.against_exact8}
        return {**figures, "energy": energy.total / PICOJOULES_OF_NANO, **shares}

    def _step(
        self, step: str, params: Params, folder: Path, outputs: tuple[str, ...], read: dict[str, Path] | None = None
    ) -> float:
        """Run a step unless it is done, its outputs in `folder`; return its seconds, stopped attempts included."""
        files = {**self.table.files(self.condition), **(read or {})}
        return self._steps.run(step, params, folder, outputs, files)

    def _folder(self, name: str, seed: int) -> Path:
        words = "-".join(name.replace(",", "").replace("'", "").replace("+", "-plus").lower().split())
        return self._steps.root / f"{words}-{self._steps.digest(self.methods[name].changes, DRAWS)}" / str(seed)


def _final(method: Method) -> Tree:
    """Return how a method's own network is finished: a mixture is taken as it is, a cell trained without references."""
    retrain: Tree = {"references": {"random": 0, "largest": False}}
    if method.kind == "network":
        retrain |= {"init": "handed", "finetune": {"epochs": 0}}
    return {"retrain": retrain}
