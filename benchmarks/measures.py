"""What imbnas alone is measured on: the trie, the head's step, its cache, costs."""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
import timeit
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.augment import Augment
from imbnas.data.order import InstanceSampler
from imbnas.data.raw import Shape
from imbnas.errors import UserError
from imbnas.params.recipe import OptimizerParams, RecipeParams
from imbnas.params.shared import Numerics
from imbnas.params.space_options import SpaceParams
from imbnas.progress import Log
from imbnas.search.trie import TrieScorer
from imbnas.spaces.constraints import feasible
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture, Supernet
from imbnas.spaces.registry import make_space
from imbnas.spaces.space import SearchSpace
from imbnas.training.cache import CachedSampler, CachedStore, Entry, FeatureFile, path_features
from imbnas.training.definition import Training
from imbnas.training.frozen import FrozenBackbone
from imbnas.training.loop import Trainer
from imbnas.training.optimizer import make_optimizer
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import Scorer
from imbnas.training.state import ResumeState

GENERATIONS = Path(__file__).resolve().parent / "generations.json"
CLASSES = 10
SIDE = 32
BATCH = 128


class Clock:
    """Seconds of a call, on the wall or of this process's processors."""

    def __init__(self, name: str, device: torch.device) -> None:
        """Take "wall" or "cpu"."""
        self._read = {"wall": time.perf_counter, "cpu": time.process_time}[name]
        self._device = device

    def now(self) -> float:
        """Return the time once the device has done its work."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        return self._read()

    def of(self, call: Callable[[], object]) -> float:
        """Return the seconds of a call."""
        begin = self.now()
        call()
        return self.now() - begin

    def least(self, rounds: int, **calls: Callable[[], object]) -> dict[str, float]:
        """Return the least seconds of each call, all called in turn."""
        found = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                found[name].append(self.of(call))
        return {name: min(seconds) for name, seconds in found.items()}


class Rows:
    """Random images on the device in batches, with the interface of `training.scoring.Batches`."""

    def __init__(self, count: int, batch: int, seed: int, device: torch.device) -> None:
        """Draw the images."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        labels = torch.randint(CLASSES, (count,), generator=generator)
        self._images, self._labels, self._batch = images.to(device), labels.to(device), batch

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._labels)

    def labels(self) -> Iterator[Tensor]:
        """Yield the labels of each batch."""
        return iter(self._labels.split(self._batch))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels."""
        return zip(self._images.split(self._batch), self.labels(), strict=True)


class Stage:
    """A space of the fixtures with all that its measurements need."""

    def __init__(self, device: torch.device, threads: int, precision: str) -> None:
        """Build the supernet of the fixtures' space."""
        fixture = json.loads(GENERATIONS.read_text())
        self.runtime = Runtime(Numerics(device=device.type, threads=threads, precision=precision))
        self.space: SearchSpace = make_space(SpaceParams.model_validate(fixture["space"]))
        self.generations = {name: [tuple(a) for a in fixture[name]] for name in ("early", "converged")}
        torch.manual_seed(0)
        self.supernet: Supernet = self.space.build_supernet(CLASSES, 3)
        self.augment = Augment(
            Shape(SIDE, SIDE, 3), "none", pad=0, flip=False, cutout=0, mean=[0.5] * 3, std=[0.25] * 3
        )
        self.rows = Rows(128, 64, 1, device), Rows(128, 128, 2, device)

    def scorers(self, memory: int) -> tuple[Scorer, TrieScorer]:
        """Return the scorer of one path after the other and that of many together."""
        common = (self.runtime, self.supernet, *self.rows, self.augment, CLASSES)
        return Scorer(*common), TrieScorer(*common, memory)  # type: ignore[arg-type]


