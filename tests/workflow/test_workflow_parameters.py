"""Which parameters a run has: checked first, overridden in every form, kept for its jobs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from workflow_project import Done, Project

from imbnas.params.config import load, parse

pytestmark = pytest.mark.workflow

AFTER_IMBALANCE = {"imbalance", "adapt", "search", "retrain", "evaluate"}
LONGTAIL = ("--", "data/longtail.parquet")


def snapshot(project: Project) -> Path:
    """Return where the last controller left its run."""
    return max((project.path / ".imbnas/runs").iterdir(), key=lambda folder: folder.stat().st_mtime_ns)


def job(project: Project, rule: str, **env: str) -> Done:
    """Run a rule as a cluster's job does: a Snakemake of its own, which parses the Snakefile again."""
    options = "--force --nolock --ignore-incomplete --no-hooks --target-files-omit-workdir-adjustment --cores 1"
    wanted = ["--mode", "subprocess", "--allowed-rules", rule, "--target-jobs", f"{rule}:"]
    return project.run("snakemake", "--snakefile", "Snakefile", *options.split(), *wanted, expect=None, **env)


def only_line(done: Done) -> str:
    """Return the one line that is left of the output of a refused run."""
    assert done.code == 1
    lines = [line for line in done.output.splitlines() if line and not line.startswith("Using workflow specific")]
    assert len(lines) == 1, done.output
    return lines[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 0", "seed: 0\nseeed: 1", "error: params.yaml: seeed: unknown parameter"),
        ("seed: 0", "seed: 0\nseed: 1", "error: params.yaml: line 2: seed is given twice"),
        ("ratio: 20.0", "ratio: many", "error: params.yaml: imbalance.ratio: found text 'many'"),
        ("seed: 0", "seed: [", "error: params.yaml: not valid YAML"),
    ],
)
def test_bad_parameters_are_one_line_before_any_job(
    fresh: Project, tmp_path: Path, old: str, new: str, message: str
) -> None:
    project = fresh.copy(tmp_path / "project")
    project.edit("params.yaml", old, new)
    assert only_line(project.run("snakemake", "--cores", "1", expect=None)).startswith(message)
    assert not (project.path / "logs").exists()


def test_a_missing_parameter_file_is_one_line(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    (project.path / "params.yaml").unlink()
    assert only_line(project.run("snakemake", "-n", expect=None)).startswith("error: params.yaml: No such file")


def test_settings_on_the_command_line_are_obeyed_or_refused(finished: Project) -> None:
    assert finished.planned("--config", "evaluate={bins: 9}") == {"evaluate"}
    assert json.loads((snapshot(finished) / "params.json").read_text())["evaluate"]["bins"] == 9
    assert finished.planned("--config", "imbalance={ratio: 5.0}", "evaluate={bins: 9}") == AFTER_IMBALANCE
    assert finished.planned("--config", "seed=0") == set()
    # Snakemake takes what stands in braces for text; it gets its type back.
    assert (
        finished.planned("--config", "search={max_params: null, architecture: null}", "adapt={strategy: head}") == set()
    )
    for setting in ("sead=3", "seed=three", "adapt=head"):
        line = only_line(finished.run("snakemake", "-n", "--config", setting, expect=None))
        assert line.startswith(f"error: --config: {setting.split('=')[0]}: ")
    # A contradiction names both sides, and a value the source that it came from.
    line = only_line(finished.run("snakemake", "-n", "--config", "source={share: 1.0}", expect=None))
    assert line.startswith("error: --config: source.share is 1.0 and ")


def test_a_wrong_value_names_the_source_that_gave_it(project: Project) -> None:
    (project.path / "one.yaml").write_text("evaluate: {bins: many}\n")
    (project.path / "two.yaml").write_text("imbalance: {ratio: 5.0}\n")
    both = ("--configfile", "one.yaml", "two.yaml")
    line = only_line(project.run("snakemake", "-n", *both, "--config", "seed=3", expect=None))
    assert line.startswith("error: --configfile one.yaml: evaluate.bins: found text 'many'")
    project.edit("params.yaml", "bins: ", "bins: x")
    (project.path / "one.yaml").write_text("evaluate: {resamples: 51}\n")
    line = only_line(project.run("snakemake", "-n", *both, "--config", "seed=3", expect=None))
    assert line.startswith("error: params.yaml: evaluate.bins: found text 'x")
    assert project.planned(*both, "--config", "evaluate={bins: 9}") == {"imbalance", *AFTER_IMBALANCE}


def test_axes_of_the_command_line_take_the_place_of_the_file_s(project: Project) -> None:
    project.set("study.axes", {"imbalance.ratio": [5.0, 20.0], "seed": [0, 1]})
    setting = "study={axes: {seed: [0, 1, 2]}}"
    output = project.run("snakemake", "-n", "study", "--config", setting).output
    assert json.loads((snapshot(project) / "params.json").read_text())["study"]["axes"] == {"seed": [0, 1, 2]}
    assert re.search(r"^study_evaluate +3$", output, re.MULTILINE)
    for wrong in ("study={axes: {sead: [0]}}", "study={axes: {imbalance.ratio: [-1.0]}}"):
        told = project.run("snakemake", "-n", "study", "--config", wrong, expect=1).output.splitlines()
        assert [line for line in told if "error" in line] == told[-1:]
        assert told[-1].startswith("error: --config: study.axes")


def test_the_command_line_alone_where_it_replaces_params_yaml(project: Project) -> None:
    (project.path / "other.yaml").write_text("seed: 7\n")
    project.planned("--configfile", "other.yaml", "--replace-workflow-config", "--config", "evaluate={bins: 9}")
    written = json.loads((snapshot(project) / "params.json").read_text())
    alone = parse({"seed": 7, "evaluate": {"bins": 9}}, "other.yaml").tree()
    assert written == alone
    # Snakemake replaces nothing by nothing.
    assert project.planned("--replace-workflow-config") == set()


@pytest.mark.parametrize("name", ["params.json", "code.json"])
@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: b"", lambda text: b"{}\xff"])
def test_a_damaged_snapshot_is_written_anew(project: Project, name: str, damage: Callable[[bytes], bytes]) -> None:
    options = ("--config", "evaluate={bins: 7}")  # a snapshot of its own, hence the newest
    project.planned(*options)
    file = snapshot(project) / name
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    (project.path / "data/longtail.parquet").unlink()
    project.run("snakemake", "--cores", "1", *options, *LONGTAIL)
    assert file.read_bytes() == whole


