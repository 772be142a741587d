import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from imbnas.errors import UserError
from imbnas.longtail.calibration import expected_calibration_error
from imbnas.longtail.difference import corrected
from imbnas.longtail.intervals import bootstrap, differences, intervals, over_seeds, paired_bootstrap
from imbnas.longtail.metrics import SCORES, standard_error, summarise
from imbnas.longtail.resampling import resample
from imbnas.longtail.student import difference_of_runs, holm, mean_of_runs

ECE = ["ece", "ece_many", "ece_medium", "ece_few"]


def toy():
    """Return three classes with recalls 1, 1/2 and 1/4, trained on 200, 50 and 5 rows."""
    labels = [0] * 2 + [1] * 4 + [2] * 4
    predictions = [0, 0, 1, 1, 0, 0, 2, 0, 0, 1]
    return labels, predictions, [200, 50, 5]


def ends(one):
    return one.value, one.low, one.high


def simulated(rows=120, seed=7):
    rng = np.random.default_rng(seed)
    recall = np.linspace(0.95, 0.3, 10)
    labels = np.tile(np.arange(10), rows)
    wrong = (labels + rng.integers(1, 10, len(labels))) % 10
    predictions = np.where(rng.random(len(labels)) < recall[labels], labels, wrong)
    return labels, predictions, [int(5000 * 0.01 ** (k / 9)) for k in range(10)]


def by_hand(labels, predictions, counts, confidence, resamples, seed):
    """Return each score on every resample, computed from the drawn rows one resample after the other."""
    labels, predictions, confidence = map(np.asarray, (labels, predictions, confidence))
    order = np.argsort(labels, kind="stable")
    rows = np.bincount(labels)[labels[order]]
    first = np.searchsorted(labels[order], labels[order])
    rng = np.random.default_rng(seed)
    found = {}
    for _ in range(resamples):
        drawn = order[first + rng.integers(0, rows)]
        summary = summarise(labels[drawn], predictions[drawn], counts, "kang")
        right = labels[drawn] == predictions[drawn]
        values = {name: summary[name] for name in SCORES}
        values["ece"] = expected_calibration_error(confidence[drawn], right, 10)
        for name, inside in (("many", np.asarray(counts) > 100), ("few", np.asarray(counts) < 20)):
            chosen = inside[labels[drawn]]
            values[f"ece_{name}"] = expected_calibration_error(confidence[drawn][chosen], right[chosen], 10)
        for name, value in values.items():
            found.setdefault(name, []).append(value)
    return found


