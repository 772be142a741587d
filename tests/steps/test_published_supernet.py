"""`supernet.reuse` with checkpoints as Once-for-All publishes them: what is taken over, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_chain
import torch
from ofa_weights import published_state
from torch import Tensor

from imbnas.data.checkpoint_file import PIXELS
from imbnas.data.stored import read_info
from imbnas.data.supernet_fit import check_reused
from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.params.ofa_options import OfaChoices
from imbnas.run.graph import PATHS
from imbnas.spaces.ofa import OfaSpace
from imbnas.spaces.ofa_names import from_published
from imbnas.training.checkpoint import load_meta, load_weights
from imbnas.training.foreign import read_checkpoint

FILE = "supernets/ofa.pth"
SPACE = OfaSpace(OfaChoices(width=0.125))
CHAIN: dict[str, Any] = {
    "space": {"name": "ofa-mobilenetv3", "ofa": {"width": 0.125}},
    "supernet__reuse": FILE,
    "target": {"channels": 3, "image_size": 16},
    "adapt__head": {"epochs": 1},
    "adapt__feature_cache": {"paths": 10},
    "search__candidates": 3,
    "search__max_macs": "0.5x",
    "retrain__init": "handed",
    "retrain__finetune": {"epochs": 1},
    "retrain__references": False,
}


@pytest.fixture(scope="module", params=["new", "old"])
def begun(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that has taken over a checkpoint: names and file format of today, or those of the first ones."""
    root, old = tmp_path_factory.mktemp(request.param), request.param == "old"
    (root / "supernets").mkdir()
    content: Any = published_state(SPACE, old)
    torch.save(content if old else {"state_dict": content}, root / FILE, _use_new_zipfile_serialization=not old)
    assert tiny_chain.run(root, "source", "target", "imbalance", "supernet", **CHAIN) == 0
    return root


def test_the_tensors_are_the_checkpoints(begun: Path) -> None:
    weights, meta = load_weights(begun / PATHS["supernet"])
    expected = from_published(published_state(SPACE), SPACE.supernet_on_meta(1000, 3).state_dict())
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    assert (meta["dataset"], len(set(meta["classes"])), meta["recipe"]) == ("imagenet", 1000, {"epochs": None})
    assert meta["classes"][0] == "tench"


def test_images_are_normalised_as_the_checkpoints_were(begun: Path) -> None:
    found = read_info(begun / PATHS["target_train"])
    assert (found.mean, found.std, found.shape) == (PIXELS["mean"], PIXELS["std"], [16, 16, 3])


def test_it_is_adapted_searched_and_handed_on(begun: Path, tmp_path: Path) -> None:
    if begun.name.startswith("old"):
        pytest.skip("both have the same supernet")
    root = tiny_chain.copy(begun, tmp_path)
    assert tiny_chain.run(root, "adapt", "search", "retrain", **CHAIN) == 0
    meta = load_meta(root / PATHS["final"])
    assert meta["init"]["source"] == {"dataset": "imagenet", "classes": 1000, "shared": 0}
    largest = SPACE.cost_table((16, 16, 3), 10).cost((8,) * 20)
    assert meta["macs"] <= largest.macs // 2
    assert meta["mean"] == PIXELS["mean"]


def test_other_spaces_and_channels_are_refused(begun: Path) -> None:
    def told(tree: dict[str, Any]) -> str:
        params = parse({"supernet": {"reuse": FILE}, "target": {"image_size": 64}, **tree}, "p.yaml")
        with pytest.raises(UserError) as caught:
            check_reused(params.supernet, params.space, params.target, begun)
        return str(caught.value).removeprefix(f"supernet.reuse: {begun / FILE}: ")

    assert told({}).startswith("a checkpoint of torch in the space shufflenet, expected models/supernet.safetensors")
    assert told({"space": {"name": "ofa-mobilenetv3"}}) == "takes images of 3 channels, expected 1 (target.channels)"


def without(name: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda state: {key: value for key, value in state.items() if key != name}


class Evil:
    """Something that would run a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("classifier.linear.weight"), "has no tensor classifier.linear.weight, expected a supernet of Once"),
        (lambda state: {**state, "more": torch.zeros(1)}, "found a tensor more, expected none of that name"),
        (
            lambda state: published_state(OfaSpace(OfaChoices(width=0.25))),
            r"found a tensor \S+ of shape \[.*\], expected \[.*\]: made for another number of channels or classes",
        ),
        (lambda state: {"conv1.weight": torch.zeros(64, 3, 7, 7)}, "has no tensor first_conv.conv.weight, expected"),
        (
            lambda state: {**state, "classifier.linear.bias": torch.full((1000,), torch.nan)},
            "tensor classifier.linear.bias holds numbers that are not finite",
        ),
        (lambda state: {"epoch": 3, **state}, "entry 'epoch' is a int, expected a checkpoint of torch"),
        (lambda state: [1, 2], "holds a list without entries by name, expected a checkpoint"),
        (lambda state: {"state_dict": Evil()}, "holds other things than tensors, or is damaged, expected a checkpoint"),
    ],
)
def test_foreign_checkpoints_are_refused_in_a_line(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    file = tmp_path / "a.pth"
    torch.save(change(published_state(SPACE)), file)
    with pytest.raises(UserError, match=message) as caught:
        from_published(read_checkpoint(file), SPACE.supernet_on_meta(1000, 3).state_dict())
    assert "\n" not in str(caught.value)


def test_a_cut_checkpoint_ends_the_step(begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tiny_chain.copy(begun, tmp_path)
    content = (root / FILE).read_bytes()
    (root / FILE).write_bytes(content[: len(content) // 2])
    assert tiny_chain.run(root, "supernet", **CHAIN) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "supernet.reuse" in line]
    assert f"{root / FILE}: " in line
    assert "expected a checkpoint of torch" in line
