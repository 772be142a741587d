"""The shape of the project that ARCHITECTURE.md promises: one word per step, imports one way, no large modules."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from imbnas.cli import app
from imbnas.steps.graph import STEPS

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/imbnas"
LEVELS = [
    {"errors", "closure", "progress", "seeds"},
    {"files"},
    {"params"},
    {"data"},
    {"training", "longtail", "spaces"},
    {"networks"},
    {"search", "report"},
    {"steps", "predict", "export"},
    {"cli"},
]
"""A module imports from its own package and from lower levels."""
HEAVY = {"torch", "torchvision", "lightning_fabric", "pandas", "matplotlib", "optuna", "sklearn"}


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports anywhere, also within functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def package(path: Path) -> str:
    """Return the package below imbnas, or the module for one that lies in none."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def test_imports_run_one_way() -> None:
    level = {name: height for height, names in enumerate(LEVELS) for name in names}
    assert {package(path) for path in modules()} == set(level)
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules()
        for name in imports(path)
        if name.startswith("imbnas.")
        and name.split(".")[1] != package(path)
        and level[name.split(".")[1]] >= level[package(path)]
    ]
    assert wrong == []


def test_the_package_knows_no_orchestrator() -> None:
    for path in modules():
        assert {name.split(".")[0] for name in imports(path)} & {"snakemake", "dvc"} == set(), path


def test_nothing_heavy_is_imported_to_parse_the_snakefile() -> None:
    # Each job of a cluster parses it again.
    text = "".join(path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")])
    assert not re.search(rf"^\s*(import|from) ({'|'.join(HEAVY)})\b", text, re.MULTILINE)
    script = (
        "import sys; sys.path[:0] = ['src', 'workflow/scripts']; import controller, outputs; "
        f"print(*({HEAVY!r} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    assert result.stdout.split() == []


def test_the_command_line_starts_without_heavy_imports() -> None:
    script = f"import sys, imbnas.cli; print(*({HEAVY!r} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    assert result.stdout.split() == []


def test_packages_import_nothing() -> None:
    # What stands in a package's __init__ is code of every step that imports one of its modules.
    for path in SOURCE.rglob("__init__.py"):
        assert imports(path) == set(), path


@pytest.mark.parametrize("folder", ["src", "workflow", "tests"])
def test_no_file_is_long(folder: str) -> None:
    files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".smk")]
    assert files
    long = {path.name: lines for path in files if (lines := len(path.read_text().splitlines())) > 500}
    assert long == {}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_has_one_name(step: str) -> None:
    rules = "".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    assert re.search(rf"^(rule|checkpoint) {step}:$", rules, re.MULTILINE)
    assert f'"logs/{step}.log"' in rules
    assert f'"benchmarks/{step}.tsv"' in rules
    assert step in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert step in yaml.safe_load((ROOT / "params.yaml").read_text())
    assert step in {command.name for command in app.registered_commands}
    for file in (f"src/imbnas/steps/{step}.py", f"src/imbnas/params/{step}.py", f"tests/steps/test_{step}.py"):
        assert (ROOT / file).is_file(), file


def test_the_default_profile_holds_two_keys() -> None:
    # Any other key would override `--profile slurm`; Snakemake looks for it in profiles/, not in workflow/profiles/.
    profile = ROOT / "profiles/default/config.yaml"
    assert profile.samefile(ROOT / "workflow/profiles/default/config.yaml")
    assert set(yaml.safe_load(profile.read_text())) == {"max-checksum-file-size", "rerun-incomplete"}


def test_retries_stand_in_the_profile_alone() -> None:
    # A rule's own retries would run inside each of a cluster's attempts as well.
    assert yaml.safe_load((ROOT / "slurm/config.yaml").read_text())["retries"] > 0
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        assert "retries" not in path.read_text()
