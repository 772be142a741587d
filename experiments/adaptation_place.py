"""Where an experiment on adaptation lies, and the product's steps run there.

Run as a script it runs the one step that standard input describes, for `Place.timed`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from longtail import merged

from imbnas.files import write_json
from imbnas.params import presets
from imbnas.params.config import Params, parse
from imbnas.run.graph import PATHS
from imbnas.run.runner import run_step

Tree = dict[str, Any]
NAME = "experiments/adaptation.py"
"""Where parameters come from, for messages."""
PREPARED = ("source", "target", "imbalance")
"""The steps that all supernets share."""


class Place:
    """An experiment's directory and parameters."""

    def __init__(self, root: Path, preset: str, changes: Tree) -> None:
        """Take the directory, which is made, and what `changes` over the preset."""
        self.root = root
        fixed: Tree = {"runtime": {"device": "cpu", "threads": 1, "workers": 0}}
        self._tree = merged(merged(presets.params(preset).tree(), fixed), changes)
        for name in ("source", "target"):
            (root / self._tree[name]["root"]).mkdir(parents=True, exist_ok=True)

    def params(self, seed: int = 0, **sections: Tree) -> Params:
        """Return the parameters with some sections changed."""
        return parse(merged(self._tree, {"seed": seed, **deepcopy(sections)}), NAME)

    def step(self, step: str, params: Params, **moved: Path) -> None:
        """Run a step in this process, some of its files moved."""
        if run_step(step, params, self.root, moved, self._log(step)):
            raise SystemExit(f"error: {step}: failed, see {self._log(step)}")

    def timed(self, step: str, params: Params, **moved: Path) -> dict[str, float]:
        """Run a step in a process of its own; return its seconds on the wall, of the processor, and without imports."""
        request = {"step": step, "params": params.tree(), "root": str(self.root)}
        request["moved"] = {name: str(path) for name, path in moved.items()}
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve())]
        done = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, env=environment)
        if done.returncode:
            raise SystemExit(f"error: {step}: failed, see {self._log(step)}")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"wall": time.monotonic() - begin, "processor": used, "own": json.loads(done.stdout)}

    def prepare(self) -> None:
        """Run the steps before the supernet, unless they are done."""
        if not (self.root / PATHS["imbalance"]).exists():
            for step in PREPARED:
                self.step(step, self.params())

    def supernet(self, seed: int) -> Path:
        """Return a seed's supernet of the source, trained now or in an earlier call."""
        file = self.root / "supernets" / f"{seed}.safetensors"
        if not file.exists():
            self.step("supernet", self.params(seed), supernet=file)
        return file

    def adapted(self, variant: str, change: Tree, seed: int, supernet: Path) -> Path:
        """Return a supernet that was adapted as `change` says, now or in an earlier call."""
        file = self.root / "adapted" / f"{variant.replace(', ', '-').replace(' ', '-')}-{seed}.safetensors"
        if not file.exists():
            self.step("adapt", self.params(seed, adapt=change), supernet=supernet, adapted=file)
        return file

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """Return the JSON value that `make` gave, now or in an earlier call."""
        file = self.root / "measured" / f"{name}.json"
        if not file.exists():
            write_json(file, make())
        return json.loads(file.read_text())

    def _log(self, step: str) -> Path:
        return self.root / "logs" / f"{step}.log"


def one() -> int:
    """Run the step that standard input describes, and print the processor's seconds without start and imports."""
    request = json.load(sys.stdin)
    root, moved = Path(request["root"]), {name: Path(path) for name, path in request["moved"].items()}
    params = parse(request["params"], NAME)
    importlib.import_module(f"imbnas.steps.{request['step']}")
    begin = time.process_time()
    code = run_step(request["step"], params, root, moved, root / "logs" / f"{request['step']}.log")
    print(time.process_time() - begin)
    return code


if __name__ == "__main__":
    sys.exit(one())
