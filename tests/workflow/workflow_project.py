"""A copy of the project with tiny parameters, and the commands that a user types in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import workflow_client
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROJECT = [
    *(
        "Makefile",
        "Snakefile",
        "workflow",
        "profiles",
        "slurm",
        "tables",
        "supernets",
        "local",
        "src",
        "dvc.yaml",
        "params.yaml",
        "pyproject.toml",
    ),
    *("requirements.lock", "datasets", ".dvc/config", ".dvc/plots", ".dvc/.gitignore", ".dvcignore", ".gitignore"),
]
EXPERIMENTS = re.findall(r"(--keep|--drop) '(.*?)'", (ROOT / "Makefile").read_text())
NARROWED = ["--only-changed", *(word for option in EXPERIMENTS for word in option)]
"""The options of `make experiments`."""
TINY = {
    "space": {
        "stem": {"channels": 8},
        "stages": {"channels": [8], "repeats": [2], "strides": [2]},
        "last_channels": 16,
    },
    "runtime": {"device": "cpu", "threads": 1},
    "supernet": {"epochs": 1, "batch_size": 128, "probe_paths": 2},
    "adapt": {"head": {"epochs": 1}, "finetune": {"epochs": 1}},
    # The smallest of so few subnets costs more than the share of the largest that the shipped file allows.
    "search": {"population": 4, "parents": 2, "generations": 2, "max_macs": None, "calibration": {"rows": 64}},
    "retrain": {"epochs": 2, "references": {"random": 1}},
    "evaluate": {"resamples": 50},
}


@dataclass(frozen=True)
class Done:
    """A command that has run."""

    code: int
    output: str


@dataclass(frozen=True)
class Project:
    """A directory with the project in it, and the commands that a user types there."""

    path: Path
    env: dict[str, str]
    server: Path

    def run(self, *argv: str, expect: int | None = 0, **env: str) -> Done:
        """Run snakemake or dvc in a fork of the server and return exit code and output.

        So does what they start of the project's own commands; `shell` starts real processes throughout.
        """
        with Path(os.devnull).open() as nothing, tempfile.TemporaryFile() as output:
            files = [nothing.fileno(), output.fileno(), output.fileno()]
            code = workflow_client.call(str(self.server), [*argv], str(self.path), {**self.env, **env}, files)
            output.seek(0)
            done = Done(code, output.read().decode(errors="replace"))
        assert expect is None or done.code == expect, f"{argv} returned {done.code}:\n{done.output}"
        return done

    def shell(self, *argv: str, expect: int | None = 0, **env: str) -> Done:
        """Run any command as a process of its own."""
        result = subprocess.run(
            argv, cwd=self.path, env={**self.env, **env}, stdout=-1, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert expect is None or result.returncode == expect, f"{argv} returned {result.returncode}:\n{result.stdout}"
        return Done(result.returncode, result.stdout)

    def planned(self, *options: str, **env: str) -> set[str]:
        """Return the rules that Snakemake would run, `all` left out."""
        output = self.run("snakemake", "-n", *options, **env).output
        if "Nothing to be done" in output:
            return set()
        table = re.search(r"^job +count\n-[- ]+\n(.*?)^total ", output, re.MULTILINE | re.DOTALL)
        assert table, output
        return {line.split()[0] for line in table[1].splitlines()} - {"all"}

    def stale(self) -> set[str]:
        """Return the stages that DVC finds changed; those after them count only once they have run."""
        return set(json.loads(self.run("dvc", "status", "--json", "dvc.yaml").output))

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace `old`, which must occur, by `new` in a file, once."""
        path = self.path / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1))

    def set(self, name: str, value: Any) -> None:
        """Set a parameter by its dotted name in params.yaml."""
        path = self.path / "params.yaml"
        tree = yaml.safe_load(path.read_text())
        *sections, last = name.split(".")
        part = tree
        for section in sections:
            part = part.setdefault(section, {})
        part[last] = value
        path.write_text(yaml.safe_dump(tree, sort_keys=False))

    def bytes(self, file: str) -> bytes:
        return (self.path / file).read_bytes()

    def commit(self, message: str) -> None:
        """Put everything that git does not ignore into a commit."""
        self.shell("git", "add", "-A")
        self.shell("git", "commit", "-q", "--no-verify", "-m", message)

    def copy(self, path: Path) -> Project:
        """Return a copy, times and ignored files included."""
        shutil.copytree(self.path, path, symlinks=True)
        return Project(path, self.env, self.server)


def ran(output: str) -> Counter[str]:
    """Return how many jobs of each step a run has finished, by what Snakemake said."""
    lines = [line.split("Rule: ")[1].rstrip(")") for line in output.splitlines() if line.startswith("Finished jobid")]
    return Counter(line.removeprefix("study_") for line in lines)


def copy_project(path: Path) -> None:
    """Copy what git tracks and a run needs, with tiny parameters."""
    for name in PROJECT:
        source, target = ROOT / name, path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        elif source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy2(source, target)
    tree = yaml.safe_load((path / "params.yaml").read_text())
    _merge(tree, TINY)
    (path / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def _merge(tree: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict):
            _merge(tree.setdefault(key, {}), value)
        else:
            tree[key] = value
