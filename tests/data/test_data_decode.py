from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from imbnas.data.decode import convert_array, decode_file
from imbnas.data.raw import Reading, Shape
from imbnas.data.verify import SizeLimit, check_images, fault_of, map_threaded
from imbnas.errors import UserError


def save(tmp_path: Path, image: Image.Image, name: str = "x.png", **options) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def test_same_size_is_read_as_it_is(tmp_path: Path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_file(save(tmp_path, Image.fromarray(pixels)), Reading(9, 3)), pixels)


def test_the_central_square_is_taken(tmp_path: Path):
    pixels = np.zeros((10, 30, 3), dtype=np.uint8)
    pixels[:, 10:20] = 200
    assert (decode_file(save(tmp_path, Image.fromarray(pixels)), Reading(10, 3)) == 200).all()
    assert (decode_file(save(tmp_path, Image.fromarray(pixels.transpose(1, 0, 2))), Reading(10, 3)) == 200).all()


def test_the_same_as_resizing_first_and_cropping_then(tmp_path: Path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 120, 3), dtype=np.uint8))
    plain = image.resize((60, 40), Image.Resampling.BILINEAR).crop((10, 0, 50, 40))
    np.testing.assert_array_equal(decode_file(save(tmp_path, image), Reading(40, 3)), np.asarray(plain))


def test_grey_colour_and_transparency(tmp_path: Path):
    colour = np.zeros((4, 4, 3), np.uint8)
    colour[...] = (200, 100, 50)
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    file = save(tmp_path, Image.fromarray(colour))
    assert decode_file(file, Reading(4, 1)).tolist() == np.full((4, 4, 1), luma).tolist()
    grey = save(tmp_path, Image.fromarray(colour[..., 0]))
    assert decode_file(grey, Reading(4, 3)).tolist() == np.full((4, 4, 3), 200).tolist()
    clear = np.concatenate([colour, np.zeros((4, 4, 1), np.uint8)], axis=2)
    assert (decode_file(save(tmp_path, Image.fromarray(clear, "RGBA")), Reading(4, 3)) == colour).all()


def test_sixteen_bit_grey_keeps_its_high_byte(tmp_path: Path):
    pixels = (np.arange(16, dtype=np.uint16) * 4096 + 17).reshape(4, 4)
    file = save(tmp_path, Image.fromarray(pixels))
    assert decode_file(file, Reading(4, 1))[..., 0].tolist() == (pixels >> 8).tolist()


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_a_viewer_shows_them(tmp_path: Path, name: str, orientation: int) -> None:
    pixels = np.zeros((32, 32, 3), dtype=np.uint8)
    # A light top left quarter: every orientation puts it elsewhere, or turns it about.
    pixels[:16, :16], pixels[:16, 16:] = 240, 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = save(tmp_path, Image.fromarray(pixels), name, exif=exif)
    with Image.open(file) as opened:
        shown = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    found = decode_file(file, Reading(32, 3)).astype(int)
    assert abs(found - shown).max() <= 2
    if name == "x.tif":  # its orientation is part of the format: PIL turns it in any case
        return
    as_it_lies = decode_file(file, Reading(32, 3, upright=False)).astype(int)
    assert abs(as_it_lies - pixels.astype(int)).mean() < 8
    assert (orientation == 1) == (abs(found - as_it_lies).max() <= 2)


def test_padding_keeps_the_whole_picture(tmp_path: Path) -> None:
    file = save(tmp_path, Image.fromarray(np.full((10, 40, 3), 200, np.uint8)))
    square = decode_file(file, Reading(20, 3, pad=True))
    assert square.shape == (20, 20, 3)
    rows = np.flatnonzero((square == 200).all(axis=(1, 2)))
    assert rows.tolist() == [7, 8, 9, 10, 11]
    assert square.sum() == 5 * 20 * 3 * 200
    thin = save(tmp_path, Image.fromarray(np.full((1, 4000, 3), 90, np.uint8)), "thin.png")
    assert decode_file(thin, Reading(20, 1, pad=True)).max() == 90


def test_damaged_rotation_marks_do_not_cost_the_picture(tmp_path: Path) -> None:
    file = save(
        tmp_path, Image.fromarray(np.full((8, 8, 3), 50, np.uint8)), "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"
    )
    assert abs(decode_file(file, Reading(8, 3)).astype(int) - 50).max() <= 2


