"""Head training on cached features: the backbone stays, killed and damaged caches give the same bytes, losses share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_chain
import torch

from imbnas.errors import Interrupted, UserError
from imbnas.params.config import parse
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.paths import path_sampler
from imbnas.spaces.registry import make_space
from imbnas.steps import adapt_cache
from imbnas.training.checkpoint import load_weights
from imbnas.training.loop import Trainer

SUPERNET, ADAPTED = "models/supernet.safetensors", "models/adapted.safetensors"
CACHE = {"paths": 8, "views": 2}


@pytest.fixture(scope="module")
def cached(chain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project that was adapted on cached features, and its kept files."""
    root = tiny_chain.copy(chain, tmp_path_factory.mktemp("cached"))
    assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE) == 0
    return root


def kept(root: Path) -> Path:
    (file,) = (root / ".imbnas/kept/adapt").glob("*.npy")
    return file


def computed(monkeypatch: pytest.MonkeyPatch, stop_at: int | None = None) -> list[int]:
    """Return a list that receives the number of every path whose features are computed."""
    real, numbers = adapt_cache._features, []

    def features(*arguments: Any) -> Iterator[np.ndarray]:
        numbers.append(arguments[-1])
        for batch in real(*arguments):
            if arguments[-1] == stop_at:
                raise Interrupted("stop")
            yield batch

    monkeypatch.setattr(adapt_cache, "_features", features)
    return numbers


@pytest.mark.parametrize("name", ["linear", "lws", "tau-norm"])
def test_no_bit_of_the_backbone_changes_and_the_head_learns(cached: Path, tmp_path: Path, name: str) -> None:
    root = tiny_chain.copy(cached, tmp_path)
    head = {"epochs": 30, "name": name, "tau": 0.5}
    assert tiny_chain.run(root, "adapt", "search", adapt__feature_cache=CACHE, adapt__head=head) == 0
    before, after = load_weights(root / SUPERNET)[0], load_weights(root / ADAPTED)[0]
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert changed == ["head.bias", "head.weight"]
    assert json.loads((root / "results/architecture.json").read_text())["chosen"]["score"] > 0.15
    assert not list((root / ".imbnas/resume/adapt").glob("*"))


def test_the_size_is_told_beforehand_and_is_that_of_the_file(cached: Path) -> None:
    rows = int(np.load(kept(cached), mmap_mode="r").shape[2])
    lines = (cached / "logs/adapt.log").read_text().splitlines()
    told = [line for line in lines if f"8 paths x 2 views x {rows} rows x 16 features take" in line]
    assert f"{8 * 2 * rows * 16 * 2:,} bytes" in told[0]
    assert kept(cached).stat().st_size == 128 + 8 * 2 * rows * 16 * 2
    assert lines.index(told[0]) < next(k for k, line in enumerate(lines) if "8 paths in" in line)


def test_features_are_those_of_the_path_in_random_batches_with_their_statistics(cached: Path, tmp_path: Path) -> None:
    root = tiny_chain.copy(cached, tmp_path)
    assert tiny_chain.run(root, "adapt", adapt__feature_cache={"paths": 4, "views": 0}) == 0
    (file,) = (path for path in (root / ".imbnas/kept/adapt").glob("*.npy") if np.load(path).shape[0] == 4)
    space = make_space(SpaceParams.model_validate(tiny_chain.PARAMS["space"]))
    state, meta = load_weights(root / ADAPTED)
    supernet = space.build_supernet(10, 1)
    supernet.load_state_dict(state)
    from imbnas.data.stored import read_split
    from imbnas.data.tail import read_longtail

    split = read_split(root / "data/target/train", root)
    rows = read_longtail(root / "data/longtail.parquet", split.index["label"].to_numpy()).rows
    images = torch.from_numpy(np.array(split.images[rows])).permute(0, 3, 1, 2).float() / 255
    images = (images - meta["mean"][0]) / meta["std"][0]
    (path,) = path_sampler(space, "fair", 0, "adapt")(0)[1]
    order = adapt_cache.stream(0, "adapt", "cache", 1, 0).permutation(len(rows))
    expected = torch.zeros(len(rows), 16)
    with torch.no_grad():
        for batch in np.array_split(order, 5):
            expected[batch] = supernet.train().features(images[batch], path)
    np.testing.assert_allclose(np.load(file)[1, 0].astype(np.float32), expected.numpy(), rtol=2e-3, atol=2e-3)
    assert float(expected.std()) > 0.05


def test_other_losses_and_heads_take_the_same_features(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(cached, tmp_path)
    numbers = computed(monkeypatch)
    for change in ({"adapt__loss": "balanced-softmax"}, {"adapt__head": {"epochs": 9, "name": "crt"}}):
        assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE, **change) == 0
    assert numbers == []
    seconds = sum(entry["seconds"] for entry in json.loads(kept(root).with_suffix(".json").read_text())["paths"])
    cost = json.loads((root / "results/cost-details.json").read_text())["steps"]["adapt"]["seconds"]
    assert cost > seconds > 0.0
    assert (
        tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE, adapt__head={"epochs": 1, "augment": {"pad": 2}}) == 0
    )
    assert numbers == list(range(8)), "another augmentation gives other features"


