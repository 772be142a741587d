"""The method `darts` of the step `search`, and the final training of what it derives, on digits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_chain
import torch

from imbnas.cell_graph import is_connected, live_cell
from imbnas.data.images import ImageStore
from imbnas.data.stored import array_digest, read_split
from imbnas.differentiable import derive
from imbnas.differentiable.bilevel_search import SearchTrainer
from imbnas.training.state import ResumeState

SPACE = {
    "name": "darts",
    "darts": {
        "channels": 2,
        "layers": 4,
        "derived_channels": 4,
        "derived_layers": 3,
        "operations": ["none", "max_pool_3x3", "skip_connect", "sep_conv_3x3"],
    },
}
BENCHMARK = {
    "name": "nasbench201",
    "stem": {"channels": 4, "stride": 1},
    "stages": {"channels": [4, 8], "repeats": [1, 1], "strides": [1, 2]},
    "last_channels": None,
}
CHAIN: dict[str, Any] = {
    "space": SPACE,
    "supernet__epochs": 0,
    "supernet__sampling": "mixture",
    "adapt__sampling": "mixture",
    "adapt__strategy": "scratch",
    "adapt__scratch": {"epochs": 0},
    "adapt__head": {"epochs": 1},
    "search__method": "darts",
    "search__calibration": {"rows": 64},
    "retrain__epochs": 1,
    "retrain__references": False,
}
SEARCH: dict[str, Any] = {"epochs": 2, "batch_size": 70}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that has run up to `adapt` in the space darts."""
    root = tmp_path_factory.mktemp("cells")
    assert tiny_chain.run(root, "source", "target", "imbalance", "supernet", "adapt", **CHAIN) == 0
    return root


def searched(root: Path, *steps: str, **options: Any) -> int:
    return tiny_chain.run(root, *(steps or ("search",)), **{**CHAIN, "search__darts": {**SEARCH, **options}})


def table(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "results/search.parquet")


def bytes_of(root: Path) -> list[bytes]:
    names = ("results/search.parquet", "results/architecture.json", "results/search.json")
    return [(root / name).read_bytes() for name in names]


