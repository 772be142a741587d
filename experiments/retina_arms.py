"""The arms of `retina.py`: RetinaMNIST with a supernet that ships, by the preset `medmnist`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from longtail import merged
from study_jobs import Jobs, Tree, work
from trained_networks import Answered, answered

from imbnas.data.supernet_fit import check_reused
from imbnas.files import digest_file, read_json, replacing
from imbnas.network_names import FINAL, LARGEST, is_random
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.params.reuse_options import SUPERNETS
from imbnas.run.context import ELSEWHERE
from imbnas.run.graph import cost_details
from imbnas.spaces.registry import make_space

NAME = "experiments/retina.py"
"""Where parameters come from, for messages."""
CHOSEN, RANDOM, LARGEST_OF, FIXED = "chosen", "random, equal cost", "largest within the limit", "ShuffleNetV2, fixed"
INHERITED, FIXED_INHERITED = "chosen, inherited weights", "ShuffleNetV2, fixed, inherited weights"
MEANS, LARGEST_MEANS = "chosen, class means", "largest within the limit, class means"
OWN = "chosen, supernet of the target's own rows"
SEARCH, PLAIN, HANDED, PLAIN_HANDED, NCM, CONTROL = "search", "fixed", "handed", "fixed handed", "means", "own"
"""The jobs of a seed; the names of arms above are those of the page."""
JOBS = {
    CHOSEN: SEARCH,
    RANDOM: SEARCH,
    LARGEST_OF: SEARCH,
    FIXED: PLAIN,
    INHERITED: HANDED,
    FIXED_INHERITED: PLAIN_HANDED,
    MEANS: NCM,
    LARGEST_MEANS: NCM,
    OWN: CONTROL,
}
"""The job that trains an arm's networks."""
FIRST, THEN = (SEARCH, CONTROL, PLAIN, PLAIN_HANDED), (HANDED, NCM)
"""What runs at once, and what needs the chosen architecture."""
NEEDS: dict[str, tuple[str, ...]] = {
    CHOSEN: ("adapt", "search"),
    OWN: ("supernet", "adapt", "search"),
    INHERITED: ("adapt", "search"),
    MEANS: ("adapt", "search"),
    FIXED_INHERITED: ("adapt",),
}
"""Steps besides its training that a network needs, and that take more than a moment; the others need none."""
DATA: Tree = {"dataset": "medmnist", "name": "retinamnist", "size": 28, "download": False}
CHAIN: Tree = {
    "space": {
        "name": "shufflenet",
        "stem": {"stride": 2},
        "stages": {"channels": [32, 64, 128], "strides": [1, 2, 2]},
        "last_channels": 256,
    },
    "runtime": {"device": "cpu", "threads": 1, "workers": 0},
    "source": DATA,
    "target": {**DATA, "image_size": 64},
    "search": {"method": "evolution", "max_macs": "0.8x"},
    "retrain": {"init": "scratch", "rows": "all"},
    "evaluate": {"shots": "thirds"},
}
"""What differs from the preset, or must not follow it: the space and the image size are those of the shipped file."""
NO_REFERENCES: Tree = {"random": 0, "largest": False}


@dataclass(frozen=True)
class Setting:
    """How often, and how long: seeds, random references, and epochs of each final training."""

    seeds: int = 5
    random: int = 2
    epochs: int = 20