def test_a_camera_file_of_two_pictures_gives_the_first(tmp_path: Path):
    first, second = (Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (50, 200))
    first.save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[second])
    assert abs(decode_file(tmp_path / "x.jpg", Reading(16, 3)).astype(int) - 50).max() <= 2


def test_a_bad_file_is_named(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(UserError, match=r"x\.png: cannot be read as an image"):
        decode_file(tmp_path / "x.png", Reading(4, 3))
    assert fault_of(tmp_path / "x.png", full=False) is not None


def test_other_formats_are_refused_whatever_their_name(tmp_path: Path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "x.gif")
    (tmp_path / "x.gif").rename(tmp_path / "x.png")
    assert "not an image by its content" in str(fault_of(tmp_path / "x.png", full=False))


def test_the_first_fault_in_order_is_reported(tmp_path: Path):
    good = save(tmp_path, Image.fromarray(np.zeros((4, 4), np.uint8)), "good.png")
    paths = [good.name] * 400 + ["late.png"] + [good.name] * 300 + ["later.png"]
    with pytest.raises(UserError, match=r"row 400: image not found"):
        check_images(tmp_path, paths, True, lambda index: f"row {index}")


def test_threads_keep_the_order():
    items = [str(k) for k in range(1000)]
    assert list(map_threaded(int, items)) == list(range(1000))


def test_grey_is_repeated_and_colour_becomes_luma():
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    grey = convert_array(images, Shape(6, 6, 1))
    np.testing.assert_array_equal(grey[3, ..., 0], np.asarray(Image.fromarray(images[3]).convert("L")))
    back = convert_array(grey, Shape(6, 6, 3))
    np.testing.assert_array_equal(back, np.repeat(grey, 3, axis=3))
    np.testing.assert_array_equal(convert_array(images, Shape(6, 6, 3)), images)


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_pils_bilinear(channels):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, channels), dtype=np.uint8)
    larger = convert_array(images, Shape(20, 20, channels))
    picture = Image.fromarray(images[1].squeeze())
    expected = np.asarray(picture.resize((20, 20), Image.Resampling.BILINEAR)).reshape(20, 20, channels)
    np.testing.assert_array_equal(larger[1], expected)
    assert convert_array(images[:0], Shape(20, 20, 3)).shape == (0, 20, 20, 3)


def test_numbers_beyond_sixteen_bits_are_refused_not_clipped(tmp_path: Path) -> None:
    pixels = (np.arange(16, dtype=np.int32) * 4096).reshape(4, 4)
    found = decode_file(save(tmp_path, Image.fromarray(pixels), "a.tif"), Reading(4, 1))
    assert found[..., 0].tolist() == (pixels >> 8).tolist()
    with pytest.raises(UserError, match=r"b\.tif: .*pixels from 0 to 122880, expected 0 to 65535"):
        decode_file(save(tmp_path, Image.fromarray(pixels * 2), "b.tif"), Reading(4, 1))
    deep = save(tmp_path, Image.fromarray(np.ones((4, 4), np.float32)), "c.tif")
    assert fault_of(deep, full=False) == "pixels are floating-point numbers, expected 8 or 16 bits"


def test_all_bad_images_are_counted_and_twenty_listed(tmp_path: Path) -> None:
    paths = [f"{k}.png" for k in range(400)]
    for name in paths:
        Image.new("L", (4, 4)).save(tmp_path / name)
    for name in paths[7:90]:
        (tmp_path / name).write_text("hello")
    with pytest.raises(UserError) as caught:
        check_images(tmp_path, paths, False, lambda index: f"row {index}")
    line = "row 7: not an image by its content, expected JPEG, PNG, WebP, BMP, PPM, PGM or TIFF"
    assert str(caught.value) == f"{line}; 83 of 400 images are bad, the log names 20"
    assert len(caught.value.details) == 20
    assert caught.value.details[19] == line.replace("7", "26")


def test_a_size_that_is_too_large_is_told_with_its_parameter(tmp_path: Path) -> None:
    Image.new("1", (60, 40)).save(tmp_path / "a.png")
    size = SizeLimit(2399, "target.max_pixels")
    fault = "found 60 x 40 = 2,400 pixels, expected at most 2,399 (target.max_pixels)"
    assert fault_of(tmp_path / "a.png", False, size) == fault
    with pytest.raises(UserError, match=r"a\.png: found 60 x 40"):
        decode_file(tmp_path / "a.png", Reading(8, 1), size)
    assert fault_of(tmp_path / "a.png", True, SizeLimit(2400, "")) is None