class TestBootstrap:
    def test_against_a_loop_over_resamples(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, 50)
        predictions = np.where(rng.random(50) < 0.6, labels, rng.integers(0, 4, 50))
        confidence, counts = rng.random(50), [300, 150, 50, 5]
        expected = by_hand(labels, predictions, counts, confidence, 40, seed=5)
        run = resample(labels, [predictions], counts, "kang", [confidence], 10, 40, seed=5)[0]
        assert set(run.draws) == {*SCORES, *ECE}
        for name, values in expected.items():
            np.testing.assert_allclose(run.draws[name], values, atol=1e-12, err_msg=name)
        found = bootstrap(labels, predictions, counts, "kang", confidence, 10, 40, 0.9, 5)
        assert found["few"] == pytest.approx(np.quantile(expected["few"], [0.05, 0.95]))
        ece = expected_calibration_error(confidence, labels == predictions, 10)
        low, high = np.quantile(expected["ece"], [0.05, 0.95])
        assert found["ece"] == pytest.approx((max(2 * ece - high, 0), 2 * ece - low))

    def test_values_are_those_of_the_rows_themselves(self):
        labels, predictions, counts = simulated(30)
        confidence = np.random.default_rng(1).random(len(labels))
        run = resample(labels, [predictions], counts, "kang", [confidence], 15, 2)[0]
        summary = summarise(labels, predictions, counts, "kang")
        assert {name: run.values[name] for name in SCORES if name != "few"} == {
            name: summary[name] for name in SCORES if name != "few"
        }
        assert run.values["ece"] == expected_calibration_error(confidence, labels == predictions)
        inside = np.asarray(counts)[labels] > 100
        right = labels == predictions
        assert run.values["ece_many"] == expected_calibration_error(confidence[inside], right[inside])

    def test_more_rows_than_are_drawn_at_once(self, monkeypatch):
        data = simulated(20)
        whole = bootstrap(*data, "kang", resamples=50, seed=4)
        monkeypatch.setattr("imbnas.longtail.resampling._CHUNK", 999)
        assert bootstrap(*data, "kang", resamples=50, seed=4) == whole

    def test_agrees_with_the_standard_error(self):
        labels, predictions, counts = simulated()
        summary = summarise(labels, predictions, counts, "kang")
        found = bootstrap(labels, predictions, counts, "kang", seed=1)
        error = standard_error(summary["recall"], summary["support"])
        low, high = found["balanced_accuracy"]
        assert (high - low) / (2 * 1.959964) == pytest.approx(error, rel=0.06)
        assert (low + high) / 2 == pytest.approx(summary["balanced_accuracy"], abs=0.1 * error)
        for name in ("accuracy", "many", "medium", "macro_f1"):
            assert found[name][0] < summary[name] < found[name][1]

    def test_is_seeded_and_wider_at_a_higher_level(self):
        data = simulated(20)
        first = bootstrap(*data, "kang", resamples=200, seed=4)
        assert first == bootstrap(*data, "kang", resamples=200, seed=4)
        assert first != bootstrap(*data, "kang", resamples=200, seed=5)
        wide = bootstrap(*data, "kang", resamples=200, level=0.99, seed=4)
        assert all(wide[name][0] <= first[name][0] and first[name][1] <= wide[name][1] for name in first)

    def test_order_within_a_class_of_equal_outcomes_does_not_matter(self):
        labels, predictions, counts = toy()
        shuffled = [2, 1, 0, 2, 1, 0, 2, 1, 2, 1]
        moved = [2, 1, 0, 0, 1, 0, 0, 0, 1, 0]
        assert bootstrap(shuffled, moved, counts, "kang", resamples=50) == bootstrap(
            labels, predictions, counts, "kang", resamples=50
        )

    def test_is_stratified(self):
        """A class whose rows are all right stays so in every resample, and one single row can only be itself."""
        found = bootstrap([0, 0, 0, 1], [0, 0, 0, 0], [200, 5], "kang", resamples=50)
        assert found["many"] == (1.0, 1.0)
        assert found["few"] == (0.0, 0.0)
        assert found["accuracy"] == (0.75, 0.75)
        assert set(found) == set(SCORES) - {"medium", "worst_class"}

    def test_class_without_test_rows(self):
        found = bootstrap([0, 0, 2], [0, 1, 2], [9, 8, 7], "kang", resamples=300)
        assert found["balanced_accuracy"] == (0.5, 1.0)

    def test_calibrated_network_has_a_calibration_error_near_zero_in_its_interval(self):
        """The truth is below 0.001. Percentiles stay far above it: each resample adds to the estimate's own bias."""
        rng = np.random.default_rng(3)
        confidence = rng.beta(5, 2, 4000)
        labels = np.zeros(4000, int)
        predictions = np.where(rng.random(4000) < confidence, 0, 1)
        low, high = bootstrap(labels, predictions, [9, 9], "kang", confidence, resamples=400)["ece"]
        run = resample(labels, [predictions], [9, 9], "kang", [confidence], 15, 400)[0]
        assert run.values["ece"] == pytest.approx(0.017, abs=1e-3)
        assert np.quantile(run.draws["ece"], [0.025, 0.5]) == pytest.approx([0.016, 0.024], abs=2e-3)
        assert low < 0.005
        assert high == pytest.approx(0.018, abs=2e-3)

    @pytest.mark.parametrize("name", ["harmonic_mean", "geometric_mean"])
    def test_means_that_noise_lowers_are_covered(self, name):
        """Of 60 test splits with 60 classes of 40 rows; plain percentiles cover fewer, as they lie too low."""
        rng = np.random.default_rng(0)
        recall = rng.beta(6, 4, 60)
        true = 1 / (1 / recall).mean() if name == "harmonic_mean" else np.exp(np.log(recall).mean())
        labels = np.repeat(np.arange(60), 40)
        covered = plain = 0
        for seed in range(60):
            predictions = np.where(rng.random(len(labels)) < recall[labels], labels, (labels + 1) % 60)
            low, high = bootstrap(labels, predictions, [9] * 60, "kang", resamples=200, seed=seed)[name]
            covered += low <= true <= high
            value = summarise(labels, predictions, [9] * 60, "kang")[name]
            plain += 2 * value - high <= true <= 2 * value - low
        # 57 are nominal, with a standard deviation of 1.7.
        assert covered >= 54
        assert plain < 50

    def test_without_confidence_no_calibration_error(self):
        assert not {"ece", "ece_many"} & set(bootstrap(*toy(), "kang", resamples=2))


