"""The supernet that `supernet.reuse` names, held against the parameters before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imbnas.data.checkpoint_file import PIXELS, is_checkpoint, torch_cache
from imbnas.data.raw import resize_rule
from imbnas.data.supernet_file import NAME, reused_meta
from imbnas.errors import UserError
from imbnas.files import digest_file
from imbnas.params.dataset import PATH_DATASETS
from imbnas.params.section import short
from imbnas.params.space_options import SpaceParams
from imbnas.params.supernet import SupernetParams
from imbnas.params.target import TargetParams


def check_reused(supernet: SupernetParams, space: SpaceParams, target: TargetParams, root: Path) -> str | None:
    """Return the SHA-256 of the file that `supernet.reuse` names, None where it names none.

    Raises UserError with one line, which says what was found in the file and what was expected, for one that is
    damaged, of another digest, space or way of sampling paths, or for other images than the target's.
    """
    if supernet.reuse is None:
        return None
    path = root / supernet.reuse
    if space.name == "torchvision" and not path.exists() and (cached := torch_cache() / path.name).exists():
        raise UserError(f"{NAME}: {path}: not found, expected the file that torch's cache has: cp {cached} {path}")
    published = is_checkpoint(path)
    if published and not space.reads_checkpoints:
        raise UserError(
            f"{NAME}: {path}: a checkpoint of torch in the space {space.name}, expected models/supernet.safetensors of "
            "another project, or the spaces ofa-mobilenetv3 and torchvision, which read published ones"
        )
    meta = PIXELS if published else reused_meta(path)
    digest = digest_file(path)
    if supernet.reuse_sha256 not in (None, digest):
        raise UserError(f"{NAME}: {path}: has the SHA-256 {digest}, expected {supernet.reuse_sha256} (reuse_sha256)")
    of_space = () if published else _of_space(meta, supernet, space)
    for fault in (*of_space, *_of_images(meta, space, target)):
        raise UserError(f"{NAME}: {path}: {fault}")
    return digest


def _of_space(meta: dict[str, Any], supernet: SupernetParams, space: SpaceParams) -> Iterator[str]:
    """Yield where the file's space, and what a pass through it takes, are not the parameters'."""
    ours, theirs = space.described, meta["space"]
    for name in sorted({*ours, *theirs}, key=lambda name: (name != "name", name)):
        if ours.get(name) != theirs.get(name):
            yield f"its space.{name} is {short(theirs.get(name))}, expected {short(ours.get(name))}"
    found = meta["recipe"].get("sampling")
    if (found == "mixture") != (supernet.sampling == "mixture"):
        wanted = "mixture" if supernet.sampling == "mixture" else "paths, as uniform, fair or sandwich draw them"
        yield f"was trained with sampling {found}, expected {wanted} (supernet.sampling)"


def _of_images(meta: dict[str, Any], space: SpaceParams, target: TargetParams) -> Iterator[str]:
    """Yield where the images that the file's network takes are not the target's; most spaces take any size."""
    height, width, channels = meta["shape"]
    expected = target.shape
    if channels != expected[2]:
        yield f"takes images of {channels} channels, expected {expected[2]} (target.channels)"
    if (height, width) != expected[:2] and not space.size_free:
        yield f"takes images of {height} x {width} pixels, expected {expected[0]} x {expected[1]} (target.image_size)"
    if meta.get("kind_of_images") == "paths" and target.dataset in PATH_DATASETS:
        rules = {
            "resize": (meta.get("resize", "exact"), resize_rule(target.resize, expected[0])),
            "exif_rotation": (meta.get("exif_rotation", True), target.exif_rotation),
        }
        for name, (found, wanted) in rules.items():
            if found != wanted:
                yield f"read its images with {name} {short(found)}, expected {short(wanted)} (target.{name})"
