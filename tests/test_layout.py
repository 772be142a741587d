"""The layout that ARCHITECTURE.md promises: directions of import, light Snakefiles, a name per step, small modules."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from imbnas.params.config import VIEWS
from imbnas.run.graph import STEPS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/imbnas"
MODULES = sorted(SOURCE.rglob("*.py"))
LAYERS = {
    "params": set(),
    "approximate": {"params"},
    "data": {"params"},
    "training": {"data", "params"},
    "spaces": {"approximate", "data", "params"},
    "longtail": {"data", "params"},
    "search": {"training", "longtail", "spaces", "data", "params"},
    "differentiable": {"training", "longtail", "spaces", "data", "params"},
    "report": {"training", "longtail", "spaces", "data", "params"},
    "deploy": {"report", "training", "longtail", "spaces", "data", "params"},
    "run": {"approximate", "deploy", "training", "data", "params"},
    "steps": {
        "approximate",
        "run",
        "deploy",
        "search",
        "differentiable",
        "report",
        "training",
        "longtail",
        "spaces",
        "data",
        "params",
    },
    "inspection": {"run", "steps", "report", "training", "longtail", "spaces", "data", "params"},
    "truth": {"run", "steps", "search", "training", "longtail", "spaces", "data", "params"},
    "study": {"run", "steps", "report", "longtail", "data", "params"},
}
"""Which packages each package may import besides itself; single modules at the top are helpers for all."""


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("package", LAYERS)
def test_imports_run_one_way(package: str) -> None:
    for path in (SOURCE / package).rglob("*.py"):
        packages = {name.split(".")[1] for name in imported(path) if name.startswith("imbnas.")}
        assert (packages & LAYERS.keys()) - LAYERS[package] <= {package}, path


def test_scripts_import_what_the_package_still_holds() -> None:
    for path in [path for place in ("experiments", "benchmarks", "tests") for path in (ROOT / place).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "imbnas":
                module = importlib.import_module(node.module)
                for name in (alias.name for alias in node.names):
                    if not hasattr(module, name):
                        importlib.import_module(f"{node.module}.{name}")


def test_nothing_in_src_knows_snakemake_or_dvc() -> None:
    for path in MODULES:
        assert not {name.split(".")[0] for name in imported(path)} & {"snakemake", "dvc"}, path


def test_one_module_writes_csv() -> None:
    """Elsewhere a name could become a formula; a frame's cells go through `csv_cell` first."""
    for path in MODULES:
        text = path.read_text()
        if path.name != "csv_text.py":
            assert not any(call in text for call in ("csv.writer(", "csv.DictWriter(")), path
            assert "to_csv(" not in text or ".map(csv_cell)" in text, path


def test_no_snakefile_imports_torch() -> None:
    files = [ROOT / "Snakefile", *(ROOT / "workflow").rglob("*.smk"), *(ROOT / "workflow").rglob("*.py")]
    assert len(files) > 5
    for path in files:
        words = [line.split() for line in path.read_text().splitlines()]
        heads = {line[1].split(".")[0] for line in words if len(line) > 1 and line[0] in ("import", "from")}
        assert not heads & {"torch", "torchvision"}, path


def test_modules_are_small() -> None:
    for path in [*MODULES, *(ROOT / "workflow").rglob("*.*")]:
        if path.is_file() and path.suffix in (".py", ".smk"):
            assert len(path.read_text().splitlines()) <= 500, path


def test_no_module_needs_more_than_twenty_others() -> None:
    for path in MODULES:
        found = modules_of_ours(path)
        assert len(found) <= 20, (path, len(found))


def modules_of_ours(path: Path) -> set[str]:
    """Return the package's modules that a module imports; `from imbnas.params import a, b` are two."""
    found = {name for name in imported(path) if name.split(".")[0] == "imbnas"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in found:
            folder = SOURCE.parent / node.module.replace(".", "/")
            parts = {f"{node.module}.{alias.name}" for alias in node.names if (folder / f"{alias.name}.py").is_file()}
            found |= parts
            if len(parts) == len(node.names):
                found.discard(node.module)
    return found


def test_a_file_name_says_which_module_is_meant() -> None:
    names = [path.name for path in [*MODULES, *(ROOT / "workflow").rglob("*.py")]]
    allowed = {"__init__.py", *(f"{step}.py" for step in STEPS)}
    assert {name for name in names if names.count(name) > 1} <= allowed


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_one_name_everywhere(step: str) -> None:
    assert step in VIEWS
    assert f"\n{step}:" in (ROOT / "params.yaml").read_text()
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert f"rule {step}:" in rules or f"checkpoint {step}:" in rules
    assert f'"logs/{step}.log"' in rules
    assert f'"benchmarks/{step}.tsv"' in rules
    assert f"\n  {step}:\n" in (ROOT / "dvc.yaml").read_text()
    assert (SOURCE / f"steps/{step}.py").is_file()
    assert (ROOT / f"tests/steps/test_{step}.py").is_file()


def test_packages_are_empty_so_that_import_closures_stay_small() -> None:
    for path in SOURCE.rglob("__init__.py"):
        assert not {name for name in imported(path) if name.split(".")[0] == "imbnas"}, path


COMPILER = ("torch._dynamo", "torch._inductor", "sympy")
WITHOUT_COMPILER = f"""
import os, sys
import torch
from imbnas.run.graph import STEPS

def check(what):
    found = [name for name in {COMPILER} if name in sys.modules]
    assert not found, (what, found)

for step in STEPS:
    __import__(f"imbnas.steps.{{step}}")
    check(step)

from imbnas.params.recipe import OptimizerParams
from imbnas.params.shared import Numerics
from imbnas.training.optimizer import make_optimizer
from imbnas.training.runtime import Runtime

runtime = Runtime(Numerics(device="cpu", precision="bf16", threads=1, deterministic=True))
model = torch.nn.Linear(3, 2)
optimizer = make_optimizer(model, OptimizerParams())
runtime.forward(model, torch.ones(4, 3)).sum().backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
optimizer.step()
optimizer.zero_grad()
check("a training step")

from imbnas.params.space_options import SpaceParams
from imbnas.spaces.cost import count
from imbnas.spaces.registry import make_space

for name in ("shufflenet", "mobile", "darts"):
    space = make_space(SpaceParams(name=name))
    space.cost_table((32, 32, 3), 10)
    count(space.build_subnet((0,) * len(space.choices), 10, 3), (32, 32, 3))
check("counting operations")
"""
WITHOUT_TORCH = """
import sys
from imbnas.cli import main
from imbnas.run.graph import STEPS

for step in STEPS:
    for words in (["--path", "nothing"], ["--config", "absent.yaml"], ["--no-such-option"]):
        sys.argv = ["imbnas", step, *words]
        try:
            main()
        except SystemExit as stop:
            assert stop.code == 2, (step, words, stop.code)
        else:
            raise AssertionError((step, words))
assert "torch" not in sys.modules
assert "pandas" not in sys.modules
"""


@pytest.mark.parametrize(
    "code", [WITHOUT_COMPILER, WITHOUT_TORCH], ids=["no compiler in a step", "no torch for an error"]
)
def test_starting_is_cheap(code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
