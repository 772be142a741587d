"""Writes the card of a truth table: how it was made, by what, and what it cannot tell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from imbnas.files import write_bytes
from imbnas.page_record import commit
from imbnas.truth.records import Kept, Records, made_by

COLUMNS = """`validation`, `test`: balanced accuracy. `adjusted_validation`, `adjusted_test`: the same after post-hoc
logit adjustment by the training rows (tau 1). `many`, `medium`, `few`: mean recall on the test rows of classes that are
so in the most imbalanced condition. `loss`: of the last epoch. `macs`, `params`: of one image and network.
`train_rows`, `validation_rows`, `test_rows`, `recipe`, `code`: digests. Accuracies are shares in [0, 1].
`{name}-seconds.csv` holds what each training took."""
CANNOT = """## What it cannot tell

- How cells rank with another recipe, more epochs, wider or deeper networks, larger images or more rows: each may
  change the ranking of small networks.
- How they rank on other rows: seeds differ in first weights, batches and augmentation, and share the training,
  validation and test rows.
- Which of two cells is better where they differ by less than the seeds do; the page shows how much that is.
- What cells are worth that are not in it. Intervals of the page are over a draw of cells such as these.
- A search that is judged by the table's test column must not have chosen by it: the column `validation` is for that.
"""


def write_card(path: Path, records: Records, kept: list[Kept], seeds: int) -> None:
    """Write the card of what is finished; `seeds` of them are whole."""
    write_bytes(path, card(records, kept, seeds).encode())


def card(records: Records, kept: list[Kept], seeds: int) -> str:
    """Return the card."""
    table, spec = records.table, records.table.spec
    seconds = sum(one.spent["seconds"] for one in kept)
    processors = Counter(one.spent["processor"] for one in kept)
    lines = [
        f"# Truth table {table.name}",
        "",
        *(_wrapped(spec.about) if spec.about else []),
        f"{len(spec.cells)} architectures of {spec.space.name}, {len(spec.conditions)} conditions, {spec.seeds} seeds: "
        f"{len(kept)} of {len(list(records.cells()))} trainings are finished, {seeds} of {spec.seeds} seeds whole.",
        "",
        *(["## Cells", "", *_wrapped(spec.drawn)] if spec.drawn else []),
        "## How it was made",
        "",
        f"    make table SPEC={table.file.as_posix()} DATA=DIR",
        "",
        f"Written at commit {commit()}. {_code(records, kept)}",
        "",
        f"{seconds / 3600:.1f} hours in all, {seconds / max(1, len(kept)):.0f} s a training, with "
        f"{spec.runtime.threads} thread(s) each, on {', '.join(f'{name} ({n})' for name, n in processors.items())}; "
        f"device {records.device}, precision {spec.runtime.precision}. The seconds include what else the machine did.",
        "",
        _markdown(
            ["condition", "training rows", "largest class", "smallest", "digest of the rows"], _conditions(records)
        ),
        "Recipe, space and numerics are those of the file that describes the table"
        f" (digest {records.recipe}): {spec.retrain.epochs} epochs, batches of {spec.retrain.batch_size}, loss "
        f"{spec.retrain.loss}. Networks are those of the last epoch.",
        "",
        "## Columns",
        "",
        COLUMNS.format(name=table.name),
        "",
        CANNOT,
    ]
    return "\n".join(lines)


def _code(records: Records, kept: list[Kept]) -> str:
    counts = Counter(made_by(one.row) for one in kept)
    if not counts:
        return "No training is finished."
    own = tuple(records.made.values())
    parts = [
        f"{n} rows by code {made[0]} with torch {made[1]}{', which is this commit' if made == own else ''}"
        for made, n in counts.items()
    ]
    if len(counts) == 1:
        return f"{parts[0]}."
    return (
        f"Rows of {len(counts)} versions of the code: {'; '.join(parts)}. Before a version went on, it trained the "
        "first row of each other one anew, and all figures agreed."
    )


def _conditions(records: Records) -> list[list[Any]]:
    return [
        [name, f"{sum(rows.counts):,}", f"{max(rows.counts):,}", f"{min(rows.counts):,}", rows.train]
        for name, rows in records.rows.items()
    ]


def _wrapped(text: str) -> list[str]:
    import textwrap

    return [*textwrap.wrap(text, 118), ""]


def _markdown(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines) + "\n"
