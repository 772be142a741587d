"""The virtual environments of the peers: installed once from the package index that pip is set up for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HOME = Path(__file__).resolve().parent / ".peers"
STEPS: dict[str, list[list[str]]] = {
    "xautodl": [
        ["numpy", "pyyaml", "tqdm"],
        # Its other dependencies serve data sets and logs, and pin old versions.
        ["--no-deps", "xautodl==1.0.0"],
    ],
    "nni": [
        ["nni==3.0", "setuptools<81"],
        # Newer than NNI's own pins, which no current torch satisfies.
        ["--no-deps", "pytorch-lightning==2.6.6", "lightning-utilities==0.15.3", "torchmetrics==1.9.0"],
        ["packaging", "fsspec", "tqdm"],
    ],
}
"""What each peer needs besides torch, which has the version that imbnas runs on."""
VERSIONS = {"xautodl": "1.0.0", "nni": "3.0"}


def python_of(name: str) -> Path:
    """Return an interpreter that has the peer: this one, or that of its environment, which is made where it is none."""
    if find_spec(name) is not None:
        return Path(sys.executable)
    place = HOME / name
    ready = place / ".ready"
    if not ready.exists():
        print(f"installing {name} in {place.relative_to(HOME.parent.parent)}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        torch = f"torch=={version('torch').split('+')[0]}"
        for packages in ([torch, "numpy"], *STEPS[name]):
            _install(place / "bin/python", packages)
        ready.touch()
    return place / "bin/python"


def _install(python: Path, packages: list[str]) -> None:
    """Install with uv where it lies beside this interpreter, which is quicker, else with pip."""
    uv = Path(sys.executable).with_name("uv")
    quick = [str(uv), "pip", "install", "--quiet", "--python", str(python), *packages]
    if uv.exists() and subprocess.run(quick, check=False).returncode == 0:
        return
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