def trie(clock: Clock, device: torch.device, threads: int, rounds: int, memory: int) -> dict[str, Any]:
    """Return for each fixture what sharing saves of the forward time, and what of that is reached."""
    stage = Stage(device, threads, "fp32")
    alone, together = stage.scorers(memory)
    found: dict[str, Any] = {}
    for name, paths in stage.generations.items():
        answers: dict[str, dict[Architecture, np.ndarray]] = {"alone": {}, "together": {}}

        def one_by_one(paths: list = paths, answers: dict = answers) -> None:
            answers["alone"] = {path: alone(path).correct for path in paths}

        def at_once(paths: list = paths, answers: dict = answers) -> None:
            answers["together"] = {path: tally.correct for path, tally in together(paths)}

        spent = clock.least(rounds, alone=one_by_one, together=at_once)
        same = all(np.array_equal(answers["alone"][path], answers["together"][path]) for path in paths)
        with timed_blocks(stage.supernet, clock) as seconds:
            whole = clock.of(one_by_one)
        saved = repeated(paths, seconds) / whole
        blocks = len(stage.supernet.blocks)
        nodes = sum(len({path[:k] for path in paths}) for k in range(1, blocks + 1))
        found[name] = {
            "paths": len(paths),
            "identical": same,
            "share_of_block_forwards_saved": 1 - nodes / (blocks * len(paths)),
            "share_of_forward_time_saved": saved,
            "speed_up_allowed": 1 / (1 - saved),
            "speed_up": spent["alone"] / spent["together"],
            "reached": spent["alone"] / spent["together"] * (1 - saved),
            "seconds_one_by_one": spent["alone"],
            "seconds_together": spent["together"],
        }
    return found


@contextmanager
def timed_blocks(supernet: Supernet, clock: Clock) -> Iterator[dict[tuple[int, int], list[float]]]:
    """Yield a table that receives the seconds of every forward pass of stem (-1, 0) and candidates (block, choice)."""
    seconds: dict[tuple[int, int], list[float]] = defaultdict(list)
    begun: list[float] = []
    hooks = []
    places = {(-1, 0): supernet.stem}
    for block, candidates in enumerate(supernet.blocks):
        places |= {(block, choice): candidate for choice, candidate in enumerate(candidates.children())}
    for place, module in places.items():
        hooks.append(module.register_forward_pre_hook(lambda *_: begun.append(clock.now())))
        hooks.append(
            module.register_forward_hook(lambda *_, place=place: seconds[place].append(clock.now() - begun.pop()))
        )
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def repeated(paths: list[Architecture], seconds: dict[tuple[int, int], list[float]]) -> float:
    """Return the seconds of one pass over all paths that go to stems and blocks which a trie runs only once."""
    visits, nodes = Counter({(-1, 0): len(paths)}), Counter({(-1, 0): 1})
    for depth in range(len(paths[0])):
        visits.update((depth, path[depth]) for path in paths)
        nodes.update((depth, prefix[-1]) for prefix in {path[: depth + 1] for path in paths})
    return sum(sum(seconds[place]) * (1 - nodes[place] / visits[place]) for place in visits)


def head(clock: Clock, device: torch.device, threads: int, rounds: int) -> dict[str, Any]:
    """Return what a step costs that trains the head alone, beside a forward pass and a step that trains all."""
    steps = _trainings(device, threads)[1]
    spent = clock.least(rounds, **steps)
    return {
        "head_step_over_forward": spent["head"] / spent["forward"],
        "full_step_over_head_step": spent["full"] / spent["head"],
        "images_per_second": {name: BATCH / seconds for name, seconds in spent.items()},
    }


def _trainings(device: torch.device, threads: int) -> tuple[Stage, dict[str, Callable[[], None]]]:
    """Return the space's supernet, and a forward pass, a step of the head alone and one of everything, on one path."""
    stage = Stage(device, threads, "fp32")
    runtime = stage.runtime
    images = runtime.lay_out(torch.randn(BATCH, 3, SIDE, SIDE, device=device))
    labels = torch.randint(CLASSES, (BATCH,), device=device)
    loss = nn.CrossEntropyLoss()
    path = stage.generations["early"][0]

    def trainer(model: nn.Module) -> Callable[[], None]:
        runtime.place(model)
        optimizer = make_optimizer(model, OptimizerParams())

        def step() -> None:
            optimizer.zero_grad()
            loss(runtime.forward(model, images, path), labels).backward()
            optimizer.clip(5.0)
            optimizer.step()

        return step

    full = trainer(copy.deepcopy(stage.supernet).train())
    frozen = FrozenBackbone(stage.supernet, "batch")
    only_head = trainer(frozen.train())

    def forward() -> None:
        with torch.no_grad():
            frozen(images, path)

    return stage, {"forward": forward, "head": only_head, "full": full}


