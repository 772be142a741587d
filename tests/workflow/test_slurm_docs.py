"""The commands of docs/hpc.md, run in their order on a cluster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from slurm_run import Cluster
from workflow_project import ROOT, Project

NOT_RUN = {
    "make setup": "the tests run in the environment that it makes",
    "source .venv/bin/activate": "the same",
    "sbatch slurm/torchrun.sh supernet --log logs/supernet.log": "needs two nodes",
    "snakemake --touch --cores 1 models/supernet.safetensors": "comes after it",
    "apptainer build imbnas.sif workflow/apptainer.def": "needs Apptainer and a network",
    "snakemake --profile slurm --sdm apptainer --apptainer-args --nv": "needs Apptainer",
}
# A whole study would take minutes, and says here no more than its plan.
PLANNED = {"snakemake --cores all study --resources gpu_percent=100"}


def commands() -> list[str]:
    """Return the indented lines of the page, without their comments."""
    lines = re.findall(r"^ {4,}([a-z].*)$", (ROOT / "docs/hpc.md").read_text(), re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for line in lines]


@pytest.mark.slurm
@pytest.mark.workflow
@pytest.mark.slow
def test_the_commands_of_the_page_work(finished: Project, cluster: Cluster, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.edit("slurm/config.yaml", "before-status-checks: 20", "before-status-checks: 6")
    project.set("evaluate.resamples", 51)
    (project.path / "data/longtail.parquet").unlink()
    listed = commands()
    assert set(NOT_RUN) | PLANNED < set(listed)
    ran = [line for line in listed if line not in NOT_RUN]
    assert len(ran) >= 12
    for line in ran:
        done = project.shell("bash", "-c", f"{line} -n" if line in PLANNED else line, **cluster.env)
        print(f"$ {line}\n{done.output[-300:]}")
    assert (project.path / "logs/slurm/rule_evaluate").is_dir()
