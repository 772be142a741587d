from collections import Counter
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from imbnas.data.order import InstanceSampler
from imbnas.errors import UserError
from imbnas.longtail.samplers import (
    SAMPLERS,
    ClassAwareSampler,
    ClassSampler,
    DeferredSampler,
    ProgressiveSampler,
    power_probabilities,
    progressive_probabilities,
)
from imbnas.longtail.schedules import switch_epoch
from imbnas.params.longtail import SamplerName, SamplerParams

TOY = [100, 10, 1]
CIFAR10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
CIFAR100_LT = [int(500 * 0.01 ** (k / 99)) for k in range(100)]


def rows_of(counts, seed=0):
    """Return shuffled labels with the given counts."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


LABELS = rows_of([60, 25, 7, 1])


def every_sampler(labels=LABELS, seed=3):
    counts = np.bincount(labels)
    return {
        "square-root": ClassSampler(labels, seed, power_probabilities(counts, 0.5)),
        "reversed": ClassSampler(labels, seed, power_probabilities(counts, -1.0), rows=50),
        "progressive": ProgressiveSampler(labels, seed, epochs=5),
        "class-aware": ClassAwareSampler(labels, seed),
        "class-aware, natural": ClassAwareSampler(labels, seed, length="natural"),
        "deferred": DeferredSampler(
            InstanceSampler(labels, seed),
            ClassAwareSampler(labels, seed, length="natural"),
            switch=2,
        ),
    }


def test_golden_probabilities():
    close = {"atol": 5.1e-7, "rtol": 0}
    np.testing.assert_allclose(power_probabilities(TOY, 1.0), [0.900901, 0.09009, 0.009009], **close)
    np.testing.assert_allclose(power_probabilities(TOY, 0.0), [1 / 3] * 3, rtol=1e-15)
    np.testing.assert_allclose(power_probabilities(TOY, 0.5), [0.706101, 0.223289, 0.07061], **close)
    np.testing.assert_allclose(power_probabilities(TOY, -1.0), [0.009009, 0.090090, 0.900901], **close)
    half = progressive_probabilities(TOY, 45 / 89)
    np.testing.assert_allclose(half, [0.6139285, 0.2130783, 0.1729932], atol=1e-7, rtol=0)


def test_progressive_endpoints():
    np.testing.assert_allclose(progressive_probabilities(TOY, 0.0), power_probabilities(TOY, 1.0))
    np.testing.assert_allclose(progressive_probabilities(TOY, 1.0), power_probabilities(TOY, 0.0))


def test_reversed_is_bbns_formula():
    inverse = max(CIFAR10_LT) / np.array(CIFAR10_LT)
    np.testing.assert_allclose(power_probabilities(CIFAR10_LT, -1.0), inverse / inverse.sum())


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0, -1.0])
def test_class_frequencies_and_uniform_rows(power):
    counts = [200, 40, 8]
    labels = rows_of(counts)
    probabilities = power_probabilities(counts, power)
    drawn = np.concatenate([ClassSampler(labels, 1, probabilities, rows=20_000).epoch(e) for e in range(2)])
    assert chisquare(np.bincount(labels[drawn], minlength=3), 40_000 * probabilities).pvalue > 1e-3
    for class_ in range(3):
        within = np.bincount(drawn, minlength=len(labels))[labels == class_]
        assert chisquare(within).pvalue > 1e-3


@pytest.mark.parametrize("epoch", [0, 45, 89])
def test_progressive_frequencies(epoch):
    counts = [200, 40, 8]
    labels = rows_of(counts)
    drawn = labels[ProgressiveSampler(labels, 1, epochs=90, rows=20_000).epoch(epoch)]
    expected = progressive_probabilities(counts, epoch / 89)
    assert chisquare(np.bincount(drawn, minlength=3), 20_000 * expected).pvalue > 1e-3


def test_length_conventions():
    for counts, natural in ((CIFAR10_LT, 12_406), (CIFAR100_LT, 10_847)):
        labels = np.repeat(np.arange(len(counts)), counts)
        longest = ClassAwareSampler(labels, 0)
        assert len(longest) == len(longest.epoch(0)) == 50_000
        kept = ClassAwareSampler(labels, 0, length="natural")
        assert len(kept) == len(kept.epoch(0)) == natural
        assert len(ClassSampler(labels, 0, power_probabilities(counts, 0.0))) == natural


def test_class_aware_groups_and_rounds():
    """Each class gives four rows in its turn, and every class has its turn in every round."""
    order = LABELS[ClassAwareSampler(LABELS, 0).epoch(1)].reshape(-1, 4)
    assert (order == order[:, :1]).all()
    rounds = order[:, 0].reshape(-1, 4)
    np.testing.assert_array_equal(np.sort(rounds, axis=1), np.tile(np.arange(4), (len(rounds), 1)))
    assert len({tuple(r) for r in rounds.tolist()}) > 3


def test_class_aware_orders_are_uniform():
    """Which class begins a round, and which row begins a pass, has no favourite."""
    labels = rows_of([6, 6, 6])
    sampler = ClassAwareSampler(labels, 5, per_class=6)
    begins = [sampler.epoch(e).reshape(3, 6)[:, 0] for e in range(2000)]
    assert chisquare(np.bincount([labels[b[0]] for b in begins], minlength=3)).pvalue > 1e-3
    assert chisquare(np.bincount(np.concatenate(begins), minlength=18)).pvalue > 1e-3


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=6),
    st.integers(1, 5),
    st.sampled_from(["longest", "natural"]),
    st.integers(0, 2**40),
)
def test_class_aware_shows_all_rows_before_a_repeat(counts, per_class, length, seed):
    """Also over the borders of epochs: cut a class's draws into pieces of its size, and each holds all its rows."""
    labels = rows_of(counts)
    sampler = ClassAwareSampler(labels, seed, per_class, length)
    drawn = np.concatenate([sampler.epoch(e) for e in range(4)])
    for class_, n in enumerate(counts):
        mine = drawn[labels[drawn] == class_]
        whole = mine[: len(mine) // n * n].reshape(-1, n)
        expected = np.flatnonzero(labels == class_)
        np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(expected, (len(whole), 1)))
        assert len(set(mine[len(whole) * n :])) == len(mine) - len(whole) * n
    if length == "longest":
        first = sampler.epoch(0)
        assert max(Counter(labels[first].tolist()).values()) - len(first) / len(counts) <= per_class