class TestDifferences:
    def test_by_hand_over_all_resamples_of_two_rows(self):
        """One class of two rows: b gets the first right, a both; a resample's difference is the share of row two."""
        found = paired_bootstrap([0, 0], [0, 0], [0, 1], [5, 5], "kang", resamples=4000, level=0.6)
        assert ends(found["accuracy"]) == (0.5, 0.0, 1.0)
        inner = paired_bootstrap([0, 0], [0, 0], [0, 1], [5, 5], "kang", resamples=4000, level=0.4)
        assert ends(inner["accuracy"]) == (0.5, 0.5, 0.5)
        # A quarter of the resamples has no difference, and none is below 0.
        assert found["accuracy"].p == pytest.approx(0.5, abs=0.03)
        assert found["accuracy"].covers == "rows"

    def test_variance_is_that_of_the_rows_where_they_differ(self):
        labels, a, counts = simulated(200)
        b = a.copy()
        b[::7] = labels[::7]
        found = paired_bootstrap(labels, b, a, counts, "kang", seed=2)["accuracy"]
        changed = (b == labels).astype(int) - (a == labels)
        assert found.value == pytest.approx(changed.mean())
        error = np.sqrt(sum(changed[labels == k].var() * 200 for k in range(10))) / len(labels)
        assert (found.high - found.low) / (2 * 1.959964) == pytest.approx(error, rel=0.06)
        alone = bootstrap(labels, a, counts, "kang")["accuracy"]
        assert found.high - found.low < 0.6 * (alone[1] - alone[0])

    @settings(deadline=None, max_examples=20)
    @given(st.integers(1, 4), st.integers(0, 99), st.sampled_from(["paired", "fixed"]))
    def test_identical_predictions_differ_by_exactly_zero(self, runs, seed, seeds):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 5, 40)
        predictions, sure = rng.integers(0, 5, (runs, 40)), rng.random((runs, 40))
        found = paired_bootstrap(
            labels, predictions, predictions, [300, 50, 50, 9, 1], "kang", sure, sure, resamples=20, seeds=seeds
        )
        assert set(found) >= {"balanced_accuracy", "ece"}
        assert {ends(one) for one in found.values()} == {(0.0, 0.0, 0.0)}
        assert {one.p for one in found.values()} == {1.0}
        assert not any(one.excludes_zero for one in found.values())

    def test_is_antisymmetric(self):
        labels, a, counts = simulated(20)
        b = simulated(20, seed=8)[1]
        forth = paired_bootstrap(labels, a, b, counts, "kang", resamples=101)
        back = paired_bootstrap(labels, b, a, counts, "kang", resamples=101)
        for name, one in forth.items():
            assert (one.value, one.low) == pytest.approx((-back[name].value, -back[name].high), abs=1e-12)

    def test_mean_over_seeds_and_seeds_fixed(self):
        """With fixed runs a resample's difference is the mean of the runs' own differences on its rows."""
        labels, _, counts = simulated(30)
        a, b = ([simulated(30, seed=s)[1] for s in seeds] for seeds in ((1, 2, 3), (4, 5)))
        runs = resample(labels, [*a, *b], counts, "kang", resamples=60, seed=9)
        expected = sum(run.draws["few"] if "few" in run.draws else run.draws["medium"] for run in runs[:3]) / 3
        expected = expected - sum(run.draws["medium"] for run in runs[3:]) / 2
        found = paired_bootstrap(labels, a, b, counts, "kang", resamples=60, seed=9, seeds="fixed", level=0.8)
        assert (found["medium"].low, found["medium"].high) == pytest.approx(np.quantile(expected, [0.1, 0.9]))
        values = [summarise(labels, one, counts, "kang")["medium"] for one in (*a, *b)]
        assert found["medium"].value == pytest.approx(np.mean(values[:3]) - np.mean(values[3:]))

    def test_seeds_add_the_noise_of_training(self):
        """Runs without row noise, accuracies 0, 0, 1 against 0: Student's t of them, where resamples see half of it."""
        labels = [0] * 6
        a, b = [[1] * 6, [1] * 6, [0] * 6], [[1] * 6] * 3
        arguments = (labels, a, b, [5, 5], "kang")
        fixed = paired_bootstrap(*arguments, seeds="fixed", resamples=500)["accuracy"]
        assert ends(fixed) == (1 / 3, 1 / 3, 1 / 3)
        expected = stats.ttest_1samp([0, 0, 1], 0.0)
        found = paired_bootstrap(*arguments, resamples=50, level=0.9)["accuracy"]
        assert found.covers == "seeds and rows"
        assert found.p == pytest.approx(expected.pvalue)
        assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.9))
        # b has no variance, and so no part in the degrees of freedom.
        apart = paired_bootstrap(*arguments, resamples=50, level=0.9, seeds="independent")["accuracy"]
        assert ends(apart) == pytest.approx(ends(found))

    @pytest.mark.parametrize("seeds", ["paired", "independent"])
    def test_the_variance_of_the_rows_is_added(self, seeds):
        """The bootstrap's is that of the mean difference of a row's outcomes, class by class."""
        labels, _, counts = simulated(60)
        a, b = (np.array([simulated(60, seed=s)[1] for s in kinds]) for kinds in ((1, 2, 3), (4, 5, 6)))
        found = paired_bootstrap(labels, a, b, counts, "kang", resamples=4000, seeds=seeds, margin=0.2)["accuracy"]
        apart = (a == labels).mean(axis=0) - (b == labels).mean(axis=0)
        rows = sum(apart[labels == k].var() * 60 for k in range(10)) / len(labels) ** 2
        one, other = (a == labels).mean(axis=1), (b == labels).mean(axis=1)
        made = mean_of_runs(one - other, rows) if seeds == "paired" else difference_of_runs(one, other, rows)
        assert found.high - found.low == pytest.approx(np.subtract(*made.ends(0.95)[::-1]), rel=0.1)
        assert found.value == pytest.approx(float(made.value))
        assert found.p == pytest.approx(float(made.p()), abs=0.05)
        assert found.p_equivalent == pytest.approx(float(made.p_equivalent(0.2)), abs=0.02)

    @pytest.mark.parametrize("runs", [(1, 1), (1, 3), (3, 1)])
    def test_a_single_run_gives_the_interval_of_the_rows_and_says_so(self, runs):
        labels, _, counts = simulated(20)
        a, b = ([simulated(20, seed=s)[1] for s in range(10 * n, 10 * n + n)] for n in runs)
        found = paired_bootstrap(labels, a, b, counts, "kang", seeds="independent", resamples=200)["accuracy"]
        assert found == paired_bootstrap(labels, a, b, counts, "kang", seeds="fixed", resamples=200)["accuracy"]
        assert found.covers == "rows"

    def test_equivalence_of_one_run_counts_the_resamples_beyond_the_margin(self):
        found = [
            paired_bootstrap([0, 0], [0, 0], [0, 1], [5, 5], "kang", resamples=4000, margin=margin)["accuracy"]
            for margin in (0.4, 0.75, 1.5)
        ]
        # The difference is 0, a half or 1, in a quarter, a half and a quarter of the resamples.
        assert [one.p_equivalent for one in found] == pytest.approx([0.75, 0.25, 0.0], abs=0.03)

    def test_a_family_is_corrected(self):
        labels, first, counts = simulated(40)
        others = [np.where(np.arange(len(labels)) % k == 0, labels, first) for k in (31, 37, 41)]
        family = [
            paired_bootstrap(labels, other, first, counts, "kang", resamples=200, margin=0.01)["accuracy"]
            for other in others
        ]
        found = corrected(family)
        assert [one.p_holm for one in found] == holm([one.p for one in family])
        assert [one.p_equivalent_holm for one in found] == holm([one.p_equivalent for one in family])
        assert [ends(one) for one in found] == [ends(one) for one in family]

    def test_pairing_of_seeds_removes_what_they_share(self):
        """Every run of a is right on one row more than the run of b under its seed, whatever that one's accuracy."""
        labels = [0] * 10
        b = [[0] * k + [1] * (10 - k) for k in (2, 5, 8)]
        a = [[0] * (k + 1) + [1] * (9 - k) for k in (2, 5, 8)]
        runs = resample(labels, [*a, *b], [5, 5], "kang", resamples=800)
        spread = {
            seeds: differences(runs[:3], runs[3:], 0.95, seeds)["accuracy"] for seeds in ("paired", "independent")
        }
        assert spread["paired"].value == spread["independent"].value == pytest.approx(0.1)
        width = {seeds: one.high - one.low for seeds, one in spread.items()}
        assert width["paired"] < 0.4
        assert width["independent"] > 1.0

    def test_calibration_errors_differ_by_their_mirrored_interval(self):
        labels, a, counts = simulated(40)
        rng = np.random.default_rng(0)
        sure, less = rng.uniform(0.9, 1.0, len(labels)), rng.uniform(0.5, 0.8, len(labels))
        found = paired_bootstrap(labels, a, a, counts, "kang", sure, less, resamples=300)["ece"]
        runs = resample(labels, [a, a], counts, "kang", [sure, less], resamples=300)
        low, high = np.quantile(runs[0].draws["ece"] - runs[1].draws["ece"], [0.025, 0.975])
        assert (found.low, found.high) == pytest.approx((2 * found.value - high, 2 * found.value - low))
        assert found.excludes_zero


