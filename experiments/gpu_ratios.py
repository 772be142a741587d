"""A part of `make gpu`: seconds of the chain's heavy steps, what recordings gain, and several trainings at once.

Each figure is a piece; `measurements` names them all. Those of a single training are `benchmarks/throughput.py`'s.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from gpu_pieces import Pieces
from gpu_setting import ROOT, Setting, code_digest, given

sys.path.append(str(ROOT / "benchmarks"))

import ceilings
import gpu_beside
import gpu_wholes
import throughput
import torch

from imbnas.progress import Log
from imbnas.spaces.permuted import PermutedPasses
from imbnas.training.loop import Trainer
from imbnas.training.state import ResumeState

Measurement = Callable[[], dict[str, Any]]
CODE = ("src", "benchmarks", "presets", *(f"experiments/gpu_{name}.py" for name in ("ratios", "beside", "wholes")))
"""What figures depend on."""
STEPS, ROUNDS = 64, 3
TOGETHER = 8
"""Trainings at once."""
WARM = 2
"""Epochs before several trainings are timed: their steps are recorded in them."""
TIMED = 6


def main() -> int:
    """Measure what is not measured and return the exit code."""
    setting = given()
    if setting.tiny:
        shrink()
    pieces = Pieces(setting, "ratios", code_digest(CODE))
    found, failed = measurements(setting), 0
    for name, measure in found.items():
        try:
            print(f"{name}: {json.dumps(pieces.make(name, measure))}", flush=True)
        except Exception as error:  # of whatever kind, it must not keep the others from being measured
            failed += 1
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
    print(f"{sum(map(pieces.done, found))} of {len(found)} measured, {failed} failed")
    return int(failed > 0)


def measurements(setting: Setting) -> dict[str, Measurement]:
    """Return everything that is measured, by name, in order."""
    bench = benchmark(setting)
    found: dict[str, Measurement] = {}
    count = 2 if setting.tiny else TOGETHER
    for case in gpu_beside.CASES:
        batch = 8 if setting.tiny else 128
        found[f"side by side {case} bf16"] = partial(gpu_beside.beside, bench, case, "bf16", batch, count)
    for precision in ("bf16",) if setting.tiny else ("bf16", "tf32"):
        for kind, space, batch in throughput.CASES:
            found[f"{kind} {space} {precision}"] = partial(_case, bench, kind, space, precision, batch)
        for space in ("shufflenet", "nasbench201"):
            found[f"passes together {space} {precision}"] = partial(_passes, bench, space, precision)
        for space in ("resnet", "nasbench201"):
            found[f"processes at once {space} {precision}"] = partial(_at_once, setting, space, precision)
        found |= gpu_wholes.measurements(setting, bench, precision)
    return found


def benchmark(setting: Setting) -> throughput.Bench:
    """Return where and how long is measured."""
    return throughput.Bench(
        torch.device(setting.device), 1, 1 if setting.tiny else STEPS, 1 if setting.tiny else ROUNDS
    )


def shrink() -> None:
    """Let the benchmark's networks and batches be tiny."""
    stages = {"channels": [4, 8, 8], "repeats": [1, 1, 1], "strides": [1, 2, 2]}
    for name in throughput.SPACES:
        last = 8 if name == "shufflenet" else None
        throughput.SPACES[name] = {"stem": {"channels": 4, "stride": 1}, "stages": stages, "last_channels": last}
    throughput.SUBNET |= {"shufflenet": (0, 1, 2), "resnet": (0, 0, 0)}
    throughput.CASES = tuple((kind, space, min(batch, 8)) for kind, space, batch in throughput.CASES)
    ceilings.SIDE["cpu"], ceilings.COPIED["cpu"] = 256, 2**20


@cache
def _rates(bench: throughput.Bench, precision: Any) -> ceilings.Rates:
    bench.runtime(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return ceilings.rates(bench.device, dtype, bench.least)


def _case(bench: throughput.Bench, kind: str, space: str, precision: Any, batch: int) -> dict[str, Any]:
    """Return the figures of one step, beside what the hardware allows."""
    if kind == "evaluation":
        measured = throughput.evaluation(bench, space, precision)
    else:
        measured = throughput.training(bench, kind, space, precision, batch)
    rates = _rates(bench, precision)
    return {**measured, **throughput.ceiling(bench, kind, space, precision, rates), "rates": rates._asdict()}


def _passes(bench: throughput.Bench, name: str, precision: Any) -> dict[str, Any]:
    """Return the milliseconds of a fair step of a supernet, its paths one by one and in one pass, and their ratio."""
    space, runtime = throughput._space(name), bench.runtime(precision)
    batch = next(size for kind, of, size in throughput.CASES if (kind, of) == ("supernet", name))
    job = partial(throughput._job, bench, "supernet", space, batch)
    separate = bench.seconds_a_step(job(), runtime)
    together = bench.seconds_a_step(replace(job(), together=PermutedPasses(space), capturable=True), runtime)
    found = {"separate": 1e3 * separate, "together": 1e3 * together}
    return {"batch": batch, "milliseconds_a_step": found, "ratio": separate / together}


def _at_once(setting: Setting, space: str, precision: str) -> dict[str, Any]:
    """Return the images per second of one training, of several in processes of their own, and their ratio."""
    count = 2 if setting.tiny else TOGETHER
    alone, together = (_rate(setting, space, precision, number) for number in (1, count))
    return {"processes": count, "images_per_second": together, "alone": alone, "ratio": together / alone}


def _rate(setting: Setting, space: str, precision: str, count: int) -> float:
    """Return the images per second of `count` trainings that begin at the same moment, to the end of the last."""
    command = [sys.executable, __file__, "--train", space, precision, *setting.words()]
    trainings = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        for one in trainings:
            assert one.stdout is not None
            if one.stdout.readline().strip() != "ready":
                raise RuntimeError("a training did not begin, see its message above")
        for one in trainings:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        found = [json.loads(one.communicate()[0]) for one in trainings]
    finally:
        for one in trainings:
            one.kill()
            one.wait()
    spent = max(each["end"] for each in found) - min(each["begin"] for each in found)
    return float(sum(each["images"] for each in found) / spent)


def train(setting: Setting, space: str, precision: Any) -> None:
    """Train alone: tell when the warm-up is over, wait for a line, train on, and print images, begin and end."""
    if setting.tiny:
        shrink()
    bench = benchmark(setting)
    batch = next(size for kind, name, size in throughput.CASES if (kind, name) == ("retrain", space))
    job = throughput._job(bench, "retrain", throughput._space(space), batch)
    timed = 1 if setting.tiny else TIMED
    begun: list[float] = []

    def objective(epoch: int) -> Any:
        if epoch == WARM:
            bench.now()
            print("ready", flush=True)
            sys.stdin.readline()
            begun.append(bench.now())
        return job.objective(epoch)

    recipe = job.recipe.model_copy(update={"epochs": WARM + timed})
    with tempfile.TemporaryDirectory() as folder:
        state = ResumeState(Path(folder) / "state", "bench", 1e9)
        training = replace(job, objective=objective, recipe=recipe)
        Trainer(training, bench.runtime(precision), state, Log("bench")).fit()
    print(json.dumps({"images": timed * bench.steps * batch, "begin": begun[0], "end": bench.now()}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(given(sys.argv[4:]), *sys.argv[2:4])
    else:
        raise SystemExit(main())