def cache(clock: Clock, device: torch.device, threads: int, rounds: int) -> dict[str, Any]:
    """Return images per second of a head's training on cached features, of one without a cache and of full training.

    All take batches of 128 and one path a step. The cached training is the product's loop from its start to its saved
    end; what the cache cost beforehand stands beside it, for one view.
    """
    stage, steps = _trainings(device, threads)
    runtime, paths, rows, epochs = stage.runtime, stage.generations["early"][:2], 512, 100
    images = [stage.augment(found) for found, _ in Rows(rows, BATCH, 3, device)]
    labels = torch.cat(list(Rows(rows, BATCH, 3, device).labels()))
    with tempfile.TemporaryDirectory() as folder:
        file = FeatureFile(Path(folder) / "features", (len(paths), 1, rows, stage.space.num_features))

        def fill() -> None:
            places = np.arange(rows).reshape(-1, BATCH)
            for path in paths:
                found = path_features(stage.supernet, runtime, (path,), zip(places, images, strict=True), rows)
                file.note(Entry(file.write([found]), 0.0, ""))

        caching = clock.of(fill)
        store = CachedStore(file.features(), labels, [[k] for k in range(len(paths))], device)
        recipe = RecipeParams(epochs=epochs, batch_size=BATCH)
        sampler = CachedSampler(InstanceSampler(labels.cpu().numpy(), 0), rows, store.turns, BATCH)
        training = Training(
            "cache", stage.supernet.head, recipe, store, lambda x, _: x, sampler, lambda _: nn.CrossEntropyLoss(), 0
        )

        def cached() -> None:
            state = ResumeState(Path(folder) / "state", "cache", 1e9)
            Trainer(training, runtime, state, Log("cache")).fit()
            state.finish()

        spent = clock.least(rounds, head=steps["head"], full=steps["full"], cached=cached)
    speed = {name: BATCH / spent[name] for name in ("full", "head")} | {"cached": epochs * rows / spent["cached"]}
    return {
        "cached_over_full": speed["cached"] / speed["full"],
        "cached_over_head": speed["cached"] / speed["head"],
        "images_per_second": speed,
        "seconds_of_caching_1000_images_on_a_path": caching / (rows * len(paths)) * 1000,
        "epochs_of_the_head_that_caching_costs": caching / (rows * len(paths)) * speed["head"],
    }


def costs() -> dict[str, float]:
    """Return the microseconds that the cost of an architecture takes, and the seconds to refuse limits in vain."""
    space = make_space(SpaceParams.model_validate(json.loads(GENERATIONS.read_text())["space"]))
    begin = time.perf_counter()
    try:
        feasible(space.cost_table((SIDE, SIDE, 3), CLASSES), Limits(max_macs=1))
        raise AssertionError("one MAC was enough")
    except UserError:
        refused = time.perf_counter() - begin
    table, path = space.cost_table((SIDE, SIDE, 3), CLASSES), (0,) * len(space.choices)
    seconds = min(timeit.repeat(lambda: table.cost(path), number=1000, repeat=5)) / 1000
    return {"microseconds_of_a_cost": seconds * 1e6, "seconds_to_refuse_limits": refused}


def main() -> None:
    """Print the measurements named on the command line as JSON: clock, device, threads, rounds, GiB, names."""
    clock_name, device_name, threads, rounds, memory, *names = sys.argv[1:]
    device = torch.device(device_name)
    common = Clock(clock_name, device), device, int(threads), int(rounds)
    calls: dict[str, Callable[[], Any]] = {
        "trie": lambda: trie(*common, int(float(memory) * 2**30)),
        "head": lambda: head(*common),
        "cache": lambda: cache(*common),
        "costs": costs,
    }
    print(json.dumps({name: calls[name]() for name in names}))


if __name__ == "__main__":
    main()
