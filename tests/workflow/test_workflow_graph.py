"""Snakefile and dvc.yaml say the same as `imbnas.run.graph`, `imbnas.params` and the imports of each step."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflow_project import ROOT, Project

from imbnas.closure import step_files
from imbnas.params.config import load, uses
from imbnas.run.graph import PATHS, STEPS

pytestmark = pytest.mark.workflow

RULES = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, ResourceSettings
def asked(resource):
    return "by job" if resource.is_evaluable() else resource.value
with SnakemakeApi(OutputSettings()) as api:
    workflow = api.workflow(ResourceSettings(cores=2), snakefile=Path("Snakefile"))._workflow
    print("RULES", json.dumps({
        rule.name: {
            "input": [str(file) for file in rule.input if not callable(file)],
            "record": callable(rule.input.get("record")),
            "output": [str(file) for file in rule.output],
            "params": [param for param in rule.params if not callable(param)],
            "log": [str(file) for file in rule.log],
            "benchmark": str(rule.benchmark),
            "shell": rule.shellcmd,
            "message": rule.message,
            "resources": sorted(rule.resources),
            "gpu": asked(rule.resources["gpu"]) if "gpu" in rule.resources else None,
            "nodes": asked(rule.resources["nodes"]) if "nodes" in rule.resources else None,
            "checkpoint": rule.is_checkpoint,
            "local": rule.name in workflow._localrules,
        }
        for rule in workflow.rules
    }))
"""
STUDY_GPUS = """
import json
from pathlib import Path
from types import SimpleNamespace
from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, ResourceSettings
with SnakemakeApi(OutputSettings()) as api:
    workflow = api.workflow(ResourceSettings(cores=2), snakefile=Path("Snakefile"))._workflow
    jobs = workflow.globals["STUDY"].plan.jobs
    asked = {rule.name: rule.resources["gpu"] for rule in workflow.rules if "gpu" in rule.resources}
    print("GPUS", json.dumps({
        step: sorted(asked[f"study_{step}"].evaluate(SimpleNamespace(digest=digest)).value for digest in jobs[step])
        for step in jobs if f"study_{step}" in asked
    }))
"""
IMPORTS = """
import importlib, json, os, sys
sys.path.insert(0, "src")
for name in ("torch", "torchvision", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "optuna"):
    importlib.import_module(name)
for step in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(f"imbnas.steps.{step}")
        names = [name for name in sys.modules if name.split(".")[0] == "imbnas"]
        files = sorted(os.path.relpath(sys.modules[name].__file__) for name in names)
        print(json.dumps([step, files]), flush=True)
        os._exit(0)
    os.wait()
"""
# Imported within functions, hence not seen when a step is merely imported.
LAZY = {
    # For `evaluate.int8`.
    *(f"src/imbnas/deploy/{name}.py" for name in ("__init__", "deployed", "eight_bits", "libraries", "onnx_file")),
    "src/imbnas/data/builtin.py",
    "src/imbnas/data/image_lists.py",
    "src/imbnas/data/own_images.py",
    "src/imbnas/search/optuna_methods.py",
}


@pytest.fixture(scope="module")
def rules(fresh: Project) -> dict[str, Any]:
    """Return every rule as Snakemake understands it."""
    return understood(fresh)


def understood(project: Project) -> dict[str, Any]:
    output = project.run("code", RULES).output
    found = re.search(r"^RULES (.*)$", output, re.MULTILINE)
    assert found, output
    return json.loads(found[1])


@pytest.fixture(scope="module")
def dvc() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())


def place(file: str) -> str:
    """Return the file, or for a file of a split or of a directory of pictures that directory."""
    if file in PATHS.values():
        return file
    folder = str(Path(file).parent)
    return folder if folder in PATHS.values() else file


def test_every_step_is_a_rule_and_a_stage(rules: dict[str, Any], dvc: dict[str, Any]) -> None:
    assert list(dvc["stages"]) == ["code", *STEPS]
    assert f"\nSTAGES := {' '.join(STEPS)}\n" in (ROOT / "Makefile").read_text()
    assert set(rules) == {*STEPS, "all", "study", *(f"study_{step}" for step in STEPS)}


