"""Step `search`: scores that depend on the path alone, the tie rule, limits, and refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import tiny_chain

from imbnas.steps import search_scoring
from imbnas.training.checkpoint import load_meta

COLUMNS = ["evaluation", "generation", "architecture", "score", "standard_error", "balanced_accuracy"]
COLUMNS += ["accuracy", "worst_class", "macs", "params", "rank", "chosen"]


def table(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "results/search.parquet")


def record(root: Path) -> dict:
    return json.loads((root / "results/architecture.json").read_text())


def test_the_table_holds_every_candidate_once_and_marks_the_best(chain: Path) -> None:
    found = table(chain)
    assert list(found) == COLUMNS
    assert len(found) == found["architecture"].nunique() == 6
    order = found.sort_values(["score", "macs", "architecture"], ascending=[False, True, True])
    assert order["rank"].tolist() == list(range(1, 7))
    assert found["chosen"].tolist() == (found["rank"] == 1).tolist()
    chosen = record(chain)["chosen"]
    best = found[found["chosen"]].iloc[0]
    assert "-".join(map(str, chosen["architecture"])) == best["architecture"]
    assert (chosen["score"], chosen["macs"], chosen["params"]) == (best["score"], best["macs"], best["params"])


def test_scores_do_not_depend_on_company_order_or_method(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    few = table(root).set_index("architecture")["score"]
    assert tiny_chain.run(root, "search", search__method="exhaustive") == 0
    everything = table(root).set_index("architecture")["score"]
    assert len(everything) == 64
    assert everything.loc[few.index].tolist() == few.tolist()
    assert everything.nunique() > 5, "a constant score would make this test empty"


def test_memory_changes_no_byte(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "search", runtime__memory=0.0) == 0
    assert tiny_chain.digests(root, "search") == tiny_chain.digests(chain, "search")


def test_editing_the_budget_may_leave_the_architecture_file_unchanged(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "search", search__method="exhaustive") == 0
    before = (root / "results/architecture.json").read_bytes()
    assert tiny_chain.run(root, "search", search__method="exhaustive", search__population=7, search__parents=3) == 0
    assert (root / "results/architecture.json").read_bytes() == before


@pytest.mark.parametrize("sampling", ["instance", "balanced"])
def test_calibration_sampling_reaches_the_scores(chain: Path, tmp_path: Path, sampling: str) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    calibration = {"rows": 60, "sampling": sampling}
    assert tiny_chain.run(root, "search", search__calibration=calibration) == 0
    assert table(root)["score"].tolist() != table(chain)["score"].tolist()


def test_limits_hold_and_fixed_takes_what_it_is_given(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    limit = int(table(root)["macs"].median())
    assert tiny_chain.run(root, "search", search__max_macs=limit) == 0
    assert table(root)["macs"].max() <= limit
    largest = load_meta(chain / "models/references.safetensors")["networks"]["largest"]["macs"]
    assert tiny_chain.run(root, "search", search__max_macs="0.8x") == 0
    limit = record(root)["limits"]["max_macs"]
    assert (limit, record(root)["limits"]["max_params"]) == (largest * 8 // 10, None)
    assert table(root)["macs"].max() <= limit < table(chain)["macs"].max(), "it binds"
    assert tiny_chain.run(root, "search", search__method="fixed", search__architecture=[1, 2, 3]) == 0
    assert record(root)["chosen"]["architecture"] == [1, 2, 3]
    assert record(root)["chosen"]["score"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search__max_macs": 10}, "search.max_macs"),
        ({"search__max_params": 10}, "search.max_params"),
        ({"search__max_macs": "0.01x"}, "search.max_macs: found 0.01x ("),
        (
            {"search__method": "fixed", "search__architecture": [2, 2, 2], "search__max_macs": 30_000},
            "search.max_macs",
        ),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    chain: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: dict,
    message: str,
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    monkeypatch.setattr(search_scoring, "path_scorer", None)  # nothing is scored, not even prepared
    assert tiny_chain.run(root, "search", **change) == 2
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert message in error


def test_without_validation_rows_search_refuses(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    none = {"search__method": "fixed", "search__architecture": [0] * 3, "target__validation": {"per_class": 0}}
    assert tiny_chain.run(root, "target", "imbalance", "adapt", **none) == 0
    assert tiny_chain.run(root, "search") == 2
    assert "data/target/validation: holds no rows, expected some for search.method random" in capsys.readouterr().err


def test_validation_rows_may_come_from_the_long_tail(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    change = {"target__validation": {"from": "longtail", "fraction": 0.2}}
    assert tiny_chain.run(root, "target", "imbalance", "adapt", "search", **change) == 0
    kept = pd.read_parquet(root / "data/longtail.parquet")
    assert record(root)["validation_rows"] == (kept["split"] == "validation").sum() > 10


def facts(root: Path) -> dict:
    return json.loads((root / "results/search.json").read_text())


def test_another_limit_rule_or_objective_scores_nothing_again(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, fresh = tiny_chain.copy(chain, tmp_path / "kept"), tiny_chain.copy(chain, tmp_path / "fresh")
    assert tiny_chain.run(kept, "search", search__method="exhaustive") == 0
    limit = int(table(kept)["macs"].median())
    change = {
        "search__method": "exhaustive",
        "search__max_macs": limit,
        "search__objective": "accuracy",
        "search__choose": "cheapest-within-one-error",
        "retrain__init": "handed",
    }
    shutil.rmtree(fresh / ".imbnas")
    assert tiny_chain.run(fresh, "search", **change) == 0
    monkeypatch.setattr(search_scoring, "path_scorer", None)  # the supernet is not even read
    assert tiny_chain.run(kept, "search", **change) == 0
    assert tiny_chain.digests(kept, "search") == tiny_chain.digests(fresh, "search")
    assert 1 < len(table(kept)) < 64


def test_other_calibration_rows_are_another_score(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    monkeypatch.setattr(search_scoring, "path_scorer", None)
    for change in (
        {"search__calibration": {"rows": 65}},
        {"search__batch_size": 100},
        {"search__fold_batchnorm": True},
        {"seed": 1},
    ):
        with pytest.raises(TypeError, match="not callable"):
            tiny_chain.run(root, "search", **change)


def test_the_rules_choose_by_the_paired_difference(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "search", search__method="exhaustive") == 0
    best, near = facts(root)["best"], facts(root)["within_one_error"]
    assert facts(root)["chosen"] == best
    assert record(root)["chosen"]["architecture"] == best["architecture"]
    assert 1 < near["count"] < 64
    assert near["cheapest"]["macs"] < best["macs"]
    assert 0.0 < near["cheapest"]["difference"] <= near["cheapest"]["difference_error"]
    rule = {"search__method": "exhaustive", "search__choose": "cheapest-within-one-error"}
    assert tiny_chain.run(root, "search", **rule) == 0
    chosen = record(root)["chosen"]
    assert chosen["architecture"] == near["cheapest"]["architecture"] == facts(root)["chosen"]["architecture"]
    found = table(root)
    assert found[found["chosen"]]["architecture"].tolist() == ["-".join(map(str, chosen["architecture"]))]
    assert found[found["chosen"]]["rank"].item() > 1


def test_what_the_search_knows_agrees_with_its_table(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    assert tiny_chain.run(root, "search", search__method="exhaustive") == 0
    found, known = table(root), facts(root)
    assert known["tau_macs"] == pytest.approx(found["score"].corr(found["macs"], method="kendall"))
    assert known["tau_params"] == pytest.approx(found["score"].corr(found["params"], method="kendall"))
    assert sum(known["halves"]["rows"]) == known["validation_rows"] == record(root)["validation_rows"]
    assert -1.0 <= known["halves"]["tau"] <= 1.0
    front = pd.read_parquet(root / "results/front.parquet")
    assert len(front) < 64
    best = found.sort_values("score").iloc[-1]["score"]
    assert front["score"].max() == best
    assert front["macs"].min() == found["macs"].min()
    assert "of 64 candidates are within one standard error of the best one" in (root / "logs/search.log").read_text()


@pytest.mark.parametrize("method", ["macs", "params", "synflow", "jacobian"])
def test_free_baselines_take_no_validation_rows_and_no_trained_weights(
    chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    none = {"search__method": method, "target__validation": {"per_class": 0}}
    assert tiny_chain.run(root, "target", "imbalance", "adapt", **none) == 0
    monkeypatch.setattr(search_scoring, "path_scorer", None)
    limit = int(table(chain)["macs"].median())
    assert tiny_chain.run(root, "search", **none, search__max_macs=limit) == 0
    found, chosen = table(root), record(root)["chosen"]
    assert len(found) == (1 if method in ("macs", "params") else 6)
    assert found["macs"].max() <= limit
    assert found["standard_error"].isna().all()
    assert chosen["score"] == found["score"].max()
    assert record(root)["objective"] == method
    assert record(root)["validation_rows"] == 0
    assert facts(root)["within_one_error"] is None
    before = tiny_chain.digests(root, "search")
    shutil.rmtree(root / ".imbnas")
    assert tiny_chain.run(root, "search", **none, search__max_macs=limit) == 0
    assert tiny_chain.digests(root, "search") == before


def test_a_score_at_initialisation_depends_on_seed_and_architecture_alone(chain: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    scores = []
    for candidates, seed in ((6, 0), (64, 0), (64, 1)):
        shutil.rmtree(root / ".imbnas")
        change = {"search__method": "jacobian", "search__candidates": candidates, "seed": seed}
        assert tiny_chain.run(root, "search", **change) == 0
        scores.append(table(root).set_index("architecture")["score"])
    few, all_of_them, others = scores
    assert all_of_them.loc[few.index].tolist() == few.tolist()
    assert (all_of_them.sort_index() != others.sort_index()).all()
