"""Measures what each block of a space takes on this device, and how well their sums predict whole networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imbnas.data.latency_file import BLOCK, SETTING, Shape, space_digest, write_latencies
from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.params.shared import Numerics
from imbnas.params.space_options import SpaceParams
from imbnas.search.block_timing import Timed, TimingMeter, runner, time_in_turns
from imbnas.search.rank_correlation import kendall
from imbnas.seeds import derive, stream
from imbnas.spaces.cost import CostTable
from imbnas.spaces.limits import milliseconds
from imbnas.spaces.networks import Architecture
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.training.runtime import Runtime

FITTED, CHECKED = 8, 12
"""Whole subnets from which the overhead is fitted, and others with which predictions are compared."""
TRIES = 50
"""Draws for each subnet that is to differ from the others."""


@dataclass(frozen=True)
class Wanted:
    """A measurement to be made, and its manner."""

    space: SpaceParams
    shape: Shape
    classes: int
    batch: int
    numerics: Numerics
    rounds: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """The rows of a table of latencies, and what stands beside it."""

    rows: list[dict[str, Any]]
    check: dict[str, Any]
    device: str
    overhead: int


def measure(wanted: Wanted) -> Measured:
    """Time all blocks and some whole subnets in turns, and fit the overhead.

    The prediction is the sum over the parts of a network and one constant, the median of what whole subnets take more;
    other subnets than these tell how good it is.
    """
    runtime = Runtime(wanted.numerics)
    runtime.seed(derive(wanted.seed, "latency", "weights"))
    if wanted.space.name == "implant":
        raise UserError("space.name: found implant, whose costs are of whole stages, expected another space to time")
    if wanted.space.name == "ofa-mobilenetv3":
        raise UserError(
            "space.name: found ofa-mobilenetv3, whose last two blocks of a stage have one cost, expected another space "
            "to time"
        )
    if wanted.space.staged:
        raise UserError(
            "space.nasbench201.per_stage: found true, where costs are of whole stages, expected false, or another "
            "space to time"
        )
    space = make_space(wanted.space)
    rng = stream(wanted.seed, "latency", "subnets")
    meter = TimingMeter(runtime, wanted.batch)
    space.measure(wanted.shape, wanted.classes, meter.collecting)
    subnets = {one: Timed(_whole(space, one, wanted, runtime)) for one in _drawn(space, rng)}
    time_in_turns([*meter.items, *subnets.values()], runtime, wanted.rounds, stream(wanted.seed, "latency", "turns"))
    parts: dict[str, int] = {}
    spreads: dict[str, int] = {}
    table = space.measure(wanted.shape, wanted.classes, meter.pricing("latency", parts))
    spread = space.measure(wanted.shape, wanted.classes, meter.pricing("spread", spreads))
    fitted, checked = list(subnets)[: len(subnets) - CHECKED], list(subnets)[-CHECKED:]
    gaps = [subnets[one].latency - table.cost(one).latency for one in fitted]
    overhead = round(float(np.median(gaps))) if gaps else 0
    setting = {
        "space": wanted.space.name,
        "space_digest": space_digest(wanted.space),
        **dict(zip(("height", "width", "channels"), wanted.shape, strict=True)),
        "classes": wanted.classes,
        "batch": wanted.batch,
        "device": runtime.device_name,
        "precision": wanted.numerics.precision,
        "threads": wanted.numerics.threads,
    }
    rows = [{**row, **setting} for row in _rows(space, table, spread, parts, spreads, overhead)]
    found = [_compared(one, table.cost(one).latency + overhead, subnets[one]) for one in checked]
    return Measured(rows, agreement(found), runtime.device_name, overhead)


def _drawn(space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
    """Return different subnets: as many as are wanted, or as a small space has."""
    found: dict[Architecture, None] = {}
    for _ in range(TRIES * (FITTED + CHECKED)):
        if len(found) == FITTED + CHECKED:
            break
        found[space.sample(rng)] = None
    return list(found)


def _whole(space: SearchSpace, architecture: Architecture, wanted: Wanted, runtime: Runtime) -> Callable[[], Any]:
    height, width, channels = wanted.shape
    network = space.build_subnet(architecture, wanted.classes, channels)
    return runner(network, (wanted.batch, channels, height, width), runtime)


def _rows(
    space: SearchSpace,
    table: CostTable,
    spread: CostTable,
    parts: dict[str, int],
    spreads: dict[str, int],
    overhead: int,
) -> list[dict[str, Any]]:
    """Return a row for each part that all networks share, and one for each choice of each block."""
    rows = [
        {"part": part, BLOCK: None, "choice": None, "label": part, "latency_ns": taken, "spread_ns": spreads[part]}
        for part, taken in parts.items()
    ]
    rows.append({**dict.fromkeys(rows[0]), "part": "overhead", "label": "fitted", "latency_ns": overhead})
    for number, (block, costs, widths) in enumerate(zip(space.blocks, table.blocks, spread.blocks, strict=True), 1):
        rows += [
            {
                "part": BLOCK,
                BLOCK: number,
                "choice": choice,
                "label": f"{block.label}: {name}",
                "latency_ns": cost.latency,
                "spread_ns": width.latency,
            }
            for choice, (name, cost, width) in enumerate(zip(block.choices, costs, widths, strict=True))
        ]
    return rows


def _compared(architecture: Architecture, predicted: int, whole: Timed) -> dict[str, Any]:
    return {
        "architecture": "-".join(map(str, architecture)),
        "measured_ns": whole.latency,
        "spread_ns": whole.spread,
        "predicted_ns": predicted,
    }


def agreement(subnets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return how well predictions of whole subnets agree with what was measured: rank correlation, relative error."""
    measured = [one["measured_ns"] for one in subnets]
    predicted = [one["predicted_ns"] for one in subnets]
    errors = [abs(p - m) / m for p, m in zip(predicted, measured, strict=True)]
    return {
        "tau": kendall(predicted, measured),
        "mean_relative_error": round(float(np.mean(errors)), 6),
        "subnets": list(subnets),
    }


def write(file: Path, wanted: Wanted, found: Measured, processor: str) -> Path:
    """Write the table, and beside it a JSON file of how it was made; return that one's name."""
    beside = file.with_suffix(".json")
    if beside == file:
        raise UserError(f"--output {file}: found .json, expected a file that ends in .csv or .parquet")
    write_latencies(file, found.rows)
    first = found.rows[0]
    written: dict[str, Any] = {
        **{name: first[name] for name in SETTING},
        "channels_last": bool(wanted.numerics.channels_last),
        "processor": processor,
        "torch": torch.__version__,
        "rounds": wanted.rounds,
        "unit": "nanoseconds of one forward pass of the whole batch, medians over the rounds",
        "overhead_ns": found.overhead,
        "check": found.check,
    }
    write_json(beside, written)
    return beside


def sentences(found: Measured, batch: int) -> list[str]:
    """Return what a person should know of a measurement."""
    subnets = found.check["subnets"]
    taken = sorted(one["measured_ns"] for one in subnets)
    tau = found.check["tau"]
    return [
        f"whole subnets take {milliseconds(taken[0])} to {milliseconds(taken[-1])} ms with batches of {batch} on "
        f"{found.device}",
        f"predicted and measured latency of {len(subnets)} other subnets: rank correlation "
        f"{'unknown' if tau is None else f'{tau:.2f}'}, mean relative error "
        f"{found.check['mean_relative_error']:.1%}; the prediction is the sum of the parts and "
        f"{milliseconds(abs(found.overhead))} ms {'more' if found.overhead >= 0 else 'less'}, fitted to "
        f"{FITTED} subnets",
    ]
