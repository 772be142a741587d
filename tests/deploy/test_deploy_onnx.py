"""ONNX files of every kind of network: what ONNX Runtime answers, what the file tells, and what is refused."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_project as fake
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import imbnas
from imbnas.approximate.placement import Placement
from imbnas.cli import app, main
from imbnas.deploy import onnx_file
from imbnas.deploy.deployed import EXTRA, Deployed, random_images, trace
from imbnas.deploy.eight_bits import quantise
from imbnas.errors import UserError
from imbnas.export import export
from imbnas.params.approximate import ApproximateParams
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.predict import predict
from imbnas.run.graph import PATHS
from imbnas.saved import Network, load_subnet
from imbnas.spaces.registry import SPACES, make_space

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    fake.write_project(root, files=True)
    return root


@pytest.fixture(scope="module")
def exported(project: Path) -> Path:
    done = CliRunner().invoke(app, ["export", str(project / PATHS["final"]), "--format", "onnx"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{project / 'models/final.onnx'}: written; on 1,000 random images ONNX Runtime's")
    return project / "models/final.onnx"


@pytest.fixture(scope="module")
def network(project: Path) -> Network:
    return load_subnet(project / PATHS["final"])


class TestFile:
    def test_gives_the_networks_logits_for_any_number_of_images(self, exported: Path, network: Network) -> None:
        opened = onnx_file.session(exported)
        for batch in (1, 3, 33):
            images = random_images(network, batch, torch.Generator().manual_seed(batch))
            with torch.no_grad():
                expected = Deployed(network)(images)
            torch.testing.assert_close(onnx_file.run(opened, images), expected, rtol=0.0, atol=1e-4)
        assert expected.std(dim=0).min() > 0.01, "images that cannot be told apart would make this test empty"

    def test_tells_what_goes_in_and_what_comes_out(self, exported: Path) -> None:
        model = onnx.load(exported)
        meta = json.loads({entry.key: entry.value for entry in model.metadata_props}[EXTRA])
        assert meta["classes"] == fake.CLASSES
        assert meta["counts"] == fake.COUNTS
        assert meta["input"] == {"dtype": "uint8", "shape": ["batch", 3, 16, 16]}
        for value, shape in ((model.graph.input[0], ["batch", 3, 16, 16]), (model.graph.output[0], ["batch", 4])):
            dims = value.type.tensor_type.shape.dim
            assert [dim.dim_param or dim.dim_value for dim in dims] == shape

    @pytest.mark.pages
    def test_same_bytes_again(self, exported: Path, network: Network) -> None:
        deployed = Deployed(network).eval().requires_grad_(False)
        again = onnx_file.onnx_model(trace(deployed, network), network).SerializeToString(deterministic=True)
        assert again == exported.read_bytes()

    def test_no_paths(self, exported: Path, project: Path) -> None:
        places = (os.fsencode(project), os.fsencode(Path(imbnas.__file__).parent), b"site-packages", b"stack_trace")
        assert not any(place in exported.read_bytes() for place in places)

    def test_predict_answers_with_it(self, exported: Path, project: Path) -> None:
        photos = sorted((project / "photos").rglob("*.png"))[:9]
        (expected, _), (found, _) = (predict(path, photos, 4) for path in (project / PATHS["final"], exported))
        for one, other in zip(expected, found, strict=True):
            assert dict(other.classes) == pytest.approx(dict(one.classes), abs=1e-4)

    def test_is_compared_before_it_has_its_name(
        self, exported: Path, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file of other weights is refused, for as many images as differ."""
        content = exported.read_bytes()
        other = Deployed(Network(_moved(network.model, 0.01), network.meta, network.path)).eval()
        monkeypatch.setattr(onnx_file, "COMPARED", 40)
        with pytest.raises(UserError, match=r"x\.onnx: not written, .* differ .* up to 0\.0\d+ for \d+ of 40 images"):
            onnx_file.verify(content, Path("x.onnx"), other, network)
        assert onnx_file.verify(content, Path("x.onnx"), Deployed(network).eval(), network).gap < 1e-4

    def test_what_onnx_runtime_cannot_run_is_refused(self, network: Network) -> None:
        with pytest.raises(UserError, match=r"x\.onnx: not written, ONNX Runtime cannot run it \(.*\), expected"):
            onnx_file.verify(b"nothing", Path("x.onnx"), Deployed(network).eval(), network)


