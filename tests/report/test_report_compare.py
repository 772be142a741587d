from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_project as fake
import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from imbnas.cli import app
from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.longtail.calibration import expected_calibration_error
from imbnas.longtail.intervals import paired_bootstrap
from imbnas.longtail.metrics import summarise
from imbnas.longtail.student import holm
from imbnas.params.evaluate import EvaluateParams, EvaluateView
from imbnas.progress import Log
from imbnas.report.compare import Comparison, compare
from imbnas.report.compare_tables import comparison_json, comparison_markdown, comparison_tables, shown_scores
from imbnas.run.context import Context
from imbnas.run.graph import PATHS
from imbnas.seeds import derive
from imbnas.steps import evaluate

PLACES = (PATHS["details"], PATHS["predictions"])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of a project that `evaluate` has measured."""
    root = tmp_path_factory.mktemp("measured")
    fake.write_project(root)
    params = EvaluateParams(resamples=200, batch_size=64)
    view = EvaluateView(seed=3, space=fake.SPACE, runtime=fake.NUMERICS, evaluate=params)
    evaluate.run(view, Context("evaluate", root, Log("evaluate")))
    return root


Make = Callable[..., str]


@pytest.fixture
def make(results: Path, tmp_path: Path) -> Make:
    """Return a function that makes another finished project: of this seed, loss and share of right answers."""

    def project(name: str, seed: int, loss: str = "ce", right: float = 0.6, **changes: Any) -> str:
        root = tmp_path / name
        (root / "results").mkdir(parents=True)
        shutil.copy(results / PATHS["predictions"], root / PATHS["predictions"])
        details = {**fake.read(results, "details"), "seed": seed, "recipe": {"epochs": 5, "loss": loss}, **changes}
        write_json(root / PATHS["details"], details)
        table = pd.read_parquet(root / PATHS["predictions"])
        rng = np.random.default_rng(derive(seed, name))
        wrong = (table["label"] + rng.integers(1, 4, len(table))) % 4
        table["predicted"] = np.where(rng.random(len(table)) < right, table["label"], wrong).astype(np.int32)
        table.to_parquet(root / PATHS["predictions"])
        return str(root)

    return project


def final(root: str) -> pd.DataFrame:
    table = pd.read_parquet(Path(root) / PATHS["predictions"])
    return table[table["network"] == "final"]


def compared(arguments: list[str], baseline: str | None = None) -> Comparison:
    return compare(arguments, *PLACES, baseline)


def shown_p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


class TestNumbers:
    def test_mean_deviation_and_paired_difference(self, make: Make) -> None:
        ce = [make(f"ce{seed}", seed, "ce", 0.5) for seed in (0, 1, 2)]
        ldam = [make(f"ldam{seed}", seed, "ldam", 0.8) for seed in (0, 1, 2)]
        found = compared([f"CE={','.join(ce)}", f"LDAM={','.join(ldam)}"])
        base, row = found.rows
        assert (base.name, base.differences, row.name, row.pairing) == ("CE", None, "LDAM", "paired")
        labels = final(ce[0])["label"].to_numpy()
        guesses = {root: final(root)["predicted"].to_numpy() for root in (*ce, *ldam)}
        values = {root: summarise(labels, guess, fake.COUNTS, "kang") for root, guess in guesses.items()}
        for score in ("balanced_accuracy", "few", "macro_f1"):
            own = [values[root][score] for root in ldam]
            assert row.scores[score]["mean"] == pytest.approx(np.mean(own))
            assert row.scores[score]["std"] == pytest.approx(np.std(own, ddof=1))
            assert row.scores[score]["n"] == 3
        sure = [final(root)["confidence"].to_numpy() for root in ldam]
        errors = [
            expected_calibration_error(one, guesses[root] == labels) for one, root in zip(sure, ldam, strict=True)
        ]
        assert row.scores["ece"]["mean"] == pytest.approx(np.mean(errors))
        expected = paired_bootstrap(
            labels,
            [guesses[root] for root in ldam],
            [guesses[root] for root in ce],
            fake.COUNTS,
            "kang",
            sure,
            sure,
            resamples=200,
            seed=derive(0, "compare"),
        )
        assert row.differences is not None
        for name in ("few", "macro_f1"):
            # One method is compared with the baseline: there is nothing to correct for.
            assert row.differences[name] == replace(expected[name], p_holm=expected[name].p)
        assert row.differences["balanced_accuracy"].value > 0.15

    def test_the_same_predictions_differ_by_exactly_nothing(self, make: Make, tmp_path: Path) -> None:
        first = make("a", 0)
        shutil.copytree(first, tmp_path / "b")
        row = compared([f"A={first}", f"B={tmp_path / 'b'}"]).rows[1]
        assert row.differences is not None
        assert {(one.value, one.low, one.high) for one in row.differences.values()} == {(0.0, 0.0, 0.0)}
        assert {(one.p, one.covers) for one in row.differences.values()} == {(1.0, "rows")}

    def test_sign_follows_the_baseline(self, make: Make) -> None:
        groups = [f"low={make('low', 0, right=0.3)}", f"high={make('high', 0, right=0.9)}"]
        one = {row.name: row.differences for row in compared(groups).rows}["high"]
        other = {row.name: row.differences for row in compared(groups, "high").rows}["low"]
        assert one is not None
        assert other is not None
        assert one["accuracy"].value == -other["accuracy"].value > 0.3

    def test_p_values_are_corrected_for_the_methods_that_are_compared(self, make: Make) -> None:
        groups = [
            f"{name}={','.join(make(f'{name}{seed}', seed, name, right) for seed in (0, 1, 2))}"
            for name, right in (("ce", 0.5), ("vs", 0.8), ("cdt", 0.7), ("ldam", 0.65))
        ]
        rows = compare(groups, *PLACES, margin=0.05).rows
        for score in ("balanced_accuracy", "few"):
            found = [row.differences[score] for row in rows if row.differences is not None]
            assert [one.p_holm for one in found] == holm([one.p for one in found])
            assert [one.p_equivalent_holm for one in found] == holm([one.p_equivalent or 0.0 for one in found])
            assert min(one.p_holm or 0.0 for one in found) > min(one.p for one in found)

    def test_other_seeds_are_not_paired(self, make: Make) -> None:
        first, second = [make(f"a{seed}", seed) for seed in (0, 1)], [make("b4", 4)]
        assert compared([f"A={','.join(first)}", f"B={second[0]}"]).rows[1].pairing == "independent"

    def test_custom_rule_and_group_without_classes(self, make: Make) -> None:
        shots = {
            "rule": "custom",
            "thresholds": {"many": 59, "few": 5},
            "text": "own",
            "classes": {"many": 2, "medium": 2, "few": 0},
        }
        roots = [make(name, 0, shots=shots) for name in "ab"]
        found = compared([f"A={roots[0]}", f"B={roots[1]}"])
        table = final(roots[0])
        recall = [(table.loc[table["label"] == k, "predicted"] == k).mean() for k in range(4)]
        assert found.rows[0].scores["many"]["mean"] == pytest.approx((recall[0] + recall[1]) / 2)
        assert "few" not in found.rows[0].scores
        with pytest.raises(UserError, match="--group few: no class is in it, by own"):
            shown_scores(found, "few")


class TestGroups:
    def test_bare_directories_are_grouped_by_all_but_the_seed(self, make: Make) -> None:
        roots = [make(f"{loss}{seed}", seed, loss) for seed in (1, 0) for loss in ("ldam", "ce")]
        found = compared(roots)
        assert [row.name for row in found.rows] == ["ldam", "ce"]
        assert [[run.seed for run in row.runs] for row in found.rows] == [[0, 1], [0, 1]]
        assert found.baseline == "ldam"

    def test_what_sets_groups_apart_names_them(self, make: Make) -> None:
        tau = {"tau": 1.0, "counts": fake.COUNTS}
        roots = [make("a", 0), make("b", 0, logit_adjustment=tau), make("c", 0, "vs")]
        assert [row.name for row in compared(roots).rows] == [
            "ce, logit_adjustment 0.0",
            "ce, logit_adjustment 1.0",
            "vs, logit_adjustment 0.0",
        ]

    def test_a_single_group_is_named_by_its_loss(self, make: Make) -> None:
        assert [row.name for row in compared([make("a", 0, "vs"), make("b", 1, "vs")]).rows] == ["vs"]

    def test_an_architecture_that_was_searched_for_does_not_split_a_group(self, make: Make, results: Path) -> None:
        details = fake.read(results, "details")
        networks = {**details["networks"], "final": {**details["networks"]["final"], "architecture": [3, 3]}}
        roots = [make("a", 0), make("b", 1, networks=networks)]
        assert len(compared(roots).rows) == 1
        fixed = {"search": {**details["search"], "method": "fixed"}}
        roots = [make("c", 0, **fixed), make("d", 1, networks=networks, **fixed)]
        assert [row.name for row in compared(roots).rows] == ["architecture [0, 1]", "architecture [3, 3]"]


class TestRefusals:
    def expect(self, text: str, *arguments: str, baseline: str | None = None) -> None:
        with pytest.raises(UserError, match=text) as caught:
            compared(list(arguments), baseline)
        assert "\n" not in str(caught.value)

    def test_other_test_rows(self, make: Make, results: Path) -> None:
        digests = {**fake.read(results, "details")["digests"], "target_test": "1" * 64}
        self.expect(r"a and .*b: found other test rows in each", make("a", 0), make("b", 1, digests=digests))

    def test_other_labels_under_the_same_digest(self, make: Make) -> None:
        first, second = make("a", 0), make("b", 1)
        path = Path(second) / PATHS["predictions"]
        table = pd.read_parquet(path)
        table["label"] = table["label"].to_numpy()[::-1].copy()
        table.to_parquet(path)
        self.expect(r"found other test rows", first, second)

    def test_other_training_counts(self, make: Make, results: Path) -> None:
        imbalance = {**fake.read(results, "details")["imbalance"], "counts": [1, 2, 3, 4]}
        self.expect(r"found other training counts", make("a", 0), make("b", 1, imbalance=imbalance))

    def test_other_rules(self, make: Make) -> None:
        self.expect(r"found other ece in their details", make("a", 0), make("b", 1, ece={"bins": 7, "rule": "x"}))

    def test_seed_twice(self, make: Make) -> None:
        first, second = make("a", 0), make("b", 0)
        self.expect(r"a and .*b: both of seed 0 and one recipe", first, second)
        assert len(compared([f"all={first},{second}"]).rows[0].runs) == 2

    def test_directory_twice(self, make: Make) -> None:
        root = make("a", 0)
        self.expect("a: given twice", root, f"x={root}")

    def test_unknown_baseline(self, make: Make) -> None:
        self.expect("--baseline z: no such group, expected one of x", f"x={make('a', 0)}", baseline="z")

    @pytest.mark.parametrize("argument", ["=d", "x=", "x=d,,d", "y=d"])
    def test_malformed_groups(self, make: Make, argument: str) -> None:
        self.expect(r"expected NAME=DIR,DIR", f"y={make('a', 0)}", argument)

    def test_missing_and_foreign_files(self, make: Make, tmp_path: Path) -> None:
        self.expect(r"nowhere/results/details\.json: not found", str(tmp_path / "nowhere"))
        root = Path(make("a", 0))
        (root / PATHS["predictions"]).unlink()
        self.expect(r"predictions\.parquet: not found, expected the output of `imbnas evaluate`", str(root))
        (root / PATHS["predictions"]).write_bytes(b"PAR1")
        self.expect(r"predictions\.parquet: not a table of predictions", str(root))
        write_json(root / PATHS["details"], {"seed": 1})
        (root / PATHS["predictions"]).write_bytes((Path(make("b", 0)) / PATHS["predictions"]).read_bytes())
        self.expect(r"details\.json: found no ", str(root))

    def test_rows_that_are_missing(self, make: Make) -> None:
        root = make("a", 0)
        path = Path(root) / PATHS["predictions"]
        pd.read_parquet(path).iloc[1:].to_parquet(path)
        self.expect(r"predictions\.parquet: found 59 rows, expected the 60 of", root)


class TestShown:
    def arguments(self, make: Make) -> list[str]:
        groups = (("CE", "ce", 0.6), ("CE again", "ce2", 0.6), ("LDAM-DRW", "ldam", 0.95))
        return [
            f"{name}={','.join(make(f'{word}{seed}', seed, word, right) for seed in range(5))}"
            for name, word, right in groups
        ]

    def test_terminal_fits_and_says_what_zero_does(self, make: Make) -> None:
        found = compared(self.arguments(make))
        text = io.StringIO()
        Console(file=text, width=80).print(comparison_tables(found, shown_scores(found, "few")))
        lines = text.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        assert "…" not in text.getvalue()
        again = [k for k, line in enumerate(lines) if line.strip().startswith("CE again")]
        assert len(again) == 2
        assert all("does not exclude 0" in lines[k + 1] for k in again)
        ldam = [k for k, line in enumerate(lines) if line.strip().startswith("LDAM-DRW")]
        assert not any("does not exclude 0" in lines[k] + lines[k + 1] for k in ldam)
        assert "Accuracy of the few-shot classes (2 classes)" in text.getvalue()

    def test_markdown(self, make: Make) -> None:
        found = compared(self.arguments(make))
        row = found.rows[2]
        lines = comparison_markdown(found, shown_scores(found, None)).splitlines()
        assert "| method | runs | mean ± std | 95% interval | minus CE [95% interval] |" in lines
        assert row.differences is not None
        mean, one = row.scores["balanced_accuracy"], row.differences["balanced_accuracy"]
        low, high = row.intervals["balanced_accuracy"]
        assert mean["mean"] is not None
        assert mean["std"] is not None
        assert (
            f"| LDAM-DRW | 5 | {100 * mean['mean']:.2f} ± {100 * mean['std']:.2f} "
            f"| [{100 * low:.2f}, {100 * high:.2f}] "
            f"| {100 * one.value:+.2f} [{100 * one.low:+.2f}, {100 * one.high:+.2f}]; {shown_p(one.p_holm)} |" in lines
        )
        assert sum("; does not exclude 0; p " in line for line in lines) == 1

    def test_equivalence_is_tested_within_a_margin(self, make: Make) -> None:
        arguments = self.arguments(make)
        wide = CliRunner().invoke(app, ["compare", *arguments, "--markdown", "--margin", "0.6"]).output
        assert "; comparable, p " in next(line for line in wide.splitlines() if line.startswith("| CE again"))
        assert "Comparable: within ±60 points, by two one-sided tests" in wide
        narrow = CliRunner().invoke(app, ["compare", *arguments, "--markdown", "--margin", "0.001"]).output
        assert narrow.count("; not shown comparable, p ") == 2
        wrong = CliRunner().invoke(app, ["compare", *arguments, "--margin", "1"])
        assert str(wrong.exception) == "--margin 1: expected a share above 0 and below 1, as 0.01 for one point"

    def test_a_single_run_is_labelled(self, make: Make) -> None:
        found = compared([f"A={make('a', 0)}", f"B={make('b', 0, right=0.9)}"])
        text = comparison_markdown(found, shown_scores(found, None))
        assert "; test rows only; p" in text
        assert "the interval is of the test rows only" in text
        assert "Student" not in text

    def test_json_holds_every_score(self, make: Make) -> None:
        found = json.loads(json.dumps(comparison_json(compared(self.arguments(make), "LDAM-DRW"))))
        assert found["baseline"] == "LDAM-DRW"
        assert [method["name"] for method in found["methods"]] == ["CE", "CE again", "LDAM-DRW"]
        first, last = found["methods"][0], found["methods"][2]
        assert last["differences"] is None
        assert first["differences"]["balanced_accuracy"]["excludes_zero"] is True
        assert first["differences"]["balanced_accuracy"]["value"] < -0.2
        assert set(first["scores"]["ece"]) == {"mean", "std", "n", "low", "high"}
        assert first["seeds"] == [0, 1, 2, 3, 4]
        assert (found["margin"], first["differences"]["few"]["p_equivalent"]) == (None, None)

    def test_command(self, make: Make) -> None:
        arguments = self.arguments(make)
        result = CliRunner().invoke(app, ["compare", *arguments, "--group", "few", "--markdown"])
        assert result.exit_code == 0, result.output
        assert result.output.count("| method |") == 2
        once = CliRunner().invoke(app, ["compare", *arguments, "--json"]).output
        assert once == CliRunner().invoke(app, ["compare", *arguments, "--json"]).output
        assert json.loads(once)["baseline"] == "CE"
        both = CliRunner().invoke(app, ["compare", *arguments, "--json", "--markdown"])
        assert isinstance(both.exception, UserError)

    def test_unknown_group(self, make: Make) -> None:
        with pytest.raises(UserError, match="--group tiny: expected one of many, medium, few"):
            shown_scores(compared([make("a", 0)]), "tiny")
