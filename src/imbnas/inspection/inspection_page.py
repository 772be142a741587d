"""The page of `imbnas inspect`: one list of tables, shown in a terminal and written as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imbnas.errors import visible
from imbnas.inspection.advice import Advice
from imbnas.inspection.image_findings import Images, in_both
from imbnas.inspection.split_plan import SPLITS, SplitPlan
from imbnas.report.page import Block

SHOWN = 24
"""Classes that a terminal shows: the largest and the smallest ones."""
BAR = 12
"""Signs of the longest bar."""
_COPIES = 10


def summary(found: Mapping[str, Images], plan: SplitPlan) -> Block:
    """Return what the images are, a line for each fact."""
    train = found["train"]
    counts = train.counts
    groups = ", ".join(f"{plan.groups.count(name)} {name}" for name in ("many", "medium", "few"))
    ratio = f"{counts.max() / counts.min():.4g}" if counts.min() else "infinite"
    splits = ", ".join(f"{int(plan.rows[name].sum()):,} {name}" for name in SPLITS if plan.rows[name].any())
    published = [name for name in ("validation", "test") if name in found]
    rows = [
        ["images", f"{len(train.raw):,} in {len(counts)} classes, {counts.max():,} to {counts.min():,} each"],
        ["imbalance ratio", f"{ratio} of the images, {plan.ratio:.4g} of the training rows"],
        ["rows", splits + (f" (published: {', '.join(published)})" if published else "")],
        ["shot groups", f"{groups}: {plan.rule}"],
        ["sizes", _sizes(train)],
        ["modes", _shares(train.modes) + (f"; {_shares(train.formats)}" if train.formats else "")],
        ["duplicates", _duplicates(found)],
    ]
    if train.raw.groups is not None:
        rows.append(["groups", f"{len(set(train.raw.groups)):,}, which no split parts"])
    if train.nbytes:
        rows.append(["bytes", f"{train.nbytes / 2**20:,.1f} MiB, {train.nbytes / max(1, len(train.raw)):,.0f} each"])
    return Block("What is there", ["", ""], rows, text=2)


def advice_block(advice: Sequence[Advice]) -> Block:
    """Return the recommendations; what differs from the present parameters is in bold."""
    strong = frozenset(place for place, each in enumerate(advice) if each.differs)
    rows = [[each.name, each.value, each.now or "-", each.why] for each in advice]
    return Block("What is recommended", ["parameter", "value", "now", "why"], rows, text=4, strong=strong)


def problems(found: Mapping[str, Images], plan: SplitPlan) -> Block | None:
    """Return what would be refused, then what deserves a look; None where there is neither."""
    rows = [["refused", fault] for fault in plan.faults]
    odd = [(split, each) for split, images in found.items() for each in images.oddities]
    for split, each in sorted(odd, key=lambda pair: not pair[1].refused):
        where = "" if len(found) == 1 else f" ({split})"
        more = f" and {each.count - len(each.examples):,} more" if each.count > len(each.examples) > 0 else ""
        kind = f"{'refused: ' if each.refused else ''}{each.count:,} {each.what}{where}"
        rows.append([kind, "; ".join(each.examples) + more])
    rows += [["warning", warning] for warning in plan.warnings]
    return Block("What deserves a look", ["what", "which"], rows, text=2) if rows else None


def class_block(train: Images, plan: SplitPlan, most: int | None = None) -> Block:
    """Return a row per class, the largest first; at most `most` of them, from both ends."""
    counts = train.counts
    order = np.argsort(-counts, kind="stable").tolist()
    head = order if most is None or len(order) <= most else order[: most // 2]
    tail = [] if head is order else order[-(most or 0) // 2 :]
    used = [name for name in SPLITS if plan.rows[name].any()]
    longest = max(1, int(counts.max()))

    def row(label: int) -> list[str]:
        bar = "█" * max(1, round(BAR * int(counts[label]) / longest))
        rows = [f"{int(plan.rows[name][label])}" for name in used]
        return [train.raw.classes[label], bar, f"{counts[label]}", *rows, plan.groups[label]]

    rows = [
        *map(row, head),
        *([["…", f"{len(order) - len(head) - len(tail)} more", *[""] * (len(used) + 2)]] * bool(tail)),
    ]
    rows += map(row, tail)
    return Block("Images of each class", ["class", "", "images", *used, "group"], rows, text=2)


def show(blocks: Sequence[Block], console: Console) -> None:
    """Print tables in a terminal."""
    for block in blocks:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(block.columns))
        for place, column in enumerate(block.columns):
            left = place < block.text
            table.add_column(column, justify="left" if left else "right", overflow="fold", no_wrap=not left)
        for number, row in enumerate(block.rows):
            table.add_row(*(Text(visible(cell)) for cell in row), style="bold" if number in block.strong else "")
        console.print(Text(block.heading, style="bold"))
        console.print(table)
        if block.note:
            console.print(Text(visible(block.note), style="dim"))
            console.print()


def _sizes(train: Images) -> str:
    if not len(train.widths):
        return "none can be read"
    sizes = sorted(zip(train.short_sides.tolist(), train.widths.tolist(), train.heights.tolist(), strict=True))
    smallest, middle, largest = sizes[0], sizes[len(sizes) // 2], sizes[-1]
    if smallest == largest:
        return f"all {smallest[1]} x {smallest[2]} pixels"
    words = (f"{width} x {height}" for _, width, height in (smallest, middle, largest))
    return "{} to {} to {} pixels (smallest, median, largest short side)".format(*words)


def _shares(counted: Mapping[str, int]) -> str:
    most = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {name}" for name, count in most)


def _duplicates(found: Mapping[str, Images]) -> str:
    train = found["train"]
    if not train.duplicates and len(found) == 1:
        return "none: no two images have the same content"
    parts = [f"{train.duplicates:,} repeat an earlier image"]
    copies = np.flatnonzero(train.first != np.arange(len(train.first)))[:_COPIES]
    if train.raw.paths is not None and len(copies):
        names = (f"{train.raw.paths[row]} = {train.raw.paths[train.first[row]]}" for row in copies.tolist())
        parts[0] += f" ({'; '.join(names)}{'; …' if train.duplicates > _COPIES else ''})"
    parts += [
        f"{in_both(found[split], train):,} of the {split} images are training images too"
        for split in ("validation", "test")
        if split in found
    ]
    return "; ".join(parts)