@pytest.mark.parametrize("step", STEPS)
def test_a_study_s_rule_is_the_chain_s_on_other_paths(rules: dict[str, Any], step: str) -> None:
    rule, chain = rules[f"study_{step}"], rules[step]
    assert [Path(file).name for file in rule["output"]] == [Path(file).name for file in chain["output"]]
    assert all(file.startswith(f"study/{step}/{{digest") for file in rule["output"])
    assert len(set(rule["output"])) == len(chain["output"])
    assert rule["log"][0].startswith(f"logs/study/{step}/{{digest")
    assert rule["shell"].replace("{params.step}", step) == chain["shell"]
    assert step in rule["params"]
    for name in ("local", "record"):
        assert rule[name] == chain[name], name
    assert rule["gpu"] == (None if chain["gpu"] is None else "by job")
    # A checkpoint would have Snakemake look at the whole study again after each search.
    assert not rule["checkpoint"]


@pytest.mark.parametrize("step", STEPS)
def test_a_rule_is_what_the_graph_says(rules: dict[str, Any], step: str) -> None:
    rule = rules[step]
    assert rule["record"]
    assert {place(file) for file in rule["input"]} == {PATHS[name] for name in STEPS[step].inputs}
    assert {place(file) for file in rule["output"]} == {PATHS[name] for name in STEPS[step].outputs}
    assert (rule["log"], rule["benchmark"]) == ([f"logs/{step}.log"], f"benchmarks/{step}.tsv")
    assert rule["message"].startswith(f"{step}: ")
    assert rule["message"].endswith("log={log}, {params.asks}")
    # The command line has no room for a knob, which neither tool would notice.
    assert rule["shell"] == f"imbnas {step} {{params.options}} --log {{log}} --record {{input.record}} {{output}}"
    assert rule["checkpoint"] == (step == "search")
    assert {"mem_mb", "runtime"} <= set(rule["resources"]) or step == "imbalance"
    assert rule["local"] == (step in ("source", "target", "imbalance"))


