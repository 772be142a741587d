"""A part of `make gpu`: the literature's presets of CIFAR-10-LT, those with least work first, each a piece.

Of the chain only `retrain` and `evaluate` run here; what they read came with the pack.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import gpu_plan
import gpu_rows
from gpu_pieces import Pieces
from gpu_setting import CONTINUED, given

from imbnas.params.config import Params
from imbnas.run.graph import cost_details
from imbnas.run.runner import run_step


class StoppedError(Exception):
    """A training has saved its state and goes on in a later run."""


def main() -> int:
    """Run what is not finished and return the exit code."""
    setting = given()
    inputs = gpu_rows.chain_places(setting.work / "rows" / "literature")
    gpu_rows.unpack(setting.pack, {name: place for name, place in inputs.items() if name in gpu_rows.LITERATURE})
    gpu_rows.copy_files(setting.pack, inputs)
    # A finished experiment stays, whatever was edited since: its record names its commit.
    pieces = Pieces(setting, "literature", "")
    chosen, failed = gpu_plan.literature(setting.device), []
    for name, params in chosen.items():
        root = setting.work / "literature" / name
        try:
            pieces.make(name, lambda params=params, root=root: trained(params, root, inputs))  # type: ignore[misc]
        except StoppedError:
            print(_progress(pieces, chosen, failed))
            return CONTINUED
        except Exception as error:  # of whatever kind, it must not keep the others from being trained
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            failed.append(name)
            continue
        shutil.rmtree(root, ignore_errors=True)
        print(_progress(pieces, chosen, failed), flush=True)
    return int(bool(failed))


def trained(params: Params, root: Path, inputs: dict[str, Path]) -> dict[str, Any]:
    """Train and evaluate a preset and return its metrics, details and cost; RuntimeError where a step fails."""
    for step in ("retrain", "evaluate"):
        code = run_step(step, params, root, inputs, root / "logs" / f"{step}.log")
        if code == CONTINUED:
            raise StoppedError
        if code:
            raise RuntimeError(f"{step} ended with code {code}")
    results = root / "results"
    files = {"metrics": results / "metrics.json", "details": results / "details.json"}
    files["cost"] = cost_details(results / "cost.json")
    return {name: json.loads(file.read_text()) for name, file in files.items()}


def _progress(pieces: Pieces, chosen: dict[str, Params], failed: list[str]) -> str:
    done = [
        f"{name} {100 * pieces.records[name]['value']['metrics']['accuracy']:.2f} %"
        for name in chosen
        if pieces.done(name)
    ]
    words = f"{len(done)} of {len(chosen)} presets: {', '.join(done) or 'none'}"
    return f"{words}; failed: {', '.join(failed)}" if failed else words


if __name__ == "__main__":
    sys.exit(main())
