"""Latencies of blocks: what is measured once, how it adds up, and what is said about whole subnets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from imbnas.data.latency_file import read_latencies, space_digest
from imbnas.params.shared import Numerics
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.search import latency
from imbnas.search.block_timing import Timed, TimingMeter, time_in_turns
from imbnas.spaces.cost import timed
from imbnas.spaces.registry import make_space
from imbnas.training.runtime import Runtime

NUMERICS = Numerics(device="cpu", threads=1)
SHAPE = (8, 8, 1)
CHAIN = SpaceParams(
    name="mobile",
    stem=Stem(channels=4),
    stages=Stages(channels=[4, 8], repeats=[3, 1], strides=[1, 2]),
    last_channels=8,
)
CELLS = SpaceParams(
    name="nasbench201",
    stem=Stem(channels=4),
    stages=Stages(channels=[4, 8], repeats=[2, 1], strides=[1, 2]),
    last_channels=None,
)
SIZE = {"derived_channels": 4, "derived_layers": 3, "channels": 4}
DARTS = SpaceParams.model_validate({"name": "darts", "darts": SIZE})


def numbered(meter: TimingMeter) -> None:
    """Give each thing that is timed a power of four in place of a time: sums tell what is in them, and how often."""
    for place, item in enumerate(meter.items):
        item.samples = [4.0**place]


@pytest.mark.parametrize("params", [CHAIN, CELLS], ids=["chain", "cells"])
def test_a_subnet_takes_the_sum_of_what_acts_in_it(params: SpaceParams) -> None:
    space, meter, parts = make_space(params), TimingMeter(Runtime(NUMERICS), 1), {}
    assert space.measure(SHAPE, 10, meter.collecting).fixed.latency == 0
    numbered(meter)
    table = space.measure(SHAPE, 10, meter.pricing("latency", parts))
    assert sum(parts.values()) == table.fixed.latency > 0
    assert {"stem", "last", "classifier"} <= set(parts)
    rng = np.random.default_rng(0)
    for architecture in (space.sample(rng) for _ in range(20)):
        by_hand = table.fixed.latency + sum(
            row[choice].latency for row, choice in zip(table.blocks, architecture, strict=True)
        )
        assert table.cost(architecture).latency == by_hand
    # Latencies of a file on top of counted costs are the same sums.
    rows = [[cost.latency for cost in row] for row in table.blocks]
    both = timed(space.cost_table(SHAPE, 10), table.fixed.latency, rows)
    one = space.sample(rng)
    assert both.cost(one).latency == table.cost(one).latency
    assert both.cost(one).macs == space.cost(one, SHAPE, 10).macs


def test_blocks_that_are_alike_are_timed_once_and_others_are_not() -> None:
    space, meter = make_space(CHAIN), TimingMeter(Runtime(NUMERICS), 1)
    space.measure(SHAPE, 10, meter.collecting)
    numbered(meter)
    rows = [[cost.latency for cost in row] for row in space.measure(SHAPE, 10, meter.pricing("latency", {})).blocks]
    assert rows[0] == rows[1] == rows[2], "three blocks of equal shape"
    assert len(set(rows[0])) == 7, "six kinds and skip, each timed by itself"
    assert not set(rows[0]) & set(rows[3])


def test_dead_edges_cost_nothing_and_live_ones_as_often_as_cells_repeat() -> None:
    space, meter = make_space(CELLS), TimingMeter(Runtime(NUMERICS), 1)
    space.measure(SHAPE, 10, meter.collecting)
    numbered(meter)
    table = space.measure(SHAPE, 10, meter.pricing("latency", {}))
    assert [row[0].latency for row in table.blocks] == [0] * 6
    # The node that the first edge feeds leads nowhere.
    assert table.cost((3, 0, 0, 1, 0, 0)) == table.cost((0, 0, 0, 1, 0, 0))
    # Two cells of the first width and one of the second: a power of four twice, and another one once.
    digits = np.base_repr(table.blocks[0][3].latency, 4)
    assert sorted(digits.strip("0").replace("0", "")) == ["1", "2"]


def test_everything_is_timed_in_turns_and_warmed_up() -> None:
    seen: list[int] = []
    items = [Timed(lambda k=k: seen.append(k)) for k in range(3)]
    time_in_turns(items, Runtime(NUMERICS), 5, np.random.default_rng(0))
    assert [len(item.samples) for item in items] == [5, 5, 5]
    assert all(item.latency >= 0 for item in items)
    turns = [k for k, previous in zip(seen, [-1, *seen], strict=False) if k != previous]
    assert len(turns) >= 2 * 8 - 1, "no item's rounds stand together"
    assert len({tuple(turns[k : k + 3]) for k in range(0, 9, 3)}) > 1, "the order is drawn anew"


def test_a_median_does_not_follow_a_disturbed_round() -> None:
    item = Timed(lambda: None, samples=[10.0, 11.0, 12.0, 13.0, 9_000.0])
    assert (item.latency, item.spread) == (12, 2)


def test_agreement_is_that_of_the_subnets() -> None:
    pairs = [(100, 110), (200, 190), (300, 330)]
    found = latency.agreement([{"measured_ns": m, "predicted_ns": p} for m, p in pairs])
    assert found["tau"] == pytest.approx(1.0)
    assert found["mean_relative_error"] == pytest.approx((0.1 + 0.05 + 0.1) / 3, abs=1e-6)


@pytest.mark.parametrize("params", [CELLS, DARTS], ids=["cells", "darts"])
def test_a_real_measurement_is_a_whole_table(params: SpaceParams, tmp_path: Path) -> None:
    wanted = latency.Wanted(params, SHAPE, 10, 2, NUMERICS, 3, 0)
    found = latency.measure(wanted)
    file = tmp_path / "t.parquet"
    beside = latency.write(file, wanted, found, "a processor")
    table = read_latencies(file, params, SHAPE, 10)
    assert tuple(len(row) for row in table.blocks) == params.choices
    assert table.batch == 2
    space = make_space(params)
    costs = timed(space.cost_table(SHAPE, 10), table.fixed, table.blocks)
    told = json.loads(beside.read_text())
    assert told["space_digest"] == space_digest(params)
    assert {"processor", "torch", "rounds", "device", "precision", "batch"} <= set(told)
    assert len(told["check"]["subnets"]) == latency.CHECKED
    for subnet in told["check"]["subnets"]:
        architecture = tuple(map(int, subnet["architecture"].split("-")))
        assert subnet["predicted_ns"] == costs.cost(architecture).latency
        assert subnet["measured_ns"] > 0
    assert all(row["latency_ns"] > 0 for row in found.rows if row["part"] in ("stem", "classifier"))
