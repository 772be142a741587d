from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_project as fake
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import t as student
from sklearn.metrics import balanced_accuracy_score, f1_score

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.longtail.etf import EtfHead
from imbnas.longtail.heads import CosineHead, NearestClassMean
from imbnas.params.evaluate import EvaluateParams, EvaluateView
from imbnas.params.space_options import SpaceParams
from imbnas.predict import predict
from imbnas.progress import Log
from imbnas.report.scores import Answers, Protocol, score
from imbnas.run.context import Context
from imbnas.run.graph import PATHS, STEPS
from imbnas.saved import load_references, load_subnet
from imbnas.seeds import derive
from imbnas.steps import evaluate
from imbnas.steps.answers import PREDICTION_TYPES, class_norms


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


def own_logits(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and logits of the final network, one image at a time and normalised by hand."""
    network = load_subnet(root / PATHS["final"])
    images, labels = fake.graded_images(60, network.shape)
    mean, std = np.array(network.meta["mean"]), np.array(network.meta["std"])
    inputs = torch.from_numpy(((images / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        return labels, np.array([network.model(image[None])[0].double().numpy() for image in inputs])


def own_answers(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of the final network."""
    labels, logits = own_logits(root)
    return labels, logits.argmax(axis=1)


def predictions(root: Path, network: str = "final") -> pd.DataFrame:
    table = pd.read_parquet(root / PATHS["predictions"])
    return table[table["network"] == network]


class TestMetrics:
    def test_headline_is_flat_and_complete(self, finished: Path) -> None:
        metrics = fake.read(finished, "metrics")
        assert list(metrics) == [*evaluate.HEADLINE, "test_overlap", "random_mean", "over_random", "largest"]
        assert all(isinstance(value, int | float) for value in metrics.values())

    def test_references_are_measured_as_scikit_learn_does(self, finished: Path) -> None:
        metrics, found = fake.read(finished, "metrics"), fake.read(finished, "details")["references"]
        scores = {}
        for name in fake.ARCHITECTURES:
            table = predictions(finished, name)
            scores[name] = balanced_accuracy_score(table["label"], table["predicted"])
        random = [score for name, score in scores.items() if name.startswith("random-")]
        assert len(random) == 3
        assert metrics["random_mean"] == pytest.approx(np.mean(random), abs=1e-6)
        assert metrics["over_random"] == pytest.approx(scores["final"] - np.mean(random), abs=2e-6)
        assert metrics["largest"] == pytest.approx(scores["largest"], abs=1e-6)
        difference = found["random"]["difference"]["balanced_accuracy"]
        half = student.ppf(0.975, 2) * np.std(random, ddof=1) * np.sqrt(1 + 1 / 3)
        assert difference["low"] <= difference["value"] - half + 1e-5
        assert difference["high"] >= difference["value"] + half - 1e-5
        assert difference["covers"] == "networks and rows"
        assert found["random"]["beaten"] == sum(scores["final"] > score for score in random)
        assert found["random"]["networks"] == 3
        assert found["largest"]["difference"]["balanced_accuracy"]["covers"] == "rows"

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
        assert list(details["networks"]) == list(fake.ARCHITECTURES)
        assert {key: details["networks"]["final"][key] for key in evaluate.HEADLINE}.items() <= metrics.items()
        assert metrics["test_overlap"] == details["overlap"]["source"] == 0
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

    def test_norms_are_those_of_the_heads(self, finished: Path) -> None:
        table = pd.read_parquet(finished / PATHS["classes"])
        networks = {"final": load_subnet(finished / PATHS["final"]), **load_references(finished / PATHS["references"])}
        for name, network in networks.items():
            weights = network.model.head.weight.detach().double().numpy()
            assert weights.shape == (4, 8)
            found = table.loc[table["network"] == name, "norm"]
            np.testing.assert_allclose(found, np.sqrt((weights**2).sum(axis=1)))

    @pytest.mark.parametrize(
        ("head", "kind", "norms"),
        [
            (torch.nn.Linear(2, 2), "linear", [5.0, 2.0]),
            (torch.nn.Linear(2, 2, bias=False), "linear", [5.0, 2.0]),
            (CosineHead(2, 2, scale=16.0), "cosine", [5.0, 2.0]),
        ],
    )
    def test_norms_of_linear_and_cosine_heads(self, head: torch.nn.Module, kind: str, norms: list[float]) -> None:
        head.load_state_dict({"weight": torch.tensor([[3.0, -4.0], [0.0, 2.0]])}, strict=False)
        found = class_norms(head)
        assert (found[0], found[1].tolist()) == (kind, norms)

    def test_fixed_vectors_are_of_length_1(self) -> None:
        kind, norms = class_norms(EtfHead(3, 6))
        assert kind == "etf"
        np.testing.assert_allclose(norms, 1.0, atol=1e-6)

    def test_norms_of_class_means(self) -> None:
        """Centred, unit features: class 0 has (0, 1) and (0, -1), whose mean is 0; class 1 has twice the same one."""
        features = torch.tensor([[0.0, 3.0], [0.0, -3.0], [4.0, 0.0], [-4.0, 0.0]])
        kind, norms = class_norms(NearestClassMean.fit(features, torch.tensor([0, 0, 1, 2]), 3))
        assert kind == "ncm"
        np.testing.assert_allclose(norms, [0.0, 1.0, 1.0], atol=1e-7)


class TestPredictions:
    def test_rows_and_types(self, finished: Path) -> None:
        schema = pq.read_schema(finished / PATHS["predictions"])
        assert dict(zip(schema.names, schema.types, strict=True)) == PREDICTION_TYPES
        labels, logits = own_logits(finished)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = predictions(finished)
        assert table["row"].tolist() == list(range(60))
        assert table["label"].tolist() == labels.tolist()
        assert table["predicted"].tolist() == shares.argmax(axis=1).tolist()
        np.testing.assert_allclose(table["confidence"], shares.max(axis=1), rtol=1e-4)

    @pytest.mark.parametrize("batch_size", [60, 59])
    def test_no_answer_depends_on_the_other_rows_of_its_batch(self, project: Path, batch_size: int) -> None:
        """ZO-DARTS' published code never leaves training mode: batches, and the size of the last, change its scores."""
        run(project, view(batch_size=batch_size))
        _, logits = own_logits(project)
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        table = predictions(project)
        assert table["predicted"].tolist() == shares.argmax(axis=1).tolist()
        np.testing.assert_allclose(table["confidence"], shares.max(axis=1), rtol=1e-4)

    def test_every_figure_follows_from_them(self, finished: Path) -> None:
        details = fake.read(finished, "details")
        for name in fake.ARCHITECTURES:
            table = predictions(finished, name)
            answers = [table[column].to_numpy() for column in ("label", "predicted", "confidence")]
            protocol = Protocol(np.array(fake.COUNTS), "kang", 15, 0.95, 50, derive(3, "evaluate", "bootstrap"))
            found = evaluate.rounded(score(Answers(*answers), fake.CLASSES, protocol))
            assert {key: details["networks"][name][key] for key in found} == found
            assert {"ece", "ece_many", "ece_few", "macro_f1"} <= set(found["intervals"])

    def test_reliability_is_that_of_the_final_network(self, finished: Path) -> None:
        bins = pd.read_csv(finished / PATHS["plots"] / "reliability.csv")
        assert set(bins["group"]) == {"all", "many", "medium", "few"}
        assert (bins["rows"] > 0).all()
        scores = fake.read(finished, "details")["networks"]["final"]
        for group, rows, error in (("all", 60, scores["ece"]), ("few", 30, scores["ece_by_group"]["few"])):
            part = bins[bins["group"] == group]
            assert part["rows"].sum() == rows
            gaps = (part["accuracy"] - part["confidence"]).abs() * part["rows"]
            assert gaps.sum() / rows == pytest.approx(error, abs=2e-6)
            assert part["confidence"].between(part["lower"], part["upper"] + 1e-6).all()

    def test_groups_of_test_rows_are_resampled_as_a_whole(self, finished: Path, project: Path) -> None:
        index = project / PATHS["target_test"] / "index.parquet"
        table = pq.read_table(index)
        patients = [f"patient {row // 6}" for row in range(60)]
        pq.write_table(table.append_column("group", pa.array(patients)), index)
        run(project)
        found = predictions(project)
        assert found["group"].tolist() == [row // 6 for row in range(60)]
        columns = [found[column].to_numpy() for column in ("label", "predicted", "confidence", "group")]
        protocol = Protocol(np.array(fake.COUNTS), "kang", 15, 0.95, 50, derive(3, "evaluate", "bootstrap"))
        scores = evaluate.rounded(score(Answers(*columns), fake.CLASSES, protocol))
        details = fake.read(project, "details")
        assert details["networks"]["final"]["intervals"] == scores["intervals"]
        assert details["confidence"]["rule"].startswith("percentiles of a Bayesian bootstrap of the groups")
        before = fake.read(finished, "details")["networks"]["final"]
        assert before["accuracy"] == details["networks"]["final"]["accuracy"]
        assert before["intervals"] != scores["intervals"]


class TestLogitAdjustment:
    @pytest.mark.parametrize("tau", [1.0, 2.5])
    def test_predictions_are_those_of_the_adjusted_logits(self, finished: Path, project: Path, tau: float) -> None:
        trained = [900, 90, 9, 3]
        for name in ("final", "references"):
            rewrite_meta(project, name, trained_counts=trained)
        run(project, view(logit_adjustment=tau))
        _, logits = own_logits(project)
        adjusted = logits - tau * np.log(np.array(trained) / 1002)
        expected = adjusted.argmax(axis=1)
        table = predictions(project)
        assert table["predicted"].tolist() == expected.tolist()
        assert (expected != logits.argmax(axis=1)).any()
        shares = np.exp(adjusted) / np.exp(adjusted).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(table["confidence"], shares.max(axis=1), rtol=1e-4)
        assert (predictions(project, "random-1")["predicted"].to_numpy() >= 2).mean() > 0.5
        details = fake.read(project, "details")
        assert details["logit_adjustment"] == {"tau": tau, "counts": trained}
        assert fake.read(finished, "details")["logit_adjustment"] == {"tau": 0.0, "counts": None}

    def test_unknown_training_counts(self, project: Path) -> None:
        rewrite_meta(project, "references", trained_counts=None)
        with pytest.raises(
            UserError, match=r"references\.safetensors: has no trained_counts, which evaluate\.logit_adj"
        ):
            run(project, view(logit_adjustment=1.0))
        run(project)

    def test_class_that_was_not_trained_on(self, project: Path) -> None:
        rewrite_meta(project, "final", trained_counts=[5, 5, 0, 5])
        with pytest.raises(
            UserError, match=r"evaluate\.logit_adjustment: class 2 of .*final\.safetensors has no training"
        ):
            run(project, view(logit_adjustment=1.0))


class TestShotRules:
    @pytest.mark.parametrize(
        ("many", "few", "groups"),
        [
            (149, 10, ["many", "medium", "medium", "medium"]),
            (150, 11, ["medium", "medium", "medium", "few"]),
            (19, 19, ["many", "many", "medium", "few"]),
            (18, 18, ["many", "many", "many", "few"]),
        ],
    )
    def test_custom_thresholds_at_the_boundaries(self, project: Path, many: int, few: int, groups: list[str]) -> None:
        run(project, view(shots="custom", thresholds={"many": many, "few": few}))
        table = pd.read_parquet(project / PATHS["classes"])
        assert table.loc[table["network"] == "final", "group"].tolist() == groups
        shots = fake.read(project, "details")["shots"]
        assert shots["rule"] == "custom"
        assert shots["thresholds"] == {"many": many, "few": few}
        assert f"more than {many} training rows" in shots["text"]
        assert shots["classes"] == {name: groups.count(name) for name in ("many", "medium", "few")}

    def test_thresholds_matter_for_no_other_rule(self, finished: Path, project: Path) -> None:
        run(project, view(thresholds={"many": 15, "few": 15}))
        assert outputs(project) == outputs(finished)
        assert fake.read(finished, "details")["shots"]["thresholds"] == {"many": 100, "few": 20}


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
            "results/dataset-card.md",
            "results/details.json",
            "results/figures/architecture.png",
            "results/figures/architecture.svg",
            "results/figures/classes.png",
            "results/figures/confusion.png",
            "results/figures/front.png",
            "results/figures/references.png",
            "results/figures/reliability.png",
            "results/figures/search.png",
            "results/figures/weights.png",
            "results/metrics.json",
            "results/model-card.md",
            "results/plots/classes.csv",
            "results/plots/confusion.csv",
            "results/plots/reliability.csv",
            "results/plots/search.csv",
            "results/predictions.parquet",
            "results/table.html",
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
        found, _ = predict(tmp_path / PATHS["final"], images, 1)
        assert [one.classes[0][0] for one in found] == table["predicted"].tolist()
        assert table["predicted"].nunique() > 1


def rewrite_meta(root: Path, name: str, **changes: Any) -> None:
    """Write a network again with other metadata."""
    from imbnas.training.checkpoint import load_weights, save_weights

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
