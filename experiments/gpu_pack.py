"""`make gpu-pack`: everything that `make gpu` needs on a bare machine without a network, besides this working tree.

    python experiments/gpu_pack.py --data DIR        DIR holds torchvision's cifar-10-batches-py

It writes `.gpu/pack`, which git ignores: rows as lossless mosaics, wheels of the packages that such a machine lacks,
and the small files of the chain up to the step `search`. It ends with the size of each part, and with an error where
together with the tree they are too large.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import gpu_plan
import gpu_rows
import yaml
from gpu_setting import BASE, ROOT, code_digest, commit
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.params.config import parse
from imbnas.run.graph import PATHS
from imbnas.run.runner import run_step
from imbnas.truth import data_rows
from imbnas.truth.places import Table

LIMIT = 64 * 2**20
"""Bytes that may travel: the tree, the pack, and the state of an earlier run."""
STATE = 8 * 2**20
"""Of these, what is left for that state."""
THERE = (
    *("matplotlib", "numpy", "pandas", "pillow", "pyarrow", "pytest", "pytest-timeout", "hypothesis", "pyyaml"),
    *("rich", "safetensors", "scikit-learn", "scipy", "torch", "torchvision", "typer"),
)
"""Packages that such a machine has, with what they need."""
BROUGHT = ("pydantic",)
"""What such a machine lacks, although newer versions of packages that it has need it."""
DATABASES = ("alembic", "greenlet", "mako", "sqlalchemy")
"""What Optuna keeps studies in databases with, which imbnas does not: half of the wheels' size stays behind."""
PEER = "xautodl==1.0.0 --hash=sha256:04028888fca8ee544fb6c813094d9f94b83c0b760b2a11e653a01357efb6cf0e"
"""What imbnas is measured beside; all that it imports there is brought or there."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64")
STEPS = ("source", "target", "imbalance", "supernet", "adapt", "search")
"""What is done of the literature's experiments before: they have these steps in common."""


def main() -> None:
    """Make the pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="the directory of CIFAR-10")
    parser.add_argument("--pack", type=Path, default=BASE / "pack", help="where it goes (default: .gpu/pack)")
    parser.add_argument("--tiny", action="store_true", help="of digits, without wheels: for a rehearsal")
    options = parser.parse_args()
    if not options.tiny and options.data is None:
        raise UserError("--data: not given, expected the directory that holds cifar-10-batches-py")
    shutil.rmtree(options.pack, ignore_errors=True)
    device = "cpu" if options.tiny else "cuda"
    with tempfile.TemporaryDirectory(prefix="imbnas-pack-") as making:
        loader = pack_rows(options.pack, Path(making), device, options.data)
    if not options.tiny:
        fetch_wheels(options.pack / "wheels")
    digest = code_digest()
    write_json(options.pack / "pack.json", {"commit": commit(options.pack), "code": digest, **loader})
    found = sizes(options.pack)
    print("\n".join(f"{name:10} {size / 2**20:6.1f} MiB" for name, size in found.items()))
    check_sizes(found)


def pack_rows(pack: Path, making: Path, device: str, data: Path | None) -> dict[str, Any]:
    """Make the rows of the table and of the literature, pack them, and return the loader's digests of all splits.

    `rows` is the name of the table's rows, which another code of the steps would change.

    The pack is then unpacked once, so that what it holds is known to be what the loader gave.
    """
    table = table_rows(making / "truth", device, data)
    places, whole = literature_rows(making / "literature", device, data)
    narrowed = gpu_rows.chain_places(making / "narrowed")
    gpu_rows.narrow(places["target_train"], places["longtail"], places["imbalance"], narrowed)
    literature = {**places, **{name: narrowed[name] for name in ("target_train", "longtail", "imbalance")}}
    (pack / "chain").mkdir(parents=True)
    for name in gpu_rows.CHAIN:
        shutil.copy(literature[name], pack / "chain" / literature[name].name)
    for name in gpu_rows.DESCRIBED:
        shutil.copy(literature[name] / gpu_rows.INFO, pack / "chain" / f"{name}.json")
    splits = {name: literature[name] for name in gpu_rows.LITERATURE}
    found = gpu_rows.pack(pack, {**splits, **gpu_rows.places_of(table)})
    again = making / "again"
    names = [*splits, *gpu_rows.places_of(table)]
    gpu_rows.unpack(pack, {name: again / name / (PATHS[name.split("-")[-1]].split("/")[-1]) for name in names})
    return {"rows": table.rows.name, "splits": {**found, "target_train": whole}}


def table_rows(root: Path, device: str, data: Path | None) -> Table:
    """Make the rows of the truth table."""
    name, tree = gpu_plan.table(device)
    file = root / "tables" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    (root / tree["target"]["root"]).mkdir(parents=True)
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    table = Table(file, root, data)
    data_rows.prepare(table)
    return table


def literature_rows(root: Path, device: str, data: Path | None) -> tuple[dict[str, Path], dict[str, Any]]:
    """Run the steps that the literature's presets share; return their files, and what the loader says of the rows."""
    presets = gpu_plan.literature(device)
    trees = [{**params.tree(), "retrain": None} for params in presets.values()]
    if any(tree != trees[0] for tree in trees):
        raise UserError("presets/literature: the presets of CIFAR-10-LT differ in more than retrain, expected no more")
    tree = next(iter(presets.values())).tree()
    tree["runtime"] |= {"device": "cpu", "precision": "fp32"}
    tree["target"]["download"] = False
    if data is not None:
        tree["target"]["root"] = str(data.resolve())
    (root / tree["source"]["root"]).mkdir(parents=True)
    (root / tree["target"]["root"]).mkdir(parents=True, exist_ok=True)
    for step in STEPS:
        code = run_step(step, parse(tree, "presets/literature"), root)
        if code:
            raise SystemExit(code)
    places = gpu_rows.chain_places(root)
    info = gpu_rows.read_info(places["target_train"])
    return places, {"rows": info.rows, "digest": info.digest}


