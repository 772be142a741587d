"""The workflow as a module of another, from a clone in another directory, with prefixed rules and its config."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from workflow_project import ROOT, Project

from imbnas.run.graph import STEPS

pytestmark = pytest.mark.workflow

SNAKEFILE = """
configfile: "config.yaml"

rule summary:
    input: "results/imbalance.json"
    output: "summary.json"
    shell: "cp {input} {output}"

module imbnas:
    snakefile: "../clone/Snakefile"
    config: config["nas"]

use rule * from imbnas as nas_*
"""


@pytest.fixture
def own(fresh: Project, tmp_path: Path) -> Project:
    """Return a workflow of one's own that uses the project as a module, beside a clone of it."""
    clone = fresh.copy(tmp_path / "clone")
    path = tmp_path / "own"
    path.mkdir()
    (path / "Snakefile").write_text(SNAKEFILE)
    params = yaml.safe_load((clone.path / "params.yaml").read_text())
    (clone.path / "params.yaml").unlink()  # the parameters are the module's config
    root = {"root": str(clone.path / "datasets/digits")}
    params["source"], params["target"] = params["source"] | root, params["target"] | root
    (path / "config.yaml").write_text(yaml.safe_dump({"nas": params, "mine": 1}))
    return Project(path, fresh.env, fresh.server)


def configure(project: Project, section: str, name: str, value: object) -> None:
    file = project.path / "config.yaml"
    tree = yaml.safe_load(file.read_text())
    tree["nas"].setdefault(section, {})[name] = value
    file.write_text(yaml.safe_dump(tree))


def test_a_module_runs_with_the_other_workflow_s_config_in_its_directory(own: Project) -> None:
    own.run("snakemake", "--cores", "2", "summary")
    assert (own.path / "summary.json").read_bytes() == own.bytes("results/imbalance.json")
    assert not (own.path / "../clone/results").exists()
    assert own.planned("summary") == set()
    assert own.planned("nas_all") == {f"nas_{step}" for step in [*STEPS][3:]} | {"nas_all"}
    assert "log=logs/study/supernet/" in own.run("snakemake", "-n", "nas_study").output
    # Parameters and code are looked at as ever.
    configure(own, "imbalance", "ratio", 5.0)
    assert own.planned("summary") == {"nas_imbalance", "summary"}
    configure(own, "imbalance", "ratio", "much")
    refused = own.run("snakemake", "-n", "summary", expect=1).output
    assert re.search(r"^error: config of the module: imbalance\.ratio: ", refused, re.MULTILINE)
    configure(own, "imbalance", "ratio", 20.0)
    with (own.path / "../clone/src/imbnas/data/tail.py").open("a") as stream:
        stream.write("# edited\n")
    assert "nas_imbalance" in own.planned("summary")


def test_a_module_s_prefix_is_refused(own: Project) -> None:
    own.edit("Snakefile", 'config: config["nas"]', 'config: config["nas"]\n    prefix: "nas"')
    told = "error: the module's prefix: found one, expected none: steps know where their files lie"
    assert told in own.run("snakemake", "-n", "summary", expect=1).output


def test_the_catalogue_is_told_what_holds() -> None:
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["apptainer"] is ((ROOT / "workflow/apptainer.def").is_file())
    assert usage["report"] is True
