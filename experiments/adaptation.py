"""What each adaptation costs, and how well the adapted supernet ranks subnets: on digits, into one page.

    python experiments/adaptation.py

Everything is the product's own steps at the default preset. Subnets spread over the space are retrained from scratch on
the long tail and judged, as the supernets' rankings are, on the validation rows; the test rows are not opened. What is
finished is not computed again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from longtail import merged

from imbnas.files import write_bytes, write_json
from imbnas.params.config import Params, parse
from imbnas.params.presets import text
from imbnas.steps.runner import run_step

Tree = dict[str, Any]
Scores = dict[str, np.ndarray]

SHARED = ("source", "target", "imbalance", "supernet")
VARIANTS: dict[str, Tree] = {
    "none": {"strategy": "none"},
    "head": {"strategy": "head"},
    "head, 16 cached paths": {"strategy": "head", "feature_cache": {"paths": 16, "views": 1}},
    "head, 64 cached paths": {"strategy": "head", "feature_cache": {"paths": 64, "views": 1}},
    "finetune": {"strategy": "finetune"},
    "scratch": {"strategy": "scratch"},
}
"""What each variant changes in `adapt`."""


class Place:
    """The experiment's directory and parameters."""

    def __init__(self, root: Path, changes: Tree) -> None:
        """Take the directory, and what `changes` over the default preset."""
        self.root = root
        fixed: Tree = {"runtime": {"device": "cpu", "threads": 1, "workers": 0}}
        self._tree = merged(merged(yaml.safe_load(text("digits")), fixed), changes)

    def params(self, seed: int = 0, **sections: Tree) -> Params:
        """Return the parameters with some sections changed."""
        return parse(merged(self._tree, {"seed": seed, **deepcopy(sections)}), "experiments/adaptation.py")

    def step(self, step: str, params: Params, **moved: Path) -> dict[str, float]:
        """Run a step in a process of its own; return its seconds on the wall, of the processor, and without imports."""
        request = {"step": step, "params": params.tree(), "root": str(self.root)}
        request["moved"] = {name: str(path) for name, path in moved.items()}
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--one"]
        done = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"error: {step}: failed, see {self.root / 'logs'}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"wall": time.monotonic() - begin, "processor": used, "own": json.loads(done.stdout)}

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the JSON value that `make` gave, now or in an earlier call."""
        file = self.root / "measured" / f"{name}.json"
        if not file.exists():
            write_json(file, make())
        return json.loads(file.read_text())

    def adapted(self, variant: str, seed: int) -> Path:
        """Return where a variant's supernet lies."""
        return self.root / "adapted" / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.safetensors"


def one() -> int:
    """Run the step that standard input describes, and print the processor's seconds without start and imports."""
    request = json.load(sys.stdin)
    root, moved = Path(request["root"]), {name: Path(path) for name, path in request["moved"].items()}
    params = parse(request["params"], "experiments/adaptation.py")
    importlib.import_module(f"imbnas.steps.{request['step']}")
    begin = time.process_time()
    code = run_step(request["step"], params, root, moved, root / "logs" / f"{request['step']}.log")
    print(time.process_time() - begin)
    return code


def seconds(place: Place, rounds: int) -> dict[str, dict[str, float]]:
    """Return the least seconds of each variant's step in some rounds, the trainings of a minute in one."""
    least: dict[str, dict[str, float]] = {}
    for turn in range(rounds):
        for name, change in VARIANTS.items():
            if turn and name in ("finetune", "scratch"):
                continue
            shutil.rmtree(place.root / ".imbnas/kept", ignore_errors=True)
            where = place.adapted(name, 0)
            note(least, name, place.step("adapt", place.params(adapt=change), adapted=where))
            if "cached" in name:
                again = merged(change, {"loss": "balanced-softmax"})
                spent = place.step("adapt", place.params(adapt=again), adapted=where.with_name("again.safetensors"))
                note(least, f"{name}, another loss", spent)
    return least