class TestIntervals:
    def test_one_run_is_the_plain_bootstrap(self):
        data = simulated(20)
        run = resample(data[0], [data[1]], data[2], "kang", resamples=80, seed=3)
        assert intervals(run, 0.9, "fixed") == intervals(run, 0.9) == bootstrap(*data, "kang", None, 15, 80, 0.9, 3)

    def test_seeds_widen_the_interval_of_their_mean(self):
        labels, predictions, counts = simulated(50)
        worse = np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % 10, predictions)
        runs = resample(labels, [predictions, worse], counts, "kang", resamples=400)
        fixed, both = (intervals(runs, 0.95, seeds)["accuracy"] for seeds in ("fixed", "counted"))
        assert both[1] - both[0] > 3 * (fixed[1] - fixed[0])
        middle = (runs[0].values["accuracy"] + runs[1].values["accuracy"]) / 2
        assert fixed[0] < middle < fixed[1]


class TestOverSeeds:
    def test_mean_and_sample_deviation(self):
        found = over_seeds([{"few": 0.1, "name": "x"}, {"few": 0.2, "name": "y"}, {"few": 0.6, "name": "z"}])
        assert list(found) == ["few"]
        assert found["few"]["mean"] == pytest.approx(0.3)
        assert found["few"]["std"] == pytest.approx(np.sqrt((0.04 + 0.01 + 0.09) / 2))
        assert found["few"]["n"] == 3

    def test_single_run_and_empty_group(self):
        assert over_seeds([{"a": 0.5, "few": None}]) == {
            "a": {"mean": 0.5, "std": None, "n": 1},
            "few": {"mean": None, "std": None, "n": 0},
        }
        assert over_seeds([]) == {}

    def test_missing_score(self):
        with pytest.raises(UserError, match="scores of run 1: found no few"):
            over_seeds([{"few": 0.5}, {"many": 0.5}])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap([0], [0], [1], "kang", resamples=0), "found 0 resamples"),
        (lambda: bootstrap([0], [0], [1], "kang", level=1.0), "level: found 1.0"),
        (lambda: bootstrap([0], [0], [1], "kang", [1.5]), "row 0 has 1.5"),
        (lambda: bootstrap([0, 1], [0, 2], [1, 1], "kang"), "predictions: found int64 from 0 to 2"),
        (lambda: paired_bootstrap([0], [[0], [0]], [0], [1], "kang"), "found 2 and 1, expected as many"),
        (lambda: paired_bootstrap([0], [0, 0], [0], [1], "kang"), r"expected \(rows,\) twice"),
        (lambda: intervals([]), "found no runs"),
        (
            lambda: paired_bootstrap([0], [0], [0], [1], "kang", margin=0.0),
            "margin: found 0.0, expected a number above",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
