"""Measure imbnas beside its peers, in turn and in one run; write benchmarks/results.json and docs/results/speed.md.

`make bench` runs everything; `--only` names parts of it. Figures are ratios of the least of several rounds on fixed
paths: absolute figures of a shared machine say little.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peers
import report
import single_path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PATHS = [
    [4, 3, 3, 4, 3, 4],
    [4, 1, 1, 2, 2, 4],
    [4, 1, 2, 4, 1, 4],
    [1, 2, 4, 2, 2, 2],
    [3, 2, 4, 2, 2, 3],
    [3, 3, 3, 3, 3, 3],
]
"""Five cells drawn once without the operation none, and the one of 3x3 convolutions alone."""
BATCHES = {"train": 64, "evaluate": 500}
PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16")}
COMMANDS = ("start-up", "long-tail", "workflow")
MEASURES = ("trie", "head", "cache", "costs")


class Worker:
    """A system in a process of its own, idle until it is asked."""

    def __init__(
        self, name: str, options: argparse.Namespace, script: str = "worker.py", source: Path | None = None
    ) -> None:
        """Start it; a peer in its own environment, imbnas by default from the sources beside this script."""
        python = peers.python_of(name) if name in peers.STEPS else Path(sys.executable)
        command = [str(python), str(HERE / script), name, options.device, str(options.threads)]
        # A waiting process must leave the cores to the one that is measured, and NNI writes below HOME.
        env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(source or _source()), os.environ.get("PYTHONPATH"))))
        if python != Path(sys.executable):
            env["PYTHONPATH"] = ""
        if name in peers.STEPS:
            env["HOME"] = str(peers.HOME / name)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
        self._clock = {"wall": 0, "cpu": 1}[options.clock]

    def seconds(self, task: str, path: list[int], batch: int, repeat: int = 1) -> float:
        """Return the seconds of one task on a path, the mean of `repeat`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"task": task, "path": path, "batch": batch, "repeat": repeat}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("error: a worker ended, see its message above")
        return float(json.loads(answer)[self._clock])

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _source() -> str:
    return str(HERE.parent / "src")


def beside_peers(options: argparse.Namespace) -> dict[str, Any]:
    """Return images per second of every system for training and evaluation, over all paths."""
    endings = [f"-{precision}".replace("-fp32", "") for precision in options.precisions]
    names = [*options.peers, *(kind + ending for kind in ("imbnas", "subnet") for ending in endings)]
    workers = {name: Worker(name, options) for name in names}
    found: dict[str, Any] = {}
    for task, batch in BATCHES.items():
        total = dict.fromkeys(names, 0.0)
        for path in PATHS:
            best: dict[str, float] = {}
            for turn in range(options.rounds + 1):
                for name, worker in workers.items():
                    spent = worker.seconds(task, path, batch, options.repeat)
                    # The first turn warms up.
                    best[name] = spent if turn < 2 else min(best[name], spent)
            for name in names:
                total[name] += best[name]
            print(task, path, {name: round(seconds, 4) for name, seconds in best.items()}, flush=True)
        found[task] = {
            "batch": batch,
            "images_per_second": {name: batch * len(PATHS) / seconds for name, seconds in total.items()},
        }
    for worker in workers.values():
        worker.stop()
    return found


def _single_path(options: argparse.Namespace, name: str, source: Path | None) -> Worker:
    return Worker(name, options, "single_path_worker.py", source)


def _python(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this directory in this environment and return the JSON at the end of its output."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (_source(), os.environ.get("PYTHONPATH"))))}
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments], env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def machine(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the figures were measured on."""
    import torch

    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "load_at_start": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def conditions(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return how a part is measured: the versions that matter to it, its clock and its rounds."""
    versions = {"torch": version("torch")}
    if part == "peers":
        versions |= {name: peers.VERSIONS[name] for name in options.peers}
    if part in COMMANDS:
        versions["snakemake"] = version("snakemake")
    rounds = {"trie": max(1, options.rounds // 3), **dict.fromkeys(COMMANDS, min(options.rounds, 3))}
    return {
        "versions": versions,
        "clock": "wall" if part in (*COMMANDS, "throughput") else options.clock,
        "rounds": rounds.get(part, options.rounds),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("peers", "single-path", "throughput", *MEASURES, *COMMANDS)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of every system")
    parser.add_argument("--rounds", type=int, default=5, help="turns of which the least counts")
    parser.add_argument("--repeat", type=int, default=1, help="steps in one timing; on a GPU 10 or more")
    parser.add_argument(
        "--peers", nargs="*", choices=peers.STEPS, default=list(peers.STEPS), help="which to compare with"
    )
    parser.add_argument("--before", type=Path, help="src/ of an earlier version, for single-path to compare with too")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS["cuda"], help="default: all of the device")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB that the trie may keep")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu: processor time, on a busy machine"
    )
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART", help=", ".join(parts))
    options = parser.parse_args()
    options.precisions = options.precisions or PRECISIONS[options.device]
    if odd := set(options.precisions) - set(PRECISIONS[options.device]):
        parser.error(f"--precisions: found {', '.join(odd)} for {options.device}, which does not have it")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    place = machine(options)
    for part in options.only:
        print(f"measuring {part}", flush=True)
        how = conditions(part, options)
        if part == "peers":
            measured = beside_peers(options)
        elif part == "single-path":
            measured = single_path.beside_plain(options, partial(_single_path, options))
        elif part == "throughput":
            measured = _python(
                "throughput.py", options.device, str(options.threads), str(options.rounds), *options.precisions
            )
        elif part in MEASURES:
            words = (options.clock, options.device, options.threads, how["rounds"], options.memory)
            measured = _python("measures.py", *map(str, words), part)[part]
        else:
            measured = _python("commands.py", str(how["rounds"]), part)[part]
        results.setdefault(options.device, {})[part] = {"machine": {**place, **how}, **measured}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    report.write(results)


if __name__ == "__main__":
    main()
