"""Search spaces: choice blocks, random architectures, checks and descriptions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_list import PARAMS

from imbnas.errors import UserError
from imbnas.params.space_options import DartsChoices, MobileChoices, ShuffleChoices, SpaceParams, Stages, Stem
from imbnas.spaces.registry import make_space

SHUFFLE = make_space(SpaceParams())
MOBILE = make_space(SpaceParams(name="mobile"))
SPOS = make_space(
    SpaceParams(
        stem=Stem(channels=16, stride=2),
        stages=Stages(channels=[64, 160, 320, 640], repeats=[4, 4, 8, 4], strides=[2, 2, 2, 2]),
        last_channels=1024,
    )
)
SINGLE = make_space(
    SpaceParams(stages=Stages(channels=[16], repeats=[2], strides=[2]), shufflenet=ShuffleChoices(choices=["shuffle5"]))
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_choice_blocks_follow_the_stages():
    shapes = [(b.stage, b.place, b.in_channels, b.out_channels, b.stride) for b in SHUFFLE.blocks]
    assert shapes == [
        (1, 1, 16, 16, 1),
        (1, 2, 16, 16, 1),
        (2, 1, 16, 32, 2),
        (2, 2, 32, 32, 1),
        (3, 1, 32, 64, 2),
        (3, 2, 64, 64, 1),
    ]
    assert SHUFFLE.choices == (4,) * 6
    assert SHUFFLE.size == 4096
    assert SHUFFLE.num_features == 128
    assert SPOS.size == 4**20


def test_mobile_offers_skip_only_where_the_shape_is_kept():
    assert MOBILE.choices == (7, 7, 6, 7, 6, 7)
    assert MOBILE.size == 7**4 * 6**2
    assert all(("skip" in b.choices) == (b.in_channels == b.out_channels) for b in MOBILE.blocks)
    without = make_space(SpaceParams(name="mobile", mobile=MobileChoices(skip=False)))
    assert without.choices == (6,) * 6


def test_mobile_choices_count_expansions_fastest():
    assert MOBILE.blocks[0].choices == (
        "mobile 3x3 expansion 3",
        "mobile 3x3 expansion 6",
        "mobile 5x5 expansion 3",
        "mobile 5x5 expansion 6",
        "mobile 7x7 expansion 3",
        "mobile 7x7 expansion 6",
        "skip",
    )


def test_describe():
    assert SHUFFLE.describe((0, 1, 2, 3, 0, 1)) == [
        "stage 1 block 1: shuffle 3x3, stride 1, 16 -> 16",
        "stage 1 block 2: shuffle 5x5, stride 1, 16 -> 16",
        "stage 2 block 1: shuffle 7x7, stride 2, 16 -> 32",
        "stage 2 block 2: shuffle xception 3x3, stride 1, 32 -> 32",
        "stage 3 block 1: shuffle 3x3, stride 2, 32 -> 64",
        "stage 3 block 2: shuffle 5x5, stride 1, 64 -> 64",
    ]
    assert MOBILE.describe([6, 0, 3, 6, 5, 2])[:3] == [
        "stage 1 block 1: skip, stride 1, 16 -> 16",
        "stage 1 block 2: mobile 3x3 expansion 3, stride 1, 16 -> 16",
        "stage 2 block 1: mobile 5x5 expansion 6, stride 2, 16 -> 32",
    ]


def test_choices_follow_the_order_of_the_parameters():
    space = make_space(SpaceParams(shufflenet=ShuffleChoices(choices=["xception", "shuffle7"])))
    assert space.choices == (2,) * 6
    assert space.blocks[0].choices == ("shuffle xception 3x3", "shuffle 7x7")


def test_check_names_the_block_and_the_range():
    assert MOBILE.check([6, 0, 5, 6, 5, 6]) == (6, 0, 5, 6, 5, 6)
    with pytest.raises(UserError, match=r"^architecture: choice 3 \(stage 2 block 1\) is 6, expected .* from 0 to 5$"):
        MOBILE.check((0, 0, 6, 0, 0, 0))
    with pytest.raises(UserError, match=r"^architecture: has 5 choices, expected 6, one per block$"):
        MOBILE.check((0,) * 5)
    for wrong in (-1, 1.0, True, "1"):
        with pytest.raises(UserError, match=r"choice 1 \(stage 1 block 1\)"):
            MOBILE.check((wrong, 0, 0, 0, 0, 0))


def test_samples_are_uniform_valid_plain_ints_and_repeatable():
    generator = rng(1)
    samples = [MOBILE.sample(generator) for _ in range(6000)]
    assert all(type(choice) is int for choice in samples[0])
    for place, count in enumerate(MOBILE.choices):
        seen = np.bincount([sample[place] for sample in samples], minlength=count)
        assert len(seen) == count
        # Five standard deviations of a binomial count.
        assert abs(seen / 6000 - 1 / count).max() < 5 * np.sqrt(1 / count / 6000)
    again = rng(1)
    assert [MOBILE.sample(again) for _ in range(20)] == samples[:20]


@settings(deadline=None)
@given(seed=st.integers(0, 10**6), probability=st.floats(0.0, 1.0))
def test_mutants_differ_and_are_valid(seed, probability):
    generator = rng(seed)
    parent = MOBILE.sample(generator)
    child = MOBILE.mutate(parent, generator, probability)
    assert child != parent
    assert MOBILE.check(child) == child


def test_mutation_redraws_at_the_given_rate():
    generator = rng(2)
    parent = SPOS.sample(generator)
    changed = [
        sum(a != b for a, b in zip(parent, SPOS.mutate(parent, generator, 0.3), strict=True)) for _ in range(2000)
    ]
    # A redraw gives another of the 4 choices with chance 3/4: 20 x 0.3 x 0.75 changes on average.
    assert np.mean(changed) == pytest.approx(4.5, abs=0.2)
    lone = [SPOS.mutate(parent, generator, 1e-12) for _ in range(400)]
    places = {next(k for k in range(20) if child[k] != parent[k]) for child in lone}
    assert all(sum(a != b for a, b in zip(parent, child, strict=True)) == 1 for child in lone)
    assert places == set(range(20))


def test_mutation_in_a_space_of_one_architecture_gives_it_back():
    assert SINGLE.size == 1
    assert SINGLE.mutate((0, 0), rng(), 1.0) == (0, 0)


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_crossover_takes_each_choice_from_a_parent(seed):
    generator = rng(seed)
    first, second = SPOS.sample(generator), SPOS.sample(generator)
    child = SPOS.crossover(first, second, generator)
    assert all(c in (a, b) for a, b, c in zip(first, second, child, strict=True))
    assert SPOS.crossover(first, first, generator) == first


def test_crossover_mixes_evenly():
    generator = rng(3)
    zeros, ones = (0,) * 20, (1,) * 20
    share = np.mean([SPOS.crossover(zeros, ones, generator) for _ in range(1000)])
    assert share == pytest.approx(0.5, abs=0.02)


def test_enumerate_lists_all_in_order():
    listed = list(SHUFFLE.enumerate())
    assert len(listed) == len(set(listed)) == SHUFFLE.size
    assert listed == sorted(listed)
    assert listed[1] == (0, 0, 0, 0, 0, 1)


def test_enumerate_refuses_a_large_space_at_once():
    with pytest.raises(UserError, match=f"space: has {4**20} architectures, expected at most 100000"):
        SPOS.enumerate()


@pytest.mark.parametrize(
    "params",
    [
        *PARAMS.values(),
        SpaceParams(shufflenet=ShuffleChoices(choices=["shuffle3", "xception"])),
        SpaceParams(name="mobile", mobile=MobileChoices(kernels=[3], expansions=[2, 3, 4], skip=False)),
        SpaceParams(name="mobile", stages=Stages(channels=[16, 16, 24], repeats=[1, 2, 1], strides=[1, 1, 1])),
        SpaceParams(name="darts", darts=DartsChoices(operations=["skip_connect", "sep_conv_3x3"])),
    ],
    ids=str,
)
def test_the_parameters_know_how_many_choices_there_are(params: SpaceParams):
    """They refuse an architecture before torch, which the spaces need, is imported."""
    assert params.choices == make_space(params).choices
    assert params.single == (make_space(params).size == 1)
