"""`--profile slurm` where there is no Slurm: what it plans, and what its settings are."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from workflow_project import ROOT, Project

pytestmark = pytest.mark.workflow


def test_the_profile_plans_without_slurm(fresh: Project, finished: Project) -> None:
    assert len(fresh.planned("--profile", "slurm")) == 8
    assert finished.planned(SNAKEMAKE_PROFILE="slurm") == set()


def test_no_rule_knows_a_site(fresh: Project) -> None:
    profile: dict[str, Any] = yaml.safe_load((ROOT / "slurm/config.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert "--signal=TERM@" in profile["default-resources"]["slurm_extra"]
    rules = "".join(file.read_text() for file in (ROOT / "workflow/rules").glob("*.smk"))
    for word in ("slurm_", "constraint", "gres", "qos", "retries"):
        assert word not in rules
