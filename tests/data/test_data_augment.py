from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from imbnas.data.augment import Augment, load_side, resolve_augment
from imbnas.data.raw import Shape, resize_rule
from imbnas.errors import UserError

torch.set_num_threads(1)

SHAPE = Shape(8, 6, 3)
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.25, 0.3]
# Normalisation that returns the pixel values 0..255 themselves.
PLAIN = {"mean": [0.0] * 3, "std": [1 / 255] * 3}


def images_of(count: int, height: int = 8, width: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(crop="none", pad=0, flip=False, cutout=0, shape=SHAPE, mean=MEAN, std=STD) -> Augment:
    return Augment(shape, crop, pad, flip, cutout, mean, std)


def test_evaluation_normalises_and_nothing_else():
    images = images_of(5)
    for augment in (make("pad", 2, True, 4), make("resized", 0, True), make()):
        result = augment(images)
        assert result.dtype == torch.float32
        expected = (images.double() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
        torch.testing.assert_close(result, expected.float(), atol=1e-5, rtol=1e-5)


def test_evaluation_cuts_the_centre_of_larger_images():
    images = images_of(4, 12, 11)
    torch.testing.assert_close(make(**PLAIN)(images), images[:, :, 2:10, 2:8].float())


def test_smaller_images_are_refused():
    with pytest.raises(ValueError, match=r"images are \(7, 6\), expected at least \(8, 6\)"):
        make()(images_of(2, 7, 6))


def reference_window(image: np.ndarray, pad: int, top: int, left: int, mirrored: bool) -> np.ndarray:
    padded = np.zeros((3, 8 + 2 * pad, 6 + 2 * pad), np.uint8)
    padded[:, pad : 8 + pad, pad : 6 + pad] = image
    cut = padded[:, top : top + 8, left : left + 6]
    return cut[:, :, ::-1] if mirrored else cut


@given(seed=st.integers(0, 999), pad=st.integers(0, 4), flip=st.booleans())
@settings(deadline=None, max_examples=40)
def test_padded_crop_is_that_of_a_loop_over_images(seed, pad, flip):
    images = images_of(9)
    result = make("pad", pad, flip, **PLAIN)(images, seeded(seed))
    draws = seeded(seed)
    if pad == 0 and not flip:
        tops = lefts = torch.zeros(9, dtype=torch.int64)
    else:
        tops = torch.randint(0, 2 * pad + 1, (9,), generator=draws)
        lefts = torch.randint(0, 2 * pad + 1, (9,), generator=draws)
    coins = torch.randint(0, 2, (9,), generator=draws) if flip else torch.zeros(9)
    for k in range(9):
        expected = reference_window(images[k].numpy(), pad, int(tops[k]), int(lefts[k]), bool(coins[k]))
        np.testing.assert_allclose(result[k].numpy(), expected, atol=1e-4)


def test_every_offset_and_half_of_the_mirrors_occur():
    image = torch.arange(1, 4 * 4 + 1, dtype=torch.uint8).view(1, 1, 4, 4)
    augment = Augment(Shape(4, 4, 1), "pad", 1, True, 0, [0.0], [1 / 255])
    result = augment(image.expand(18_000, 1, 4, 4), seeded()).round().to(torch.int64)
    kinds, counts = result.flatten(1).unique(dim=0, return_counts=True)
    # 9 offsets, each mirrored or not: 1000 of each expected, standard deviation 31.
    assert len(kinds) == 18
    assert (counts - 1000).abs().max() < 5 * 31


@pytest.mark.parametrize("options", [{}, {"crop": "pad", "pad": 2}, {"flip": True}, {"cutout": 3}])
@pytest.mark.parametrize("size", [(8, 6), (10, 9)])
def test_numbers_drawn_ahead_place_what_a_call_draws(options, size):
    augment, images = make(**{"crop": "none", **options}), images_of(9, *size)
    expected = augment(images, seeded(7))
    assert augment.indexed
    assert torch.equal(augment.placed(images, augment.drawn(seeded(7), 9, *size)), expected)


def test_same_generator_same_images():
    images = images_of(16)
    for augment in (make("pad", 2, True, 3), make("resized", 0, True, 3)):
        first = augment(images, seeded(4))
        assert torch.equal(first, augment(images, seeded(4)))
        assert not torch.equal(first, augment(images, seeded(5)))
        before = torch.get_rng_state()
        augment(images, seeded(4))
        assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("side", [1, 3, 4, 20])
def test_cutout_blanks_one_clipped_square(side):
    images = images_of(200)
    plain = make()(images)
    result = make(cutout=side)(images, seeded(1))
    draws = seeded(1)
    ys = torch.randint(0, 8, (200,), generator=draws).tolist()
    xs = torch.randint(0, 6, (200,), generator=draws).tolist()
    for k, (y, x) in enumerate(zip(ys, xs, strict=True)):
        expected = plain[k].clone()
        top, left = y - side // 2, x - side // 2
        expected[:, max(0, top) : top + side, max(0, left) : left + side] = 0
        assert torch.equal(result[k], expected)


def test_resized_crop_stays_within_the_pixels():
    images = images_of(300, 10, 9)
    result = make("resized", flip=True, **PLAIN)(images, seeded())
    assert result.shape == (300, 3, 8, 6)
    low, high = images.flatten(2).amin(2).float(), images.flatten(2).amax(2).float()
    assert (result.flatten(2).amin(2) >= low - 1e-2).all()
    assert (result.flatten(2).amax(2) <= high + 1e-2).all()


def test_resized_crop_takes_regions_of_the_drawn_area():
    # The value of a pixel is its place, so that the corners of the result tell the region.
    ramp = torch.arange(120, dtype=torch.uint8)
    size = (120, 100)
    images = torch.stack([ramp[:100].expand(size), ramp[:, None].expand(size)]).expand(1500, 2, *size)
    augment = Augment(Shape(25, 25, 2), "resized", 0, False, 0, [0.0] * 2, [1 / 255] * 2)
    result = augment(images, seeded(2))
    width = (result[:, 0, 0, -1] - result[:, 0, 0, 0]) * 25 / 24
    height = (result[:, 1, -1, 0] - result[:, 1, 0, 0]) * 25 / 24
    area, ratio = width * height / 12_000, width / height
    assert 0.07 < area.min() < 0.09
    assert area.max() > 0.97
    assert 0.49 < area.median() < 0.57
    inner = area < 0.5
    assert ratio[inner].min() > 0.74
    assert ratio[inner].max() < 1.35
    assert 0.95 < ratio.log().mean().exp() < 1.05
    left = result[:, 0, 0, 0][area < 0.2]
    assert left.min() < 10
    assert left.max() > 50


def test_full_region_of_the_same_size_is_the_image(monkeypatch):
    monkeypatch.setattr("imbnas.data.augment._AREA", (1.0, 1.0))
    monkeypatch.setattr("imbnas.data.augment._RATIO", (1.0, 1.0))
    images = images_of(3, 8, 8)
    augment = Augment(Shape(8, 8, 3), "resized", 0, False, 0, **PLAIN)
    torch.testing.assert_close(augment(images, seeded()), images.float(), atol=1e-3, rtol=0)
    smaller = Augment(Shape(4, 4, 3), "resized", 0, False, 0, **PLAIN)(images, seeded())
    torch.testing.assert_close(smaller, F.interpolate(images.float(), size=(4, 4), mode="bilinear"), atol=1e-3, rtol=0)


def test_resized_crop_mirrors_half():
    images = torch.arange(0, 240, 8, dtype=torch.uint8).expand(2000, 1, 30, 30)
    augment = Augment(Shape(10, 10, 1), "resized", 0, True, 0, [0.0], [1.0])
    result = augment(images, seeded(3))
    mirrored = int((result[:, 0, 0, 0] > result[:, 0, 0, -1]).sum())
    assert abs(mirrored - 1000) < 5 * 22.4


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("auto", "auto", "auto", True, "array", 32), ("pad", 4, True)),
        (("auto", "auto", "auto", False, "array", 8), ("pad", 1, False)),
        (("auto", "auto", "auto", False, "array", 4), ("pad", 1, False)),
        (("auto", "auto", "auto", True, "paths", 224), ("resized", 0, True)),
        (("pad", 2, False, True, "paths", 64), ("pad", 2, False)),
        (("pad", 0, True, False, "array", 8), ("pad", 0, True)),
        (("none", "auto", True, False, "array", 28), ("none", 0, True)),
    ],
)
def test_auto_augmentation(arguments, expected):
    assert resolve_augment(*arguments) == expected


def test_padding_without_a_padded_crop_is_refused():
    with pytest.raises(UserError, match=r"augment\.pad: found 4 with crop resized"):
        resolve_augment("auto", 4, "auto", True, "paths", 224)


def test_load_side():
    assert (load_side("cover", 224), load_side("exact", 224), load_side("pad", 32)) == (256, 224, 32)
    assert [resize_rule("auto", side) for side in (8, 96, 97, 224)] == ["exact", "exact", "cover", "cover"]
    assert resize_rule("pad", 224) == "pad"


@pytest.mark.cuda
def test_the_gpu_draws_alike():
    images = images_of(32, 10, 9)
    for augment in (make("pad", 2, True, 4), make("resized", 0, True, 4), make("none", 0, True)):
        cpu, gpu = augment(images, seeded()), augment(images.cuda(), seeded())
        torch.testing.assert_close(cpu, gpu.cpu(), atol=1e-4, rtol=1e-4)
