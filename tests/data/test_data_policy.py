"""AutoAugment and RandAugment: functions of the given generator alone, image by image, at their place in the order."""

from __future__ import annotations

import ast
import inspect
from typing import get_args

import numpy as np
import pytest
import torch

from imbnas.data import policy
from imbnas.data.augment import Augment
from imbnas.data.draws import Draws
from imbnas.data.policy import Policy, PolicyName
from imbnas.data.raw import Shape
from imbnas.params import recipe

torch.set_num_threads(1)
NAMES = get_args(PolicyName)
GENERATOR = np.random.default_rng(0)
# Smooth colours with noise: no operation but the identity leaves such an image as it is.
RAMP = np.linspace(40, 200, 16)[:, None, None] + np.linspace(-30, 30, 16)[None, :, None] + np.array([0, 10, 25])
IMAGES = torch.from_numpy((RAMP + GENERATOR.normal(0, 8, (64, 16, 16, 3))).clip(0, 255).astype(np.uint8))
IMAGES = IMAGES.permute(0, 3, 1, 2).contiguous()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(seed: int = 0, count: int = len(IMAGES), rows: list[int] | None = None) -> Draws:
    return Draws(seeded(seed), count, None if rows is None else torch.tensor(rows))


def test_the_parameters_offer_all_policies() -> None:
    assert get_args(recipe.PolicyName) == ("none", *NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_result_hangs_on_the_generator_alone(name: PolicyName, channels: int) -> None:
    images, change = IMAGES[:, :channels], Policy(name)
    torch.manual_seed(1)
    first = change(images, draws())
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    drawn = draws()
    assert torch.equal(change(images, drawn), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (first.dtype, first.shape, first.is_contiguous()) == (torch.uint8, images.shape, True)
    assert not torch.equal(change(images, drawn), first), "the generator moves on"
    assert not torch.equal(change(images, draws(1)), first)


@pytest.mark.parametrize("name", NAMES)
def test_images_are_changed_one_by_one(name: PolicyName) -> None:
    same = IMAGES[:1].expand(200, -1, -1, -1)
    results = {image.numpy().tobytes() for image in Policy(name)(same, draws(0, 200))}
    # AutoAugment has 25 pairs with signs and omissions, RandAugment 14 operations of which 9 have a sign, squared.
    assert len(results) > 30


@pytest.mark.parametrize("crop", ["pad", "none", "resized"])
def test_a_share_of_a_batch_is_changed_as_in_the_whole(crop: str) -> None:
    augment = Augment(
        Shape(12, 12, 3), crop, 2 if crop == "pad" else 0, True, 4, [0.5] * 3, [0.25] * 3, Policy("randaugment")
    )  # type: ignore[call-overload]
    whole = augment.early(IMAGES, draws())
    rows = [3, 40, 41, 63]
    assert torch.equal(augment.early(IMAGES[rows], draws(rows=rows)), whole[rows])
    generator = seeded()
    parts = augment.early(IMAGES[rows], Draws(generator, len(IMAGES), torch.tensor(rows)))
    whole[rows] = parts
    assert torch.equal(augment.late(whole, generator), augment(IMAGES, seeded())), "the generator has moved as far"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_moved_out_leaves_grey(name: PolicyName) -> None:
    white = torch.full((300, 3, 16, 16), 255, dtype=torch.uint8)
    corners = Policy(name, 1, 20)(white, draws(0, 300))[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 128).all(dim=1).any(), "rotations and shifts fill with 128"


def test_randaugment_of_magnitude_0_equalises_and_stretches_only() -> None:
    """At magnitude 0 all of the 14 operations but AutoContrast and Equalize leave images without 255 as they are."""
    images = IMAGES.clamp(max=254).repeat(10, 1, 1, 1)
    results = Policy("randaugment", 1, 0)(images, draws(0, 640))
    changed = (results != images).flatten(1).any(dim=1)
    # 640 draws of 2 in 14: 91 are expected, with a standard deviation of 9.
    assert 55 < changed.sum() < 130
    before, after = ((part.flatten(2).amax(2).int() - part.flatten(2).amin(2)).sum(dim=1) for part in (images, results))
    assert (after[changed] > before[changed]).all(), "the range of the channels grows"


def test_operations_and_magnitude_reach_randaugment_and_strengthen_it() -> None:
    def distance(operations: int, magnitude: int) -> float:
        results = Policy("randaugment", operations, magnitude)(IMAGES, draws())
        return (results.float() - IMAGES.float()).abs().mean().item()

    assert distance(1, 3) < distance(1, 25)
    assert distance(1, 9) < distance(4, 9)


class Recorder(Policy):
    """Keeps what it is given and returns it as it is."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []

    def __call__(self, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        self.seen.append(images.clone())
        return images


@pytest.mark.parametrize("crop", ["pad", "none", "resized"])
def test_the_policy_comes_after_crop_and_mirror_and_before_the_cutout(crop: str) -> None:
    shape, mean, std = Shape(12, 12, 3), [0.5] * 3, [0.25] * 3
    pad = 2 if crop == "pad" else 0
    recorder = Recorder()
    augment = Augment(shape, crop, pad, True, 4, mean, std, recorder)  # type: ignore[arg-type]
    result = augment(IMAGES, seeded())
    plain = Augment(shape, crop, pad, True, 0, mean, std)(IMAGES, seeded())  # type: ignore[arg-type]
    (seen,) = recorder.seen
    assert (seen.dtype, tuple(seen.shape[1:])) == (torch.uint8, (3, 12, 12))
    pixels = 255 * (0.25 * plain + 0.5)
    # Resized crops interpolate: a policy gets their values rounded.
    assert (seen - pixels).abs().max() <= 0.5001 if crop == "resized" else (seen - pixels).abs().max() < 1e-3
    blank = (result == 0).all(dim=1)
    assert ((blank.sum(dim=(1, 2)) >= 4) & (blank.sum(dim=(1, 2)) <= 20)).all()
    assert torch.allclose(result[:, 0][~blank], ((seen / 255 - 0.5) / 0.25)[:, 0][~blank], atol=1e-5)


def test_evaluation_knows_no_policy() -> None:
    recorder = Recorder()
    Augment(Shape(16, 16, 3), "none", 0, False, 0, [0.5] * 3, [0.25] * 3, recorder)(IMAGES)
    assert recorder.seen == []


def test_a_policy_changes_what_is_trained_on() -> None:
    arguments = (Shape(16, 16, 3), "none", 0, False, 0, [0.0] * 3, [1 / 255] * 3)
    result = Augment(*arguments, Policy("autoaugment-cifar10"))(IMAGES, seeded())  # type: ignore[arg-type]
    assert torch.equal(result, Policy("autoaugment-cifar10")(IMAGES, draws()).float())


def test_importing_the_module_does_not_import_torchvision() -> None:
    """That takes seconds; inside of `__init__` only trainings with a policy pay for it."""
    top = [node for node in ast.parse(inspect.getsource(policy)).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert "torchvision" in inspect.getsource(policy.Policy.__init__)
    assert [ast.unparse(node) for node in top if "torchvision" in ast.unparse(node)] == []
