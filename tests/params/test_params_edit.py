"""`imbnas params set`: one line changes, comments stay, and nothing is written for what holds already or is wrong."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from params_trees import DEFAULT, FREE, OTHERS, ROOT, leaves

from imbnas.cli import main
from imbnas.errors import UserError
from imbnas.params.config import load
from imbnas.params.edit import flow, set_parameters

SIZES = {"space.stages.channels": "[8, 8]", "space.stages.repeats": "[1, 1]", "space.stages.strides": "[1, 2]"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    copied = tmp_path / "params.yaml"
    copied.write_bytes(DEFAULT.read_bytes())
    (tmp_path / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    return copied


def as_dvc_writes(file: Path) -> str:
    apply_overrides(file, [f"retrain.epochs={load(file).retrain.epochs}"])
    return file.read_text(encoding="utf-8")


def changes(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


@pytest.mark.parametrize("dotted", [name for name in OTHERS if name not in FREE])
def test_any_parameter_can_be_set_and_nothing_else_changes(dotted: str, file: Path) -> None:
    before, text = dict(leaves(load(file).tree())), file.read_text(encoding="utf-8")
    assert set_parameters(file, [f"{dotted}={flow(OTHERS[dotted])}"]) == {dotted: OTHERS[dotted]}
    after, new = dict(leaves(load(file).tree())), file.read_text(encoding="utf-8")
    assert {name for name in after if after[name] != before[name]} == {dotted}
    assert after[dotted] == OTHERS[dotted]
    removed = [line for line in changes(text, new) if line.startswith("-")]
    assert len(removed) <= 1
    assert [line for line in removed if "#" in line and line.split("#")[1] not in new] == []
    assert as_dvc_writes(file) == new, "and `dvc exp run -S` of another one changes no more"


RATIO = "# largest over smallest class"
LIMIT = "# most multiply-accumulate operations per image, or a share of the largest; empty: no limit"
ONE_LINE = "optimizer: {lr: 0.1, weight_decay: 5.0e-4"
DARTS = "search.darts={epochs: 3, loss: ldam, optimizer: {lr: 0.1}}"


@pytest.mark.parametrize(
    ("assignment", "diff"),
    [
        ("imbalance.ratio=50.0", [f"-  ratio: 20.0  {RATIO}", f"+  ratio: 50.0  {RATIO}"]),
        ("supernet.optimizer.clip=1.5", [f"-  {ONE_LINE}}}", f"+  {ONE_LINE}, clip: 1.5}}"]),
        (
            "search.max_macs=0.6x",
            [f"-  max_macs: 0.7x  {LIMIT}", f"+  max_macs: 0.6x  {LIMIT}"],
        ),
        ("retrain.mixing.name=mixup", ["+  mixing:", "+    name: mixup"]),
        ("adapt.head.optimizer.lr=0.00001", ["+    optimizer:", "+      lr: 1.0e-05"]),
        ("study.axes.seed=[0, 1, 2]", ["+    - 2"]),
        ("study.axes.imbalance.seed=[0, 1]", ["+    imbalance.seed:", "+    - 0", "+    - 1"]),
        (DARTS, ["+  darts:", "+    epochs: 3", "+    loss: ldam", "+    optimizer:", "+      lr: 0.1"]),
    ],
)
def test_the_lines_that_change(assignment: str, diff: list[str], file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    set_parameters(file, [assignment])
    assert changes(text, file.read_text(encoding="utf-8")) == diff
    assert as_dvc_writes(file) == yaml_text(file)


def yaml_text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def test_a_list_is_added_where_its_section_begins_and_keeps_the_comments_around_it(file: Path) -> None:
    before = yaml_text(file).splitlines()
    set_parameters(file, ["space.darts.operations=[skip_connect, max_pool_3x3]", "study.axes.seed=[0, 1, 2]"])
    set_parameters(file, ["study.axes.space.stages.repeats=[[1, 1, 2], [2, 2, 2]]"])
    set_parameters(file, ["study.axes.retrain=[{batch_size: 16, loss: ce}, {batch_size: 32}]"])
    assert "space:\n  darts:\n    operations:\n    - skip_connect\n    - max_pool_3x3\n" in yaml_text(file)
    assert load(file).study.axes["space.stages.repeats"] == [[1, 1, 2], [2, 2, 2]]
    assert load(file).study.axes["retrain"] == [{"batch_size": 16, "loss": "ce"}, {"batch_size": 32}]
    assert [line for line in before if line not in yaml_text(file).splitlines()] == []
    assert as_dvc_writes(file) == yaml_text(file)
    set_parameters(file, ["space.darts.operations=[skip_connect]"])
    assert "    operations:\n    - skip_connect\n  " in yaml_text(file)
    set_parameters(file, [f"{name}={value}" for name, value in SIZES.items()])
    assert "  stages: {channels: [8, 8], repeats: [1, 1], strides: [1, 2]}\n" in yaml_text(file)
    assert as_dvc_writes(file) == yaml_text(file)


def test_a_mapping_on_one_line_that_grows_too_long_is_spread(file: Path) -> None:
    keys = ["momentum=0.85", "nesterov=false", "decay_norms=true", "clip=0.5"]
    set_parameters(file, [f"retrain.optimizer.{key}" for key in keys])
    assert load(file).retrain.optimizer.model_dump() == {
        **{"lr": 0.1, "momentum": 0.85, "nesterov": False, "weight_decay": 5e-4, "decay_norms": True, "clip": 0.5}
    }
    assert as_dvc_writes(file) == yaml_text(file)


@pytest.mark.parametrize(
    "assignment", ["retrain.epochs=120", "search.candidates=160", "search.max_params=", "supernet.optimizer={lr: 0.1}"]
)
def test_what_holds_already_is_not_written(assignment: str, file: Path) -> None:
    # A line more would make the DVC stages that see its section stale.
    before = file.stat()
    assert set_parameters(file, [assignment]) == {}
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_dvc_needs_is_written_even_as_a_default(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    del tree["target"]["image_size"], tree["evaluate"]
    file.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["imbnas", "check", "--config", str(file)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert "for DVC it lacks evaluate, target.image_size, which dvc.yaml names" in capsys.readouterr().out
    assert set_parameters(file, ["target.image_size=null", "evaluate.shots=kang"]) == {
        "target.image_size": None,
        "evaluate.shots": "kang",
    }
    main_again = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert main_again["target"]["image_size"] is None
    assert main_again["evaluate"] == {"shots": "kang"}


@pytest.mark.parametrize(
    ("assignments", "line"),
    [
        (["seed=1", "retrain.epochs=many"], "params set: retrain.epochs: found text 'many', expected a whole number"),
        (["retrain.epoch=3"], "params set: retrain.epoch: unknown parameter, did you mean epochs?"),
        (["retrain=3"], "params set: retrain: found 3, expected a mapping of parameters"),
        (["retrain.epochs.x=3"], "params set: retrain.epochs: found "),
        (
            ["supernet.optimizer.lr=1e-3"],
            "params set: supernet.optimizer.lr: found text '1e-3', expected a number; to YAML",
        ),
        (["seed"], "seed: expected KEY=VALUE"),
        (["=3"], "=3: expected KEY=VALUE"),
        (["seed=["], "seed: not valid YAML"),
        (["seed=1", "search.parents=30"], "params set: search.parents is 30, expected at most population (20)"),
    ],
)
def test_a_wrong_value_leaves_the_file_as_it_is(assignments: list[str], line: str, file: Path) -> None:
    with pytest.raises(UserError) as raised:
        set_parameters(file, assignments)
    assert line in str(raised.value)
    assert "\n" not in str(raised.value)
    assert file.read_bytes() == DEFAULT.read_bytes()


def test_a_file_of_the_first_release_keeps_its_layout(file: Path) -> None:
    old = (Path(__file__).parent / "release" / "params.yaml").read_text(encoding="utf-8")
    file.write_text(old, encoding="utf-8")
    set_parameters(file, ["retrain.epochs=3", "target.image_size=32", "retrain.losses.vs.gamma=0.55"])
    found = changes(old, file.read_text(encoding="utf-8"))
    assert len(found) == 6
    assert (
        "+    vs: {gamma: 0.55, tau: 1.0}  # exponent of the temperatures, factor of the log-prior (Kini et al. 2021)"
        in found
    )


def test_an_alias_is_not_edited_blindly(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("epochs: 40", "epochs: &n 40").replace("epochs: 120", "epochs: *n")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="edit it by hand"):
        set_parameters(file, ["retrain.epochs=3"])
    assert file.read_text(encoding="utf-8") == text


def test_a_file_with_next_to_nothing_in_it(file: Path) -> None:
    for text in ("{}\n", "seed: 1", "# only a comment\n{}\n", "seed: 1\n\n# the end\n"):
        file.write_text(text, encoding="utf-8")
        set_parameters(file, ["retrain.epochs=3"])
        assert load(file).retrain.epochs == 3


def test_the_command_tells_what_it_wrote(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: Any) -> str:
        monkeypatch.setattr(sys, "argv", ["imbnas", "params", "set", *words, "--config", str(file)])
        with pytest.raises(SystemExit):
            main()
        return capsys.readouterr().out

    assert run("seed=3", "target.image_size=16") == "seed: 3\ntarget.image_size: 16\n"
    assert run("seed=3", "target.image_size=") == "target.image_size: null\n"
    assert "holds that already" in run("seed=3")
