from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_project as fake
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.networks import load_subnet
from imbnas.params.evaluate import EvaluateParams, EvaluateView
from imbnas.params.shared import SpaceParams
from imbnas.predict import predict
from imbnas.progress import Log
from imbnas.steps import evaluate
from imbnas.steps.context import Context
from imbnas.steps.graph import PATHS, STEPS


def view(**changes: Any) -> EvaluateView:
    params = EvaluateParams(**{"resamples": 50, "batch_size": 16, **changes})
    return EvaluateView(seed=3, space=fake.SPACE, runtime=fake.NUMERICS, evaluate=params)


def run(root: Path, seen: EvaluateView | None = None) -> None:
    context = Context("evaluate", root, Log("evaluate"))
    context.check_inputs()
    evaluate.run(seen or view(), context)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("finished")
    fake.write_project(root)
    run(root)
    return root


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """Return a project that has not been evaluated yet."""
    for name in ("data", "models", "results"):
        shutil.copytree(finished / name, tmp_path / name)
    for name in STEPS["evaluate"].outputs:
        path = tmp_path / PATHS[name]
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return tmp_path


def own_answers(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of the final network, one image at a time and normalised by hand."""
    network = load_subnet(root / PATHS["final"])
    images, labels = fake.graded_images(60, network.shape)
    mean, std = np.array(network.meta["mean"]), np.array(network.meta["std"])
    inputs = torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        return labels, np.array([int(network.model(image[None]).argmax()) for image in inputs])


class TestMetrics:
    def test_headline_is_flat_and_complete(self, finished: Path) -> None:
        metrics = fake.read(finished, "metrics")
        assert list(metrics) == list(evaluate.HEADLINE)
        assert all(isinstance(value, int | float) for value in metrics.values())

    def test_figures_agree_with_scikit_learn(self, finished: Path) -> None:
        labels, predicted = own_answers(finished)
        metrics = fake.read(finished, "metrics")
        assert len(set(predicted)) > 1
        assert metrics["accuracy"] == pytest.approx((labels == predicted).mean(), abs=1e-6)
        assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-6)
        assert metrics["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-6)

    def test_groups_follow_training_counts(self, finished: Path) -> None:
        labels, predicted = own_answers(finished)
        recall = [(predicted[labels == label] == label).mean() for label in range(4)]
        metrics = fake.read(finished, "metrics")
        assert metrics["many"] == pytest.approx(recall[0], abs=1e-6)
        assert metrics["medium"] == pytest.approx(recall[1], abs=1e-6)
        assert metrics["few"] == pytest.approx((recall[2] + recall[3]) / 2, abs=1e-6)

    def test_empty_group_is_null(self, project: Path) -> None:
        counts = [150, 60, 25, 21]
        patched = {**fake.read(project, "imbalance"), "counts": counts}
        write_json(project / PATHS["imbalance"], patched)
        labels = np.repeat(np.arange(4), counts)
        tail = fake.LongTail(np.arange(len(labels)), labels, np.zeros(len(labels), bool))
        fake.write_longtail(project / PATHS["longtail"], tail)
        rewrite_meta(project, "final", counts=counts)
        rewrite_meta(project, "references", counts=counts)
        run(project)
        assert fake.read(project, "metrics")["few"] is None
        assert fake.read(project, "details")["networks"]["final"]["ece_by_group"]["few"] is None

    def test_cost_is_the_networks_own(self, finished: Path) -> None:
        metrics, chosen = fake.read(finished, "metrics"), fake.read(finished, "architecture")["chosen"]
        assert (metrics["macs"], metrics["params"]) == (chosen["macs"], chosen["params"])
        network = load_subnet(finished / PATHS["final"])
        assert metrics["params"] == sum(p.numel() for p in network.model.parameters())


class TestDetails:
    def test_names_recipe_rows_and_rules(self, finished: Path) -> None:
        details, imbalance = fake.read(finished, "details"), fake.read(finished, "imbalance")
        info = json.loads((finished / PATHS["target_test"] / "info.json").read_text())
        assert details["recipe"] == {"epochs": 0, "loss": "ce"}
        assert details["epoch_rule"] == "last"
        assert details["seed"] == 3
        assert details["imbalance"] == imbalance
        assert details["digests"] == {
            "target_train": "0" * 64,
            "target_test": info["digest"],
            "longtail": imbalance["digest"],
        }
        assert details["shots"]["classes"] == {"many": 1, "medium": 1, "few": 2}
        assert "more than 100" in details["shots"]["text"]
        assert details["search"]["evaluated"] == 3
        assert details["search"]["score"] == 0.5

    def test_every_network_is_measured(self, finished: Path) -> None:
        details, metrics = fake.read(finished, "details"), fake.read(finished, "metrics")
        assert list(details["networks"]) == ["final", "random", "largest"]
        assert {key: details["networks"]["final"][key] for key in metrics} == metrics
        for name, row in details["networks"].items():
            assert tuple(row["architecture"]) == fake.ARCHITECTURES[name]
            low, high = row["intervals"]["balanced_accuracy"]
            assert low <= row["balanced_accuracy"] <= high
            assert row["worst_class_name"] in fake.CLASSES

    def test_without_references_and_scores(self, tmp_path: Path) -> None:
        fake.write_project(tmp_path, references=False, scored=False)
        run(tmp_path)
        details = fake.read(tmp_path, "details")
        assert list(details["networks"]) == ["final"]
        search = details["search"]
        assert (search["evaluated"], search["score"], search["method"]) == (0, None, "fixed")
        assert (tmp_path / PATHS["plots"] / "search.csv").read_text().count("\n") == 1


class TestClasses:
    def test_rows_and_types(self, finished: Path) -> None:
        table = pd.read_parquet(finished / PATHS["classes"])
        assert table.columns.tolist() == list(evaluate.CLASS_TYPES)
        assert table["network"].tolist() == [name for name in fake.ARCHITECTURES for _ in fake.CLASSES]
        final = table[table["network"] == "final"]
        assert final["class"].tolist() == fake.CLASSES
        assert final["count"].tolist() == fake.COUNTS
        assert final["group"].tolist() == ["many", "medium", "few", "few"]
        assert final["support"].tolist() == [15] * 4
        assert final["predicted"].sum() == 60
        metrics = fake.read(finished, "metrics")
        assert final["recall"].mean() == pytest.approx(metrics["balanced_accuracy"], abs=1e-6)


def outputs(root: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for name in STEPS["evaluate"].outputs:
        path = root / PATHS[name]
        files = [path] if path.is_file() else sorted(path.iterdir())
        found |= {str(file.relative_to(root)): file.read_bytes() for file in files}
    return found


class TestOutputs:
    def test_exactly_these_files(self, finished: Path) -> None:
        assert sorted(outputs(finished)) == [
            "results/classes.parquet",
            "results/details.json",
            "results/figures/architecture.png",
            "results/figures/architecture.svg",
            "results/figures/classes.png",
            "results/figures/confusion.png",
            "results/figures/search.png",
            "results/metrics.json",
            "results/plots/classes.csv",
            "results/plots/confusion.csv",
            "results/plots/search.csv",
        ]

    def test_same_bytes_elsewhere(self, finished: Path, project: Path) -> None:
        run(project)
        assert outputs(project) == outputs(finished)

    def test_nothing_of_this_machine(self, finished: Path) -> None:
        for name, content in outputs(finished).items():
            assert str(finished).encode() not in content, name
            assert b"\r" not in content or not name.endswith((".csv", ".json"))

    def test_confusion_has_a_row_per_test_image(self, finished: Path) -> None:
        table = pd.read_csv(finished / PATHS["plots"] / "confusion.csv")
        labels, predicted = own_answers(finished)
        assert table["actual"].tolist() == [fake.CLASSES[label] for label in labels]
        assert table["predicted"].tolist() == [fake.CLASSES[label] for label in predicted]


class TestFiles:
    def test_image_files_are_measured_as_predict_sees_them(self, tmp_path: Path) -> None:
        fake.write_project(tmp_path, files=True)
        run(tmp_path)
        table = pd.read_csv(tmp_path / PATHS["plots"] / "confusion.csv")
        index = pd.read_parquet(tmp_path / PATHS["target_test"] / "index.parquet")
        images = [tmp_path / "photos" / path for path in index["path"]]
        found = predict(tmp_path / PATHS["final"], images, 1)
        assert [one.classes[0][0] for one in found] == table["predicted"].tolist()
        assert table["predicted"].nunique() > 1


def rewrite_meta(root: Path, name: str, **changes: Any) -> None:
    """Write a network again with other metadata."""
    from imbnas.training.weights import load_weights, save_weights

    state, meta = load_weights(root / PATHS[name])
    save_weights(root / PATHS[name], state, {**meta, **changes})


class TestErrors:
    def expect(self, root: Path, text: str, seen: EvaluateView | None = None) -> None:
        with pytest.raises(UserError, match=text) as caught:
            run(root, seen)
        assert "\n" not in str(caught.value)
        assert not (root / PATHS["metrics"]).exists()

    def test_other_space(self, project: Path) -> None:
        other = EvaluateView(seed=3, space=SpaceParams(), runtime=fake.NUMERICS, evaluate=EvaluateParams())
        self.expect(project, r"final\.safetensors: its space", other)

    def test_other_long_tail(self, project: Path) -> None:
        rewrite_meta(project, "references", counts=[1, 2, 3, 4])
        self.expect(project, r"references\.safetensors: its counts")

    def test_other_classes(self, project: Path) -> None:
        rewrite_meta(project, "final", classes=["a", "b", "c", "d"])
        self.expect(project, r"final\.safetensors: its classes")

    def test_other_architecture(self, project: Path) -> None:
        found = fake.read(project, "architecture")
        found["chosen"]["architecture"] = [1, 1]
        write_json(project / PATHS["architecture"], found)
        self.expect(project, r"final\.safetensors: another architecture")

    def test_foreign_architecture_file(self, project: Path) -> None:
        write_json(project / PATHS["architecture"], {"chosen": 1})
        self.expect(project, r"architecture\.json: not an architecture file")

    def test_imbalance_of_another_tail(self, project: Path) -> None:
        write_json(project / PATHS["imbalance"], {**fake.read(project, "imbalance"), "counts": [1, 1, 1, 1]})
        self.expect(project, r"imbalance\.json: its counts")

    def test_truncated_candidates(self, project: Path) -> None:
        path = project / PATHS["search"]
        path.write_bytes(path.read_bytes()[:100])
        self.expect(project, r"search\.parquet: not a table of candidates")

    def test_supernet_in_place_of_a_subnet(self, project: Path) -> None:
        rewrite_meta(project, "final", kind="supernet")
        self.expect(project, r"final\.safetensors: holds a supernet")

    def test_empty_test_split(self, project: Path) -> None:
        shutil.rmtree(project / PATHS["target_test"])
        fake.write_split(
            project / PATHS["target_test"],
            fake.Raw(np.zeros(0, np.int64), fake.CLASSES, np.zeros((0, 8, 8, 1), np.uint8), None, project),
            np.zeros(0, np.int64),
            fake.Shape(8, 8, 1),
            dataset="digits",
            split="test",
            root="",
            photographs=False,
            train=replace(fake.write_test_split(project / "other"), split="train"),
        )
        self.expect(project, r"target/test: holds no rows")

    def test_missing_input_names_its_step(self, project: Path) -> None:
        (project / PATHS["search"]).unlink()
        self.expect(project, r"search\.parquet: not found, expected the output of `imbnas search`")


def test_rounding_reaches_every_float() -> None:
    value = {"a": [0.12345678, 1, None], "b": {"c": (2 / 3,)}, "d": "x"}
    assert evaluate.rounded(value) == {"a": [0.123457, 1, None], "b": {"c": [0.666667]}, "d": "x"}