def note(least: dict[str, dict[str, float]], name: str, spent: dict[str, float]) -> None:
    """Keep the least of each clock."""
    before = least.get(name, spent)
    least[name] = {clock: min(before[clock], value) for clock, value in spent.items()}


def subnets(place: Place, count: int) -> list[tuple[int, ...]]:
    """Return different subnets, the smallest and the largest and others evenly spread over the MACs between."""
    from imbnas.seeds import stream
    from imbnas.spaces.constraints import Limits, largest, smallest
    from imbnas.spaces.registry import make_space

    space = make_space(place.params().space)
    table, rng = space.cost_table((8, 8, 1), 10), stream(0, "experiment", "adaptation")
    drawn = {space.sample(rng) for _ in range(500)} - {smallest(table), largest(table, Limits())}
    order = sorted(drawn, key=lambda path: (table.cost(path).macs, path))
    places = np.linspace(0, len(order) - 1, count - 2).round().astype(int)
    return [smallest(table), *(order[k] for k in places), largest(table, Limits())]


class Judge:
    """Scores networks on the validation rows by their balanced accuracy."""

    def __init__(self, place: Place) -> None:
        """Read the rows."""
        from imbnas.progress import Log
        from imbnas.steps.context import Context
        from imbnas.steps.rows import make_augment, make_store, read_tail, read_validation
        from imbnas.steps.search import calibration_rows
        from imbnas.training.runtime import Runtime
        from imbnas.training.scoring import Batches

        params = place.params()
        context, search = Context("search", place.root, Log("judge")), params.search
        tail, held_out = read_tail(context)
        calibration = calibration_rows(tail, search.calibration.rows, search.calibration.sampling, 0)
        self.runtime, self.augment, self.classes = Runtime(params.runtime), make_augment(tail.split, None), 10
        size = search.calibration.batch_size
        self.calibration = Batches(make_store(calibration, self.runtime, context), size)
        rows = read_validation(context, held_out)
        self.validation = Batches(make_store(rows, self.runtime, context), search.batch_size)

    def supernet(self, file: Path, paths: list[tuple[int, ...]]) -> list[float]:
        """Return the scores of paths of an adapted supernet, as the search gives them."""
        from imbnas.longtail.heads import LINEAR, make_head
        from imbnas.params.shared import SpaceParams
        from imbnas.search.trie import TrieScorer
        from imbnas.spaces.registry import make_space
        from imbnas.training.weights import load_weights

        state, meta = load_weights(file, "supernet")
        space = make_space(SpaceParams.model_validate_json(json.dumps(meta["space"])))
        supernet = space.build_supernet(self.classes, meta["shape"][2])
        supernet.head = make_head(meta.get("head", LINEAR), space.num_features, self.classes)
        supernet.load_state_dict(state)
        rows = (self.calibration, self.validation)
        scorer = TrieScorer(self.runtime, supernet, *rows, self.augment, self.classes, 2**30)
        found = {path: tally.balanced_accuracy for path, tally in scorer(paths)}
        return [found[path] for path in paths]

    def subnet(self, file: Path) -> float:
        """Return the score of a retrained network."""
        import torch

        from imbnas.networks import load_subnet

        model, right, support = load_subnet(file).model, np.zeros(self.classes), np.zeros(self.classes)
        with torch.no_grad():
            for images, labels in self.validation:
                truth = labels.numpy()
                hits = model(self.augment(images)).argmax(dim=1).numpy() == truth
                support += np.bincount(truth, minlength=self.classes)
                right += np.bincount(truth[hits], minlength=self.classes)
        return float((right / support).mean())


def retrained(place: Place, judge: Judge, path: tuple[int, ...], seed: int) -> float:
    """Return the score of a subnet trained from scratch on the long tail with the retrain recipe."""
    folder = place.root / "retrained"
    moved = {"architecture": folder / "architecture.json", "final": folder / "final.safetensors"}
    moved |= {"references": folder / "references.safetensors", "cost": folder / "cost.json"}
    record = {"architecture": list(path), "blocks": [], "macs": 0, "params": 0}
    name = place.params().space.name
    write_json(moved["architecture"], {"space": name, "chosen": record, "references": {}})
    place.step("retrain", place.params(seed, retrain={"references": False}), **moved)
    return judge.subnet(moved["final"])


