"""A classifier of torchvision as a space: the library's own network, its weights, its cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import tiny_chain
import torch
from torchvision.models import get_model

from imbnas.data.supernet_fit import check_reused
from imbnas.errors import UserError
from imbnas.params.config import parse
from imbnas.params.torchvision_options import FEATURES, ModelName, TorchvisionChoices
from imbnas.run.graph import PATHS
from imbnas.spaces.cost import count
from imbnas.spaces.library import TorchvisionSpace
from imbnas.spaces.ofa_names import from_published
from imbnas.training.checkpoint import load_meta, load_weights

FILE = "supernets/shufflenetv2_x1-5666bf0f80.pth"
SPACE: dict[str, Any] = {"name": "torchvision", "torchvision": {"model": "shufflenet_v2_x1_0"}}


@pytest.mark.parametrize("name", get_args(ModelName))
def test_features_and_names_are_the_librarys(name: ModelName) -> None:
    space = TorchvisionSpace(TorchvisionChoices(model=name))
    supernet = space.supernet_on_meta(1000, 3)
    with torch.device("meta"):
        theirs = get_model(name, weights=None).state_dict()
    assert {space.published_name(key): value.shape for key, value in supernet.state_dict().items()} == {
        key: value.shape for key, value in theirs.items()
    }
    assert space.num_features == FEATURES[name] == supernet.head.in_features


def test_logits_are_the_librarys() -> None:
    space, network = TorchvisionSpace(TorchvisionChoices(model="shufflenet_v2_x1_0")), get_model("shufflenet_v2_x1_0")
    like = space.supernet_on_meta(1000, 3)
    like.load_state_dict(from_published(network.state_dict(), like.state_dict(), space.published_name), assign=True)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(like.eval()(x, (0,)), network.eval()(x))
    assert space.cost_table((64, 64, 3), 1000).cost((0,)) == count(network, (64, 64, 3))


def test_a_pretrained_network_goes_through_the_chain(tmp_path: Path) -> None:
    (tmp_path / "supernets").mkdir()
    torch.manual_seed(0)
    network = get_model("shufflenet_v2_x1_0")
    torch.save(network.state_dict(), tmp_path / FILE)
    changes: dict[str, Any] = {
        "space": SPACE,
        "supernet__reuse": FILE,
        "target": {"channels": 3, "image_size": 32},
        "imbalance": {"ratio": 20.0, "n_max": 20},
        "adapt__head": {"epochs": 1},
        "search": {"method": "fixed"},
        "retrain__init": "handed",
        "retrain__finetune": {"epochs": 1},
        "retrain__references": False,
    }
    steps = ("source", "target", "imbalance", "supernet", "adapt", "search", "retrain")
    assert tiny_chain.run(tmp_path, *steps, **changes) == 0
    weights, _ = load_weights(tmp_path / PATHS["supernet"])
    assert torch.equal(weights["blocks.0.0.conv1.0.weight"], network.state_dict()["conv1.0.weight"])
    assert load_meta(tmp_path / PATHS["final"])["init"]["source"]["dataset"] == "imagenet"


def test_the_cache_is_named_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    params = parse({"space": SPACE, "supernet": {"reuse": FILE}, "target": {"channels": 3}}, "p.yaml")

    def told() -> str:
        with pytest.raises(UserError) as caught:
            check_reused(params.supernet, params.space, params.target, tmp_path)
        return str(caught.value)

    assert told().endswith("No such file or directory, expected a file")
    cached = tmp_path / "cache/hub/checkpoints" / Path(FILE).name
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert told().endswith(f"not found, expected the file that torch's cache has: cp {cached} {tmp_path / FILE}")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "target.channels is 1 in the space torchvision, expected 3"),
        ({"target": {"channels": 3}, "retrain": {"branches": "bilateral"}}, "retrain.branches is bilateral in the sp"),
    ],
)
def test_what_no_network_of_the_library_takes(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse({"space": SPACE, **tree}, "p.yaml")
