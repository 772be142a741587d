from __future__ import annotations

import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import fake_project as fake
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import imbnas.predict as predict_module
from imbnas.cli import app, main
from imbnas.data.raw import Reading
from imbnas.data.stored import read_info
from imbnas.data.verify import SizeLimit
from imbnas.deploy.answers_file import write_predictions
from imbnas.errors import UserError
from imbnas.predict import BATCH, Prediction, decoded_ahead, predict, print_predictions
from imbnas.run.graph import PATHS
from imbnas.saved import load_references, load_subnet
from imbnas.steps.fitted_temperature import TRAINED_ON
from imbnas.training.checkpoint import load_weights, save_weights


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    fake.write_networks(root, fake.write_test_split(root, files=True))
    return root


@pytest.fixture(scope="module")
def model(project: Path) -> Path:
    return project / PATHS["final"]


@pytest.fixture(scope="module")
def photos(project: Path) -> list[Path]:
    return sorted((project / "photos").rglob("*.png"))


class TestPredict:
    def test_probabilities_are_the_networks_own(self, model: Path, photos: list[Path]) -> None:
        network = load_subnet(model)
        pixels = np.array(Image.open(photos[0]), dtype=np.float64)
        inputs = (pixels / 255 - network.meta["mean"][0]) / network.meta["std"][0]
        with torch.no_grad():
            shares = network.model(torch.tensor(inputs)[None, None].float()).double().softmax(dim=1)[0]
        found = predict(model, photos[:1], 4)[0][0]
        assert [name for name, _ in found.classes] == [fake.CLASSES[k] for k in shares.argsort(descending=True)]
        assert [share for _, share in found.classes] == pytest.approx(sorted(shares.tolist(), reverse=True), abs=1e-5)
        assert sum(share for _, share in found.classes) == pytest.approx(1.0)

    def test_an_image_is_scaled_as_those_of_the_training_were(self, model: Path, tmp_path: Path) -> None:
        """A wide picture is what its square is: with bars where the network was trained with bars, else its centre."""
        state, meta = load_weights(model)
        side = meta["shape"][0]
        bars = np.zeros((side, side), dtype=np.uint8)
        inner = np.random.default_rng(0).integers(0, 256, (side // 2, side // 2), dtype=np.uint8)
        wide = np.pad(inner, ((0, 0), (side // 4, side // 4)), mode="edge")
        bars[side // 4 : side // 4 + side // 2] = wide
        Image.fromarray(wide).save(tmp_path / "wide.png")
        Image.fromarray(bars).save(tmp_path / "bars.png")
        Image.fromarray(inner).save(tmp_path / "centre.png")
        for resize, same, other in (("pad", "bars", "centre"), ("exact", "centre", "bars")):
            save_weights(tmp_path / "m.safetensors", state, {**meta, "load_side": side, "resize": resize})
            files = [tmp_path / f"{name}.png" for name in ("wide", same, other)]
            one, two, three = (found.classes for found in predict(tmp_path / "m.safetensors", files, 4)[0])
            assert one == two != three

    @pytest.mark.parametrize(("top", "named"), [(1, 1), (3, 3), (4, 4), (99, 4)])
    def test_top(self, model: Path, photos: list[Path], top: int, named: int) -> None:
        found, _ = predict(model, photos[:2], top)
        assert [len(one.classes) for one in found] == [named, named]

    @pytest.mark.parametrize(("head", "branches"), fake.KINDS, ids=str)
    def test_other_networks(
        self, project: Path, photos: list[Path], tmp_path: Path, head: dict[str, Any], branches: int
    ) -> None:
        info = read_info(project / PATHS["target_test"])
        made = fake.write_other_network(tmp_path / "other.safetensors", info, head, branches)
        network = load_subnet(tmp_path / "other.safetensors")
        pixels = torch.from_numpy(np.array(Image.open(photos[7])))[None, None]
        with torch.no_grad():
            shares = made(network.preprocess()(pixels)).double().softmax(dim=1)[0]
        found = dict(predict(tmp_path / "other.safetensors", photos[7:8], 4)[0][0].classes)
        assert [found[name] for name in fake.CLASSES] == pytest.approx(shares.tolist(), abs=1e-6)

    def test_order_and_batches_do_not_matter(self, model: Path, photos: list[Path]) -> None:
        many = (photos * 2)[: BATCH + 3]
        together, _ = predict(model, many, 1)
        assert [one.image for one in together] == many
        alone = [predict(model, [image], 1)[0][0] for image in many[-4:]]
        for first, second in zip(together[-4:], alone, strict=True):
            assert first.classes[0][0] == second.classes[0][0]
            assert first.classes[0][1] == pytest.approx(second.classes[0][1], abs=1e-5)

    def test_other_sizes_and_modes(self, model: Path, tmp_path: Path) -> None:
        picture = Image.fromarray(np.full((40, 90, 4), 90, np.uint8), "RGBA")
        picture.save(tmp_path / "wide.png")
        picture.convert("L").resize((8, 8)).save(tmp_path / "small.png")
        (wide, small), _ = predict(model, [tmp_path / "wide.png", tmp_path / "small.png"], 1)
        assert wide.classes[0][0] == small.classes[0][0]
        assert wide.classes[0][1] == pytest.approx(small.classes[0][1], abs=1e-5)


class TestErrors:
    def expect(self, model: Path, images: list[Path], text: str) -> None:
        """Expect one fault: of an image, beside which others are answered, or of the network."""
        try:
            found, faults = predict(model, images, 1)
        except UserError as error:
            found, faults = [], [error]
        assert len(faults) == 1
        assert re.search(text, str(faults[0])), str(faults[0])
        assert "\n" not in str(faults[0])
        assert not {one.image for one in found} - set(images[:-1])

    def test_missing_image(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        self.expect(model, [photos[0], tmp_path / "none.png"], r"none\.png: not found, expected an image")

    def test_corrupt_image(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        (tmp_path / "half.png").write_bytes(photos[0].read_bytes()[:60])
        self.expect(model, [tmp_path / "half.png"], r"half\.png: cannot be read as an image")

    def test_no_image_at_all(self, model: Path, tmp_path: Path) -> None:
        (tmp_path / "text.png").write_text("hello")
        self.expect(model, [tmp_path / "text.png"], r"text\.png: cannot be read as an image \(not one by its content\)")

    def test_pixels_that_a_step_refuses(self, model: Path, tmp_path: Path) -> None:
        Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")
        self.expect(model, [tmp_path / "float.tif"], r"float\.tif: .*pixels are floating-point numbers, expected 8 or")

    def test_directory(self, model: Path, tmp_path: Path) -> None:
        self.expect(model, [tmp_path], r"cannot be read as an image")

    def test_names_that_are_no_line(self, model: Path, tmp_path: Path) -> None:
        self.expect(model, [tmp_path / "no\nne.png"], r"/no\\nne\.png: not found, expected an image")
        bad = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
        bad.write_text("hello")
        self.expect(model, [bad], r"/\\xff\.png: cannot be read as an image")
        (tmp_path / "m\t.safetensors").write_text("")
        self.expect(tmp_path / "m\t.safetensors", [], r"/m\\t\.safetensors: not a whole safetensors file")

    def test_missing_network(self, photos: list[Path], tmp_path: Path) -> None:
        self.expect(tmp_path / "m.safetensors", photos[:1], r"m\.safetensors: not found")

    def test_foreign_network(self, photos: list[Path], tmp_path: Path) -> None:
        from safetensors.torch import save_file

        save_file({"w": torch.zeros(2)}, str(tmp_path / "m.safetensors"))
        self.expect(tmp_path / "m.safetensors", photos[:1], r"without imbnas metadata")

    def test_truncated_network(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        (tmp_path / "m.safetensors").write_bytes(model.read_bytes()[:-50])
        self.expect(tmp_path / "m.safetensors", photos[:1], r"not a whole safetensors file")

    def test_supernet(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        state, meta = load_weights(model)
        save_weights(tmp_path / "s.safetensors", state, {**meta, "kind": "supernet"})
        self.expect(tmp_path / "s.safetensors", photos[:1], r"holds a supernet, expected a single network")

    def test_references(self, project: Path, photos: list[Path]) -> None:
        self.expect(project / PATHS["references"], photos[:1], r"holds the reference networks, expected a single")

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            ({"architecture": [0]}, "its metadata: architecture: has 1 choices, expected 2"),
            (
                {"architecture": [3, 3]},
                r"found F32 \[4, 4, 1, 1\] as tensor blocks.0.branch.0.weight, expected F32 \[4, 1, ",
            ),
            ({"architecture": "x"}, "its metadata: architecture: found text 'x', expected a list"),
            ({"classes": ["a", "b"]}, "its metadata: counts has 4 numbers, expected 2, one per class"),
            ({"classes": [1, 2, 3, 4]}, r"its metadata: classes\[0\]: found 1, expected text"),
            ({"space": {"name": "none"}}, "its metadata: space.name: found text 'none', expected shufflenet"),
            ({"shape": [8, 8]}, r"its metadata: shape: found \[8, 8\], expected at least 3 entries"),
            ({"shape": [8, 8, 2]}, r"its metadata: shape is \[8, 8, 2\], expected height, width and 1 or 3 channels"),
            ({"shape": [2**40, 8, 1]}, r"its metadata: shape\[0\]: found 1099511627776, expected a number of at most"),
            ({"mean": []}, "its metadata: mean has 0 numbers, expected 1, one a channel"),
            ({"mean": 0.5}, "its metadata: mean: found 0.5, expected a list"),
            ({"std": [0.0]}, r"its metadata: std\[0\]: found 0.0, expected a number above 0"),
            ({"load_side": 4}, "its metadata: load_side is 4, expected at least the height and width"),
            ({"load_side": 10**9}, "its metadata: load_side: found 1000000000, expected a number of at most"),
            ({"macs": -1}, "its metadata: macs: found -1, expected a number above 0"),
            ({"head": {"name": "cosine", "scale": 16.0}}, "found a tensor head.bias, expected none of that name"),
            ({"head": {"name": "ncm"}}, r"has no tensor head.mean, expected F32 \[8\]"),
            (
                {"head": {"name": "cosine"}},
                "its metadata: head.scale is None with name cosine, expected one for cosine",
            ),
            (
                {"head": {"name": "lws"}},
                "its metadata: head.name: found text 'lws', expected linear, cosine, etf or ncm",
            ),
            ({"head": "linear"}, "its metadata: head: found text 'linear', expected a mapping"),
            ({"branches": 2}, "has no tensor branches.0.blocks.0.projection.0.weight, expected F32"),
            ({"branches": 3}, "its metadata: branches: found 3, expected 1 or 2"),
            ({"branches": [1]}, r"its metadata: branches: found \[1\], expected 1 or 2"),
        ],
        ids=str,
    )
    def test_metadata_that_do_not_fit(
        self, model: Path, photos: list[Path], tmp_path: Path, changes: dict[str, Any], text: str
    ) -> None:
        state, meta = load_weights(model)
        save_weights(tmp_path / "m.safetensors", state, {**meta, **changes})
        self.expect(tmp_path / "m.safetensors", photos[:1], rf"m\.safetensors: {text}")

    @pytest.mark.parametrize(
        ("wide", "text"),
        [
            ({"last_channels": 65536}, r"tensor last.0.weight, expected F32 \[65536, 8"),
            ({"stages": "deep"}, r"tensor blocks.0.branch.0.weight, expected F32 \[32768, 4"),
        ],
    )
    def test_a_network_that_the_file_cannot_hold_is_never_built(
        self, model: Path, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wide: Any, text: str
    ) -> None:
        state, meta = load_weights(model)
        deep = {"channels": [65536] * 3, "repeats": [300] * 3, "strides": [1, 1, 1]}
        changed = {name: deep if value == "deep" else value for name, value in wide.items()}
        choices = meta["architecture"] if "stages" not in wide else [0] * 900
        meta = {**meta, "space": {**meta["space"], **changed}, "architecture": choices}
        save_weights(tmp_path / "m.safetensors", state, meta)
        monkeypatch.setattr("imbnas.saved.load_tensors", lambda header: pytest.fail("the weights were read"))
        self.expect(tmp_path / "m.safetensors", photos[:1], text)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_weights_that_are_not_finite(
        self, model: Path, photos: list[Path], tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        state, meta = load_weights(model)
        state["head.weight"][1, 2] = value
        with monkeypatch.context() as patch:
            # Nothing of ours writes such a file.
            patch.setattr("imbnas.training.checkpoint.not_finite", lambda state: None)
            save_weights(tmp_path / "m.safetensors", state, meta)
        self.expect(tmp_path / "m.safetensors", photos[:1], "tensor head.weight holds numbers that are not finite")

    def test_answers_that_are_not_finite(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        state, meta = load_weights(model)
        for name in ("head.weight", "last.1.weight"):
            state[name].fill_(3e38)
        save_weights(tmp_path / "m.safetensors", state, meta)
        self.expect(tmp_path / "m.safetensors", photos[:1], r"m\.safetensors: its answers are not finite numbers")

    def test_a_number_that_is_not_json(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        from safetensors.torch import save_file

        state, meta = load_weights(model)
        text = json.dumps({**meta, "mean": [math.nan]})
        save_file(state, str(tmp_path / "m.safetensors"), metadata={"imbnas": text})
        self.expect(tmp_path / "m.safetensors", photos[:1], "its imbnas metadata is not JSON")

    def test_metadata_without_classes(self, model: Path, photos: list[Path], tmp_path: Path) -> None:
        state, meta = load_weights(model)
        del meta["classes"]
        save_weights(tmp_path / "m.safetensors", state, meta)
        self.expect(
            tmp_path / "m.safetensors", photos[:1], r"m\.safetensors: its metadata: classes: missing, expected a value"
        )


class TestReferences:
    def test_each_is_its_own_network(self, project: Path) -> None:
        found = load_references(project / PATHS["references"])
        assert list(found) == fake.REFERENCES
        for name, network in found.items():
            assert tuple(network.meta["architecture"]) == fake.ARCHITECTURES[name]
            assert not network.model.training
            assert network.meta["params"] == sum(p.numel() for p in network.model.parameters())

    def test_none(self, tmp_path: Path) -> None:
        fake.write_networks(tmp_path, fake.write_test_split(tmp_path), references=False)
        assert load_references(tmp_path / PATHS["references"]) == {}


FOUND = [Prediction(Path("a b.png"), [("cat [1]", 0.7), ("ant", 0.3)])]


class TestPrinting:
    @pytest.mark.parametrize("sign", ["\x9b", "\x1b", "\u202e", "\u2066", "\u200b", "\ufeff"])
    def test_signs_that_a_terminal_obeys_are_not_printed(self, capsys: pytest.CaptureFixture[str], sign: str) -> None:
        found = [Prediction(Path(f"a{sign}.png"), [(f"c{sign}d", 1.0)])]
        for as_json in (False, True):
            print_predictions(found, as_json)
            text = capsys.readouterr().out
            assert sign not in text
            if as_json:
                assert json.loads(text)[0] == {
                    "image": f"a{sign}.png",
                    "classes": [{"class": f"c{sign}d", "probability": 1.0}],
                }

    def test_lines(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_predictions(FOUND, False)
        assert capsys.readouterr().out == "a b.png\tcat [1]\t0.700000\na b.png\tant\t0.300000\n"

    def test_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_predictions(FOUND, True)
        assert json.loads(capsys.readouterr().out) == [
            {
                "image": "a b.png",
                "classes": [{"class": "cat [1]", "probability": 0.7}, {"class": "ant", "probability": 0.3}],
            }
        ]

    def test_table_on_a_terminal(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        print_predictions(FOUND, False)
        text = capsys.readouterr().out
        assert "cat [1]" in text
        assert "70.0%" in text
        assert "\t" not in text

    def test_names_that_would_break_lines(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image = os.fsdecode(b"a\tb\n\xff.png")
        found = [Prediction(Path(image), [("c\td\n", 1.0)])]
        print_predictions(found, False)
        assert capsys.readouterr().out == "a\\tb\\n\\xff.png\tc\\td\\n\t1.000000\n"
        print_predictions(found, True)
        text = capsys.readouterr().out
        assert json.loads(text) == [{"image": image, "classes": [{"class": "c\td\n", "probability": 1.0}]}]
        text.encode()
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        print_predictions(found, False)
        rows = [line for line in capsys.readouterr().out.splitlines() if "100.0%" in line]
        assert len(rows) == 1
        assert "a\\tb\\n\\xff.png" in rows[0]
        assert "c\\td\\n" in rows[0]


@pytest.fixture(scope="module")
def calibrated(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same network with a temperature in its metadata."""
    state, meta = load_weights(model)
    path = tmp_path_factory.mktemp("calibrated") / "m.safetensors"
    save_weights(path, state, {**meta, "temperature": {"value": 4.0, "rows": 40, "nll": [2.0, 1.0]}})
    return path


class TestAbstention:
    def test_probabilities_are_those_of_the_temperature(self, calibrated: Path, photos: list[Path]) -> None:
        plain, _ = predict(calibrated, photos[:9], 4)
        middle = sorted(one.classes[0][1] for one in predict(calibrated, photos[:9], 4, abstain=0.0)[0])[4]
        found, _ = predict(calibrated, photos[:9], 4, abstain=middle)
        for before, after in zip(plain, found, strict=True):
            assert before.abstained is None
            names, shares = zip(*before.classes, strict=True)
            softened = np.array(shares) ** 0.25
            assert [name for name, _ in after.classes] == list(names)
            assert [share for _, share in after.classes] == pytest.approx(softened / softened.sum(), abs=1e-6)
            assert after.abstained is (after.classes[0][1] < middle)
        assert sum(bool(one.abstained) for one in found) == 4

    @pytest.mark.parametrize(
        ("temperature", "why"),
        [
            (None, "it was written before `retrain` fitted one, run retrain again"),
            ({"value": None, "reason": TRAINED_ON}, r"its training had the validation rows too \(retrain\.rows\)"),
        ],
    )
    def test_is_refused_where_none_is_carried(
        self, model: Path, photos: list[Path], tmp_path: Path, temperature: Any, why: str
    ) -> None:
        state, meta = load_weights(model)
        meta |= {} if temperature is None else {"temperature": temperature}
        save_weights(tmp_path / "m.safetensors", state, meta)
        with pytest.raises(UserError, match=rf"m\.safetensors: carries no temperature, which --abstain needs: {why}$"):
            predict(tmp_path / "m.safetensors", photos[:1], 1, abstain=0.5)
        assert len(predict(tmp_path / "m.safetensors", photos[:1], 1)[0]) == 1

    def test_each_form_of_output_says_so(
        self, calibrated: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        middle = sorted(one.classes[0][1] for one in predict(calibrated, photos[:9], 2, abstain=0.0)[0])[4]
        found, _ = predict(calibrated, photos[:9], 2, abstain=middle)
        places = [place for place, one in enumerate(found) if one.abstained]
        assert 0 < len(places) < 9
        print_predictions(found, False)
        lines = capsys.readouterr().out.splitlines()
        assert [place for place in range(9) if lines[2 * place].endswith("\tabstained")] == places
        for name in ("a.csv", "a.json", "a.parquet"):
            write_predictions(tmp_path / name, found)
        entries = json.loads((tmp_path / "a.json").read_text())
        assert [place for place, entry in enumerate(entries) if entry["abstained"]] == places
        for table in (pd.read_csv(tmp_path / "a.csv"), pd.read_parquet(tmp_path / "a.parquet")):
            assert list(table) == ["image", "rank", "class", "probability", "abstained"]
            assert table["abstained"].tolist() == [one.abstained for one in found for _ in range(2)]
            assert table["rank"].tolist() == [1, 2] * 9
            assert table["image"].tolist() == [str(one.image) for one in found for _ in range(2)]
            assert table["class"].tolist() == [name for one in found for name, _ in one.classes]
            assert table["probability"].tolist() == pytest.approx(
                [share for one in found for _, share in one.classes], abs=1e-6
            )


class TestManyFiles:
    def test_no_more_is_decoded_ahead_than_said(self, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """Thousands of images must not lie in memory because the network is slow."""
        begun: list[Path] = []
        reading, limit = Reading(8, 1), SizeLimit(10**6, "")
        real = predict_module.decode_file
        monkeypatch.setattr(predict_module, "decode_file", lambda file, *rest: begun.append(file) or real(file, *rest))
        many = photos * 20
        batches = decoded_ahead(many, reading, limit, 16)
        for done, (files, found) in enumerate(batches, 1):
            assert files == many[16 * (done - 1) : 16 * done]
            assert len(found) == len(files)
            assert len(begun) <= 16 * (done + predict_module.AHEAD)
        assert sorted(begun) == sorted(many)

    def test_a_fault_is_in_the_place_of_its_image(self, photos: list[Path], tmp_path: Path) -> None:
        bad = [tmp_path / "none.png", Path("x" * 300), Path("nul\0.png")]
        files = [photos[0], *bad, photos[1]]
        (_, found), *others = decoded_ahead(files, Reading(8, 1), SizeLimit(10**6, ""), 16)
        assert not others
        assert [isinstance(one, UserError) for one in found] == [False, True, True, True, False]


class TestCommand:
    def test_directories_lists_and_a_file_of_answers(
        self, model: Path, project: Path, photos: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "list.txt").write_text(f"{photos[3]}\n{tmp_path / 'none.png'}\n")
        target = tmp_path / "deep/answers.csv"
        words = [project / "photos", "--list", tmp_path / "list.txt", "--top", "1", "--output", target]
        code, out, err = self.run(capfd, model, *words)
        assert code == 2
        assert out == f"{target}: 61 images answered\n"
        assert err == f"error: {tmp_path / 'none.png'}: not found, expected an image file\n"
        assert pd.read_csv(target)["image"].tolist() == [*map(str, photos), str(photos[3])]

    def test_another_suffix_is_refused_before_any_image_is_read(
        self, model: Path, photos: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        code, out, err = self.run(capfd, model, photos[0], "--output", tmp_path / "a.txt")
        told = f"error: {tmp_path / 'a.txt'}: expected a name that ends in .csv, .json or .parquet\n"
        assert (code, out, err) == (2, "", told)

    def test_an_output_that_cannot_be_is_refused_before_any_image_is_read(
        self, photos: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "a.csv"
        folder.mkdir()
        # There is no such network, which would be told of first.
        code, _, err = self.run(capfd, tmp_path / "none", photos[0], "--output", folder)
        assert (code, err) == (2, f"error: {folder}: a directory, expected a file\n")
        code, _, err = self.run(capfd, tmp_path / "none", photos[0], "--output", tmp_path / "b.csv", "--json")
        assert code == 2
        assert err.startswith("error: --json and --output: found both, expected one of them")

    def test_lines_and_errors(self, model: Path, photos: list[Path]) -> None:
        done = CliRunner().invoke(app, ["predict", str(model), str(photos[0]), str(photos[1]), "--top", "2"])
        assert done.exit_code == 0
        assert len(done.stdout.splitlines()) == 4
        assert CliRunner().invoke(app, ["predict", str(model)]).exit_code == 2
        assert CliRunner().invoke(app, ["predict", str(model), str(photos[0]), "--top", "0"]).exit_code == 2

    def test_good_images_are_answered_beside_bad_ones(
        self, model: Path, photos: list[Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "text.png").write_text("hello")
        Image.new("1", (16_000, 12_000)).save(tmp_path / "large.png")
        os.mkfifo(tmp_path / "pipe.png")
        bad = [tmp_path / name for name in ("text.png", "none.png", "large.png", "pipe.png")]
        images = [bad[0], photos[0], *bad[1:], photos[1]]
        code, out, err = self.run(capfd, model, *images, "--top", "1")
        assert code == 2
        assert [line.split("\t")[0] for line in out.splitlines()] == list(map(str, photos[:2]))
        assert [line.split(": ")[1] for line in err.splitlines()] == list(map(str, bad))
        assert err.splitlines()[2] == (
            f"error: {bad[2]}: found 16000 x 12000 = 192,000,000 pixels, expected at most 178,956,970 (--max-pixels)"
        )
        code, out, err = self.run(capfd, model, *images, "--json")
        assert (code, len(err.splitlines()), len(json.loads(out))) == (2, 4, 2)
        code, out, err = self.run(capfd, model, bad[2], "--top", "1", "--max-pixels", "192000000")
        assert (code, len(out.splitlines()), err) == (0, 1, "")

    def run(self, capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["imbnas", "predict", *map(str, words)])
            try:
                main()
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        return code, *capfd.readouterr()

    def test_one_line_and_exit_code_for_a_bad_image(self, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
        told = "error: none.png: not found, expected an image file\n"
        assert self.run(capfd, model, "none.png") == (2, "", told)