@pytest.mark.parametrize("name", list(every_sampler()))
def test_epochs_are_reproducible_and_differ(name):
    sampler, again, other = every_sampler()[name], every_sampler()[name], every_sampler(seed=4)[name]
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    fourth = sampler.epoch(4)
    sampler.epoch(1)
    np.testing.assert_array_equal(again.epoch(4), fourth)
    assert len(fourth) == len(sampler)
    assert fourth.dtype == np.int64
    assert fourth.min() >= 0
    assert fourth.max() < len(LABELS)
    assert not np.array_equal(sampler.epoch(3), fourth)
    assert not np.array_equal(other.epoch(4), fourth)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_deferred_sampling_takes_effect():
    """The published DRS code builds its loader once, so that its second sampler never acts."""
    counts = [900, 90, 10]
    labels = rows_of(counts)
    switch = switch_epoch(10, 0.8)
    sampler = DeferredSampler(InstanceSampler(labels, 0), ClassAwareSampler(labels, 0, length="natural"), switch)
    shares = [np.bincount(labels[sampler.epoch(e)], minlength=3)[2] / 1000 for e in range(10)]
    assert max(shares[:8]) < 0.03
    assert min(shares[8:]) > 0.32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassAwareSampler([0, 2], 0), "class 1 has 0 training rows"),
        (lambda: ProgressiveSampler([], 0, 3), "labels"),
        (lambda: ClassAwareSampler([0.5, 1.0], 0), "labels: found float64"),
        (lambda: ClassAwareSampler([0, -1], 0), "labels"),
        (lambda: ClassAwareSampler([0, 1], 0, per_class=0), "per_class: found 0"),
        (lambda: ClassAwareSampler([0, 1], 0, length="epoch"), "length: found 'epoch'"),
        (lambda: ClassSampler([0, 1], 0, [1.0]), "probabilities: found shape"),
        (lambda: ClassSampler([0, 1], 0, [0.7, 0.7]), "probabilities: found the sum 1.4"),
        (lambda: ClassSampler([0, 1], 0, [1.5, -0.5]), "none negative"),
        (lambda: ClassSampler([0, 1], 0, [0.5, 0.5], rows=0), "rows: found 0"),
        (lambda: ProgressiveSampler([0, 1], 0, 3).epoch(3), "epoch: found 3 of 3"),
        (lambda: DeferredSampler(ClassAwareSampler(LABELS, 0), every_sampler()["square-root"], 1), "expected equal"),
    ],
)
def test_bad_input(build, message):
    with pytest.raises(UserError, match=message):
        build()


def test_a_class_of_chance_zero_is_never_drawn():
    drawn = ClassSampler(LABELS, 0, [0.0, 0.5, 0.5, 0.0], rows=5000).epoch(0)
    assert set(LABELS[drawn]) == {1, 2}


@pytest.mark.parametrize("name", get_args(SamplerName))
def test_every_sampler_of_the_parameters_is_registered_and_repeatable(name: str) -> None:
    assert set(SAMPLERS) == set(get_args(SamplerName))
    labels = np.repeat(np.arange(3), [30, 9, 3])
    sampler = SAMPLERS[name](SamplerParams(name=name), labels, 7, 5)
    first = [sampler.epoch(epoch) for epoch in range(5)]
    again = SAMPLERS[name](SamplerParams(name=name), labels, 7, 5)
    for epoch in reversed(range(5)):
        rows = again.epoch(epoch)
        np.testing.assert_array_equal(rows, first[epoch])
        assert len(rows) == len(labels)
        assert set(rows.tolist()) <= set(range(len(labels)))
