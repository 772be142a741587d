from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.data.class_sizes import (
    choose_rows,
    class_counts,
    exponential,
    from_file,
    index_digest,
    inverse_ratio,
    pareto,
    step,
)
from imbnas.errors import UserError


def counts_of(profile, ratio, available, n_max=None, order="native", seed=0, file=None):
    available = np.asarray(available)
    names = [f"c{k}" for k in range(len(available))]
    return class_counts(profile, ratio, available, n_max, order, seed, file, names)


# Totals and smallest class of CIFAR-10-LT and CIFAR-100-LT as the literature's code makes them.
TOTALS = [
    (10, 10, 20431, 500),
    (10, 20, 17023, 250),
    (10, 50, 13996, 100),
    (10, 100, 12406, 50),
    (10, 200, 11203, 25),
    (10, 256, 10844, 19),
    (10, 500, 10011, 10),
    (100, 10, 19573, 50),
    (100, 20, 15907, 25),
    (100, 50, 12608, 10),
    (100, 100, 10847, 5),
    (100, 200, 9502, 2),
    (100, 256, 9098, 1),
    (100, 500, 8155, 1),
]


@pytest.mark.parametrize(("classes", "ratio", "total", "smallest"), TOTALS)
def test_exponential_totals_are_the_published_ones(classes, ratio, total, smallest):
    counts = counts_of("exponential", ratio, np.full(classes, 50_000 // classes))
    assert (int(counts.sum()), int(counts.min()), int(counts[0])) == (total, smallest, 50_000 // classes)
    np.testing.assert_array_equal(counts, counts_of("exponential", 1 / ratio, np.full(classes, 50_000 // classes)))


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (10, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
        (50, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]),
        (100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
        (200, [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25]),
    ],
)
def test_exponential_counts_of_cifar10(ratio, expected):
    assert exponential(5000, ratio, 10).tolist() == expected


@pytest.mark.parametrize(
    ("classes", "ratio", "groups"),
    [
        (100, 10, (69, 31, 0)),
        (100, 20, (53, 47, 0)),
        (100, 50, (41, 41, 18)),
        (100, 100, (35, 35, 30)),
        (100, 200, (30, 31, 39)),
        (100, 256, (29, 29, 42)),
        (100, 500, (26, 26, 48)),
        (10, 10, (10, 0, 0)),
        (10, 50, (9, 1, 0)),
        (10, 100, (8, 2, 0)),
        (10, 200, (7, 3, 0)),
        (10, 256, (7, 2, 1)),
        (10, 500, (6, 2, 2)),
    ],
)
def test_many_medium_few(classes, ratio, groups):
    counts = exponential(50_000 // classes, ratio, classes)
    many, few = int((counts > 100).sum()), int((counts < 20).sum())
    assert (many, classes - many - few, few) == groups


@pytest.mark.parametrize("classes", [10, 100])
def test_step_totals(classes):
    assert step(50_000 // classes, 100, classes).sum() == 25_250


def test_step_keeps_the_middle_class_of_an_odd_number():
    assert step(100, 10, 5).tolist() == [100, 100, 10, 10, 10]


def test_pareto_is_a_power_law_that_meets_the_ratio():
    counts = pareto(5000, 100, 10)
    # 5000 * 2^-2 = 1250, since ln 100 / ln 10 = 2.
    assert counts.tolist() == [5000, 1250, 555, 312, 200, 138, 102, 78, 61, 50]
    assert pareto(500, 7, 3).tolist()[-1] == 500 // 7


@given(
    profile=st.sampled_from(["exponential", "step", "pareto"]),
    ratio=st.floats(1.0, 500.0),
    classes=st.integers(2, 120),
    n_max=st.integers(500, 100_000),
)
@settings(deadline=None)
def test_profiles_fall_from_n_max_to_n_min(profile, ratio, classes, n_max):
    counts = counts_of(profile, ratio, np.full(classes, n_max))
    assert counts[0] == n_max
    assert (np.diff(counts) <= 0).all()
    assert counts[-1] == int(n_max * (1 / ratio)) >= 1


@given(
    profile=st.sampled_from(["exponential", "step", "pareto"]),
    order=st.sampled_from(["native", "reversed", "shuffled"]),
    available=st.lists(st.integers(30, 400), min_size=2, max_size=30),
)
@settings(deadline=None)
def test_default_n_max_is_the_largest_possible(profile, order, available):
    counts = counts_of(profile, 10, available, order=order)
    assert (counts <= available).all()
    with pytest.raises(UserError, match=r"imbalance\.n_max"):
        counts_of(profile, 10, available, n_max=int(counts.max()) + 1, order=order)


def test_order_says_which_class_is_the_head():
    native = counts_of("exponential", 100, np.full(10, 500))
    assert counts_of("exponential", 100, np.full(10, 500), order="reversed").tolist() == native.tolist()[::-1]
    shuffled = counts_of("exponential", 100, np.full(10, 500), order="shuffled", seed=3)
    assert sorted(shuffled, reverse=True) == native.tolist()
    assert shuffled.tolist() not in (native.tolist(), native.tolist()[::-1])
    np.testing.assert_array_equal(shuffled, counts_of("exponential", 100, np.full(10, 500), None, "shuffled", 3))
    assert shuffled.tolist() != counts_of("exponential", 100, np.full(10, 500), None, "shuffled", 4).tolist()


def test_natural_keeps_every_row():
    assert counts_of("natural", 20, [7, 3, 5]).tolist() == [7, 3, 5]


@pytest.mark.parametrize(("given_ratio", "inverse"), [(100, 0.01), (0.01, 0.01), (1, 1.0), (20.0, 0.05)])
def test_ratio_in_both_orientations(given_ratio, inverse):
    assert inverse_ratio(given_ratio) == inverse


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_ratio_is_refused(ratio):
    with pytest.raises(UserError, match=r"imbalance\.ratio"):
        inverse_ratio(ratio)


def test_a_class_without_a_row_is_refused_by_name():
    with pytest.raises(UserError, match=r"imbalance\.ratio: 1000 with 500 rows .* class 'c9' without a row"):
        counts_of("exponential", 1000, np.full(10, 500))


def test_too_large_n_max_names_the_class():
    with pytest.raises(UserError, match=r"imbalance\.n_max 50: class 'c0' needs 50 rows and has 40"):
        counts_of("exponential", 2, [40, 40], n_max=50)


def test_counts_from_a_file(tmp_path: Path):
    file = tmp_path / "counts.txt"
    file.write_text("5\n\n3\n 4 \n")
    assert from_file(file, ["a", "b", "c"]).tolist() == [5, 3, 4]
    assert counts_of("counts", 20, [9, 3, 4], file=file).tolist() == [5, 3, 4]
    with pytest.raises(UserError, match=r"counts.txt: class 'c1' needs 3 rows and has 2"):
        counts_of("counts", 20, [9, 2, 4], file=file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5\n0\n", "counts.txt:2: found '0'"),
        ("5\n-1\n", "counts.txt:2: found '-1'"),
        ("5\n2.0\n", "counts.txt:2: found '2.0'"),
        ("5\n²\n", "counts.txt:2: found '²'"),
        ("5\n", "counts.txt: 1 counts, expected 2"),
        ("5\n4\n3\n", "counts.txt: 3 counts, expected 2"),
    ],
)
def test_bad_counts_files(tmp_path: Path, text, message):
    (tmp_path / "counts.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        from_file(tmp_path / "counts.txt", ["a", "b"])


def test_absent_counts_file(tmp_path: Path):
    with pytest.raises(UserError, match=r"none.txt: No such file"):
        from_file(tmp_path / "none.txt", ["a", "b"])


DIGESTS = [
    (10, 10, "b119a84a3556a73b"),
    (10, 50, "980b1ecb2f4bcfc0"),
    (10, 100, "563055e23a86ca16"),
    (10, 200, "329787ed8d5a0ab4"),
    (100, 10, "ba33221ce300fee4"),
    (100, 50, "eef4ef95f7d1acbc"),
    (100, 100, "7ebcb6242d814b39"),
    (100, 200, "8b8b7fc379387fcb"),
]


@pytest.mark.parametrize(("classes", "ratio", "digest"), DIGESTS)
def test_chosen_rows_are_those_of_the_reference_code(classes, ratio, digest):
    labels = np.arange(50_000) % classes
    rows = choose_rows(labels, exponential(50_000 // classes, ratio, classes), 0)
    first = {10: [3980, 38330, 48360, 45720, 6360], 100: [9000, 25400, 28300, 44500, 46100]}[classes]
    assert rows[:5].tolist() == first
    assert index_digest(rows) == digest


@given(seed=st.integers(0, 2**31 - 1), classes=st.integers(2, 40), data=st.data())
@settings(deadline=None)
def test_choice_invariants(seed, classes, data):
    generator = np.random.default_rng(data.draw(st.integers(0, 99)))
    labels = generator.integers(0, classes, 600)
    available = np.bincount(labels, minlength=classes)
    large = generator.integers(0, available + 1)
    small = generator.integers(0, large + 1)
    before = np.random.get_state()[1].copy()
    rows, fewer = choose_rows(labels, large, seed), choose_rows(labels, small, seed)
    assert (np.random.get_state()[1] == before).all()
    assert len(np.unique(rows)) == len(rows)
    np.testing.assert_array_equal(labels[rows], np.repeat(np.arange(classes), large))
    # Per class the smaller choice is the beginning of the larger one: subsets are nested.
    for k in range(classes):
        np.testing.assert_array_equal(fewer[labels[fewer] == k], rows[labels[rows] == k][: small[k]])


def test_choice_is_that_of_the_plain_reference_loop():
    labels = np.random.default_rng(1).integers(0, 7, 300)
    counts = np.array([9, 8, 7, 6, 5, 4, 3])
    reference, random = [], np.random.RandomState(5)
    for k in range(7):
        where = np.where(labels == k)[0]
        random.shuffle(where)
        reference.append(where[: counts[k]])
    np.testing.assert_array_equal(choose_rows(labels, counts, 5), np.concatenate(reference))


def test_more_classes_than_sixteen_bits_hold():
    labels = np.arange(70_000)[::-1].copy()
    rows = choose_rows(labels, np.ones(70_000, dtype=np.int64), 0)
    np.testing.assert_array_equal(labels[rows], np.arange(70_000))


def test_the_module_needs_neither_torch_nor_pil():
    code = "import sys, imbnas.steps.imbalance; print([m for m in ('torch', 'PIL', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
