from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import fake_project as fake
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import imbnas.deploy.deployed as module
from imbnas.cli import app
from imbnas.errors import UserError
from imbnas.export import EXTRA, Deployed, export
from imbnas.predict import predict
from imbnas.run.graph import PATHS
from imbnas.saved import load_subnet


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    fake.write_project(root, files=True)
    return root


@pytest.fixture(scope="module")
def exported(project: Path) -> Path:
    return export(project / PATHS["final"]).path


def images(batch: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(batch).integers(0, 256, (batch, 3, 16, 16)).astype(np.uint8))


class TestProgram:
    def test_lies_beside_the_network(self, project: Path, exported: Path) -> None:
        assert exported == project / "models" / "final.pt2"

    def test_gives_the_networks_logits(self, project: Path, exported: Path) -> None:
        program = torch.export.load(exported).module()
        deployed = Deployed(load_subnet(project / PATHS["final"]))
        for batch in (1, 2, 5, 33):
            with torch.no_grad():
                assert torch.equal(program(images(batch)), deployed(images(batch)))

    def test_asks_for_no_gradients(self, exported: Path) -> None:
        weights = list(torch.export.load(exported).module().parameters())
        assert weights
        assert not any(weight.requires_grad for weight in weights)

    def test_normalises_and_cuts_the_centre_itself(self, project: Path, exported: Path) -> None:
        network = load_subnet(project / PATHS["final"])
        mean, std = (torch.tensor(network.meta[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        inputs = (images(4)[:, :, 1:15, 1:15].float() / 255 - mean) / std
        with torch.no_grad():
            expected = network.model(inputs)
            found = torch.export.load(exported).module()(images(4))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    def test_carries_its_metadata(self, exported: Path) -> None:
        extra = {EXTRA: ""}
        torch.export.load(exported, extra_files=extra)
        meta = json.loads(extra[EXTRA])
        assert meta["classes"] == fake.CLASSES
        assert meta["input"] == {"dtype": "uint8", "shape": ["batch", 3, 16, 16]}
        assert meta["output"]["shape"] == ["batch", 4]
        assert tuple(meta["architecture"]) == fake.ARCHITECTURES["final"]

    def test_runs_where_imbnas_is_absent(self, exported: Path) -> None:
        code = (
            "import sys; sys.modules['imbnas'] = None\n"
            "import torch\n"
            "program = torch.export.load(sys.argv[1]).module()\n"
            "print(tuple(program(torch.zeros(3, 3, 16, 16, dtype=torch.uint8)).shape))"
        )
        done = subprocess.run([sys.executable, "-c", code, str(exported)], capture_output=True, text=True, check=True)
        assert done.stdout == "(3, 4)\n"

    def test_same_bytes_again_and_no_paths(self, project: Path, exported: Path, tmp_path: Path) -> None:
        again = export(project / PATHS["final"], tmp_path / "again.pt2").path
        parts = [
            {name.split("/", 1)[1]: box.read(name) for name in box.namelist()} for box in map(opened, (exported, again))
        ]
        assert parts[0] == parts[1]
        places = (str(project).encode(), os.fsencode(Path(module.__file__).parents[1]), b"site-packages")
        assert not any(place in content for content in parts[0].values() for place in places)


@pytest.mark.parametrize(("head", "branches"), fake.KINDS, ids=str)
def test_other_networks_give_the_networks_logits(tmp_path: Path, head: dict[str, Any], branches: int) -> None:
    info = fake.write_test_split(tmp_path)
    made = fake.write_other_network(tmp_path / "other.safetensors", info, head, branches)
    program = torch.export.load(export(tmp_path / "other.safetensors").path).module()
    deployed = Deployed(load_subnet(tmp_path / "other.safetensors"))
    for batch in (1, 3, 33):
        grey = images(batch)[:, :1, :8, :8]
        with torch.no_grad():
            expected = made(deployed._preprocess(grey))
            assert torch.equal(deployed(grey), expected)
            assert torch.equal(program(grey), expected)
    assert expected.std(dim=0).min() > 0.01, "images that cannot be told apart would make this test empty"


class TestPredict:
    def test_an_exported_program_answers_as_the_network(self, project: Path, exported: Path) -> None:
        photos = sorted((project / "photos").rglob("*.png"))[:70]
        expected, found = (predict(path, photos, 4, device="cpu") for path in (project / PATHS["final"], exported))
        assert not expected[1]
        assert not found[1]
        for one, other in zip(expected[0], found[0], strict=True):
            assert one.image == other.image
            assert dict(other.classes) == pytest.approx(dict(one.classes), abs=1e-4)

    @pytest.mark.parametrize("name", ["x.pt2", "x.onnx"])
    def test_another_file_of_that_name_is_one_line(self, project: Path, tmp_path: Path, name: str) -> None:
        for content in (b"", b"hello", (project / PATHS["final"]).read_bytes()):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(
                UserError, match=rf"{name}: (cannot be opened \(|holds no imbnas\.json).*expected a file that"
            ):
                predict(tmp_path / name, [], 1)
        (tmp_path / name).unlink()
        with pytest.raises(UserError, match=rf"{name}: not found, expected a file that imbnas export wrote"):
            predict(tmp_path / name, [], 1)

    def test_metadata_that_do_not_fit_are_one_line(self, exported: Path, tmp_path: Path) -> None:
        meta = json.loads(metadata_of(exported))
        meta["files"]["square"] = "round"
        program = torch.export.load(exported)
        torch.export.save(program, tmp_path / "x.pt2", extra_files={EXTRA: json.dumps(meta)})
        with pytest.raises(
            UserError, match=r"x\.pt2: its metadata: files\.square: found text 'round', expected central or"
        ):
            predict(tmp_path / "x.pt2", [], 1)


def metadata_of(path: Path) -> str:
    extra = {EXTRA: ""}
    torch.export.load(path, extra_files=extra)
    return extra[EXTRA]


def opened(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


class TestErrors:
    def test_other_suffix(self, project: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"x\.pt: expected a name that ends in \.pt2, the .*, or in \.onnx, the "):
            export(project / PATHS["final"], tmp_path / "x.pt")
        with pytest.raises(UserError, match=r"x\.onnx: expected a name that ends in \.pt2, the suffix of torch\.expo"):
            export(project / PATHS["final"], tmp_path / "x.onnx", "pt2")

    def test_references(self, project: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="holds the reference networks"):
            export(project / PATHS["references"], tmp_path / "x.pt2")

    def test_nothing_is_left_when_the_logits_differ(
        self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch, "equal", lambda first, second: False)
        with pytest.raises(UserError, match=r"x\.pt2: not written, its logits differ"):
            export(project / PATHS["final"], tmp_path / "x.pt2")
        assert list(tmp_path.iterdir()) == []

    def test_command(self, project: Path, tmp_path: Path) -> None:
        target = tmp_path / "deep" / "net.pt2"
        done = CliRunner().invoke(app, ["export", str(project / PATHS["final"]), "--output", str(target)])
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(str(target))
        assert re.search(r"\n[\d.,]+ (bytes|MiB), [\d.e-]+ ms per image alone on ", done.stdout)
        assert target.exists()
