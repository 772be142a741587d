"""Paths scored together: the same bits as one by one, each shared step run once, any memory, any company."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.raw import Shape
from imbnas.params.shared import Numerics
from imbnas.params.space_options import CellChoices, DartsChoices, SpaceParams, Stages
from imbnas.search.trie import TrieScorer, branches
from imbnas.spaces.blocks import Gate
from imbnas.spaces.cells import Cell
from imbnas.spaces.implanted import hold_backbone
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Scorer

CLASSES = 5
SPACES = {
    "shufflenet": make_space(SpaceParams(stages=Stages(channels=[16, 24], repeats=[2, 3], strides=[1, 2]))),
    "mobile": make_space(SpaceParams(name="mobile", stages=Stages(channels=[16, 24], repeats=[2, 2], strides=[1, 2]))),
    "nasbench201": make_space(
        SpaceParams(
            name="nasbench201", stages=Stages(channels=[16, 24], repeats=[2, 1], strides=[1, 2]), last_channels=None
        )
    ),
    "stages": make_space(
        SpaceParams(
            name="nasbench201",
            stem={"channels": 8},
            stages=Stages(channels=[8, 24], repeats=[2, 1], strides=[1, 2]),
            last_channels=None,
            nasbench201=CellChoices(per_stage=True, kernels=[3, 5], exits=True),
        )
    ),
    "implant": make_space(
        SpaceParams(
            name="implant", stages=Stages(channels=[16, 24], repeats=[1, 2], strides=[1, 2]), last_channels=None
        )
    ),
    "darts": make_space(
        SpaceParams(
            name="darts",
            darts=DartsChoices(channels=4, layers=3, operations=["max_pool_3x3", "skip_connect", "sep_conv_3x3"]),
        )
    ),
}
LARGE = 1 << 40


class Rows:
    """Random images in batches, the last one smaller, with the interface of `Batches`."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
        self._labels = torch.randint(0, CLASSES, (count,), generator=generator)
        self._batch = batch

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self) -> Iterator[Tensor]:
        return iter(self._labels.split(self._batch))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(self._images.split(self._batch), self._labels.split(self._batch), strict=True)


def setting(name: str, precision: str = "fp32") -> tuple:
    """Return what both scorers take, with BatchNorm weights and a head that tell paths apart."""
    runtime = Runtime(Numerics(device="cpu", threads=1, precision=precision))
    torch.manual_seed(0)
    supernet = SPACES[name].build_supernet(CLASSES, 1)
    with torch.no_grad():
        supernet.head.weight.normal_()
        for module in supernet.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0.0, 0.3)
            elif isinstance(module, Gate):
                module.weight.uniform_(0.5, 1.5)
    if name == "implant":
        hold_backbone(supernet)
    augment = Augment(Shape(8, 8, 1), "none", pad=0, flip=False, cutout=0, mean=[0.4], std=[0.3])
    return runtime, supernet, Rows(70, 32, 1), Rows(50, 20, 2), augment, CLASSES


def population(name: str) -> list[Architecture]:
    """Return random paths, mutants that share prefixes of all lengths with them, and the extremes."""
    space, rng = SPACES[name], np.random.default_rng(3)
    parents = [space.sample(rng) for _ in range(4)]
    mutants = [space.mutate(parent, rng, 0.2) for parent in parents * 3]
    ends = [(0,) * len(space.choices), tuple(count - 1 for count in space.choices)]
    return list(dict.fromkeys([*parents, *mutants, *ends]))


def watched(supernet: nn.Module) -> list[Tensor]:
    """Return a list that will hold the logits of every batch, in the order in which they are computed."""
    logits: list[Tensor] = []
    supernet.head.register_forward_hook(lambda module, inputs, output: logits.append(output.clone()))
    return logits


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_and_tallies_are_those_of_each_path_alone(name: str, precision: str) -> None:
    paths = population(name)
    runtime, supernet, *rest = setting(name, precision)
    alone, logits = Scorer(runtime, supernet, *rest), watched(supernet)
    expected = {}
    for path in paths:
        logits.clear()
        tally = alone(path)
        expected[path] = (tally, torch.cat(logits[-3:]))
    assert len({tuple(tally.correct) for tally, _ in expected.values()}) > 3, "equal tallies would show nothing"
    for memory in (LARGE, 300_000, 0):
        runtime, supernet, *rest = setting(name, precision)
        together, logits = TrieScorer(runtime, supernet, *rest, memory), watched(supernet)
        seen = []
        for path, tally in together(reversed(paths)):
            assert torch.equal(torch.cat(logits), expected[path][1])
            assert np.array_equal(tally.correct, expected[path][0].correct)
            assert np.array_equal(tally.support, expected[path][0].support)
            seen.append(path)
            logits.clear()
        assert seen == sorted(paths)