class Arms:
    """All arms below a directory; each is the product's own chain, and arms share the jobs that they have alike."""

    def __init__(self, root: Path, setting: Setting, supernet: Path, changes: Tree | None = None) -> None:
        """Take the project's directory, what is measured, the supernet's file, and changes of the chain."""
        self.root, self.setting = root, setting
        self._known: dict[tuple[str, int], Jobs] = {}
        shipped = {name: section for name, section in presets.params("medmnist").tree().items() if name != "study"}
        epochs: Tree = {"retrain": {"epochs": setting.epochs}}
        tree = merged(merged(merged(shipped, CHAIN), epochs), changes or {})
        self.own_supernet: Tree = {"supernet": {"reuse": None, "reuse_sha256": None}}
        reused: Tree = {"reuse": f"{SUPERNETS}/{supernet.name}", "reuse_sha256": digest_file(supernet)}
        self._tree = merged(tree, {"supernet": reused, "retrain": {"finetune": _finetune(tree["retrain"])}})
        params = self.params()
        bring(supernet, root)
        check_reused(params.supernet, params.space, params.target, root)
        self.plain = _plain(params)

    def params(self, *changes: Tree) -> Params:
        """Return the chain's parameters with some changes."""
        tree = self._tree
        for one in changes:
            tree = merged(tree, one)
        return parse(tree, NAME)

    def changes(self, job: str, chosen: list[int]) -> Tree:
        """Return what a job changes in the chain; `chosen` is the architecture that the search has found."""
        handed: Tree = {"init": "handed", "references": NO_REFERENCES}
        fixed: Tree = {"method": "fixed", "architecture": self.plain}
        found: Tree = {"method": "fixed", "architecture": chosen}
        means = {"init": "handed", "finetune": {"epochs": 0}, "head": {"name": "ncm"}}
        return {
            SEARCH: {"retrain": {"references": {"random": self.setting.random, "largest": True}}},
            PLAIN: {"search": fixed, "retrain": {"references": NO_REFERENCES}},
            HANDED: {"search": found, "retrain": handed},
            PLAIN_HANDED: {"search": fixed, "retrain": handed},
            NCM: {"search": found, "retrain": {**means, "references": {"random": 0, "largest": True}}},
            CONTROL: {**self.own_supernet, "retrain": {"references": NO_REFERENCES}},
        }[job]

    def jobs(self, job: str, seed: int) -> Jobs:
        """Return a job of a seed; those of `THEN` need that seed's search."""
        if (job, seed) not in self._known:
            self._known[job, seed] = self._one(job, seed, self._chosen(seed) if job in THEN else self.plain)
        return self._known[job, seed]

    def expected(self, job: str, seed: int) -> Jobs:
        """Return the same before the search, with another architecture in the chosen one's place: for a plan."""
        ready = job not in THEN or self.jobs(SEARCH, seed).done(0, "search")
        return self.jobs(job, seed) if ready else self._one(job, seed, [block + 1 for block in self.plain])

    def run(self) -> None:
        """Run what is missing, the searches first."""
        for names in (FIRST, THEN):
            work([(self.jobs(job, seed), 0, "evaluate") for seed in range(self.setting.seeds) for job in names])

    def networks(self, arm: str, seed: int) -> list[Answered]:
        """Return an arm's networks of a seed: one, or the random references."""
        found = answered(self.jobs(JOBS[arm], seed), 0)
        if arm == RANDOM:
            return [one for name, one in found.items() if is_random(name)]
        return [found[LARGEST if arm in (LARGEST_OF, LARGEST_MEANS) else FINAL]]

    def seconds(self, arm: str, seed: int) -> float:
        """Return what a network of an arm took: an equal share of its training's job, and the steps it needs."""
        jobs, search = self.jobs(JOBS[arm], seed), self.jobs(CONTROL if arm == OWN else SEARCH, seed)
        share = jobs.seconds(0, "retrain") / (jobs.cells[0].retrain.references.count + 1)
        return share + sum(search.seconds(0, step) for step in NEEDS.get(arm, ()))

    def labels(self, split: str) -> pd.Series:
        """Return the labels of a split of the target, as the chains that reuse the supernet have it."""
        return pd.read_parquet(self.jobs(SEARCH, 0).file(0, split) / "index.parquet")["label"]

    def elsewhere(self) -> float | None:
        """Return the seconds that the shipped supernet took in its own project, None where its record is absent."""
        jobs = self.jobs(SEARCH, 0)
        details = cost_details(self.root / jobs.plan.moves("supernet", jobs.plan.cells[0]["supernet"])["cost"])
        return read_json(details, "the cost of a job")["steps"]["supernet"].get(ELSEWHERE)

    def _chosen(self, seed: int) -> list[int]:
        file = self.jobs(SEARCH, seed).file(0, "architecture")
        return list(read_json(file, "the output of `imbnas search`")["chosen"]["architecture"])

    def _one(self, job: str, seed: int, chosen: list[int]) -> Jobs:
        return Jobs(self.root, self.params(self.changes(job, chosen), {"study": {"axes": {"seed": [seed]}}}), NAME)


def bring(supernet: Path, root: Path) -> None:
    """Copy the supernet's file, and the record of what it took where there is one, to where a project has them."""
    for file in (supernet, supernet.with_suffix(".cost.json")):
        copy = root / SUPERNETS / file.name
        if file.exists() and not (copy.exists() and digest_file(copy) == digest_file(file)):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with replacing(copy) as part:
                shutil.copyfile(file, part)


def _finetune(recipe: Tree) -> Tree:
    """Return the recipe of inherited weights: that from scratch, but for the lower learning rate of `finetune`."""
    alike = ("epochs", "batch_size", "schedule", "augment", "mixing", "label_smoothing")
    optimizer = {name: value for name, value in recipe["optimizer"].items() if name != "lr"}
    return {**{name: recipe[name] for name in alike}, "optimizer": optimizer}


def _plain(params: Params) -> list[int]:
    """Return the architecture that has ShuffleNetV2's own block, of 3x3 convolutions, everywhere."""
    block = params.space.shufflenet.choices.index("shuffle3")
    return [block] * len(make_space(params.space).blocks)
