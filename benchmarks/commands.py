"""What a user waits for: start-up times, the long tail of ten million rows, Snakemake's own overhead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain", "evaluate")
PROJECT = (
    *("Snakefile", "workflow", "profiles", "src", "params.yaml", "pyproject.toml", "requirements.lock"),
    "datasets/digits",
)
ROWS = 10_000_000


def run(*argv: str, cwd: Path = ROOT) -> tuple[float, float]:
    """Run a command in silence and return its seconds and its largest memory in MB."""
    # The interpreter's own directory first: `imbnas` in a rule must be this one.
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    begin = time.perf_counter()
    process = subprocess.Popen(argv, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    error = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(argv)} failed:\n{error}")
    return seconds, usage.ru_maxrss / 1024


def least(rounds: int, *argv: str, cwd: Path = ROOT) -> float:
    """Return the least seconds of a command."""
    return min(run(*argv, cwd=cwd)[0] for _ in range(rounds))


def start_up(rounds: int) -> dict[str, Any]:
    """Return the seconds of `imbnas --help`, of an error in the parameters, and of each step's imports."""
    python, imbnas = str(BIN / "python"), [str(BIN / "python"), "-m", "imbnas.cli"]
    imports = {step: least(rounds, python, "-c", f"import imbnas.steps.{step}") for step in STEPS}
    return {
        "python": least(rounds, python, "-c", ""),
        "imbnas --help": least(rounds, *imbnas, "--help"),
        "imbnas check": least(rounds, *imbnas, "check"),
        "imports": imports,
        "import torch": least(rounds, python, "-c", "import torch"),
    }


def long_tail(rounds: int) -> dict[str, float]:
    """Return seconds and memory of the step `imbalance` on an index of ten million rows of 8,142 classes."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "data/target/train"
        folder.mkdir(parents=True)
        classes = 8142
        labels = np.random.default_rng(0).permutation(np.arange(ROWS) % classes)
        index = {"label": labels, "row": np.arange(ROWS)}
        pq.write_table(pa.table(index), folder / "index.parquet")
        np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (ROWS, 1, 1, 1))
        info = {
            **{"dataset": "mnist", "split": "train", "kind": "array", "classes": [str(k) for k in range(classes)]},
            **{"shape": [1, 1, 1], "rows": ROWS, "mean": [0.5], "std": [0.5], "photographs": False},
            "digest": "0" * 64,
        }
        (folder / "info.json").write_text(json.dumps(info))
        shutil.copy(ROOT / "params.yaml", root)
        measured = [run(str(BIN / "python"), "-m", "imbnas.cli", "imbalance", cwd=root) for _ in range(rounds)]
    return {"rows": ROWS, "seconds": min(m[0] for m in measured), "memory_mb": max(m[1] for m in measured)}


def workflow(rounds: int) -> dict[str, Any]:
    """Return the seconds of `snakemake -n`, and what a rule costs beyond its bare step.

    The same tiny chain runs once by Snakemake on one core and once step by step.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        _copy(root)
        dry = least(rounds, str(BIN / "snakemake"), "-n", "--quiet", "all", cwd=root)
        chain = least(1, str(BIN / "snakemake"), "--cores", "1", "--quiet", "all", cwd=root)
        for folder in ("data", "models", "results", ".imbnas"):
            shutil.rmtree(root / folder)
        # On tiny data: little else than start-up.
        steps = {step: least(1, str(BIN / "python"), "-m", "imbnas.cli", step, cwd=root) for step in STEPS}
        bare = sum(steps.values())
    return {
        "snakemake_dry_run_seconds": dry,
        "chain_by_snakemake_seconds": chain,
        "chain_step_by_step_seconds": bare,
        "step_seconds": steps,
        "overhead_of_a_rule_seconds": (chain - bare) / len(STEPS),
    }


def _copy(root: Path) -> None:
    """Copy the project with parameters that train next to nothing."""
    for part in PROJECT:
        source, place = ROOT / part, root / part
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            place.symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, place)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["supernet"].update(epochs=1, probe_paths=2)
    params["adapt"]["head"]["epochs"] = 1
    params["search"].update(population=4, parents=2, generations=2)
    params["retrain"].update(epochs=2, references=False)
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


if __name__ == "__main__":
    calls = {"start-up": start_up, "long-tail": long_tail, "workflow": workflow}
    print(json.dumps({name: calls[name](int(sys.argv[1])) for name in sys.argv[2:]}, indent=2))
