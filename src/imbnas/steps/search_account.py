"""The account of a search: its candidates, what it knows about itself, the front, and lines for the log."""

from __future__ import annotations

from typing import Any

from imbnas.data.stored import write_table
from imbnas.files import write_json
from imbnas.params.search import SearchView
from imbnas.report.search_facts import sentences
from imbnas.run.context import Context
from imbnas.search.archive import Archive
from imbnas.search.findings import Choice, describe, unscored
from imbnas.search.front import front_table
from imbnas.search.table import candidate_table, given_table
from imbnas.spaces.cost import Cost
from imbnas.spaces.networks import Architecture
from imbnas.steps.search_scoring import Scoring
from imbnas.steps.search_setting import Setting
from imbnas.steps.supernets import reused_facts


def write_account(
    context: Context,
    setting: Setting,
    view: SearchView,
    scoring: Scoring,
    archive: Archive,
    choice: Choice,
    shifted: dict[str, Any] | None = None,
) -> list[str]:
    """Write the table of candidates and what the search knows about itself; return that in sentences.

    `shifted` is what it knows of a supernet that has moved meanwhile.
    """
    chosen = choice.chosen
    write_table(context.path("search"), candidate_table(archive, chosen.architecture))
    found = describe(archive, choice, view.search.choose, scoring.marking, view.seed)
    if shifted is not None:
        found["shifting"] = shifted
    table = {} if scoring.given is None else {"table": scoring.given.described()}
    head = _head(view, scoring.objective, context)
    write_json(context.path("search_facts"), {**head, **_costs(setting), **table, **found})
    write_table(context.path("front"), front_table(archive.entries.values(), chosen.architecture))
    error = chosen.score.standard_error
    shown = f"{chosen.score.value:.6g}" if error is None else f"{chosen.score.value:.4f} (standard error {error:.4f})"
    first = (
        f"evaluated {len(archive.entries)} architectures, chose {'-'.join(map(str, chosen.architecture))} "
        f"with {scoring.objective} {shown}"
    )
    told = [] if scoring.given is None else [f"scores are those of {scoring.given.file}, not of the supernet"]
    return [first, *told, *sentences(found)]


def write_given(context: Context, setting: Setting, view: SearchView, architecture: Architecture, cost: Cost) -> None:
    """Write the same files for an architecture that was given: a single row with its cost."""
    write_table(context.path("search"), given_table(architecture, cost))
    _write_facts(context, setting, view, unscored())


def write_descended(context: Context, setting: Setting, view: SearchView, gap: dict[str, Any] | None) -> list[str]:
    """Write the same files beside the trajectory of a differentiable search; return what it knows in sentences.

    `gap` is the loss by discretisation, None where no rows judged the search network.
    """
    found = {**unscored(), "discretisation": gap}
    _write_facts(context, setting, view, found)
    return sentences(found)


def _write_facts(context: Context, setting: Setting, view: SearchView, found: dict[str, Any]) -> None:
    """Write results/search.json and results/front.parquet of an architecture that was not chosen among candidates."""
    head = _head(view, view.search.objective, context)
    write_json(context.path("search_facts"), {**head, **_costs(setting), **found})
    write_table(context.path("front"), front_table([], None))


def _costs(setting: Setting) -> dict[str, Any]:
    """Return what latency and energy are by: the name of the table, not where it lies; picojoules of one operation."""
    times, energies = setting.latencies, setting.energies
    return {
        **({} if times is None else {"latency": {"digest": times.digest, "batch": times.batch}}),
        **({} if energies is None else {"energy": energies.described()}),
    }


def _head(view: SearchView, objective: str, context: Context) -> dict[str, Any]:
    reused = reused_facts(context.path("adapted"))
    return {"space": view.space.name, "method": view.search.method, "objective": objective, **reused}
