"""The arms of `handmade.py`: the chain's chosen network, and hand-made ones whose widths are set to its MACs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from longtail import merged
from study_jobs import Jobs, Tree, work
from trained_networks import Trained, answered
from wins_chain import NAME, chain

from imbnas.errors import UserError
from imbnas.files import read_json
from imbnas.network_names import FINAL
from imbnas.params.config import Params, parse
from imbnas.spaces.registry import make_space

SCRATCH, HANDED = "from scratch", "inherited weights"
OURS, SHUFFLE, RESNET = "imbnas", "ShuffleNetV2", "ResNet"
HANDMADE = (SHUFFLE, RESNET)
STARTS = (SCRATCH, HANDED)
WINDOW = 0.05
"""How far the MACs of a hand-made network may be from those of the chosen one."""
FAIR = 5
"""Paths of a fair step: a hand-made network makes as many passes over the source as they do together."""
STEPS = ("supernet", "adapt", "search", "retrain")


Widths = tuple[int, ...]
RATIOS = (1, 2, 4)
"""Of the stages' widths, in both families."""


def shuffle_space(widths: Widths) -> Tree:
    """Return ShuffleNetV2 (Ma et al. 2018) for small images: its blocks, the last layer twice as wide as a stage."""
    stages = {"channels": list(widths), "repeats": [2, 4, 2], "strides": [1, 2, 2]}
    own = {"shufflenet": {"choices": ["shuffle3"]}, "last_channels": 2 * widths[-1]}
    return {"name": "shufflenet", "stem": {"channels": even(widths[0] / 2)}, "stages": stages, **own}


def resnet_space(widths: Widths) -> Tree:
    """Return a ResNet of basic blocks (He et al. 2016), three to a stage as their ResNet-20 for CIFAR."""
    stages = {"channels": list(widths), "repeats": [3, 3, 3], "strides": [1, 2, 2]}
    return {"name": "resnet", "stem": {"channels": widths[0]}, "stages": stages, "last_channels": None}


SPACES: dict[str, Callable[[Widths], Tree]] = {SHUFFLE: shuffle_space, RESNET: resnet_space}


def even(width: float) -> int:
    """Return the nearest even width: a shuffle block halves it."""
    return max(2, 2 * round(width / 2))


def fitted(
    space: Callable[[Widths], Tree], macs: int, params: Callable[[Tree], Params], shape: tuple[int, int, int]
) -> Tree:
    """Return the hand-made space whose network is within the window of some MACs, its widths nearest to their ratios.

    Raises:
        UserError: where no widths are within it.
    """

    def cost(widths: Widths) -> int:
        made = make_space(params(space(widths)).space)
        return made.cost_table(shape, 10).cost(tuple([0] * len(made.blocks))).macs

    def scaled(width: float) -> Widths:
        return tuple(even(width * ratio) for ratio in RATIOS)

    low, high = 1.0, 2.0
    while cost(scaled(high)) < macs and high < 4096:
        low, high = high, 2 * high
    for _ in range(8):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(scaled(middle)) < macs else (low, middle)
    # Even widths make steps, which the stages take one by one.
    steps = [[even(high * ratio) + 2 * k for k in (0, -1, 1)] for ratio in RATIOS]
    near = [widths for widths in product(*steps) if 0 < widths[0] <= widths[1] <= widths[2]]
    found = [(abs(cost(widths) / macs - 1), widths) for widths in near]
    within = [widths for gap, widths in found if gap <= WINDOW]
    if not within:
        raise UserError(
            f"hand-made networks: the nearest is {min(found)[0]:.1%} from {macs:,} MACs, expected at most {WINDOW:.0%}"
        )
    return space(min(within, key=lambda own: sum(abs(w / (high * k) - 1) for w, k in zip(own, RATIOS, strict=True))))


@dataclass(frozen=True)
class Setting:
    """How often, and how long: seeds, the limit of the chain, and epochs of its supernet."""

    seeds: int = 5
    limit: str = "0.7x"
    supernet: int = 8


