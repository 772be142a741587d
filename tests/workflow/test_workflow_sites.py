"""Other schedulers and environments than ours: docs/hpc.md's profile for PBS, a site's own profile, the Makefile."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from slurm_run import Run
from workflow_project import ROOT, Project, ran

pytestmark = pytest.mark.workflow

QSUB = """#!/bin/sh
for last; do :; done
echo "$@" >> {log}
sh "$last" >/dev/null 2>&1 &
echo $!
"""


@pytest.mark.skipif(
    importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None, reason="the plugin is not installed"
)
def test_the_profile_for_pbs_submits_what_the_rules_ask_for(finished: Project, tmp_path: Path) -> None:
    project = finished.copy(tmp_path / "project")
    project.set("runtime.threads", 2)
    page = (ROOT / "docs/hpc.md").read_text()
    (text,) = re.findall(r"```yaml\n(executor: cluster-generic\n.*?)```", page, re.DOTALL)
    (project.path / "pbs").mkdir()
    (project.path / "pbs/config.yaml").write_text(text)
    qsub, log = tmp_path / "bin/qsub", tmp_path / "log"
    qsub.parent.mkdir()
    qsub.write_text(QSUB.format(log=log))
    qsub.chmod(0o755)
    path = f"{qsub.parent}{os.pathsep}{project.env['PATH']}"
    plugin = os.environ.get("PYTHONPATH", "")
    output = Run(project, "--profile", "pbs", "--", "models/supernet.safetensors", PATH=path, PYTHONPATH=plugin).end()
    assert ran(output) == {"supernet": 1}
    (line,) = log.read_text().splitlines()
    asked = r"-V -N supernet -l select=1:ncpus=2:mem=\d{4}mb:ngpus=0 -l walltime=\d+:00 -o logs/ -j oe \S+\.sh"
    assert re.fullmatch(asked, line)


def test_a_profile_in_the_home_directory_serves_copies_of_what_git_tracks(finished: Project, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(ROOT / "slurm", home / ".config/snakemake/mysite")
    clone = finished.copy(tmp_path / "clone")
    settings = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")}
    told = clone.shell("snakemake", "-n", **settings, SNAKEMAKE_PROFILE="mysite").output
    assert "Using profiles mysite" in told
    assert "Nothing to be done" in told
    assert "no profile.yaml" in clone.shell("snakemake", "-n", "--profile", "mysite", expect=1).output


def test_the_makefile_takes_an_environment_that_is_there(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "env/bin").mkdir(parents=True)
    for name in ("snakemake", "dvc", "python"):
        program = tmp_path / "env/bin" / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\necho Nothing to be done\n')
        program.chmod(0o755)
    for verb in ("record", "accept", "experiments"):
        subprocess.run(["make", verb, f"ENV={tmp_path}/env"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    calls = (tmp_path / "calls").read_text()
    for call in ("snakemake -n", "snakemake --touch", "dvc exp show"):
        assert call in calls
    assert not (tmp_path / ".venv").exists()
    refused = subprocess.run(["make", "record", "ENV=none"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: none/bin/snakemake: not found, expected an environment")
