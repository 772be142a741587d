from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.report.plots import write_classes, write_confusion, write_reliability, write_search
from imbnas.report.tables import count, print_results
from imbnas.sealed import write_record


def network(**changes: Any) -> dict[str, Any]:
    row = {
        "balanced_accuracy": 0.65432,
        "accuracy": 0.7,
        "many": 1.0,
        "medium": 0.5,
        "few": None,
        "macs": 412_345_678,
        "params": 5_300_000,
        "intervals": {"balanced_accuracy": [0.6, 0.7111]},
    }
    return {**row, **changes}


def details() -> dict[str, Any]:
    return {
        "dataset": "cifar10",
        "seed": 7,
        "test_rows": 10_000,
        "imbalance": {"counts": [5000, 500, 50], "measured_ratio": 100.0},
        "shots": {"text": "rule in words", "classes": {"many": 2, "medium": 1, "few": 0}},
        "confidence": {"level": 0.95},
        "networks": {"final": network(), "random": network(balanced_accuracy=0.5), "largest": network(macs=9)},
    }


def cost() -> dict[str, Any]:
    entry = {"seconds": 12345.67, "attempts": 2, "device": "cpu", "processor": "Some Processor [R] 9"}
    return {"steps": {"supernet": entry, "retrain": {**entry, "device": "NVIDIA H200"}}, "total_seconds": 24691.34}


def shown(tmp_path: Path, found: Any, spent: Any = None) -> str:
    write_json(tmp_path / "details.json", found)
    if spent is not None:
        write_record(tmp_path / "cost.json", spent)
    text = io.StringIO()
    print_results(tmp_path / "details.json", tmp_path / "cost.json", Console(file=text, width=80))
    return text.getvalue()


class TestTables:
    def test_rows(self, tmp_path: Path) -> None:
        lines = shown(tmp_path, details(), cost()).splitlines()
        rows = {line.split()[0]: line.split()[1:] for line in lines if line.strip()}
        assert rows["chosen"] == ["65.4", "[60.0,", "71.1]", "70.0", "100.0", "50.0", "-", "412M", "5.3M"]
        assert rows["random"][0] == "50.0"
        assert rows["largest"][-2] == "9"
        assert rows["supernet"] == ["12,345.7", "2", "Some", "Processor", "[R]", "9"]
        assert rows["retrain"][2:] == ["NVIDIA", "H200"]
        assert rows["total"] == ["24,691.3"]
        assert "(imbalance ratio 100)" in lines[0]

    def test_fits_eighty_columns_without_cutting(self, tmp_path: Path) -> None:
        text = shown(tmp_path, details(), cost())
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert "\x1b" not in text

    def test_without_costs(self, tmp_path: Path) -> None:
        text = shown(tmp_path, details())
        assert "chosen" in text
        assert "cost.json: not found" in " ".join(text.split())

    def test_missing_results(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"details\.json: not found, expected the output of `imbnas evaluate`"):
            print_results(tmp_path / "details.json", tmp_path / "cost.json", Console())

    @pytest.mark.parametrize(
        "found", [{}, [1], {"confidence": {"level": 0.9}}, {**details(), "networks": {"final": {}}}]
    )
    def test_foreign_file(self, tmp_path: Path, found: Any) -> None:
        with pytest.raises(UserError, match=r"details\.json: ") as caught:
            shown(tmp_path, found)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("number", "text"),
        [
            (0, "0"),
            (999, "999"),
            (1000, "1k"),
            (18_656, "18.7k"),
            (4_310_000, "4.31M"),
            (999_999, "1M"),
            (10**12, "1000G"),
        ],
    )
    def test_counts(self, number: int, text: str) -> None:
        assert count(number) == text


class TestPlots:
    def test_confusion_names_classes(self, tmp_path: Path) -> None:
        write_confusion(tmp_path / "c.csv", np.array([0, 1]), np.array([1, 1]), ["a,b", 'c"d'], np.array([9, 1]))
        assert (tmp_path / "c.csv").read_bytes() == b'actual,predicted\n"a,b","c""d"\n"c""d","c""d"\n'

    def test_confusion_of_many_classes_is_pooled(self, tmp_path: Path) -> None:
        counts = np.arange(200, 0, -1)
        labels = np.arange(200)
        write_confusion(tmp_path / "c.csv", labels, labels[::-1], [str(k) for k in labels], counts)
        table = pd.read_csv(tmp_path / "c.csv")
        assert len(table) == 200
        assert sorted(set(table["actual"]))[0] == "01: 200-191 images"
        assert sorted(set(table["actual"]))[-1] == "20: 10-1 images"
        assert table["predicted"].tolist() == table["actual"].tolist()[::-1]

    def test_hundred_classes_are_not(self, tmp_path: Path) -> None:
        labels = np.arange(100)
        write_confusion(tmp_path / "c.csv", labels, labels, [f"n{k}" for k in labels], labels + 1)
        assert pd.read_csv(tmp_path / "c.csv")["actual"].tolist() == [f"n{k}" for k in labels]

    def test_classes_of_the_final_network(self, tmp_path: Path) -> None:
        table = pd.DataFrame(
            {
                "network": ["final", "final", "final", "random"],
                "label": [0, 1, 2, 0],
                "class": ["a", "b", "c", "a"],
                "count": [5, 50, 7, 5],
                "group": ["few", "medium", "few", "few"],
                "support": [3, 3, 0, 3],
                "recall": [1 / 3, 1.0, np.nan, 0.0],
            }
        )
        write_classes(tmp_path / "c.csv", table)
        assert (tmp_path / "c.csv").read_text() == "class,count,recall,group\nb,50,1.000000,medium\na,5,0.333333,few\n"

    def test_reliability_of_filled_bins(self, tmp_path: Path) -> None:
        table = pd.DataFrame(
            {
                "group": ["all", "all"],
                "lower": [0.0, 0.5],
                "upper": [0.5, 1.0],
                "rows": [0, 3],
                "confidence": [np.nan, 2 / 3],
                "accuracy": [np.nan, 1.0],
            }
        )
        write_reliability(tmp_path / "r.csv", table)
        line = "all,0.500000,1.000000,3,0.666667,1.000000"
        assert (tmp_path / "r.csv").read_text() == f"group,lower,upper,rows,confidence,accuracy\n{line}\n"

    def test_search_leaves_out_what_has_no_score(self, tmp_path: Path) -> None:
        table = pd.DataFrame(
            {
                "evaluation": [0, 1],
                "generation": [0, 0],
                "architecture": ["0", "1"],
                "macs": [10, 20],
                "params": [1, 2],
                "score": [2 / 3, np.nan],
                "standard_error": [0.1, np.nan],
                "chosen": [True, False],
            }
        )
        write_search(tmp_path / "s.csv", table)
        header = "evaluation,generation,macs,params,score,standard_error,chosen"
        assert (tmp_path / "s.csv").read_bytes() == f"{header}\n0,0,10,1,0.666667,0.100000,yes\n".encode()
        write_search(tmp_path / "s.csv", table.assign(latency_ms=0.25, energy_nj=[1 / 3, 2.0]))
        header = "evaluation,generation,macs,params,latency_ms,energy_nj,score,standard_error,chosen"
        line = "0,0,10,1,0.250000,0.333333,0.666667,0.100000,yes"
        assert (tmp_path / "s.csv").read_text() == f"{header}\n{line}\n"
