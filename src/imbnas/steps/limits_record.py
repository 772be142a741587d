"""Limits in results/architecture.json, and the latencies that one of them is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imbnas.data.latency_file import BlockLatencies
from imbnas.errors import UserError
from imbnas.params.section import short
from imbnas.spaces.cost import CostTable, timed
from imbnas.spaces.limits import NANOSECONDS, Limits


def limits_record(limits: Limits, latencies: BlockLatencies | None) -> dict[str, Any]:
    """Return what results/architecture.json holds of the limits.

    `retrain` draws references within them. Where latency is limited it needs the blocks' latencies, which stand beside
    the limit; where it is not, another measurement changes nothing here.
    """
    record: dict[str, Any] = {"limits": {"max_macs": limits.max_macs, "max_params": limits.max_params}}
    if limits.max_latency is not None and latencies is not None:
        record["limits"]["max_latency_ms"] = limits.max_latency / NANOSECONDS
        record["latency"] = {
            "table": latencies.digest,
            "batch": latencies.batch,
            "fixed_ns": latencies.fixed,
            "blocks_ns": [list(row) for row in latencies.blocks],
        }
    return record


def read_limits(found: dict[str, Any], table: CostTable, path: Path) -> tuple[Limits, CostTable]:
    """Return the limits as results/architecture.json holds them, and costs with latencies where one is about these.

    `table` holds the costs without them. UserError names the file.
    """
    limits = found["limits"]
    names = {"max_macs", "max_params"}
    if (
        not isinstance(limits, dict)
        or set(limits) - {"max_latency_ms"} != names
        or not all(map(_limit, limits.items()))
    ):
        raise UserError(f"{path}: limits: found {short(limits)}, expected max_macs and max_params, numbers or null")
    if "max_latency_ms" not in limits:
        return Limits(limits["max_macs"], limits["max_params"]), table
    latency = round(limits["max_latency_ms"] * NANOSECONDS)
    try:
        given = found["latency"]
        shape = [len(row) for row in given["blocks_ns"]]
        numbers = [given["fixed_ns"], *(value for row in given["blocks_ns"] for value in row)]
        if shape == [len(row) for row in table.blocks] and all(type(value) is int for value in numbers):
            found_table = timed(table, given["fixed_ns"], given["blocks_ns"])
            return Limits(limits["max_macs"], limits["max_params"], latency), found_table
    except (KeyError, TypeError):
        pass
    raise UserError(
        f"{path}: latency: found {short(found.get('latency'))}, expected nanoseconds of each block; run search"
    )


def _limit(named: tuple[str, Any]) -> bool:
    name, value = named
    if name == "max_latency_ms":
        return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0)