def test_a_cache_that_was_stopped_or_damaged_gives_the_same_bytes(
    cached: Path, chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    with monkeypatch.context() as patch:
        assert computed(patch, stop_at=5) == []
        assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE) == 143
    numbers = computed(monkeypatch)
    assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE) == 0
    assert numbers == [5, 6, 7]
    assert kept(root).read_bytes() == kept(cached).read_bytes()
    assert tiny_chain.digests(root, "adapt") == tiny_chain.digests(cached, "adapt")
    kept(root).write_bytes(kept(root).read_bytes()[:-1])
    numbers.clear()
    assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE) == 0
    assert numbers == [7]
    assert tiny_chain.digests(root, "adapt") == tiny_chain.digests(cached, "adapt")


def test_a_training_on_features_goes_on_after_a_kill(
    cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, real, steps = tiny_chain.copy(cached, tmp_path), Trainer.step, []

    def step(self: Trainer, *arguments: Any) -> torch.Tensor:
        if len(steps) == 9:
            raise Interrupted("stop")
        steps.append(self.done)
        return real(self, *arguments)

    saving = {"device": "cpu", "threads": 1, "workers": 0, "state_interval": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", step)
        assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE, runtime=saving) == 143
    monkeypatch.setattr(Trainer, "step", lambda self, *a: (steps.append(self.done), real(self, *a))[1])
    assert tiny_chain.run(root, "adapt", adapt__feature_cache=CACHE, runtime=saving) == 0
    assert steps == list(range(len(steps)))
    assert len(steps) > 15
    assert tiny_chain.digests(root, "adapt") == tiny_chain.digests(cached, "adapt")


def test_too_much_is_refused_before_anything_is_computed(
    chain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, numbers = tiny_chain.copy(chain, tmp_path), computed(monkeypatch)
    assert tiny_chain.run(root, "adapt", adapt__feature_cache={**CACHE, "limit": 1e-5}) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: adapt.feature_cache.limit: 8 paths x 2 views x ")
    assert "expected at most 1e-05 GiB" in error
    assert tiny_chain.run(root, "adapt", adapt__feature_cache={"paths": 6}, adapt__sampling="sandwich") == 2
    assert "adapt.feature_cache.paths: found 6, expected a multiple of 4" in capsys.readouterr().err
    assert numbers == []
    assert not (root / ".imbnas/kept/adapt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapt__head": {"epochs": 1, "name": "ncm"}}, "feature_cache.paths is 4 with head.name ncm, expected 0"),
        (
            {"adapt__head": {"epochs": 1, "mixing": {"name": "mixup"}}},
            "head.mixing.name is mixup with feature_cache.paths 4, expected none",
        ),
        (
            {"adapt__sampling": "mixture", "space": {"name": "darts"}},
            "feature_cache.paths is 4 with sampling mixture, expected 0 or 1",
        ),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(tiny_chain.changed(adapt__feature_cache={"paths": 4}, **change), "params.yaml")


@pytest.mark.parametrize(("sampling", "paths", "different"), [("uniform", 3, 3), ("sandwich", 8, 5)])
def test_paths_come_as_the_sampling_draws_them(
    chain: Path, tmp_path: Path, sampling: str, paths: int, different: int
) -> None:
    root = tiny_chain.copy(chain, tmp_path)
    change = {"adapt__feature_cache": {"paths": paths, "views": 0}, "adapt__sampling": sampling}
    assert tiny_chain.run(root, "adapt", **change) == 0
    features = np.load(kept(root))
    assert len(features) == different, "largest and smallest net come in both groups, and another by chance"
    assert all(not np.array_equal(features[0], other) for other in features[1:])


def test_a_mixture_is_one_path(tmp_path: Path) -> None:
    (tmp_path / "datasets/digits").mkdir(parents=True)
    change: dict[str, Any] = {
        "space": {
            "name": "darts",
            "darts": {"channels": 4, "layers": 3, "operations": ["none", "skip_connect", "sep_conv_3x3"]},
        },
        "supernet": {"epochs": 0, "sampling": "mixture", "probe_paths": 1},
        "adapt__sampling": "mixture",
        "adapt__feature_cache": {"paths": 1},
        "search": {"method": "random", "candidates": 1},
    }
    assert tiny_chain.run(tmp_path, "source", "target", "imbalance", "supernet", "adapt", **change) == 0
    before, after = load_weights(tmp_path / SUPERNET)[0], load_weights(tmp_path / ADAPTED)[0]
    assert [key for key in before if not torch.equal(before[key], after[key])] == ["head.bias", "head.weight"]
    assert np.load(kept(tmp_path)).shape[:2] == (1, 1)
