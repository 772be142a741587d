"""`make record`: lets DVC record what Snakemake made, and the raw data that it was made of.

A dataset that DVC tracks is recorded as it is now, which is what was read. Of any other one line says so: DVC then
knows the digest of the raw files and nothing else, and an experiment in a copy of the project, by
`dvc exp run --temp` or `--queue`, finds no data there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "src"))

import code_digests  # noqa: E402

from imbnas.errors import UserError, visible  # noqa: E402
from imbnas.params.config import load  # noqa: E402


def keeper(root: str, project: Path) -> Path | None:
    """Return the .dvc file of a dataset or of a directory in which it lies; None where there is none."""
    for place in (Path(root), *Path(root).parents[:-1]):
        file = place.with_name(f"{place.name}.dvc")
        if (project / file).is_file():
            return file
    return None


def in_git(root: str, project: Path) -> bool:
    """Say whether git tracks a file of a dataset."""
    listed = ["git", "ls-files", "--", f"./{root}"]
    found = subprocess.run(listed, cwd=project, capture_output=True, check=False)
    return bool(found.stdout.strip())


def main(project: Path) -> int:
    """Record the project in a directory and return the exit code of `dvc commit`."""
    try:
        params = load(project / "params.yaml")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kept: list[str] = []
    # In place of the source's raw files, the supernet that was trained on them elsewhere.
    for root in dict.fromkeys([params.supernet.reuse or params.source.root, params.target.root]):
        if Path(root).is_absolute():
            continue  # a copy of the project finds it too
        file = keeper(root, project)
        if file is not None:
            kept.append(str(file))
        elif not in_git(root, project):
            wanted = "an absolute root" if root.startswith("..") else f"`dvc add {visible(root)}`"
            print(
                f"note: {visible(root)}: DVC keeps no version of these files: `dvc push` leaves them here, and "
                f"`dvc exp run --temp` and `--queue` fail on them, expected {wanted}",
                file=sys.stderr,
            )
    code_digests.write(project)
    dvc = Path(sys.executable).with_name("dvc")
    return subprocess.run([dvc, "commit", "-f", "dvc.yaml", *dict.fromkeys(kept)], cwd=project, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path.cwd()))