def test_the_trajectory_has_a_row_an_epoch_and_ends_in_the_chosen_cells(cells: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    assert searched(root, "search", "retrain") == 0
    found = table(root)
    assert found["generation"].tolist() == [0, 1]
    assert found["chosen"].tolist() == [False, True]
    record = json.loads((root / "results/architecture.json").read_text())
    assert "-".join(map(str, record["chosen"]["architecture"])) == found["architecture"].iloc[-1]
    assert record["chosen"]["score"] == found["score"].iloc[-1]
    assert record["method"] == "darts"
    assert found["score"].between(0.0, 1.0).all()
    # Adam moves each entry by about its rate in each of the three steps.
    moved = np.stack(found["alpha_normal"].to_list())
    assert moved.shape == (2, 14 * 4)
    assert 1e-4 < np.abs(moved[1] - moved[0]).max() < 1.5e-3
    assert found["rate"].tolist() == pytest.approx([0.025, 0.013])
    assert found["entropy"].iloc[-1] == pytest.approx(np.log(4), abs=1e-4)
    assert found["macs"].iloc[-1] == record["chosen"]["macs"]
    gap = json.loads((root / "results/search.json").read_text())["discretisation"]
    assert gap["continuous"] == found["score"].iloc[-1]
    assert gap["architecture"] == record["chosen"]["architecture"]
    assert gap["gap"] == pytest.approx(gap["continuous"] - gap["decoded"], abs=1e-12)
    assert (gap["epoch"], gap["entropy"]) == (2, found["entropy"].iloc[-1])
    assert gap["decoded"] != gap["continuous"], "operations at full weight are another network than the mixture"
    assert gap["standard_error"] > 0.0
    said = f"a gap of {gap['gap']:.4f} (standard error"
    assert said in (root / "logs/search.log").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"order": "second"},
        {"branches": "bilateral", "architecture": {"schedule": "cumulative"}, "collapse": {"skip": "linear"}},
        {"relaxation": "sigmoid", "zero_one": 10.0, "objective": "barlow-twins", "barlow": {"hidden": 8, "outputs": 8}},
        {"collapse": {"perturbation": "adversarial", "eigenvalue_rows": 32}},
        {
            "order": "zeroth",
            "relaxation": "sparsemax",
            "zeroth": {"period": 4, "antithetic": True},
            "branches": "bilateral",
            "architecture": {"schedule": "cumulative", "loss": "balanced-softmax"},
        },
    ],
    ids=["second", "hlrs", "ssf", "smooth", "zeroth"],
)
def test_a_killed_search_ends_with_the_same_bytes(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    whole, cut = tiny_chain.copy(cells, tmp_path / "whole"), tiny_chain.copy(cells, tmp_path / "cut")
    assert searched(whole, **options) == 0
    ticks = 0
    tick = ResumeState.tick

    def interrupted(self: ResumeState, state: Any) -> None:
        nonlocal ticks
        ticks += 1
        if ticks <= 2:
            self._note(signal.SIGTERM, None)
        tick(self, state)

    monkeypatch.setattr(ResumeState, "tick", interrupted)
    codes = [searched(cut, **options) for _ in range(3)]
    assert codes[-1] == 0
    assert all(codes[:-1]), "killed twice, once within an epoch"
    assert bytes_of(cut) == bytes_of(whole)
    assert not list((cut / ".imbnas/resume/search").glob("*.pt"))


@pytest.mark.parametrize("method", ["random", "evolution"])
def test_searches_by_score_work_on_cells_too(cells: Path, tmp_path: Path, method: str) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    sizes = {"search__candidates": 4, "search__population": 3, "search__parents": 2, "search__generations": 2}
    assert tiny_chain.run(root, "search", "retrain", **{**CHAIN, "search__method": method, **sizes}) == 0
    found = table(root)
    assert len(found) >= 4
    assert found["chosen"].sum() == 1
    assert found["score"].between(0.0, 1.0).all()


def test_the_eigenvalue_is_that_of_rows_of_all_classes(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long tail lies class by class: its first rows are all of one."""
    seen: list[list[int]] = []
    real = ImageStore.batches

    def watched(self: ImageStore, batches: Any) -> Any:
        if [len(batch) for batch in batches] == [33]:
            seen.append(np.bincount(self.labels[batches[0]], minlength=10).tolist())
        return real(self, batches)

    monkeypatch.setattr(ImageStore, "batches", watched)
    assert searched(tiny_chain.copy(cells, tmp_path), collapse={"eigenvalue_rows": 33}) == 0
    assert len(seen) == SEARCH["epochs"]
    assert seen[0] == seen[1], "the same rows in each epoch"
    assert sum(count > 0 for count in seen[0]) >= 5
    assert max(seen[0]) < 25


@pytest.mark.parametrize("mode", ["frozen", "batch", "update"])
def test_drop_path_ends_with_the_training_of_the_cells(cells: Path, tmp_path: Path, mode: str) -> None:
    """A second stage gives the same head on the network as it was trained and on the one that was kept."""
    root = tiny_chain.copy(cells, tmp_path)
    assert searched(root) == 0
    head = {"name": "crt", "epochs": 2, "batchnorm": mode}
    options = {**CHAIN, "retrain__epochs": 2, "retrain__drop_path": 0.4, "retrain__loss": "ce", "retrain__head": head}
    found = []
    for _ in range(2):
        assert tiny_chain.run(root, "retrain", **options) == 0
        found.append(tiny_chain.digests(root, "retrain"))
    assert "is left" in (root / "logs/retrain.log").read_text()
    assert found[0] == found[1]


def describe_anew(split: Path) -> None:
    """Give a split whose labels were changed the digest that goes with them: else it is refused."""
    labels = pq.read_table(split / "index.parquet")["label"].to_numpy()
    state = array_digest(labels)
    state.update(np.load(split / "images.npy").tobytes())
    info = json.loads((split / "info.json").read_text())
    (split / "info.json").write_text(json.dumps({**info, "digest": state.hexdigest()}))


def test_a_blind_search_does_not_see_labels(cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permuting all training labels after the network was written leaves every byte of the trajectory."""
    options = {"objective": "barlow-twins", "barlow": {"hidden": 8, "outputs": 8}, "collapse": {"eigenvalue_rows": 16}}
    plain, permuted = tiny_chain.copy(cells, tmp_path / "plain"), tiny_chain.copy(cells, tmp_path / "permuted")
    assert searched(plain, **options) == 0
    for name in ("data/target/train/index.parquet", "data/longtail.parquet"):
        rows = pq.read_table(permuted / name)
        labels = pa.array((rows["label"].to_numpy() + 3) % 10)
        pq.write_table(rows.set_column(rows.schema.get_field_index("label"), "label", labels), permuted / name)
    describe_anew(permuted / "data/target/train")
    assert searched(permuted, **options) == 0
    assert table(plain)["score"].isna().all()
    pd.testing.assert_frame_equal(table(plain), table(permuted))
    labelled = {"barlow": {"hidden": 8, "outputs": 8, "labels": 1.0}, "objective": "barlow-twins"}
    assert searched(plain, **labelled) == 0
    assert searched(permuted, **labelled) == 0
    assert not table(plain).equals(table(permuted)), "with a loss on labels the same change must show"


def test_an_early_stop_takes_the_architecture_before_the_eigenvalue_rose(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eigenvalues = [1.0, 1.0, 1.0, 9.0]
    left = iter(eigenvalues)
    monkeypatch.setattr("imbnas.differentiable.collapse.dominant_eigenvalue", lambda *_: next(left))
    root = tiny_chain.copy(cells, tmp_path)
    guards = {"eigenvalue_rows": 8, "stop_ratio": 1.3, "window": 1, "back": 2, "patience": 1}
    assert searched(root, epochs=6, architecture={"lr": 1.0}, collapse=guards) == 0
    found = table(root)
    # After epoch 4 the eigenvalue is nine times that of epoch 2, which was the last before the rise.
    assert found["eigenvalue"].tolist() == eigenvalues
    assert found["chosen"].tolist() == [False, True, False, False]
    record = json.loads((root / "results/architecture.json").read_text())
    chosen = "-".join(map(str, record["chosen"]["architecture"]))
    assert chosen == found["architecture"].iloc[1]
    assert record["chosen"]["score"] == found["score"].iloc[1]
    assert chosen != found["architecture"].iloc[-1], "else the test would show nothing"


def test_after_the_head_strategy_only_the_architecture_learns(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    change = {**CHAIN, "adapt__strategy": "head", "search__darts": SEARCH}
    seen: list[dict[str, Any]] = []
    fit = SearchTrainer.fit

    def watched(trainer: SearchTrainer) -> Any:
        one = trainer.search
        before = {name: value.clone() for name, value in one.learner.state_dict().items()}
        rows = fit(trainer)
        after = one.learner.state_dict()
        assert all((before[name] == after[name]).all() for name in before)
        seen.append({"rows": len(one.feeds[1][0].rows), "inner": len(one.feeds[0])})
        return rows

    monkeypatch.setattr(SearchTrainer, "fit", watched)
    assert tiny_chain.run(root, "adapt", "search", **change) == 0
    longtail = pd.read_parquet(root / "data/longtail.parquet")
    assert seen == [{"rows": len(longtail), "inner": 0}]
    found = table(root)
    assert found["train_loss"].isna().all()
    assert found["search_loss"].notna().all()
    # The parameters refuse it; here they are others than those of the adaptation.
    assert tiny_chain.run(root, "search", **{**CHAIN, "search__darts": {"order": "second"}}) == 2
    assert "search.darts.order is second with adapt.strategy head" in capsys.readouterr().err


def test_derived_networks_are_trained_with_all_that_belongs_to_them(cells: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    assert searched(root, "search", "retrain") == 0
    plain = (root / "models/final.safetensors").read_bytes()
    variants = [
        {"retrain__auxiliary": 0.4},
        {"retrain__epochs": 2, "retrain__drop_path": 0.5},
        {"retrain__pretrain": {"epochs": 1, "hidden": 8, "outputs": 8}},
    ]
    sizes = []
    for variant in variants:
        assert tiny_chain.run(root, "retrain", **{**CHAIN, **variant}) == 0
        found = (root / "models/final.safetensors").read_bytes()
        assert found != plain
        sizes.append(b"auxiliary." in found or b"projector." in found)
    assert sizes == [False] * 3, "what serves the training only is not written"


def test_the_cell_of_nas_bench_201_is_searched_too(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    change = {**CHAIN, "space": BENCHMARK, "supernet__sampling": "uniform", "adapt__sampling": "uniform"}
    change["search__darts"] = SEARCH
    assert tiny_chain.run(root, "supernet", "adapt", "search", "retrain", **change) == 0
    found = table(root)
    weights = found["alpha_cell"].iloc[-1].reshape(6, 5)
    assert found["architecture"].iloc[-1] == "-".join(map(str, live_cell(weights.argmax(axis=1).tolist())))
    assert "had no way from input to output" not in (root / "logs/search.log").read_text()
    # Whatever the weights are, `none` is derived on all edges.
    monkeypatch.setattr(derive, "argmax_edges", lambda weights: (0,) * 6)
    assert tiny_chain.run(root, "search", **change) == 0
    opened = [int(choice) for choice in table(root)["architecture"].iloc[-1].split("-")]
    assert is_connected(opened)
    assert "the derived cell had no way from input to output" in (root / "logs/search.log").read_text()


def test_hlrs_and_fair_darts_search_the_benchmark_s_cell(cells: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    change = {**CHAIN, "space": BENCHMARK, "supernet__sampling": "uniform", "adapt__sampling": "uniform"}
    fair = {"relaxation": "sigmoid", "zero_one": 10.0, "threshold": 0.5, "architecture": {"lr": 0.1}}
    change["search__darts"] = {**SEARCH, **fair, "branches": "bilateral"}
    assert tiny_chain.run(root, "supernet", "adapt", "search", **change) == 0
    found = table(root)
    assert found["mixing"].tolist() == [1.0, 0.75]
    assert found["score"].between(0.0, 1.0).all()
    alpha = found["alpha_cell"].iloc[-1].reshape(6, 4)
    # A parameter above 0 is a sigmoid above the threshold.
    best = [int(row.argmax()) + 1 if row.max() >= 0.0 else 0 for row in alpha]
    assert is_connected(best), "else the way that was opened would be compared"
    assert found["architecture"].iloc[-1] == "-".join(map(str, live_cell(best)))


def test_both_levels_see_all_classes_no_validation_row_and_all_weights_learn(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ZO-DARTS' published code draws its halves from training and validation rows, blind to classes.

    That of ZO-DARTS++ also adds weights that its optimiser never gets.
    """
    root, found = tiny_chain.copy(cells, tmp_path), []
    fit = SearchTrainer.fit
    monkeypatch.setattr(SearchTrainer, "fit", lambda self: (found.append(self), fit(self))[1])
    assert searched(root, "search", epochs=1) == 0
    (trainer,) = found
    search, descent = trainer.search, trainer.descent
    images = read_split(root / "data/target/validation").images
    assert images is not None
    held = {image.tobytes() for image in images}
    seen: list[np.ndarray] = []
    counts = []
    for feeds in search.feeds:
        (feed,) = feeds
        rows = np.unique(np.concatenate(feed.batches(0, 0, feed.length)))
        pictures, labels = next(search.store.batches([rows]))
        assert not held & {np.ascontiguousarray(one.permute(1, 2, 0).numpy()).tobytes() for one in pictures}
        seen.append(rows)
        counts.append(np.bincount(labels.numpy(), minlength=10))
    assert not np.intersect1d(seen[0], seen[1]).size
    assert all(count.min() > 0 for count in counts)
    assert np.abs(counts[0] - counts[1]).max() <= 1
    learned = [id(one) for group in descent.optimizer.param_groups for one in group["params"]]
    assert sorted(learned) == sorted(id(one) for one in descent.learner.parameters())


def test_zo_darts_plus_ends_with_one_operation_an_edge(cells: Path, tmp_path: Path) -> None:
    """Its groups of steps pass over the ends of epochs, and the last temperature is below every lead."""
    root = tiny_chain.copy(cells, tmp_path)
    change = {**CHAIN, "space": BENCHMARK, "supernet__sampling": "uniform", "adapt__sampling": "uniform"}
    options = {
        "epochs": 6,
        "order": "zeroth",
        "zeroth": {"period": 2},
        "relaxation": "sparsemax",
        "temperature": {"first": 0.02, "factor": 0.1, "every": 1},
        "architecture": {"lr": 0.015, "sampler": "class-balanced", "loss": "balanced-softmax"},
    }
    change["search__darts"] = {**SEARCH, **options}
    assert tiny_chain.run(root, "supernet", "adapt", "search", **change) == 0
    found = table(root)
    assert found["temperature"].tolist() == pytest.approx([0.02, 0.002, 0.0002, 2e-5, 2e-6, 1e-6])
    assert found["zeros"].iloc[0] < 0.8
    assert (found["zeros"].iloc[-1], found["single"].iloc[-1], found["entropy"].iloc[-1]) == (0.8, 1.0, 0.0)
    # The mixture is its architecture already: decoding it changes no answer.
    gap = json.loads((root / "results/search.json").read_text())["discretisation"]
    assert (gap["gap"], gap["standard_error"], gap["decoded"]) == (0.0, 0.0, gap["continuous"])
    assert found["search_loss"].notna().all()
    moved = np.stack(found["alpha_cell"].to_list())
    # Adam moves each entry by about its rate at each estimate, of which an epoch of three steps has two or one; once
    # every edge has one operation nothing depends on the parameters any more.
    steps = np.abs(np.diff(moved, axis=0)).max(axis=1)
    assert (steps[:3] > 0.01).all()
    assert steps.max() < 0.04
    best = moved[-1].reshape(6, 5).argmax(axis=1).tolist()
    assert is_connected(best), "else the way that was opened would be compared"
    assert found["architecture"].iloc[-1] == "-".join(map(str, live_cell(best)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            # The parameters are others than those of the adaptation.
            {"search__darts": {"loss": "ldam"}, "adapt__classifier": {"name": "cosine"}},
            "search.darts.loss: found ldam with a linear classifier",
        ),
        ({"search__darts": {"optimizer": {"lr": 1e30, "nesterov": False}}}, "expected finite ones"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    root = tiny_chain.copy(cells, tmp_path)
    change["search__darts"] = {**SEARCH, **change["search__darts"]}
    assert tiny_chain.run(root, "search", **{**CHAIN, **change}) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("ruined", ["parameters", "learner"])
def test_a_search_ruined_by_its_last_step_is_not_published(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ruined: str
) -> None:
    root, check = tiny_chain.copy(cells, tmp_path), SearchTrainer.check_finished

    def after_ruin(self: SearchTrainer) -> None:
        with torch.no_grad():
            for parameter in getattr(self.descent, ruined).parameters():
                parameter.fill_(float("nan") if ruined == "parameters" else 1e35)
        check(self)

    monkeypatch.setattr(SearchTrainer, "check_finished", after_ruin)
    before = bytes_of(root) if (root / "results/architecture.json").exists() else None
    assert searched(root, "search") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "search: after the last step" in line
    assert "lower search.darts.optimizer.lr" in line
    assert (root / "results/architecture.json").exists() == (before is not None)
