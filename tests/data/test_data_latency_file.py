"""Tables of latencies: read back as written, and everything else refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imbnas.data.latency_file import read_latencies, space_digest, write_latencies
from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages

SPACE = SpaceParams(stages=Stages(channels=[16, 32], repeats=[1, 1], strides=[1, 2]))
SHAPE = (8, 8, 1)


def rows(space: SpaceParams = SPACE) -> list[dict[str, Any]]:
    setting = {
        "space": space.name,
        "space_digest": space_digest(space),
        **{"height": 8, "width": 8, "channels": 1, "classes": 10, "batch": 4},
        **{"device": "cpu", "precision": "fp32", "threads": 1, "label": "", "spread_ns": 1},
    }
    fixed = [("stem", 100), ("last", 20), ("classifier", 3), ("overhead", -40)]
    found = [{"part": part, "block": None, "choice": None, "latency_ns": taken} for part, taken in fixed]
    found += [
        {"part": "block", "block": block, "choice": choice, "latency_ns": 1000 * block + choice}
        for block, count in enumerate(space.choices, 1)
        for choice in range(count)
    ]
    return [{**row, **setting} for row in found]


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    write_latencies(tmp_path / name, rows())
    found = read_latencies(tmp_path / name, SPACE, SHAPE, 10)
    assert found.fixed == 83
    assert found.blocks == ((1000, 1001, 1002, 1003), (2000, 2001, 2002, 2003))
    assert found.batch == 4


def test_other_spaces_options_change_no_digest() -> None:
    other = SPACE.model_copy(update={"mobile": SPACE.mobile.model_copy(update={"kernels": [3]})})
    assert space_digest(other) == space_digest(SPACE)
    fewer = SPACE.model_copy(update={"shufflenet": SPACE.shufflenet.model_copy(update={"choices": ["shuffle3"]})})
    assert space_digest(fewer) != space_digest(SPACE)


def changed(place: int, **new: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda table: table[place].update(new)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.pop(5), "block 1, choice 1 is not there, expected a row for each choice"),
        (lambda table: table.append(dict(table[6])), "row 13: block 1, choice 2 is there a second time"),
        (changed(5, block=9), "row 6: block 9, choice 1: the space has none such"),
        (changed(5, latency_ns="fast"), "row 6: latency_ns is 'fast', expected a whole number"),
        (changed(5, latency_ns=-1), "row 6: latency_ns is -1, expected 0 or more"),
        (changed(5, device="gpu"), "row 6: device is gpu, and cpu in row 1, expected one measurement"),
        (lambda table: table.pop(2), "has no row of the part classifier, which every network has"),
        (changed(3, latency_ns=-4000), "the least of all networks takes -877 ns, expected more than 0"),
        (lambda table: [row.update(height=16) for row in table], "is of images of 16x8x1, expected 8x8x1"),
        (lambda table: [row.update(classes=3) for row in table], "is of 3 classes, expected 10"),
        (lambda table: [row.update(space="resnet") for row in table], "is of the space resnet ("),
        (lambda table: table.clear(), "has no rows, expected a table"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], message: str) -> None:
    table = rows()
    change(table)
    write_latencies(tmp_path / "t.csv", table)
    with pytest.raises(UserError) as caught:
        read_latencies(tmp_path / "t.csv", SPACE, SHAPE, 10)
    assert str(caught.value).startswith(f"search.latency: {tmp_path / 't.csv'}: {message}")


def test_other_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "t.csv").write_text("architecture,validation\n0-0,0.5\n")
    (tmp_path / "folder.csv").mkdir()
    told = {}
    for name in ("t.parquet", "t.csv", "none.csv", "folder.csv"):
        with pytest.raises(UserError) as caught:
            read_latencies(tmp_path / name, SPACE, SHAPE)
        told[name] = str(caught.value)
        assert told[name].startswith(f"search.latency: {tmp_path / name}: ")
    assert "not a table of latencies" in told["t.parquet"]
    assert "has no column part" in told["t.csv"]
    assert "not found, expected a table that `imbnas latency` writes" in told["none.csv"]
    assert "not a table of latencies" in told["folder.csv"]
