"""Cached features: which bytes count as whole, what a step takes from them, and that seeding stays as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from imbnas.data.order import InstanceSampler
from imbnas.errors import UserError
from imbnas.params.recipe import RecipeParams
from imbnas.params.shared import Numerics
from imbnas.progress import Log
from imbnas.training.cache import CachedSampler, CachedStore, Entry, FeatureFile, path_features
from imbnas.training.definition import Training
from imbnas.training.loop import Trainer
from imbnas.training.runtime import Runtime
from imbnas.training.state import ResumeState

SHAPE = (3, 2, 5, 4)
VALUES = np.random.default_rng(0).normal(size=SHAPE).astype(np.float16)


def fill(file: FeatureFile, paths: int = 3) -> list[int]:
    """Write what is missing up to `paths` and return the numbers of what was written."""
    missing = list(range(file.open(), paths))
    for number in missing:
        file.note(Entry(file.write(VALUES[number, view, k : k + 3] for view in (0, 1) for k in (0, 3)), 1.0, "run"))
    return missing


def test_a_file_holds_every_path_and_view_as_halves(tmp_path: Path) -> None:
    file = FeatureFile(tmp_path / "kept/abc", SHAPE)
    assert fill(file) == [0, 1, 2]
    assert np.array_equal(file.features().numpy(), VALUES)
    assert np.load(file.path).shape == SHAPE
    assert file.nbytes == 3 * 2 * 5 * 4 * 2
    assert fill(FeatureFile(tmp_path / "kept/abc", SHAPE)) == []


def test_a_killed_writing_goes_on_after_the_last_whole_path_with_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = FeatureFile(tmp_path / "whole", SHAPE), FeatureFile(tmp_path / "cut", SHAPE)
    fill(whole)
    fill(cut, 1)

    def killed() -> Iterator[np.ndarray]:
        yield VALUES[1, 0, :3] + 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut.write(killed())
    assert fill(FeatureFile(tmp_path / "cut", SHAPE)) == [1, 2]
    assert cut.path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "again"),
    [
        (lambda data: data[:-1], [2]),
        (lambda data: data[:300], [2]),
        (lambda data: data[:250], [1, 2]),
        (lambda data: b"", [0, 1, 2]),
        (lambda data: data[:140] + bytes([data[140] ^ 1]) + data[141:], [0, 1, 2]),
        (lambda data: b"\x93NUMPX" + data[6:], [0, 1, 2]),
    ],
)
def test_what_was_cut_or_overwritten_is_made_anew(tmp_path: Path, damage, again: list[int]) -> None:  # type: ignore[no-untyped-def]
    file = FeatureFile(tmp_path / "abc", SHAPE)
    fill(file)
    data = file.path.read_bytes()
    assert len(data) == 128 + 240
    file.path.write_bytes(damage(data))
    assert fill(FeatureFile(tmp_path / "abc", SHAPE)) == again
    assert file.path.read_bytes() == data


@pytest.mark.parametrize("marks", ["", "[]", '{"shape": [3, 2, 5, 4]}', '{"shape": [3, 2, 5, 4], "paths": [1]}'])
def test_without_readable_marks_nothing_is_whole(tmp_path: Path, marks: str) -> None:
    file = FeatureFile(tmp_path / "abc", SHAPE)
    fill(file)
    (tmp_path / "abc.json").write_text(marks)
    assert FeatureFile(tmp_path / "abc", SHAPE).open() == 0
    fill(file)
    assert FeatureFile(tmp_path / "abc", (3, 2, 4, 5)).open() == 0, "of another shape"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_what_a_half_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    file = FeatureFile(tmp_path / "abc", (1, 1, 1, 2))
    with pytest.raises(UserError, match=r"adapt\.feature_cache\.paths: .* beyond 65504"):
        file.write(iter([torch.tensor([[0.0, value]]).half().numpy()]))


def test_steps_take_groups_in_turn_and_views_after_them() -> None:
    features = torch.arange(4 * 2 * 5, dtype=torch.float16).view(4, 2, 5, 1)
    labels = torch.tensor([0, 1, 2, 3, 4])
    store = CachedStore(features, labels, [[0, 1], [2, 3]], torch.device("cpu"))
    sampler = CachedSampler(InstanceSampler(labels.numpy(), 0), 5, store.turns, batch_size=2)
    seen = []
    for epoch in range(2):
        places = sampler.epoch(epoch)
        assert sorted(places % 5) == [0, 1, 2, 3, 4]
        for k in range(0, 4, 2):
            ((found, classes),) = store.batches([places[k : k + 2]])
            rows = torch.from_numpy(places[k : k + 2] % 5)
            assert torch.equal(classes, rows.repeat(2))
            blocks = (found.view(2, 2) - rows) / 5
            assert torch.equal(blocks[:, 0], blocks[:, 1])
            seen.append(blocks[:, 0].int().tolist())
    # Blocks are path x 2 + view. An epoch's last batch of one row is left out, as by the training loop.
    assert seen == [[0, 2], [4, 6], [1, 3], [5, 7]]


def test_joined_passes_train_like_passes_one_after_the_other(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 1, 40, 6, generator=generator).half()
    labels = torch.randint(4, (40,), generator=generator)
    runtime = Runtime(Numerics(device="cpu", threads=1))
    recipe = RecipeParams(epochs=3, batch_size=16)
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0, 4.0]))

    class OneByOne(nn.Module):
        def __init__(self, head: nn.Linear) -> None:
            super().__init__()
            self.head = head

        def forward(self, rows: torch.Tensor, path: int) -> torch.Tensor:
            return self.head(features[path, 0, rows].float())

    class Positions:
        def batches(self, batches: list[np.ndarray]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for chosen in batches:
                yield torch.from_numpy(chosen), labels[chosen]

    def trained(joined: bool) -> tuple[torch.Tensor, list[float]]:
        torch.manual_seed(0)
        head = nn.Linear(6, 4)
        rows = InstanceSampler(labels.numpy(), 0)
        if joined:
            store = CachedStore(features, labels, [[0, 1, 2]], runtime.device)
            sampler = CachedSampler(rows, 40, store.turns, recipe.batch_size)
            training = Training(
                "a",
                head,
                recipe,
                store,
                lambda x, _: x,
                sampler,
                lambda _: loss,
                0,
                paths_per_batch=store.paths_per_batch,
            )
        else:
            passes = [(0,), (1,), (2,)]
            one = OneByOne(head)
            training = Training(
                "a",
                one,
                recipe,
                Positions(),  # type: ignore[arg-type]
                lambda x, _: x,
                rows,
                lambda _: loss,
                0,
                lambda _: passes,
            )
        state = ResumeState(tmp_path / str(joined), "a", 1e9)
        losses = Trainer(training, runtime, state, Log("test")).fit()
        return head.weight.detach(), losses

    (first, first_losses), (second, second_losses) = trained(True), trained(False)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert first_losses == pytest.approx(second_losses, rel=1e-5)
    torch.manual_seed(0)
    assert (first - nn.Linear(6, 4).weight).abs().max() > 0.1


def test_features_of_a_path_lie_at_their_rows_and_no_buffer_changes() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(1, 2)

        def features(self, images: torch.Tensor, factor: float) -> torch.Tensor:
            return factor * self.norm(images).mean(dim=(2, 3))

    network, images = Network().eval(), torch.arange(5.0).view(5, 1, 1, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [(np.array([3, 0]), images[[3, 0]]), (np.array([1, 4, 2]), images[[1, 4, 2]])]
    found = path_features(network, Runtime(Numerics(device="cpu", threads=1)), (2.0,), batches, 5)
    third = -4 / 3 / np.sqrt(14 / 9)
    assert found.dtype == np.float16
    assert found[0, 0] == -found[3, 0] == -2.0
    assert found[1, 0] == pytest.approx(2 * third, rel=1e-3)
    assert [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])] == []
    assert not network.norm.training


def test_seeding_is_that_of_torch() -> None:
    runtime = Runtime(Numerics(device="cpu", threads=1))
    torch.manual_seed(2**62 + 5)
    expected = torch.rand(4)
    runtime.seed(2**62 + 5)
    assert torch.equal(torch.rand(4), expected)