@pytest.mark.parametrize("name", ["shufflenet", "mobile"])
def test_each_node_of_the_trie_runs_once(name: str) -> None:
    paths = population(name)
    runtime, supernet, *rest = setting(name)
    scorer = TrieScorer(runtime, supernet, *rest, LARGE)
    list(scorer(paths[:1]))  # the sizes of activations are measured
    runs: Counter[int] = Counter()
    for block, candidates in enumerate(supernet.blocks):
        for candidate in candidates:
            candidate.register_forward_hook(lambda *_, block=block: runs.update([block]))
    list(scorer(paths))
    batches = 3 + 3
    assert runs == {k: batches * len({path[: k + 1] for path in paths}) for k in range(len(supernet.blocks))}
    assert sum(runs.values()) < 0.8 * batches * len(paths) * len(supernet.blocks)


def test_memory_bounds_what_is_kept() -> None:
    paths = population("shufflenet")
    runtime, supernet, *rest = setting("shufflenet")
    runs: Counter[int] = Counter()
    memory = 0
    for candidates in supernet.blocks:
        for candidate in candidates:
            candidate.register_forward_hook(lambda *_: runs.update([memory]))
    for memory in (0, 300_000, LARGE):
        scorer = TrieScorer(runtime, supernet, *rest, memory)
        list(scorer(paths[:1]))
        runs[memory] = 0
        list(scorer(paths))
    assert runs[LARGE] < runs[300_000] < runs[0] == 6 * len(paths) * len(supernet.blocks)


def test_the_caller_keeps_its_own_gradients_between_scores() -> None:
    runtime, supernet, *rest = setting("shufflenet")
    for _ in TrieScorer(runtime, supernet, *rest, LARGE)(population("shufflenet")[:3]):
        assert torch.is_grad_enabled()


def test_branches_are_where_later_paths_leave() -> None:
    # Sorted paths that share 3, 5, 2, 4 and 1 steps with the one before.
    shared = [0, 3, 5, 2, 4, 1]
    assert branches(shared, 0, 0) == [1, 2, 3]
    assert branches(shared, 1, 3) == [5]
    assert branches(shared, 1, 0) == [1, 2, 5]
    assert branches(shared, 3, 2) == [4]
    assert branches(shared, 5, 1) == []


def operations(step: nn.Module) -> list[nn.Module]:
    """Return the supernet's own modules in a step of a space whose cells are shared from path to path."""
    return list(step.edges) if isinstance(step, Cell) else [step]


def test_shared_steps_are_the_same_modules() -> None:
    for name, space in SPACES.items():
        supernet = space.build_supernet(CLASSES, 1)
        paths = population(name)
        for first, second in pairwise(paths):
            # Exits make paths of several lengths, and cells are put together anew, of shared operations.
            pairs = zip(supernet.steps(first), supernet.steps(second), strict=name != "stages")
            same = [operations(a) == operations(b) for a, b in pairs]
            assert same.index(False) == supernet.shared_steps(first, second)


@pytest.mark.parametrize("name", ["shufflenet", "mobile", "nasbench201", "implant"])
def test_folded_scores_differ_by_rounding_and_leave_the_supernet_as_it_was(name: str) -> None:
    common = setting(name)
    supernet, paths = common[1], population(name)[:5]
    logits = watched(supernet)
    list(TrieScorer(*common, LARGE)(paths))
    plain = torch.cat(logits)
    before, kinds = supernet.state_dict(), [type(module) for module in supernet.modules()]
    logits.clear()
    list(TrieScorer(*common, LARGE, fold=True)(paths))
    folded = torch.cat(logits)
    torch.testing.assert_close(folded, plain, rtol=1e-3, atol=1e-4)
    assert not torch.equal(folded, plain), "BatchNorm was folded"
    assert [type(module) for module in supernet.modules()] == kinds
    after = supernet.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items() if "running" not in key)
    logits.clear()
    list(TrieScorer(*common, 0, fold=True)(paths))
    assert torch.equal(torch.cat(logits), folded), "whatever the memory"
