"""Published accuracies of NAS-Bench-201: known cells, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imbnas.cell_graph import is_connected, live_cell
from imbnas.errors import UserError
from imbnas.search.lookup import found_cells, read_accuracies
from imbnas.search.scored_cells import Selection
from imbnas.spaces.nasbench201 import from_string
from imbnas.training.checkpoint import save_weights


@pytest.mark.data
def test_the_published_table_is_read_whole(published_accuracies: Path) -> None:
    found = read_accuracies(published_accuracies, "cifar10")
    assert len(found) == 15_625
    assert max(found.values()) == pytest.approx(0.9437, abs=5e-4), "Dong and Yang 2020, table 5"
    conv = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    assert found[from_string(conv)] == pytest.approx(0.9366, abs=1e-6)
    # All skip connections: where DARTS ends in the benchmark's paper.
    skips = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
    assert found[from_string(skips)] == pytest.approx(0.543, abs=0.005)
    assert read_accuracies(published_accuracies, "cifar100")[from_string(conv)] == pytest.approx(0.70293, abs=1e-5)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with pytest.raises(UserError, match=r"table\.csv: not a table"):
        read_accuracies(path, "cifar10")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected a CSV file with the columns"):
        read_accuracies(path, "cifar10")
    path.write_text("ArchitectureString,CIFAR10TestAccuracy200Epochs\n")
    with pytest.raises(UserError, match="holds 0 cells, expected all 15625"):
        read_accuracies(path, "cifar10")
    with pytest.raises(UserError, match="expected one of cifar10"):
        read_accuracies(path, "mnist")


def write_architecture(path: Path, space: str) -> Path:
    path.write_text(json.dumps({"space": space, "chosen": {"architecture": (3, 3, 3, 1, 3, 3)}}))
    return path


def write_references(path: Path) -> Path:
    cells = {"largest": (3, 3, 3, 3, 3, 3), "random-2": (3, 0, 3, 0, 3, 3), "random-1": (1, 1, 1, 1, 1, 1)}
    networks = {name: {"architecture": choices} for name, choices in cells.items()}
    save_weights(path, {}, {"kind": "references", "networks": networks})
    return path


@pytest.mark.data
def test_a_found_cell_is_looked_up(published_accuracies: Path, tmp_path: Path) -> None:
    found, references = write_architecture(tmp_path / "a.json", "nasbench201"), tmp_path / "references.safetensors"
    (alone,), _ = found_cells(found, references, published_accuracies, Selection("cifar10"))
    cells, _ = found_cells(found, write_references(references), published_accuracies, Selection("cifar10"))
    assert [cell.name for cell in cells] == ["chosen", "random-1", "random-2", "largest"]
    chosen, at_random, _, largest = cells
    assert chosen == alone
    assert (
        chosen.cell == "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    )
    accuracies = read_accuracies(published_accuracies, "cifar10")
    ones = [cell for cell in accuracies if is_connected(cell) and live_cell(cell) == cell]
    order = sorted((accuracies[cell] for cell in ones), reverse=True)
    assert len(order) == 9_444, "each function once"
    for cell in (chosen, at_random, largest):
        assert order[cell.rank - 1] == pytest.approx(cell.score)
        assert cell.regret == pytest.approx(order[0] - cell.score)
    # Residual 3x3 convolutions are near the top, skips alone near the bottom.
    assert chosen.rank < 100 < 9_000 < at_random.rank
