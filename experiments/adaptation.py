"""What each adaptation costs, and how well the adapted supernet ranks subnets: on digits, into one page.

    python experiments/adaptation.py
    python experiments/adaptation.py --seconds-on cifar10-lt --data DIR

Everything is the product's own steps at the default preset, but for the space in which rankings are judged, see
`adaptation_ranking.CELLS`. The second form measures first what head and scratch cost on a preset for real use: `DIR`
holds its target as torchvision reads it. What is finished is not computed again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from adaptation_place import Place, Tree
from experiment_command import run

from imbnas import page_record
from imbnas.params import presets
from imbnas.run.graph import PATHS

HEADS: dict[str, Tree] = {
    "head": {"strategy": "head"},
    "head, 16 cached paths": {"strategy": "head", "feature_cache": {"paths": 16, "views": 1}},
    "head, 64 cached paths": {"strategy": "head", "feature_cache": {"paths": 64, "views": 1}},
}
"""What variants of the head change in `adapt`."""
STRATEGIES: dict[str, Tree] = {name: {"strategy": name} for name in ("none", "head", "finetune", "scratch")}
"""What each strategy changes there."""
Seconds = dict[str, dict[str, float]]


def seconds(place: Place, rounds: int) -> Seconds:
    """Return the least seconds of each variant's step in some rounds, the trainings of a minute in one."""
    least: Seconds = {}
    supernet, where = place.supernet(0), place.root / "timed.safetensors"
    for turn in range(rounds):
        for name, change in {"none": STRATEGIES["none"], **HEADS, **STRATEGIES}.items():
            if turn and name in ("finetune", "scratch"):
                continue
            shutil.rmtree(place.root / ".imbnas/kept", ignore_errors=True)
            note(least, name, place.timed("adapt", place.params(adapt=change), supernet=supernet, adapted=where))
            if "cached" in name:
                again = place.params(adapt={**change, "loss": "balanced-softmax"})
                spent = place.timed("adapt", again, supernet=supernet, adapted=where)
                note(least, f"{name}, another loss", spent)
    return least


def note(least: Seconds, name: str, spent: dict[str, float]) -> None:
    """Keep the least of each clock."""
    before = least.get(name, spent)
    least[name] = {clock: min(before[clock], value) for clock, value in spent.items()}


def preset_seconds(work: Path, preset: str, data: Path, largest: int) -> Tree:
    """Return the seconds of head and scratch at a preset's defaults, on a long tail with few rows.

    The source is half of the target's dataset and the supernet has its first weights: neither changes the seconds.
    """
    files: Tree = {"root": str(data.resolve()), "download": False}
    few: Tree = {
        "source": {**files, "dataset": presets.params(preset).target.dataset, "share": 0.5},
        "target": files,
        "imbalance": {"n_max": largest, "ratio": float(largest)},
        "supernet": {"epochs": 0, "probe_paths": 1},
    }
    place = Place(work / preset, preset, few)
    place.prepare()
    supernet, where = place.supernet(0), place.root / "timed.safetensors"
    found: Tree = {"preset": preset, "largest": largest, "size": sum(counts(place)), "seconds": {}, "epochs": {}}
    for name in ("head", "scratch"):
        params = place.params(adapt={"strategy": name})
        found["epochs"][name] = params.tree()["adapt"][name]["epochs"]
        found["seconds"][name] = place.timed("adapt", params, supernet=supernet, adapted=where)
    return found


def counts(place: Place) -> list[int]:
    """Return the long-tailed rows of each class."""
    found: list[int] = json.loads((place.root / PATHS["imbalance"]).read_text())["counts"]
    return found


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is missing and return all that the page tells."""
    from adaptation_ranking import CELLS, Judge, drawn_cells, rankings, spread_subnets, truths

    work = options.work.resolve()
    place, cells = Place(work / "digits", "digits", {}), Place(work / "cells", "digits", {"space": CELLS})
    for each in (place, cells):
        each.prepare()
    found: dict[str, Any] = {"place": place, "cells": cells, "rows": sum(counts(place))}
    found["seconds"] = place.kept("seconds", lambda: seconds(place, options.rounds))
    found["preset"] = None
    if options.seconds_on or (place.root / "measured/preset.json").exists():
        chosen = (options.seconds_on, options.data, options.largest)
        found["preset"] = place.kept("preset", lambda: preset_seconds(work, *chosen))
    judge, paths = Judge(cells), drawn_cells(cells, options.subnets)
    found["held out"] = {"validation": len(judge.validation), "test": len(judge.test)}
    found["truth"] = truths(cells, judge, paths, options.seeds)
    found["scores"] = rankings(cells, judge, STRATEGIES, paths, options.supernets, options.supernets)
    found["wide"] = rankings(place, Judge(place), HEADS, spread_subnets(place, 64), 1, 3)
    return found


def main() -> int:
    """Measure what is missing and write the page."""
    return run(lambda: _work(_options()))


def _work(options: argparse.Namespace) -> str:
    """Measure what is missing, and write and return the page."""
    found = measured(options)
    from adaptation_page import page

    content = page(options, found)
    page_record.write_page(options.output, content, "make adaptation")
    return content


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".imbnas/adaptation"), help="where everything goes")
    parser.add_argument("--output", type=Path, default=Path("docs/results/adaptation.md"))
    parser.add_argument("--seeds", type=int, default=5, help="trainings of each subnet")
    parser.add_argument("--supernets", type=int, default=3, help="seeds of each strategy")
    parser.add_argument("--subnets", type=int, default=48, help="how many are retrained")
    parser.add_argument("--rounds", type=int, default=3, help="timings of which the least counts")
    parser.add_argument("--seconds-on", metavar="PRESET", help="time head and scratch on this preset too")
    parser.add_argument("--data", type=Path, default=Path("datasets/cifar10"), help="where its target is")
    parser.add_argument("--largest", type=int, default=10, help="rows of its largest class; the smallest has one")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
