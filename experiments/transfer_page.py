"""From the figures of `transfer.py` to its page and the file of figures beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transfer_power import ENOUGH, Power, suffices

from imbnas.page_record import write_page
from imbnas.truth.agreement import Figure
from imbnas.truth.whole_seeds import Whole

if TYPE_CHECKING:
    from transfer import Transfer
    from transfer_published import Control

PAGE = """# Do ranks on balanced rows tell ranks on a long tail?

{cells} cells of NAS-Bench-201, each trained alone with {seeds} seeds under each condition: {tables} (digest of the rows
that all trainings are judged on: `{rows}`). Nothing was trained for this page. The rule was decided before its figures:
docs/decisions/0035.

## Verdict

{verdict}

## Figures

Scores are balanced accuracies on the test rows. The corrected rank correlation is Spearman's, between means over seeds,
divided by the root of both reliabilities. Noise that a seed has under both conditions alike raises it a little; the
row from different seeds is without it. Interaction is the variance component of cell and condition after each condition
is scaled to a variance of 1 between the cells' true means: 0 where both rank alike, and 1 where they have nothing to do
with each other. Regret is what choosing by the first costs in points of the second, beside choosing by the second; two
seeds choose and the third judges, so that it may be below 0. In the row below it, validation rows choose and test rows
judge. Intervals are percentiles of 95 % over draws of the cells.

{figures}

{published}

## Power