def tau(first: np.ndarray, second: np.ndarray) -> float:
    """Return Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(first, second).statistic)


def interval(statistic: Callable[[np.ndarray], float], count: int, resamples: int = 2000) -> tuple[float, float]:
    """Return a 95 % percentile interval of a statistic of subnets (positions) from a bootstrap of the subnets."""
    from imbnas.seeds import stream

    rng = stream(0, "experiment", "bootstrap")
    draws = [statistic(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return float(low), float(high)


def figure(statistic: Callable[[np.ndarray], float], count: int) -> str:
    """Return a statistic of all subnets with its interval, as text."""
    low, high = interval(statistic, count)
    return f"{statistic(np.arange(count)):.2f} [{low:.2f}, {high:.2f}]"


def agreement(scores: np.ndarray, truth: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return the mean tau over the seeds of scores (seeds, subnets) with truth (subnets,), as a function of subnets."""
    return lambda chosen: float(np.mean([tau(row[chosen], truth[chosen]) for row in scores]))


def paired(first: np.ndarray, second: np.ndarray, same: bool) -> Callable[[np.ndarray], float]:
    """Return the mean tau between seeds of two variants: of equal seeds (`same`), or of different ones."""
    pairs = [(a, b) for a in range(len(first)) for b in range(len(second)) if (a == b) == same]
    return lambda chosen: float(np.mean([tau(first[a][chosen], second[b][chosen]) for a, b in pairs]))


def main() -> int:
    """Measure what is missing and write the page."""
    if sys.argv[1:] == ["--one"]:
        return one()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".imbnas/adaptation"), help="where everything goes")
    parser.add_argument("--output", type=Path, default=Path("docs/results/adaptation.md"))
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each subnet")
    parser.add_argument("--subnets", type=int, default=16, help="how many are retrained")
    parser.add_argument("--rounds", type=int, default=3, help="timings of which the least counts")
    parser.add_argument("--set", default="{}", metavar="YAML", help="changes of the preset, to try things out")
    options = parser.parse_args()
    place = Place(options.work.resolve(), yaml.safe_load(options.set))
    (place.root / "datasets/digits").mkdir(parents=True, exist_ok=True)
    place.kept("shared", lambda: [place.step(step, place.params()) for step in SHARED])
    spent = place.kept("seconds", lambda: seconds(place, options.rounds))
    judge, paths = Judge(place), subnets(place, options.subnets)
    more = subnets(place, 4 * options.subnets)
    scores: Scores = {}
    wide: Scores = {}
    for variant, change in VARIANTS.items():
        # A head is trained in seconds: three seeds tell a difference between variants from that between seeds.
        found = []
        for seed in range(3 if "head" in variant else 1):
            file = place.adapted(variant, seed)
            if not file.exists():
                place.step("adapt", place.params(seed, adapt=change), adapted=file)
            key = f"scores-{file.stem}"
            found.append(place.kept(key, lambda file=file: judge.supernet(file, [*paths, *more])))  # type: ignore[misc]
        scores[variant] = np.array(found)[:, : len(paths)]
        wide[variant] = np.array(found)[:, len(paths) :]
    truth = []
    for seed in range(options.seeds):
        names = ["-".join(map(str, path)) for path in paths]
        # The closure is called at once.
        truth.append([
            place.kept(f"retrained-{name}-{seed}", lambda path=path, seed=seed: retrained(place, judge, path, seed))  # type: ignore[misc]
            for name, path in zip(names, paths, strict=True)
        ])  # fmt: skip
    from adaptation_page import page

    content = page(place, options, spent, scores, wide, np.array(truth))
    write_bytes(options.output, content.encode())
    print(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
