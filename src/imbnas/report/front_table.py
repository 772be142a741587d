"""The accuracy-cost front in a terminal: what a tighter limit would have cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from imbnas.cost_names import ALWAYS, named_in, rounded, spoken
from imbnas.errors import UserError, visible
from imbnas.files import TABLE_LIMIT, check_regular, read_json
from imbnas.report.front_figure import ACCURACIES
from imbnas.report.search_facts import sentences
from imbnas.report.tables import count

COLUMNS = ["architecture", "score", "standard_error", "macs", "params", "chosen"]


def read_front(path: Path) -> pd.DataFrame:
    """Return results/front.parquet with all costs in it; raise UserError for a file that is missing or another one."""
    return read_candidates(path, COLUMNS, "a front")


def read_candidates(path: Path, columns: Sequence[str], what: str) -> pd.DataFrame:
    """Return columns of a table of candidates with those of further costs behind them; `what` it is, for the UserError.

    That is raised for a file that is missing, no table, or one without these columns.
    """
    try:
        check_regular(path, TABLE_LIMIT)
        found = pd.read_parquet(path)
        return found[[*columns, *(name.column for name in named_in(found.columns))]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not {what} of candidates ({str(error).splitlines()[0]}), run search") from None


def print_front(front: Path, facts: Path, console: Console) -> None:
    """Print the front and what the search knows about itself; lines fit into 80 columns.

    Raises UserError naming a file that is missing or lacks what it should hold.
    """
    found = read_json(facts, "what `imbnas search` writes")
    try:
        shown = front_table(read_front(front), found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{facts}: found no {error} in it, expected what `imbnas search` writes") from None
    console.print(shown)


def front_table(front: pd.DataFrame, facts: dict[str, Any]) -> Group:
    """Return a row for each candidate of the front, cheapest first, and the sentences of results/search.json."""
    if front.empty:
        return Group(Text(f"The method {visible(facts['method'])} compares no candidates: there is no front."))
    share = facts["objective"] in ACCURACIES
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("architecture", overflow="fold")
    table.add_column(facts["objective"].replace("_", " ") + (", %" if share else ""), justify="right")
    others = named_in(front.columns)
    for title in ("± error", *(name.heading for name in (*ALWAYS, *others)), ""):
        table.add_column(title, justify="right", no_wrap=True)
    columns = (front[name] for name in COLUMNS)
    for place, (architecture, score, error, macs, params, chosen) in enumerate(zip(*columns, strict=True)):
        table.add_row(
            architecture,
            f"{100 * score:.1f}" if share else f"{score:.6g}",
            "-" if pd.isna(error) else f"{100 * error:.1f}" if share else f"{error:.2g}",
            count(macs),
            count(params),
            *(rounded(front[name.column].iloc[place]) for name in others),
            "chosen" if chosen else "",
            style="bold" if chosen else "",
        )
    head = f"{len(front)} of {facts['evaluated']} candidates that no other one beats in "
    head += spoken(["score", *(name.words for name in (*ALWAYS, *others))])
    notes = Text("\n".join(f"{line[0].upper()}{line[1:]}." for line in sentences(facts)), style="dim")
    return Group(Text(head), table, notes)
