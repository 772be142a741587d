"""Losses by epoch as the tables that `dvc plots` draws."""

from __future__ import annotations

from pathlib import Path

from imbnas.training.history import write_losses, write_losses_by_network


def test_rows_count_epochs_from_one_and_losses_have_six_decimals(tmp_path: Path) -> None:
    write_losses(tmp_path / "one.csv", [2.5, 1 / 3])
    assert (tmp_path / "one.csv").read_bytes() == b"epoch,loss\n1,2.500000\n2,0.333333\n"
    write_losses_by_network(tmp_path / "more.csv", {"chosen": [1.0], 'a,"b': [2.0, 3.0], "none": []})
    expected = b'network,epoch,loss\nchosen,1,1.000000\n"a,""b",1,2.000000\n"a,""b",2,3.000000\n'
    assert (tmp_path / "more.csv").read_bytes() == expected


def test_a_training_without_epochs_is_a_table_without_rows(tmp_path: Path) -> None:
    write_losses(tmp_path / "one.csv", [])
    write_losses_by_network(tmp_path / "more.csv", {})
    assert (tmp_path / "one.csv").read_text() == "epoch,loss\n"
    assert (tmp_path / "more.csv").read_text() == "network,epoch,loss\n"