class Arms:
    """All arms below a directory; each is the product's own chain, and arms share the jobs that they have alike."""

    def __init__(self, root: Path, setting: Setting, changes: Tree | None = None) -> None:
        """Take the project's directory with its raw data, what is measured, and changes of the chain."""
        self.root, self.setting = root, setting
        self._spaces: dict[tuple[str, int], Tree] = {}
        none: Tree = {"retrain": {"references": {"random": 0, "largest": False}}}
        self._tree = merged(chain(changes or {}), none)
        epochs = self._tree["retrain"]["epochs"]
        self._starts = {SCRATCH: {"init": "scratch"}, HANDED: {"init": "handed", "finetune": {"epochs": epochs}}}

    def params(self, *changes: Tree) -> Params:
        """Return the chain's parameters with some changes."""
        tree = self._tree
        for one in changes:
            tree = merged(tree, one)
        return parse(tree, NAME)

    def ours(self, start: str, seed: int) -> Jobs:
        """Return the chain that searches."""
        own: Tree = {"supernet": {"epochs": self.setting.supernet}, "search": {"max_macs": self.setting.limit}}
        return self._one(seed, own, {"retrain": self._starts[start]})

    def handmade(self, name: str, start: str, seed: int) -> Jobs:
        """Return the chain of a hand-made network, once the chosen network of the seed is known."""
        return self._handmade(self.space(name, seed), start, seed)

    def unfitted(self, name: str, start: str, seed: int) -> Jobs:
        """Return the same with some widths, before the chosen network is known: for a plan."""
        return self._handmade(SPACES[name]((8, 16, 32)), start, seed)

    def _handmade(self, space: Tree, start: str, seed: int) -> Jobs:
        fixed: Tree = {"search": {"method": "fixed", "max_macs": None}, "retrain": self._starts[start]}
        if start == SCRATCH:
            untrained: Tree = {"sampling": "uniform", "probe_paths": 1, "epochs": 0}
            before: Tree = {
                "supernet": untrained,
                "adapt": {"strategy": "scratch", "sampling": "uniform", "scratch": {"epochs": 0}},
            }
        else:
            # One path, so often as five paths together.
            before = {
                "supernet": {"sampling": "uniform", "probe_paths": 1, "epochs": FAIR * self.setting.supernet},
                "adapt": {"sampling": "uniform"},
            }
        return self._one(seed, {"space": space}, fixed, before)

    def space(self, name: str, seed: int) -> Tree:
        """Return a hand-made network's space with the MACs of the seed's chosen network."""
        if (name, seed) in self._spaces:
            return self._spaces[name, seed]
        jobs = self.ours(SCRATCH, seed)
        shape = read_json(jobs.file(0, "target_train") / "info.json", "the output of `imbnas target`")["shape"]
        macs = read_json(jobs.file(0, "architecture"), "the output of `imbnas search`")["chosen"]["macs"]
        own = fitted(SPACES[name], macs, lambda space: self.params({"space": space}), (shape[0], shape[1], shape[2]))
        self._spaces[name, seed] = own
        return own

    def run(self) -> None:
        """Run what is missing, the searches first."""
        seeds = range(self.setting.seeds)
        work([(self.ours(start, seed), 0, "evaluate") for seed in seeds for start in STARTS])
        work([(self.handmade(name, start, s), 0, "evaluate") for s in seeds for start in STARTS for name in HANDMADE])

    def jobs(self, name: str, start: str, seed: int) -> Jobs:
        """Return the chain of an arm."""
        return self.ours(start, seed) if name == OURS else self.handmade(name, start, seed)

    def trained(self, jobs: Jobs) -> tuple[Trained, int]:
        """Return an arm's network and its MACs."""
        own = answered(jobs, 0)[FINAL]
        return own, own.macs

    def seconds(self, jobs: Jobs) -> float:
        """Return what the steps that make an arm's network took."""
        return sum(jobs.seconds(0, step) for step in STEPS)

    def _one(self, seed: int, *changes: Tree) -> Jobs:
        return Jobs(self.root, self.params(*changes, {"study": {"axes": {"seed": [seed]}}}), NAME)
