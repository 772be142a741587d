"""The results in a terminal: each network's figures with their intervals, and what the steps have cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from imbnas.errors import UserError, visible
from imbnas.files import read_json
from imbnas.network_names import title
from imbnas.report.int8_facts import shown_networks
from imbnas.sealed import DamagedError, read_record


def print_results(details: Path, cost: Path, console: Console) -> None:
    """Print the tables of `details` (results/details.json) and of `cost` (results/cost-details.json), if that is there.

    They fit into 80 columns. Raises UserError naming a file that is missing or another one.
    """
    print_table(details, results_table, "the output of `imbnas evaluate`", console)
    try:
        console.print(cost_table(read_record(cost)))
    except FileNotFoundError:
        console.print(Text(f"{cost}: not found, so no costs are shown"))
    except (DamagedError, KeyError, TypeError, ValueError, AttributeError):
        console.print(Text(f"{cost}: not the costs that the steps record, so none are shown"))


def print_table(path: Path, make: Any, what: str, console: Console) -> None:
    """Print `make(content of path)`; UserError when the file is missing or lacks what it should hold."""
    content = read_json(path, what)
    try:
        table = make(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: found no {error} in it, expected {what}") from None
    console.print(table)


def results_table(details: dict[str, Any]) -> Group:
    """Return a row per network: balanced accuracy with its interval, accuracy, shot groups, cost; percent."""
    level = f"{details['confidence']['level']:.0%}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("network")
    for column in (f"balanced [{level} CI]", "acc.", "many", "medium", "few", "MACs", "params"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, row in shown_networks(details).items():
        low, high = row["intervals"]["balanced_accuracy"]
        table.add_row(
            title(name),
            f"{_percent(row['balanced_accuracy'])} [{_percent(low)}, {_percent(high)}]",
            *(_percent(row[key]) for key in ("accuracy", "many", "medium", "few")),
            count(row["macs"]),
            count(row["params"]),
            style="bold" if name == "final" else "",
        )
    shots, imbalance = details["shots"], details["imbalance"]
    counts, ratio = imbalance["counts"], imbalance["measured_ratio"]
    sizes = ", ".join(f"{size} {group}" for group, size in shots["classes"].items())
    head = (
        f"{details['dataset']}: {len(counts)} classes, {sum(counts)} training rows (imbalance ratio {ratio:.4g}), "
        f"{details['test_rows']} test rows, seed {details['seed']}"
    )
    notes = f"Percent of the test rows. {sizes}: {shots['text']}."
    return Group(Text(visible(head)), table, Text(visible(notes), style="dim"), Text())


def cost_table(cost: dict[str, Any]) -> Group:
    """Return a row per step that has run: seconds, attempts, device; and the total."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("step", "total")
    table.add_column("seconds", _seconds(cost["total_seconds"]), justify="right")
    table.add_column("attempts", justify="right")
    table.add_column("device")
    for step, entry in cost["steps"].items():
        device = entry["processor"] if entry["device"] == "cpu" else entry["device"]
        table.add_row(step, _seconds(entry["seconds"]), str(entry["attempts"]), Text(visible(device)))
        if "reused_supernet_seconds" in entry:
            spent = _seconds(entry["reused_supernet_seconds"])
            table.add_row("", f"({spent})", "", Text("of the reused supernet, in its own project: not in the total"))
    return Group(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _seconds(value: float) -> str:
    return f"{value:,.1f}"


def count(number: int) -> str:
    """Return a count with at most three digits and its unit, e.g. 4.31M."""
    value = float(f"{number:.3g}")
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return str(number)
