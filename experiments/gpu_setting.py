"""One run of `make gpu`: its device, size and places, as the runner hands them to the parts that it starts.

Nothing but the standard library is imported: on a bare machine the runner itself brings the packages that lack.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / ".gpu"
"""What git ignores: the pack, and the places of a run."""
CODE = ("src", "experiments", "benchmarks", "tests", "presets", "tables")
CONTINUED = 143
"""Exit code of a part that was stopped and goes on in a later run."""


@dataclass(frozen=True)
class Setting:
    """The device (`cpu` rehearses at tiny size), the pack, and the directory in which parts work."""

    device: str
    pack: Path
    work: Path

    @property
    def tiny(self) -> bool:
        """Whether this is a rehearsal."""
        return self.device == "cpu"

    @property
    def results(self) -> Path:
        """The directory into which parts write the files that come back."""
        return self.work / "results"

    def words(self) -> list[str]:
        """Return the command line from which `given` makes the same setting."""
        return ["--device", self.device, "--pack", str(self.pack), "--work", str(self.work)]

    def machine(self) -> dict[str, Any]:
        """Return what the runner has found out of the machine."""
        file = self.work / "machine.json"
        found: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        return found


def given(argv: Sequence[str] | None = None) -> Setting:
    """Return the setting of a part's command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    return Setting(**vars(parser.parse_args(argv)))


def code_digest(places: Sequence[str] = CODE, root: Path = ROOT) -> str:
    """Return a digest of the code, presets and descriptions of tables below `places`, files or directories."""
    state = hashlib.sha256()
    for place in places:
        top = root / place
        for file in [top] if top.is_file() else sorted(top.rglob("*")):
            if file.suffix in (".py", ".yaml") and "__pycache__" not in file.parts and ".peers" not in file.parts:
                state.update(
                    f"{file.relative_to(root).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
                )
    return state.hexdigest()[:16]


def commit(pack: Path, root: Path = ROOT) -> str:
    """Return the commit of the code here: git's, else the one that the pack names for this very code."""
    done = (
        subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
        )
        if (root / ".git").exists()
        else None
    )
    if done is not None and not done.returncode:
        return done.stdout.strip()
    file = pack / "pack.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    if not found:
        return "unknown"
    return str(found["commit"]) if found["code"] == code_digest(root=root) else f"{found['commit']}, edited since"
