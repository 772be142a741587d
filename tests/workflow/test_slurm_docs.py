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


# Any other first word on the page is a slip, or a new program that somebody has to decide about.
PROGRAMS = {"imbnas", "snakemake", "squeue", "tail", "ls", "mkdir", "cp", "make", "source", "sbatch", "apptainer"}


def commands() -> list[str]:
    """Return the indented lines of the page outside fences, which hold files, without their comments."""
    text = re.sub(r"^```.*?^```$", "", (ROOT / "docs/hpc.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^ {4,}([a-z].*)$", text, re.MULTILINE)
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def test_what_the_page_lets_a_reader_type_is_a_command() -> None:
    listed = commands()
    assert len(listed) - len(NOT_RUN) >= 12
    assert {line.split()[0] for line in listed} == PROGRAMS
    assert set(NOT_RUN) | PLANNED < set(listed)


@pytest.mark.slurm
@pytest.mark.workflow
@pytest.mark.slow
def test_the_commands_of_the_page_work(finished: Project, cluster: Cluster, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.edit("slurm/config.yaml", "before-status-checks: 20", "before-status-checks: 6")
    project.set("evaluate.resamples", 51)
    (project.path / "data/longtail.parquet").unlink()
    for line in (line for line in commands() if line not in NOT_RUN):
        done = project.shell("bash", "-c", f"{line} -n" if line in PLANNED else line, **cluster.env)
        print(f"$ {line}\n{done.output[-300:]}")
    assert (project.path / "logs/slurm/rule_evaluate").is_dir()