def test_a_configuration_file_goes_over_params_yaml(project: Project) -> None:
    other = project.path / "other.yaml"
    other.write_text("imbalance: {ratio: 5.0}\nsupernet: {optimizer: {weight_decay: 1e-05}}\n")
    assert project.planned("--configfile", "other.yaml") == {"supernet", *AFTER_IMBALANCE}
    written = json.loads((snapshot(project) / "params.json").read_text())
    assert written["imbalance"]["ratio"] == 5.0
    assert written["supernet"]["optimizer"]["weight_decay"] == 1e-05
    back = "supernet={optimizer: {weight_decay: 5.0e-4}}"
    assert project.planned("--configfile", "other.yaml", "--config", back) == AFTER_IMBALANCE
    other.write_text("imbalance: {ratio: 5.0, ratio: 6.0}\n")
    line = only_line(project.run("snakemake", "-n", "--configfile", "other.yaml", expect=None))
    assert line.startswith("error: other.yaml: line 1: ratio is given twice")


@pytest.mark.parametrize(("text", "found"), [("", "nothing"), ("- 3\n", "[3]"), ("seed\n", "text 'seed'")])
def test_a_file_that_is_no_mapping_is_one_line(project: Project, text: str, found: str) -> None:
    (project.path / "params.yaml").write_text(text)
    line = only_line(project.run("snakemake", "-n", expect=None))
    assert line == f"error: params.yaml: found {found}, expected a mapping of sections"


def test_a_complete_preset_is_a_configuration_file(project: Project) -> None:
    tree = {**load(project.path / "params.yaml").tree(), "seed": 7}
    (project.path / "preset.yaml").write_text(yaml.safe_dump(tree))
    assert "supernet" in project.planned("--configfile", "preset.yaml")
    assert json.loads((snapshot(project) / "params.json").read_text()) == tree


def test_a_run_left_in_the_environment_is_not_obeyed(project: Project) -> None:
    project.planned("--config", "seed=3")
    other = snapshot(project).relative_to(project.path).as_posix()
    assert project.planned(IMBNAS_RUN=other) == set()
    assert project.planned(IMBNAS_RUN="no/such/run") == set()


def test_a_job_has_the_parameters_of_its_controller(project: Project) -> None:
    project.planned("--config", "imbalance={ratio: 7.0}")
    run = snapshot(project).relative_to(project.path).as_posix()
    (project.path / "params.yaml").write_text("edited: [while the job waited")
    done = job(project, "imbalance", IMBNAS_RUN=run)
    assert done.code == 0, done.output
    assert json.loads(project.bytes("results/imbalance.json"))["ratio"] == 7.0


def test_a_job_refuses_what_is_not_its_controllers(project: Project) -> None:
    project.planned()
    folder = snapshot(project)
    run = folder.relative_to(project.path).as_posix()
    assert only_line(job(project, "imbalance")).startswith("error: IMBNAS_RUN: not set in this job")
    with (project.path / "src/imbnas/data/tail.py").open("a") as stream:
        stream.write("# edited while the job waited\n")
    done = job(project, "imbalance", IMBNAS_RUN=run)
    assert done.code == 1
    assert done.output.count("error: code of the step imbalance: ") == 1
    assert "Traceback" not in done.output
    with (project.path / "workflow/rules/data.smk").open("a") as stream:
        stream.write("# edited while the job waited\n")
    assert only_line(job(project, "imbalance", IMBNAS_RUN=run)).startswith("error: Snakefile or workflow/: changed")
    text = (folder / "params.json").read_text()
    (folder / "params.json").write_text(text.replace('"ratio":20.0', '"ratio":21.0'))
    assert "changed since the run began" in only_line(job(project, "imbalance", IMBNAS_RUN=run))


def test_code_edited_while_a_step_runs_is_not_taken_for_the_code_that_ran(project: Project) -> None:
    with (project.path / "src/imbnas/data/tail.py").open("a") as stream:
        stream.write("\nfrom pathlib import Path as _Path\n\nwith _Path(__file__).open('a') as _me:\n")
        stream.write("    _me.write('# edited while the step runs\\n')\n")
    project.run("snakemake", "--cores", "1", *LONGTAIL)
    assert project.planned(*LONGTAIL) == {"imbalance"}
    # DVC looks at the code when the stage has ended.
    done = project.run("dvc", "repro", "imbalance", expect=None)
    assert done.code != 0
    assert "error: src/imbnas/data/tail.py changed while imbalance ran" in done.output
    assert "imbalance" in project.stale()
