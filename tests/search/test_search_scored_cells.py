"""Tables of scores: any column and any set of cells, and files that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from imbnas.errors import UserError
from imbnas.search.lookup import found_cells
from imbnas.search.scored_cells import PUBLISHED, Selection, choices_of, default_column, read_scores
from imbnas.spaces.nasbench201 import to_string
from imbnas.training.checkpoint import save_weights

ROWS = [
    {"seed": seed, "architecture": cell, "condition": condition, "device": "cpu", "test": score, "macs": 100 - place}
    for seed in (0, 1)
    for condition, shift in (("balanced", 0.2), ("longtail", 0.0))
    for place, (cell, score) in enumerate({"3-3-3-3-3-3": 0.4 + 0.1 * seed + shift, "1-0-0-1-1-0": 0.3 + shift}.items())
]


def write(folder: Path, rows: list[dict], name: str = "t.csv") -> Path:
    path = folder / name
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.csv.gz"])
def test_the_mean_over_seeds_of_any_column(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, ROWS, name)
    found = read_scores(path, Selection("test", "longtail"), choices_of)
    assert found.scores == {(3,) * 6: pytest.approx(0.45), (1, 0, 0, 1, 1, 0): pytest.approx(0.3)}
    assert found.errors[(3,) * 6] == pytest.approx(0.05)
    assert found.errors[1, 0, 0, 1, 1, 0] == pytest.approx(0.0)
    assert (found.seeds, found.share) == (2, True)
    costs = read_scores(path, Selection("macs", "longtail"), choices_of)
    assert costs.scores == {(3,) * 6: 100.0, (1, 0, 0, 1, 1, 0): 99.0}
    assert not costs.share
    assert default_column(path) == "test"


def test_a_seed_that_lacks_a_cell_is_left_out(tmp_path: Path) -> None:
    found = read_scores(write(tmp_path, ROWS[:-1]), Selection("test", "longtail"), choices_of)
    assert found.seeds == 1
    assert found.scores[(3,) * 6] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("rows", "selection", "message"),
    [
        (ROWS, Selection("test"), "holds several conditions: balanced, longtail, expected one to be chosen"),
        (ROWS, Selection("test", "tail"), "condition 'tail' is not there, expected one of balanced, longtail"),
        (ROWS, Selection("tset", "longtail"), "has no column 'tset', expected one of test, macs"),
        (ROWS, Selection("condition", "longtail"), "row 2: condition is 'longtail', expected a finite number"),
        ([{**ROWS[0], "architecture": "3-x"}], Selection("test"), "row 0: architecture is '3-x', which names no"),
        ([ROWS[0], ROWS[0]], Selection("test"), "row 1: 3-3-3-3-3-3 is there a second time"),
        ([{**ROWS[0], "test": float("nan")}], Selection("test"), "row 0: test is nan, expected a finite number"),
        ([ROWS[0], {**ROWS[0], "test": "abc"}], Selection("test"), "row 1: test is 'abc', expected a finite number"),
        ([ROWS[0], {**ROWS[0], "seed": "b"}], Selection("test"), "row 1: seed is 'b', expected a whole number"),
        ([ROWS[0], {**ROWS[0], "device": "H100"}], Selection("test"), "holds several devices: H100, cpu, expected one"),
        ([{**ROWS[0], "seed": "a"}], Selection("test"), "row 0: seed is 'a', expected a whole number"),
        ([ROWS[0], {**ROWS[0], "seed": None}], Selection("test"), "row 1: seed is nan, expected a whole number"),
        ([{"a": 1}], Selection("test"), "not a table of architectures, expected a column architecture or"),
        (
            [{"architecture": "3", "x": 1}],
            Selection("x", "longtail"),
            "has no column condition, expected one to select",
        ),
    ],
)
def test_what_cannot_be_read_is_one_line(rows: list[dict], selection: Selection, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, rows)
    with pytest.raises(UserError) as caught:
        read_scores(path, selection, choices_of)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("name", "content"), [("t.csv", b"\xff\xfe\x00"), ("t.parquet", b"PAR1"), ("t.csv", b""), ("t.csv", None)]
)
def test_a_file_that_is_no_table_is_one_line(name: str, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: (not a table of architectures|not found)"):
        read_scores(path, Selection("test"), choices_of)


@pytest.mark.parametrize("suffix", ["gz", "xz", "zip"])
def test_a_compressed_table_that_is_cut_off_is_one_line(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path, ROWS, f"t.csv.{suffix}")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=rf"t\.csv\.{suffix}: not a table of architectures \("):
        read_scores(path, Selection("test", "longtail"), choices_of)


def networks(folder: Path, space: str, chosen: list[int], **others: list[int]) -> tuple[Path, Path]:
    """Write both files that name networks, and return them."""
    path, references = folder / "architecture.json", folder / "references.safetensors"
    path.write_text(json.dumps({"space": space, "chosen": {"architecture": chosen}}))
    described = {name.replace("_", "-"): {"architecture": choices} for name, choices in others.items()}
    save_weights(references, {}, {"kind": "references", "networks": described})
    return path, references


def test_networks_are_looked_up_in_a_table_of_a_few_cells(tmp_path: Path) -> None:
    # Node 2 of the second reference leads nowhere: what enters it does not act.
    others = {"random_1": [1, 4, 0, 1, 0, 1], "random_2": [1, 3, 2, 1, 0, 0], "largest": [2] * 6}
    rows = [*ROWS, *({**row, "architecture": "1-0-0-1-0-0"} for row in ROWS[::2])]
    table, files = write(tmp_path, rows, "more.csv"), networks(tmp_path, "nasbench201", [3] * 6, **others)
    (chosen, first, second, largest), candidates = found_cells(*files, table, Selection("test", "longtail"))
    assert (chosen.rank, chosen.regret, chosen.cell) == (1, 0.0, to_string((3,) * 6))
    assert (largest.score, largest.rank, first.score) == (None, None, None)
    assert second.cell == to_string((0, 0, 0, 1, 0, 0))
    assert len(candidates.scores) == 2, "1-0-0-1-0-0 is not canonical"


def test_networks_of_other_spaces_are_looked_up_too(tmp_path: Path) -> None:
    table = write(tmp_path, [{"architecture": "1-2", "score": 3.0}, {"architecture": "0-0", "score": 5.0}])
    (chosen,), candidates = found_cells(*networks(tmp_path, "shufflenet", [1, 2]), table, Selection("score"))
    assert (chosen.score, chosen.rank, chosen.regret, chosen.cell) == (3.0, 2, 2.0, "1-2")
    assert not candidates.share
    with pytest.raises(UserError, match="holds none of the networks"):
        found_cells(*networks(tmp_path, "shufflenet", [1, 1]), table, Selection("score"))
    with pytest.raises(UserError, match=r"architecture\.json: not an architecture file"):
        found_cells(*networks(tmp_path, "nasbench201", [9] * 6), write(tmp_path, ROWS), Selection("test", "balanced"))
    (tmp_path / "architecture.json").write_text("[]")
    with pytest.raises(UserError, match=r"architecture\.json: not an architecture file"):
        found_cells(tmp_path / "architecture.json", tmp_path / "absent", table, Selection("score"))


@pytest.mark.parametrize(("column", "default"), [("test", "test"), (PUBLISHED["cifar10"], "cifar10"), ("mine", "test")])
def test_only_a_table_of_the_benchmark_is_looked_up_in_its_column(column: str, default: str, tmp_path: Path) -> None:
    assert default_column(write(tmp_path, [{"architecture": "3-3-3-3-3-3", column: 0.5}])) == default