The share of simulated tables that come to a verdict by the rule: normal scores with the variances of this table, and
intervals as wide as the figures vary between the tables. The first correlation is the estimated
one (Pearson's, corrected, 1 at the most).

{power}

{enough}
"""


def write_transfer(
    path: Path,
    table: Whole,
    found: Sequence[Transfer],
    control: Control | None,
    power: tuple[list[Power], list[Power]],
    files: list[Path],
) -> None:
    """Write the page and its figures."""
    own = found[0]
    text = PAGE.format(
        cells=own.cells,
        seeds=own.seeds,
        tables=" and ".join(f"`{file.name}`" for file in files if file.suffix == ".parquet"),
        rows=table.common("test_rows"),
        verdict=_verdict(found),
        figures=_figures(found, control),
        published=_published(control),
        power=_power(power),
        enough=_enough(found, power),
    )
    figures: dict[str, Any] = {"architectures": list(table.architectures), "seeds": list(table.seeds)}
    figures |= {one.title: {**_plain(asdict(one)), "verdict": one.verdict} for one in found}
    figures |= {"CIFAR-10 to CIFAR-100": None if control is None else _plain(asdict(control))}
    figures |= {"power": [asdict(one) for one in power[0]], "power, adjusted": [asdict(one) for one in power[1]]}
    write_page(path, text, "make transfer", figures, files)


def _plain(value: Any) -> Any:
    """Return figures as JSON holds them: None for what is not defined."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _verdict(found: Sequence[Transfer]) -> str:
    """Return what the rule says, of the long tail as it is and after adjustment."""
    lines = [
        f"- {one.title}: **{one.verdict}**. Corrected rank correlation {one.corrected.text()}, regret "
        f"{one.regret.text(100.0)} points."
        for one in found
    ]
    return (
        "The claim is that an architecture's rank on balanced data does not tell its rank on imbalanced data. It is\n"
        "supported if the upper end of the correlation is below 0.9 and the lower end of the regret above 0.5 points,\n"
        "refuted if the lower end of the correlation is above 0.95 or the upper end of the regret below 0.3 points,\n"
        "and otherwise open. The first line decides.\n\n" + "\n".join(lines)
    )


def _figures(found: Sequence[Transfer], control: Control | None) -> str:
    head = ["", *(one.title for one in found), "CIFAR-10 to CIFAR-100, published"]
    others = [control] * (control is not None)

    def row(name: str, attribute: str, factor: float = 1.0) -> list[str]:
        figures: list[Figure | None] = [getattr(one, attribute, None) for one in (*found, *others)]
        return [name, *("" if one is None else one.text(factor) for one in figures)]

    rows = [
        row("corrected rank correlation", "corrected"),
        row("rank correlation, not corrected", "plain"),
        row("corrected correlation (Pearson)", "pearson"),
        row("the same, from different seeds", "apart"),
        row("interaction", "share"),
        ["F of the interaction (p)", *(_test(one) for one in found)],
        row("regret, points", "regret", 100.0),
        row("regret, chosen on validation rows", "regret_validation", 100.0),
        row("regret of the five best cells' mean", "regret_top", 100.0),
        ["regret, in sd of the second's cells", *(_relative(one.regret.value, one.parts[1].between) for one in found)],
        ["sd of cells, first and second, points", *(_both([one.parts[k].between for k in (0, 1)]) for one in found)],
        [
            "sd of a training, first and second, points",
            *(_both([one.parts[k].within for k in (0, 1)]) for one in found),
        ],
    ]
    if control is not None:
        rows[9].append(_relative(control.regret.value, control.between[1]))
        rows[10].append(_both(control.between))
        rows[11].append(_both(control.noise))
    return _table(head, [[*line, *[""] * (len(head) - len(line))] for line in rows])


def _test(one: Transfer) -> str:
    if one.test is None:
        return ""
    p = "< 0.001" if one.test.p_of_f < 0.001 else f"{one.test.p_of_f:.3f}"
    return f"{one.test.f:.2f} of {one.test.freedom[0]} and {one.test.freedom[1]} ({p})"


def _both(values: Sequence[float]) -> str:
    return " and ".join(f"{100.0 * value:.2f}" for value in values)


def _relative(lost: float, spread: float) -> str:
    return f"{lost / spread:.2f}" if spread > 0.0 else "not defined"


def _published(control: Control | None) -> str:
    if control is None:
        return (
            "The last column is empty: `make transfer TABLE=file.csv` takes NAS-Bench-201's published table, in\n"
            "which two balanced data sets rank the same cells."
        )
    return (
        "The last column shows what is lost between two balanced data sets: 200 epochs on all of CIFAR-10 and\n"
        "CIFAR-100, the same cells. Its noise is that between entries of equal functions, at least as good as the\n"
        "worst of these cells. It has one entry per cell, which chooses and judges, so its regret is rather too high."
    )


def _power(both: tuple[list[Power], list[Power]]) -> str:
    found, adjusted = both
    sizes = list(dict.fromkeys((one.cells, one.seeds) for one in found))
    correlations = list(dict.fromkeys(one.correlation for one in found))
    by_key = {(one.correlation, one.cells, one.seeds): one for one in found}

    def shares(one: Power) -> str:
        return f"{one.supported:.2f} / {one.refuted:.2f}"

    rows = [
        [f"{correlation:.2f}", *(shares(by_key[correlation, *size]) for size in sizes)] for correlation in correlations
    ]
    rows.append([f"{adjusted[0].correlation:.2f}, after logit adjustment", *map(shares, adjusted)])
    head = ["true correlation", *(f"{cells} cells, {seeds} seeds" for cells, seeds in sizes)]
    return "Supported / refuted:\n\n" + _table(head, rows)


def _enough(found: Sequence[Transfer], both: tuple[list[Power], list[Power]]) -> str:
    """Return this table's own power, and which sizes suffice."""
    own, estimate = found[0], both[0][0].correlation
    here = [next(one for one in each if (one.cells, one.seeds) == (own.cells, own.seeds)) for each in both]
    asked = [
        (f"the estimated correlation of {estimate:.2f}", suffices(both[0], estimate)),
        ("a correlation of 1.00", suffices(both[0], 1.0)),
        (f"the estimated {both[1][0].correlation:.2f} after adjustment", suffices(both[1], both[1][0].correlation)),
    ]
    lines = [f"- At {name}, {_size(least)}" for name, least in dict(asked).items()]
    return (
        f"This table itself comes to a verdict in {here[0].decided:.2f} of cases at its estimated correlation, and in\n"
        f"{here[1].decided:.2f} after adjustment. At least {ENOUGH:.2f} of tables do with:\n\n"
        + "\n".join(lines)
        + "\n\n"
        f"Half a point of regret is {0.5 / (100.0 * own.parts[1].between):.1f} standard deviations of cells on this "
        "long tail. The rule can hardly\nsupport the claim on such a table: where ranks differ, it costs little. "
        "`make table\nSPEC=tables/cifar10-lt-16-more.yaml` trains 48 further cells, which `make transfer` then takes\n"
        "along; `make gpu` trains all 96 on a GPU."
    )


def _size(least: Power | None) -> str:
    if least is None:
        return "no size of the table above."
    return f"{least.cells} cells and {least.seeds} seeds ({least.decided:.2f})."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
