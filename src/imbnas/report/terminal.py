"""The output of `imbnas table`: the results and what to try next, or the front of the search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from imbnas.report.front_table import print_front
from imbnas.report.guide import print_guide
from imbnas.report.tables import print_results


def show_results(places: Mapping[str, Path], cost: Path, workflow: bool) -> None:
    """Print the results, the costs in the file `cost`, and what to try next; see `print_guide` for the others.

    Raises UserError naming a file that is missing or another one.
    """
    print_results(places["details"], cost, Console())
    print_guide(places, Console(), workflow)


def show_front(places: Mapping[str, Path]) -> None:
    """Print the candidates that no other one beats in score and cost; raises UserError as `show_results` does."""
    print_front(places["front"], places["search_facts"], Console())