def closure(roots: Sequence[str]) -> set[str]:
    """Return the installed packages that these need, themselves among them, in canonical spelling."""
    found: set[str] = set()
    left = list(roots)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found.add(name)
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        needs = [Requirement(text) for text in wanted]
        left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def lacking() -> list[str]:
    """Return the packages that imbnas needs and such a machine lacks."""
    needed = (closure(("imbnas",)) - closure(THERE)) | closure(BROUGHT)
    return sorted(needed - {"imbnas", *DATABASES})


def locked(names: list[str], lock: Path = ROOT / "requirements.lock") -> str:
    """Return the lock file's entries of some packages, hashes included; UserError where it lacks one."""
    entries = re.split(r"\n(?=\S)", lock.read_text())
    found = {canonicalize_name(re.split(r"[=\[ ;]", entry)[0]): entry for entry in entries if "==" in entry}
    if missing := sorted(set(names) - found.keys()):
        raise UserError(f"{lock}: has no {missing[0]}, expected every package that imbnas needs")
    return "\n".join(found[name] for name in names) + "\n"


def fetch_wheels(folder: Path) -> None:
    """Fetch the wheels of what is lacking, in the versions of the lock file, and the peer's, for Linux on x86-64."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON, "--require-hashes"]
    command += [word for name in PLATFORMS for word in ("--platform", name)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write(f"{locked(lacking())}{PEER}\n")
        wanted.flush()
        done = subprocess.run([*command, "-r", wanted.name, "-d", str(folder)], check=False)
    if done.returncode:
        raise UserError(
            f"{folder}: the wheels could not be fetched, see pip's message, expected {', '.join(lacking())}"
        )


def sizes(pack: Path, root: Path = ROOT) -> dict[str, int]:
    """Return the bytes of everything that travels, by part: the tree, and each directory of the pack."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
    )
    files = [root / name for name in listed.stdout.decode().split("\0") if name]
    found = {"tree": sum(file.stat().st_size for file in files if file.is_file())}
    for folder in sorted(path for path in pack.iterdir() if path.is_dir()):
        found[folder.name] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return found


def check_sizes(found: Mapping[str, int], limit: int = LIMIT - STATE) -> None:
    """Raise UserError naming every part where all of them together are too large."""
    if sum(found.values()) > limit:
        parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in found.items())
        raise UserError(
            f"found {sum(found.values()) / 2**20:.1f} MiB ({parts}), expected at most {limit / 2**20:.0f}, so that "
            "they travel together with the state of an earlier run"
        )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
