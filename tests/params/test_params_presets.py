"""The presets: what differs from the defaults, with a reason each; and `imbnas init`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from params_trees import DEFAULT, PRESETS, ROOT, comments, leaves, written

from imbnas.cli import main
from imbnas.data.class_sizes import class_counts
from imbnas.params import presets
from imbnas.params.config import Params, defaults, load, parse
from imbnas.params.reference import leaves as named_by
from imbnas.params.section import merged

METHODS = ["balanced-softmax", "bbn", "ce", "ce-drw", "crt", "ldam-drw", "logit-adjustment"]
LITERATURE = [f"literature/{dataset}-lt-{method}" for dataset in ("cifar10", "cifar100") for method in METHODS]
SIZED = ["cells-32", "cells-64"]
TOP = ["cifar10-lt", "cifar10-lt-self", "cifar100-lt", "digits", "imagenet-lt", "inaturalist2018", "mnist-lt"]
SEARCHED = ["approx-darts-digits", "darts-cifar10-lt", "darts-digits", "hlrs-cifar10-lt", "zo-darts-digits"]
CELLS = [*SEARCHED, "single-stage-digits", "ssf-nas-cifar10-lt", "zo-darts-plus-plus-digits"]
OWN = ["medmnist", "own-224", "own-64"]
HEADS = ["latent-diffusion-cifar10-lt"]
NAMES = sorted([*TOP, *SIZED, *LITERATURE, *HEADS, *CELLS, *OWN, "implant-digits", "ofa-224", "supernet-64"])


def read(name: str) -> Params:
    return presets.params(name)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["imbnas", *arguments])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_presets_are_these() -> None:
    assert presets.names() == NAMES


def test_digits_is_params_yaml() -> None:
    assert presets.text("digits") == DEFAULT.read_text(encoding="utf-8"), (
        "edit presets/digits.yaml, then run: imbnas init --force"
    )


# So that no section that dvc.yaml names is empty.
SHOWN = {
    *("space.name", "target.validation.per_class", "imbalance.ratio", "supernet.epochs", "adapt.strategy"),
    *("search.method", "retrain.epochs", "evaluate.shots", "approximate.multiplier"),
}


def named_by_dvc() -> set[str]:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    # Parameters, and what dependencies are named by: ${target.root}.
    filled = set(re.findall(r"\$\{([\w.]+)\}", text))
    return filled | {name for stage in yaml.safe_load(text)["stages"].values() for name in stage.get("params", [])[1:]}


@pytest.mark.parametrize("file", [file for file in PRESETS if file.stem != "digits"], ids=lambda file: file.stem)
def test_a_preset_names_what_differs_with_its_reason_and_what_dvc_needs(file: Path) -> None:
    own, default, lines = named_by(written(file)), dict(leaves(defaults())), comments(file)
    # `references: false` stands for two parameters.
    said = {name: lines.get(name, lines.get(name.rpartition(".")[0])) for name in own}
    assert [name for name, value in own.items() if value != default[name] and not said[name]] == []
    bare = {name for name, value in own.items() if value == default[name] and not said[name]}
    assert bare - named_by_dvc() - SHOWN == set()


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_preset_means_the_same_over_the_shipped_params_yaml(file: Path) -> None:
    # As in `snakemake --configfile presets/mnist-lt.yaml`; the grid of a study may be the file's.
    over = parse(merged(Params, written(DEFAULT), written(file)), "both")
    assert over.model_copy(update={"study": None}) == load(file).model_copy(update={"study": None})


RELEASED = sorted(Path(__file__).with_name("release").glob("*.yaml"))


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_a_complete_file_of_the_first_release_means_what_it_says(file: Path) -> None:
    assert dict(leaves(load(file).tree())).items() >= named_by(written(file)).items()


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.stem)
def test_a_preset_has_kept_its_values(file: Path) -> None:
    now = read("digits" if file.stem == "params" else file.stem)
    old = named_by(written(file))
    changed = {name for name, value in leaves(now.tree()) if value != old.get(name, value)}
    # More random references than one, so that they have a spread; a limit, as without one the largest win.
    assert changed <= {"study.axes", "retrain.references.random", "search.max_macs"}


def test_a_dataset_has_one_directory_in_all_presets() -> None:
    roots: dict[str, str] = {}
    for name in NAMES:
        params = read(name)
        for data in (params.source, params.target):
            if data.dataset not in ("folder", "list"):
                assert roots.setdefault(data.dataset, data.root) == data.root
    assert len(set(roots.values())) == len(roots)


@pytest.mark.parametrize(
    ("name", "rows", "largest", "smallest"),
    [
        ("cifar10-lt", np.full(10, 5000), 4900, 49),
        ("cifar10-lt-self", np.full(10, 2500), 2450, 24),
        ("cifar100-lt", np.full(100, 500), 480, 4),
    ],
)
def test_the_class_counts_are_those_in_the_preset_s_comment(
    name: str, rows: np.ndarray, largest: int, smallest: int
) -> None:
    params = read(name)
    available = rows - params.target.validation.per_class
    imbalance = params.imbalance
    counts = class_counts(
        imbalance.profile,
        imbalance.ratio,
        available,
        imbalance.n_max,
        imbalance.order,
        imbalance.seed,
        None,
        [str(label) for label in range(len(rows))],
    )
    assert (counts[0], counts[-1]) == (largest, smallest)
    text = (ROOT / "presets" / f"{name}.yaml").read_text(encoding="utf-8").replace("\n#", "")
    assert f"{largest:,}" in text
    assert f"tail {smallest}" in text


@pytest.mark.parametrize("name", ["cifar10-lt", "cifar10-lt-self", "cifar100-lt"])
def test_cifar_is_retrained_by_the_recipe_of_cao_et_al(name: str) -> None:
    recipe = read(name).retrain
    assert (recipe.epochs, recipe.batch_size) == (200, 128)
    assert (recipe.optimizer.lr, recipe.optimizer.momentum, recipe.optimizer.weight_decay) == (0.1, 0.9, 2e-4)
    assert [milestone * recipe.epochs for milestone in recipe.schedule.milestones] == [160, 180]
    assert recipe.schedule.warmup * recipe.epochs == 5
    assert recipe.optimizer.lr * recipe.schedule.gamma**2 == pytest.approx(1e-5)
    assert (recipe.loss, recipe.weighting.beta, recipe.weighting.defer) == ("effective-number", 0.9999, 0.8)


@pytest.mark.parametrize("name", ["cifar10-lt", "cifar10-lt-self", "cifar100-lt", "imagenet-lt", "inaturalist2018"])
def test_the_space_is_single_path_one_shot_s(name: str) -> None:
    space = read(name).space
    assert sum(space.stages.repeats) == 20
    assert len(space.shufflenet.choices) == 4
    halvings = [space.stem.stride, *space.stages.strides].count(2)
    assert (read(name).target.image_size or 32) // 2**halvings == (7 if "cifar" not in name else 8)


def test_only_large_datasets_and_own_images_keep_their_natural_tail() -> None:
    natural = [name for name in NAMES if read(name).imbalance.profile == "natural"]
    assert natural == sorted(["imagenet-lt", "inaturalist2018", "ofa-224", *OWN])
    assert read("imagenet-lt").target.validation.from_ == "published"
    assert read("inaturalist2018").target.validation.from_ == "longtail"
    assert read("inaturalist2018").retrain.rows == "train+validation"


@pytest.mark.parametrize("name", LITERATURE)
def test_a_cell_of_the_literature_has_the_published_recipe(name: str) -> None:
    params = read(name)
    assert (params.space.name, params.space.stages.repeats, params.space.last_channels) == ("resnet", [5, 5, 5], None)
    assert (params.search.method, params.supernet.epochs, params.adapt.scratch.epochs) == ("fixed", 0, 0)
    recipe = params.retrain
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer.weight_decay) == (200, 128, 2e-4)
    assert (recipe.optimizer.nesterov, recipe.optimizer.decay_norms, recipe.optimizer.clip) == (False, True, 0.0)
    assert recipe.schedule.warmup * 200 == 5
    assert [round(200 * share) for share in recipe.schedule.milestones] == ([120, 160] if "bbn" in name else [160, 180])


@pytest.mark.parametrize(("dataset", "total"), [("cifar10", 12406), ("cifar100", 10847)])
def test_a_cell_of_the_literature_has_the_published_rows(dataset: str, total: int) -> None:
    params = read(f"literature/{dataset}-lt-ce")
    classes = int(dataset.removeprefix("cifar"))
    assert params.target.validation.per_class == 0
    imbalance = params.imbalance
    names = [str(label) for label in range(classes)]
    counts = class_counts(
        "exponential", imbalance.ratio, np.full(classes, 50_000 // classes), None, "native", 0, None, names
    )
    assert sum(counts) == total
    assert f"{total:,} rows, the head {counts[0]:,} and the tail {counts[-1]}" in presets.text(
        f"literature/{dataset}-lt-ce"
    ).replace("\n# ", " ")


def test_a_wheel_carries_the_presets_where_the_package_looks_for_them() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    shipped = ("presets", "supernets/cifar100-64.safetensors", "supernets/cifar100-64.cost.json")
    assert build["targets"]["wheel"]["force-include"] == {name: f"imbnas/{name}" for name in shipped}
    assert presets._PLACES[0] == ROOT / "src" / "imbnas"


def test_init_writes_a_preset_and_its_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    assert run(monkeypatch, "init", "--preset", "cifar10-lt", "--root", str(project)) == 0
    assert sorted(path.relative_to(project).as_posix() for path in project.rglob("*")) == [
        "datasets",
        "datasets/cifar10",
        "datasets/cifar100",
        "params.yaml",
    ]
    assert (project / "params.yaml").read_text(encoding="utf-8") == presets.text("cifar10-lt")
    assert load(project / "params.yaml") == read("cifar10-lt")
    said = capsys.readouterr().out
    assert "no Snakefile" in said
    assert "clone the repository" in said


def test_init_in_a_clone_does_not_speak_of_cloning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Snakefile").touch()
    assert run(monkeypatch, "init", "--preset", "imagenet-lt", "--root", str(tmp_path)) == 0
    said = capsys.readouterr().out
    assert "Snakefile" not in said
    assert said.count("bring its files") == 2
    (tmp_path / "datasets/imagenet-balanced/class").mkdir()
    assert run(monkeypatch, "init", "--preset", "imagenet-lt", "--root", str(tmp_path)) == 0
    assert f"{tmp_path}/datasets/imagenet-balanced: ready" in capsys.readouterr().out


def test_init_refuses_to_overwrite_unless_forced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "params.yaml"
    own.write_text("seed: 1\n", encoding="utf-8")
    assert run(monkeypatch, "init", "--root", str(tmp_path)) == 2
    assert own.read_text(encoding="utf-8") == "seed: 1\n"
    assert not (tmp_path / "datasets").exists()
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert str(own) in message
    assert "--force" in message
    assert run(monkeypatch, "init", "--root", str(tmp_path), "--force") == 0
    assert own.read_text(encoding="utf-8") == presets.text("digits")
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_init_replaces_a_preset_that_nobody_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A clone holds the default: choosing another preset there loses nothing.
    assert run(monkeypatch, "init", "--root", str(tmp_path)) == 0
    assert run(monkeypatch, "init", "--preset", "mnist-lt", "--root", str(tmp_path)) == 0
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == presets.text("mnist-lt")
    (tmp_path / "params.yaml").write_text(presets.text("mnist-lt") + "# mine\n", encoding="utf-8")
    assert run(monkeypatch, "init", "--root", str(tmp_path)) == 2


def test_init_leaves_an_unchanged_preset_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "init", "--root", str(tmp_path)) == 0
    before = (tmp_path / "params.yaml").stat()
    (tmp_path / "datasets" / "digits").rmdir()
    assert run(monkeypatch, "init", "--root", str(tmp_path)) == 0
    after = (tmp_path / "params.yaml").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (tmp_path / "datasets" / "digits").is_dir()


@pytest.mark.parametrize("name", NAMES)
def test_a_full_preset_has_a_line_for_every_parameter_and_the_same_values(name: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(presets.full_text(name), encoding="utf-8")
    assert dict(leaves(written(file))) == dict(leaves(read(name).tree()))
    said = comments(file)
    assert [key for key, _ in leaves(written(file)) if not said[key]] == []
    assert max(map(len, file.read_text(encoding="utf-8").splitlines())) <= 120
    apply_overrides(file, [f"seed={read(name).seed}"])
    assert file.read_text(encoding="utf-8") == presets.full_text(name), "as DVC writes it"


def test_init_full_may_be_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "init", "--root", str(tmp_path), "--full") == 0
    assert load(tmp_path / "params.yaml") == read("digits")
    assert len((tmp_path / "params.yaml").read_text(encoding="utf-8").splitlines()) > 370
    assert run(monkeypatch, "init", "--root", str(tmp_path)) == 0
    assert (tmp_path / "params.yaml").read_text(encoding="utf-8") == presets.text("digits")


@pytest.mark.parametrize("name", ["cifar", "../digits", "", "digits.yaml"])
def test_init_names_the_presets_when_it_does_not_know_one(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "init", "--preset", name, "--root", str(tmp_path)) == 2
    message = capsys.readouterr().err
    assert message == f"error: preset {name!r}: unknown, expected one of {', '.join(NAMES)}\n"
    assert list(tmp_path.iterdir()) == []


def test_init_says_in_one_line_where_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(monkeypatch, "init", "--root", str(tmp_path / "file")) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "Not a directory" in message


def test_init_lists_the_presets_with_their_titles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "init", "--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(len(line.split()) > 5 for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_the_cells_of_the_papers_have_darts_sizes_and_its_final_training() -> None:
    for name in ("darts-cifar10-lt", "hlrs-cifar10-lt", "ssf-nas-cifar10-lt"):
        params = read(name)
        cells, retrain = params.space.darts, params.retrain
        assert (cells.channels, cells.layers, cells.derived_channels, cells.derived_layers) == (16, 8, 36, 20)
        assert (retrain.epochs, retrain.batch_size, retrain.auxiliary, retrain.drop_path) == (600, 96, 0.4, 0.2)
        assert (retrain.augment.cutout, retrain.optimizer.lr, retrain.schedule.warmup) == (16, 0.025, 0.0)
        assert params.search.darts.epochs == 50
        assert params.target.validation.per_class == 0, "the published rows"
    assert read("ssf-nas-cifar10-lt").search.darts.blind


def test_a_differentiable_search_begins_where_the_papers_do() -> None:
    for name in CELLS:
        params = read(name)
        assert (params.search.method, params.adapt.strategy, params.supernet.epochs) == ("darts", "scratch", 0)
        assert params.adapt.scratch.epochs == 0
