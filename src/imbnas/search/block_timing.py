"""Times the parts of a space's networks on a device, in turns, so that its drift favours none."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.spaces.cost import Cost, Meter, Run, counting
from imbnas.spaces.networks import classify, initialise
from imbnas.training.runtime import Runtime

WARM_UP = 3
"""Rounds that are thrown away."""
SPANS = {"cpu": 200_000, "cuda": 2_000_000}
"""Nanoseconds that one reading of the clock covers at least, if MOST_CALLS are enough for that."""
MOST_CALLS = 50


@dataclass
class Timed:
    """Something that is timed: what runs it once, and the nanoseconds of a run, one for each round."""

    call: Callable[[], Any]
    calls: int = 1
    samples: list[float] = field(default_factory=list)

    @property
    def latency(self) -> int:
        """The median, which a round that something else disturbed does not move."""
        return round(float(np.median(self.samples)))

    @property
    def spread(self) -> int:
        """The width of the middle half of the rounds."""
        low, high = np.quantile(self.samples, (0.25, 0.75))
        return round(float(high - low))


def time_in_turns(items: Sequence[Timed], runtime: Runtime, rounds: int, rng: np.random.Generator) -> None:
    """Time everything once in each round, in an order that is drawn anew, after warming up."""
    for number in range(-WARM_UP, rounds):
        for place in rng.permutation(len(items)).tolist():
            item = items[place]
            taken = _time(item, runtime)
            if number < 0:
                item.calls = max(1, min(MOST_CALLS, math.ceil(SPANS[runtime.device.type] / max(1.0, taken))))
            else:
                item.samples.append(taken)


def _time(item: Timed, runtime: Runtime) -> float:
    """Return the nanoseconds of one run: on CUDA, of one among many that follow each other, as in a network."""
    with torch.inference_mode(), runtime.autocast():
        item.call()
        _wait(runtime)
        begun = perf_counter_ns()
        for _ in range(item.calls):
            item.call()
        _wait(runtime)
        return (perf_counter_ns() - begun) / item.calls


def _wait(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


class TimingMeter:
    """Times each module that a space's `measure` runs, once for all that are alike.

    `measure` is called twice: with `collecting`, to learn what there is to time, and with `pricing` when that is done.
    """

    def __init__(self, runtime: Runtime, batch: int) -> None:
        """Time on a runtime, with batches of so many images."""
        self._runtime, self._batch = runtime, batch
        self._items: dict[str, Timed] = {}

    @property
    def items(self) -> list[Timed]:
        """All that is to be timed."""
        return list(self._items.values())

    @property
    def collecting(self) -> Meter:
        """A meter that notes modules and says that they take no time."""

        def note(module: nn.Module, x: Tensor, part: str) -> int:
            key = _alike(module, x)
            if key not in self._items:
                self._items[key] = Timed(self._runner(module, x))
            return 0

        return _meter(note)

    def pricing(self, figure: str, parts: dict[str, int]) -> Meter:
        """Return a meter that says what each module takes: its `latency` or `spread`; `parts` receives named sums."""

        def price(module: nn.Module, x: Tensor, part: str) -> int:
            found: int = getattr(self._items[_alike(module, x)], figure)
            if part:
                parts[part] = parts.get(part, 0) + found
            return found

        return _meter(price)

    def _runner(self, module: nn.Module, x: Tensor) -> Callable[[], Tensor]:
        return runner(initialise(copy.deepcopy(module)), (self._batch, *x.shape[1:]), self._runtime)


def runner(module: nn.Module, shape: tuple[int, ...], runtime: Runtime) -> Callable[[], Tensor]:
    """Return a function that runs a module in evaluation, on random numbers of this shape, as a step would."""
    placed = runtime.place(module).eval()
    given = runtime.lay_out(torch.randn(shape).to(runtime.device))
    if runtime.mixed:
        given = given.to(torch.bfloat16)
    if isinstance(module, nn.Linear):
        return lambda: classify(placed, given)
    return lambda: placed(given)


def _meter(nanoseconds: Callable[[nn.Module, Tensor, str], int]) -> Meter:
    """Return a meter whose costs are latencies alone; shapes are traced with one image on the processor."""

    @contextmanager
    def timing(image: tuple[int, int, int]) -> Iterator[tuple[Run, Tensor]]:
        with counting(image) as (trace, first):

            def run(module: nn.Module, x: Tensor, part: str = "") -> tuple[Tensor, Cost]:
                y, _ = trace(module, x)
                return y, Cost(0, 0, nanoseconds(module, x, part))

            yield run, first

    return timing


def _alike(module: nn.Module, x: Tensor) -> str:
    """Return a text that is the same for modules that do the same work on an input of this shape.

    It is their printed form, and what they hold of plain values, which a module that forgets to print them still acts
    by.
    """
    plain = [
        f"{name}.{key}={value}"
        for name, part in module.named_modules()
        for key, value in sorted(vars(part).items())
        if isinstance(value, int | float | str | tuple) and not key.startswith("_")
    ]
    return f"{module!r}\n{tuple(x.shape[1:])}\n{plain}"