def _moved(model: Any, by: float) -> Any:
    other = deepcopy(model)
    with torch.no_grad():
        other.head.bias[0] += by
    return other


def test_absent_libraries_are_one_line(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("onnxruntime", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    target = tmp_path / "x.onnx"
    monkeypatch.setattr("sys.argv", ["imbnas", "export", str(project / PATHS["final"]), "--output", str(target)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capfd.readouterr().err == (
        "error: onnxscript, onnxruntime: not installed, expected the libraries of ONNX: pip install 'imbnas[deploy]'\n"
    )
    assert not target.exists()


SMALL = {"stem": Stem(channels=4, stride=1), "stages": Stages(channels=[4, 8], repeats=[1, 1], strides=[1, 2])}
CELLS = SpaceParams(name="nasbench201", last_channels=None, **SMALL)  # type: ignore[arg-type]


@pytest.mark.pages
@pytest.mark.parametrize("name", SPACES)
def test_every_space_can_be_handed_on(name: str) -> None:
    cells = {"last_channels": None} if name == "nasbench201" else {}
    space = make_space(SpaceParams(name=name, **SMALL, **cells))  # type: ignore[arg-type]
    torch.manual_seed(0)
    model, found = _compared(space.build_subnet(space.sample(np.random.default_rng(0)), 4, 3))
    assert found.gap < 1e-4 * max(1.0, found.largest)
    images = torch.randint(0, 256, (64, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    content = quantise(model, _Calibration(images))  # type: ignore[arg-type]
    logits, expected = (onnx_file.run(one, images) for one in (onnx_file.session(content), found.session))
    assert not torch.equal(logits, expected)
    # Weights keep 7 bits in each of a dozen layers.
    assert (logits - expected).abs().mean() < 0.3 * expected.std()


@dataclass(frozen=True)
class _Calibration:
    """What quantisation asks of a store of images."""

    images: torch.Tensor

    def ordered(self, batch: int) -> Iterator[tuple[torch.Tensor, None]]:
        return ((part, None) for part in self.images.split(batch))


@pytest.mark.pages
@pytest.mark.parametrize("head", fake.KINDS, ids=str)
def test_every_head_can_be_handed_on(head: tuple[dict[str, Any], int], tmp_path: Path) -> None:
    info = fake.write_test_split(tmp_path)
    fake.write_other_network(tmp_path / "other.safetensors", info, *head)
    assert export(tmp_path / "other.safetensors", form="onnx").path == tmp_path / "other.onnx"


@pytest.mark.pages
def test_an_approximate_multiplier_can_be_handed_on() -> None:
    model = make_space(CELLS).build_subnet((3, 2, 1, 3, 2, 3), 4, 3)
    Placement.of(ApproximateParams(multiplier="truncated-2", skeleton=True), Path()).apply(model)  # type: ignore[union-attr]
    _, found = _compared(model, approximate={"name": "truncated-2"})
    assert found.gap < 1e-4 * max(1.0, found.largest)


@pytest.mark.pages
def test_a_mixture_can_be_handed_on() -> None:
    weights = [[0.1, 0.0, 0.3, 0.4, 0.2]] * 6
    model = make_space(CELLS).mixture_on_meta(weights, 4, 3).to_empty(device="cpu")
    torch.manual_seed(0)
    for value in model.state_dict().values():
        value.uniform_(0.5, 1.0) if value.is_floating_point() else value.zero_()
    _, found = _compared(model)
    assert found.gap < 1e-4 * max(1.0, found.largest)


def _compared(model: Any, **meta: Any) -> tuple[Any, onnx_file.Compared]:
    about = {"classes": list("abcd"), "shape": [8, 8, 3], "mean": [0.5] * 3, "std": [0.2] * 3, "load_side": 8}
    about |= {"space": {}, "architecture": [], "macs": 1, "params": 1, **meta}
    network = Network(model.eval(), about, Path("x"))
    deployed = Deployed(network).eval().requires_grad_(False)
    made = onnx_file.onnx_model(trace(deployed, network), network)
    return made, onnx_file.verify(made.SerializeToString(), Path("x.onnx"), deployed, network)
