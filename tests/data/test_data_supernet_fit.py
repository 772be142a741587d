"""A supernet of another project that does not fit is told in one line: the file, what was found, what was expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from imbnas.data.supernet_fit import check_reused
from imbnas.errors import UserError
from imbnas.files import digest_file
from imbnas.params.config import parse
from imbnas.training.checkpoint import save_weights

FILE = "supernets/a.safetensors"
PHOTOS = {"dataset": "folder", "root": "datasets/a", "image_size": 8, "channels": 1}

DARTS = {"space": {"name": "darts"}, "supernet": {"sampling": "uniform"}, "adapt": {"sampling": "uniform"}}


def meta(**changes: Any) -> dict[str, Any]:
    """Return what the step `supernet` writes of a supernet on digits, with changes."""
    recipe = {"epochs": 3, "sampling": "fair"}
    images = {"classes": ["a", "b"], "shape": [8, 8, 1], "mean": [0.5], "std": [0.5], "load_side": 8}
    found: dict[str, Any] = {"kind": "supernet", "step": "supernet", "space": parse({}, "p").space.described}
    found |= {"dataset": "digits", "digests": {}, "recipe": recipe, **images, "kind_of_images": "array"}
    return {**found, **changes}


def write(root: Path, **changes: Any) -> Path:
    file = root / FILE
    save_weights(file, {"stem": torch.arange(40.0)}, meta(**changes))
    return file


def checked(root: Path, **sections: Any) -> str | None:
    sections["supernet"] = {"reuse": FILE, **sections.get("supernet", {})}
    params = parse(sections, "p.yaml")
    return check_reused(params.supernet, params.space, params.target, root)


def told(root: Path, **sections: Any) -> str:
    with pytest.raises(UserError) as caught:
        checked(root, **sections)
    text = str(caught.value)
    assert text.startswith(f"supernet.reuse: {root / FILE}: ")
    assert "\n" not in text
    return text.removeprefix(f"supernet.reuse: {root / FILE}: ")


def test_a_file_that_fits_is_known_by_its_digest(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert checked(tmp_path) == digest_file(file)
    assert checked(tmp_path, supernet={"reuse_sha256": digest_file(file), "sampling": "uniform"}) == digest_file(file)
    params = parse({}, "p.yaml")
    assert check_reused(params.supernet, params.space, params.target, tmp_path) is None


def test_an_absent_file(tmp_path: Path) -> None:
    assert told(tmp_path) == "No such file or directory, expected a file"


@pytest.mark.parametrize("cut", [0, 4, 30, -1])
def test_a_cut_file(tmp_path: Path, cut: int) -> None:
    file = write(tmp_path)
    file.write_bytes(file.read_bytes()[:cut])
    assert "not a whole safetensors file" in told(tmp_path)


def test_a_changed_weight_is_seen_where_the_digest_is_known(tmp_path: Path) -> None:
    file = write(tmp_path)
    known, content = digest_file(file), bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert checked(tmp_path) != known
    found = told(tmp_path, supernet={"reuse_sha256": known})
    assert found == f"has the SHA-256 {digest_file(file)}, expected {known} (reuse_sha256)"


@pytest.mark.parametrize(
    ("changes", "sections", "message"),
    [
        ({"kind": "subnet"}, {}, "holds a subnet of the step supernet, expected a trained supernet: models/supernet"),
        ({"step": "adapt"}, {}, "holds a supernet of the step adapt, expected a trained supernet: models/supernet"),
        ({"recipe": {"epochs": 0, "sampling": "fair"}}, {}, "was trained for 0 epochs, expected a trained supernet"),
        ({"classes": []}, {}, "its metadata: classes: found [], expected at least 1 entries; expected a network"),
        ({}, {"space": {"last_channels": 99}}, "its space.last_channels is "),
        ({}, {"space": {"name": "mobile"}}, "its space.name is text 'shufflenet', expected text 'mobile'"),
        (
            {"recipe": {"epochs": 3, "sampling": "mixture"}},
            {},
            "was trained with sampling mixture, expected paths, as uniform, fair or sandwich draw them",
        ),
        ({}, {"target": {"channels": 3}}, "takes images of 1 channels, expected 3 (target.channels)"),
        (
            {"space": parse(DARTS, "p").space.described},
            {**DARTS, "target": {"image_size": 16}},
            "takes images of 8 x 8 pixels, expected 16 x 16 (target.image_size)",
        ),
        (
            {"kind_of_images": "paths", "resize": "pad", "exif_rotation": True},
            {"target": PHOTOS},
            "read its images with resize text 'pad', expected text 'exact' (target.resize)",
        ),
        (
            {"kind_of_images": "paths", "resize": "exact", "exif_rotation": True},
            {"target": {**PHOTOS, "exif_rotation": False}},
            "read its images with exif_rotation true, expected false (target.exif_rotation)",
        ),
    ],
)
def test_what_does_not_fit(tmp_path: Path, changes: dict[str, Any], sections: dict[str, Any], message: str) -> None:
    write(tmp_path, **changes)
    assert told(tmp_path, **sections).startswith(message)


def test_another_size_fits_where_networks_take_any(tmp_path: Path) -> None:
    file = write(tmp_path)
    assert checked(tmp_path, target={"image_size": 16}) == digest_file(file)


def test_how_arrays_became_squares_is_not_compared_with_files(tmp_path: Path) -> None:
    write(tmp_path)
    assert checked(tmp_path, target={**PHOTOS, "resize": "pad"})


@pytest.mark.parametrize("name", ["a.safetensors", "../supernets/a", "supernets/../a", "supernets/{a}"])
def test_a_file_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^p\.yaml: supernet\.reuse: found .*expected a file below supernets/"):
        parse({"supernet": {"reuse": name}}, "p.yaml")


def test_a_digest_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"^p\.yaml: supernet\.reuse_sha256 is 0+ and reuse is null, expected the file"):
        parse({"supernet": {"reuse_sha256": "0" * 64}}, "p.yaml")


def test_parameters_that_need_a_source_need_none_beside_it() -> None:
    photos = {"dataset": "folder", "root": "datasets/a", "image_size": 8}
    whole = {"source": {"share": 1.0}, "retrain": {"init": "handed"}, "supernet": {"epochs": 0}}
    for tree in ({"target": photos}, whole):
        with pytest.raises(UserError):
            parse(tree, "p.yaml")
        parse({**tree, "supernet": {**tree.get("supernet", {}), "reuse": FILE}}, "p.yaml")