def test_a_study_s_data_are_light_where_every_cell_s_are(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    lists = {"dataset": "list", "root": "datasets/list"}
    project.set("study.axes", {"target": [{"image_size": 8}, lists], "seed": [0]})
    local = {name: rule["local"] for name, rule in understood(project).items()}
    assert (local["study_source"], local["study_target"], local["target"]) == (True, False, True)


def test_a_command_has_parameters_code_and_paths_and_no_more(fresh: Project) -> None:
    chain = fresh.run("snakemake", "-n", "-p").output
    study = fresh.run("snakemake", "-n", "-p", "study").output
    run = r"--config \.imbnas/runs/[0-9a-f]{16}/params\.json"
    for step, spec in STEPS.items():
        ended = rf"--code [0-9a-f]{{16}} --log logs/{step}\.log --record \.imbnas/outputs/{step}\.json \S"
        assert len(re.findall(rf"imbnas {step} {run} {ended}", chain)) == 1
        command = re.search(
            rf"imbnas {step} {run} --cell \d+ --code [0-9a-f]{{16}}((?: --path \S+)*) --log (\S+)", study
        )
        assert command
        moved = dict(pair.split("=") for pair in command[1].replace("--path ", "").split())
        assert set(moved) == {*spec.inputs, *spec.outputs, "cost"}
        assert command[2].startswith(f"logs/study/{step}/")


def test_a_step_asks_for_a_gpu_unless_it_computes_on_the_processor(
    rules: dict[str, Any], fresh: Project, tmp_path: Path
) -> None:
    light = dict.fromkeys(["source", "target", "imbalance"])
    heavy = ["supernet", "adapt", "search", "retrain", "evaluate"]
    light |= {"all": None, "study": None, **{f"study_{step}": None for step in light}}
    light |= {f"study_{step}": "by job" for step in heavy}
    assert {name: rule["gpu"] for name, rule in rules.items()} == {**light, **dict.fromkeys(heavy, 0)}
    project = fresh.copy(tmp_path / "project")
    project.set("runtime.device", "auto")
    project.set("runtime.processes", 3)
    found = {name: rule["gpu"] for name, rule in understood(project).items()}
    assert found == {**light, **{name: 1 if name in ("search", "evaluate") else 3 for name in heavy}}


def test_what_asks_for_gpus_wants_them_on_one_node(rules: dict[str, Any]) -> None:
    # A step starts its processes on its own node alone; Slurm's --gpus may mean GPUs of several.
    heavy = ("supernet", "adapt", "search", "retrain", "evaluate")
    expected = {f"{prefix}{step}": 1 for step in heavy for prefix in ("", "study_")}
    assert {name: rule["nodes"] for name, rule in rules.items() if rule["gpu"] is not None} == expected


def test_a_study_s_job_asks_for_the_gpus_of_its_cell(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    axis = [{"device": "cpu", "processes": 2}, {"device": "auto", "processes": 1}, {"device": "auto", "processes": 3}]
    project.set("study.axes", {"runtime": axis, "seed": [0]})
    output = project.run("code", STUDY_GPUS).output
    found = re.search(r"^GPUS (.*)$", output, re.MULTILINE)
    assert found, output
    one, many = [0, 1, 1], [0, 1, 3]
    wanted = {"supernet": many, "adapt": many, "search": one, "retrain": many, "evaluate": one}
    assert json.loads(found[1]) == wanted


def asked(output: str) -> dict[str, dict[str, str]]:
    """Return what each job of a plan asks for, by its log."""
    lines = re.findall(r"^Job \d+: .*\n    log=(\S+), (.*)$", output, re.MULTILINE)
    return {log: dict(pair.split("=", 1) for pair in line.split(", ")) for log, line in lines}


def test_a_plan_shows_threads_memory_time_gpus_and_log(fresh: Project, tmp_path: Path) -> None:
    project = fresh.copy(tmp_path / "project")
    for name, value in {"device": "auto", "processes": 2, "threads": 3}.items():
        project.set(f"runtime.{name}", value)
    site = ("--set-resources", "supernet:slurm_partition=low", "supernet:runtime=2880*attempt", "--set-threads")
    # Of a run without limits, unless the command line has one; never of the one core that a plan computes with.
    for threads, *options in (["6"], ["5", "--profile", "slurm", *site, "supernet=5"], ["4", "--cores", "4"]):
        plan = asked(project.run("snakemake", "-n", *options).output)
        assert set(plan) == {f"logs/{step}.log" for step in STEPS}
        assert (plan["logs/supernet.log"]["threads"], plan["logs/search.log"]["threads"]) == (threads, "3")
        for step in ("supernet", "adapt", "search", "retrain", "evaluate"):
            told = plan[f"logs/{step}.log"]
            assert int(told["mem_mb"]) > 1000
            assert int(told["runtime"]) >= 60
            assert (told["gpu"], told["nodes"]) == ("1" if step in ("search", "evaluate") else "2", "1")
        if "--profile" in options:
            assert plan["logs/supernet.log"]["slurm_partition"] == "low"
            assert plan["logs/supernet.log"]["runtime"] == "2880"
    study = asked(project.run("snakemake", "-n", "study").output)
    heavy = [told for log, told in study.items() if log.startswith("logs/study/supernet/")]
    assert heavy
    assert all((told["threads"], told["gpu"], told["nodes"]) == ("6", "2", "1") for told in heavy)
    assert all(int(told["mem_mb"]) > 1000 for told in heavy)


@pytest.mark.parametrize("step", STEPS)
def test_a_rule_holds_its_parameters_code_and_environment_and_no_more(rules: dict[str, Any], step: str) -> None:
    names = {line.split(" = ")[0] for line in rules[step]["params"] if " = " in line}
    assert {name for name in uses(step) if not any(n == name or n.startswith(f"{name}.") for n in names)} == set()
    assert {name for name in names if not any(name == u or name.startswith(f"{u}.") for u in uses(step))} == set()
    others = {line.split(": ")[0] for line in rules[step]["params"] if " = " not in line}
    assert {name for name in others if not name.endswith(" (installed)")} == {*step_files(step), "requirements.lock"}
    assert "torch (installed)" in others


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_is_what_the_rule_says(rules: dict[str, Any], dvc: dict[str, Any], step: str) -> None:
    stage = dvc["stages"][step]
    reused = ["code.reused"] if step in ("source", "supernet") else []
    assert stage["params"][0] == {"code.json": [f"code.{step}", *reused]}
    assert sorted(stage["params"][1:]) == uses(step)
    raw = {"source": "${source.root}", "target": "${target.root}", "imbalance": "${target.root}", "search": "tables"}
    # Of the source the target reads one file, of other splits it is all of them.
    inputs = {file if step == "target" else place(file) for file in rules[step]["input"]}
    expected = [*inputs, "requirements.lock", *([raw[step]] if step in raw else [])]
    assert sorted(stage["deps"]) == sorted(expected)
    outs = [*stage["outs"], *stage.get("metrics", [])]
    splits = {PATHS[name] for name in PATHS if "_" in name}
    assert set(outs) == {place(file) if place(file) in splits else file for file in rules[step]["output"]}
    assert len(outs) == len(set(outs))
    shell, option, command = shlex.split(stage["cmd"].replace(r"\${", "${"))
    assert (shell, option) == ("sh", "-c")
    *words, target = command.split()
    profile = '"${SNAKEMAKE_PROFILE:-local}"'
    assert words == f"exec snakemake --profile {profile} --force --allowed-rules {step} --".split()
    assert target in rules[step]["output"]


def test_the_default_targets_are_the_products_and_all_results(rules: dict[str, Any]) -> None:
    wanted = {*rules["retrain"]["output"], *rules["evaluate"]["output"]}
    wanted |= {file for rule in rules.values() for file in rule["output"] if file.startswith("results/")}
    assert set(rules["all"]["input"]) == wanted
    assert len(rules["all"]["input"]) == len(wanted)


def test_every_parameter_of_a_stage_stands_in_params_yaml(dvc: dict[str, Any]) -> None:
    # DVC fails on a name that the file leaves to its default.
    for file in [ROOT / "params.yaml", *sorted((ROOT / "presets").rglob("*.yaml"))]:
        load(file)
        tree = yaml.safe_load(file.read_text())
        for stage in dvc["stages"].values():
            for name in stage.get("params", [])[1:]:
                value = tree
                for part in name.split("."):
                    assert part in value, f"{file.name} lacks {name}"
                    value = value[part]


def test_plots_and_metrics_are_files_that_some_step_writes(rules: dict[str, Any], dvc: dict[str, Any]) -> None:
    outputs = {file for step in ("supernet", "retrain", "evaluate") for file in rules[step]["output"]}
    named = set()
    for plot in dvc["plots"]:
        (name, options), *_ = plot.items() if isinstance(plot, dict) else [(plot, {})]
        named |= set(options["y"]) if options else {name}
    assert named <= outputs
    assert dvc["artifacts"]["final-network"]["path"] in rules["retrain"]["output"]
    assert dvc["metrics"] == [PATHS["cost"]]


def test_the_declared_code_is_what_a_step_imports() -> None:
    result = subprocess.run(
        [sys.executable, "-c", IMPORTS, *STEPS], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    imported = dict(json.loads(line) for line in result.stdout.splitlines())
    assert set(imported) == set(STEPS)
    for step, files in imported.items():
        declared = set(step_files(step))
        assert set(files) - declared == set(), f"{step} imports what it does not declare"
        assert declared - set(files) <= LAZY, f"{step} declares what it does not import"
