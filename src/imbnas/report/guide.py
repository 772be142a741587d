"""The last lines of `imbnas table`: what was found, where the pictures are, and what to try next."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from imbnas.cost_names import MACS
from imbnas.errors import visible
from imbnas.network_names import title
from imbnas.report.card_facts import taken_over
from imbnas.report.int8_facts import int8_sentences
from imbnas.report.reference_facts import reference_sentences
from imbnas.report.search_facts import price
from imbnas.report.tables import count, print_table


def print_guide(places: Mapping[str, Path], console: Console, workflow: bool) -> None:
    """Print what a newcomer can do with the results.

    Args:
        places: path of each name of the chain's graph.
        console: where to print; lines fit into 80 columns.
        workflow: whether the project holds the Snakefile, so that commands of Snakemake work there.

    Raises:
        UserError: naming results/details.json where it is missing or lacks what it should hold.
    """
    print_table(
        places["details"], lambda details: Text(guide(details, places, workflow)), "what `evaluate` writes", console
    )


def guide(details: dict[str, Any], places: Mapping[str, Path], workflow: bool) -> str:
    """Return the lines that `print_guide` prints, see there."""
    networks = details["networks"]
    final = networks["final"]
    lines = [
        f"Found: a network with {count(final['macs'])} MACs and {count(final['params'])} parameters,",
        f"  {visible(places['final'])}",
        *(
            textwrap.fill(line, 78, initial_indent="  ", subsequent_indent="  ")
            for line in (*taken_over(details, visible), *reference_sentences(details), *int8_sentences(details))
        ),
        *([] if (details.get("references") or {}).get("random") else _ranking(networks)),
        *_nearness(details["search"]),
        "Look at:",
        *(f"  {visible(places[name])}{what}" for name, what in _PICTURES.items() if places[name].exists()),
        "Try next:",
        f"  imbnas predict {visible(places['final'])} IMAGE",
        "      classifies images of yours",
    ]
    if workflow:
        lines += [
            "  imbnas params set adapt.strategy=finetune && snakemake --cores all",
            "      changes a parameter, and runs only the steps that depend on it",
            "  snakemake --cores all study",
            "      repeats the chain over seeds and parameters, and compares",
            '  README.md, "Your own data": the same with your own images',
        ]
    return "\n".join(lines)


def _nearness(search: Mapping[str, Any]) -> list[str]:
    """Return how many candidates the search could not tell apart from its best one."""
    near = search["within_one_error"]
    if near is None or search["evaluated"] < 2:
        return []
    cheapest = price(near["cheapest"], f" {MACS.unit}", count)
    return [
        f"The search scored {search['evaluated']} candidates; {near['count']} are within one standard error of the",
        *textwrap.wrap(
            f"best, the cheapest of them with {cheapest}: imbnas table --front",
            78,
            initial_indent="  ",
            subsequent_indent="  ",
        ),
    ]


_PICTURES = {
    "figures": "/: classes, confusion, reliability, architecture, search, front, references",
    "model_card": "",
    "table": "",
}
"""Outputs to look at, by their name in the graph, and what they show where the name does not say it."""


def _ranking(networks: Mapping[str, Any]) -> list[str]:
    """Return whether the intervals of balanced accuracy tell the chosen network apart from its references."""
    low, high = networks["final"]["intervals"]["balanced_accuracy"]
    same = []
    for name, row in networks.items():
        bottom, top = row["intervals"]["balanced_accuracy"]
        if name != "final" and bottom <= high and low <= top:
            same.append(title(name))
    if not same:
        return []
    return [f"  Its interval overlaps that of {' and '.join(same)}:", "  a single run does not rank them."]
