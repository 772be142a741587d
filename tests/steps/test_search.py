"""Step `search`: scores that depend on the path alone, the tie rule, limits, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import tiny_chain

from imbnas.steps import search

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
    assert all(entry["macs"] <= limit for entry in record(root)["references"].values())
    assert tiny_chain.run(root, "search", search__method="fixed", search__architecture=[1, 2, 3]) == 0
    assert record(root)["chosen"]["architecture"] == [1, 2, 3]
    assert record(root)["chosen"]["score"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"search__max_macs": 10}, "search.max_macs"),
        ({"search__max_params": 10}, "search.max_params"),
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
    monkeypatch.setattr(search, "path_scorer", None)  # nothing is scored, not even prepared
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
