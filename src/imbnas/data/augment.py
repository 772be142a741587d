"""Normalisation and training-time augmentation of a whole batch on its device.

Only a policy (`policy.py`) loops over images, on the processor and so maybe ahead of time, in other processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from imbnas.data.draws import Draws
from imbnas.data.policy import Policy
from imbnas.data.raw import Resize, Shape
from imbnas.errors import UserError

Crop = Literal["pad", "resized", "none"]

# Area and aspect ratio of a resized crop (Szegedy et al. 2015).
_AREA = (0.08, 1.0)
_RATIO = (3 / 4, 4 / 3)


class Resolved(NamedTuple):
    """Concrete augmentation: the crop, its padding in pixels, and whether half of the images are mirrored."""

    crop: Crop
    pad: int
    flip: bool


def resolve_augment(crop: str, pad: int | str, flip: bool | str, photographs: bool, kind: str, side: int) -> Resolved:
    """Replace "auto": files ("paths") take resized crops and arrays padded ones, by an eighth of the side (at least 1).

    Photographs are mirrored. Raises UserError for padding that the chosen crop would not use.
    """
    chosen: Crop = "resized" if kind == "paths" else "pad"
    if crop != "auto":
        chosen = crop  # type: ignore[assignment]
    if chosen != "pad" and pad != "auto":
        raise UserError(f"augment.pad: found {pad} with crop {chosen}, expected auto: only the crop pad uses it")
    pixels = max(1, side // 8) if pad == "auto" else int(pad)
    return Resolved(chosen, pixels if chosen == "pad" else 0, photographs if flip == "auto" else bool(flip))


def load_side(resize: Resize, side: int) -> int:
    """Return the side in pixels at which image files are read for a network's input of `side` pixels.

    `cover` takes 8/7 of it, so that 224 is cut from 256: in training at random, in evaluation from the centre.
    """
    return round(side * 8 / 7) if resize == "cover" else side


class Augment:
    """Turns uint8 images into the network's normalised input."""

    def __init__(
        self,
        shape: Shape,
        crop: Crop,
        pad: int,
        flip: bool,
        cutout: int,
        mean: Sequence[float],
        std: Sequence[float],
        policy: Policy | None = None,
    ) -> None:
        """Take the network's input shape and how to get there.

        `crop` "pad" adds `pad` black pixels on each side and cuts at a random offset; "resized" scales a random region
        of 8 to 100 % of the area; "none" cuts the centre. `flip` mirrors half of the images. `cutout` is the side in
        pixels of a square set to the mean colour around a random pixel (DeVries and Taylor 2017); 0 for none. `mean`
        and `std` are per channel on the scale [0, 1]. A `policy` acts on the cropped and mirrored images, before the
        cutout: the order of Cubuk et al. 2019 and of the long-tailed recipes after them.
        """
        self.shape, self.crop, self.pad, self.flip, self.cutout = shape, crop, pad, flip, cutout
        self.policy = policy
        # One multiplication and one addition a pixel; the constants are rounded once, from float64.
        middle, spread = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
        here = (1 / (255 * spread)).float(), (-middle / spread).float()
        self._scales: dict[torch.device, tuple[Tensor, Tensor]] = {torch.device("cpu"): here}
        self._windows: dict[tuple[torch.device, int], Tensor] = {}

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return images uint8 (N, C, H', W') as float32 (N, C, H, W), normalised.

        With a generator (on the CPU) they are augmented; the same generator state gives the same result. Without one
        nothing is random: larger images are cut to their centre. Raises ValueError for images smaller than the shape.
        """
        height, width = self.shape.height, self.shape.width
        if images.shape[2] < height or images.shape[3] < width:
            raise ValueError(f"images are {tuple(images.shape[2:])}, expected at least {(height, width)}")
        if generator is None:
            return self._normalise(_centre(images, height, width))
        return self.late(self.early(images, Draws(generator, len(images))), generator)

    def early(self, images: Tensor, draws: Draws) -> Tensor:
        """Return what a policy makes of images uint8 (N, C, H', W'), uint8 (N, C, H, W); without one the images.

        This first part of an augmentation may be done for some rows of a batch, for which `draws` draws.
        """
        if self.policy is None:
            return images
        images = self._cut(images, draws)
        return self.policy(images if images.dtype == torch.uint8 else images.round().to(torch.uint8), draws)

    def late(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return the network's input for what `early` returned of a whole batch; the generator has done its draws."""
        if self.policy is None:
            images = self._cut(images, Draws(generator, len(images)))
        square = self._square_drawn(Draws(generator, len(images)))
        return self._squared(self._normalise(images), None if square is None else _moved(square, images.device))

    @property
    def indexed(self) -> bool:
        """Whether an augmentation is a function of whole numbers, which `drawn` draws before the images are there."""
        return self.policy is None and self.crop != "resized"

    def drawn(self, generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
        """Return all numbers (K, N), int64, that a call draws for N images of that size; `indexed` alone has them."""
        draws = Draws(generator, count)
        parts = [self._window_drawn(*self._whole(height, width), draws), self._square_drawn(draws)]
        found = [part for part in parts if part is not None]
        return torch.cat(found) if found else torch.empty((0, count), dtype=torch.int64)

    def placed(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Return what a call returns for images that drew these numbers (K, N), on the images' device."""
        images = self._uncut(images)
        if self._cuts(*images.shape[2:]):
            images, drawn = self._windowed(images, drawn[:2]), drawn[2:]
        return self._squared(self._normalise(images), drawn)

    def _cut(self, images: Tensor, draws: Draws) -> Tensor:
        if self.crop == "resized":
            return self._resized(images, draws)
        whole = self._uncut(images)
        height, width = whole.shape[2:]
        drawn = self._window_drawn(height, width, draws)
        return whole if drawn is None else self._windowed(whole, _moved(drawn, images.device))

    def _uncut(self, images: Tensor) -> Tensor:
        """Return that of images of which windows are cut at random."""
        return _centre(images, self.shape.height, self.shape.width) if self.crop == "none" else images

    def _whole(self, height: int, width: int) -> tuple[int, int]:
        return (self.shape.height, self.shape.width) if self.crop == "none" else (height, width)

    def _normalise(self, images: Tensor) -> Tensor:
        if images.device not in self._scales:
            scale, shift = self._scales[torch.device("cpu")]
            self._scales[images.device] = scale.to(images.device), shift.to(images.device)
        scale, shift = self._scales[images.device]
        return (images * scale).add_(shift)

    def _cuts(self, height: int, width: int) -> bool:
        return bool(self.pad or self.flip or (height, width) != (self.shape.height, self.shape.width))

    def _window_drawn(self, height: int, width: int, draws: Draws) -> Tensor | None:
        """Return where each image's window begins, and whether it is mirrored (2, N); None where nothing is cut."""
        if not self._cuts(height, width):
            return None
        height, width = height + 2 * self.pad, width + 2 * self.pad
        tops = draws.integers(height - self.shape.height + 1)
        lefts = draws.integers(width - self.shape.width + 1)
        coins = draws.integers(2) if self.flip else torch.zeros_like(tops)
        return torch.stack([tops * width + lefts, coins])

    def _windowed(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Cut a window from each padded image, mirrored or not, in one gather."""
        count, channels = images.shape[:2]
        padded = F.pad(images, (self.pad,) * 4) if self.pad else images
        width = padded.shape[3]
        starts, coins = drawn
        # Where the pixels of the window at the origin lie, and those of its mirror image.
        if (key := (images.device, width)) not in self._windows:
            columns = torch.arange(self.shape.width)
            rows = torch.arange(self.shape.height)[:, None] * width
            both = torch.stack([rows + columns, rows + columns.flip(0)]).flatten(1)
            self._windows[key] = both.to(images.device)
        index = (self._windows[key].index_select(0, coins) + starts[:, None]).unsqueeze(1)
        cut = padded.flatten(2).gather(2, index.expand(-1, channels, -1))
        return cut.view(count, channels, self.shape.height, self.shape.width)

    def _resized(self, images: Tensor, draws: Draws) -> Tensor:
        """Scale a random region of each image to the shape, bilinearly: float32 values on the scale 0..255.

        A region that would be longer than the image is cut to its side, where Szegedy et al. draw again.
        """
        count, _, height, width = images.shape
        area = draws.uniform(*_AREA)
        aspect = draws.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])).exp()
        part_y = (area / aspect * width / height).sqrt().clamp(max=1.0)
        part_x = (area * aspect * height / width).sqrt().clamp(max=1.0)
        top = (1 - part_y) * draws.uniform(0.0, 1.0)
        left = (1 - part_x) * draws.uniform(0.0, 1.0)
        ys = top[:, None] + part_y[:, None] * _centres(self.shape.height)
        xs = left[:, None] + part_x[:, None] * _centres(self.shape.width)
        if self.flip:
            xs = torch.where(draws.coins()[:, None], xs.flip(1), xs)
        size = (count, self.shape.height, self.shape.width)
        grid = torch.stack([xs[:, None, :].expand(size), ys[:, :, None].expand(size)], dim=3) * 2 - 1
        return F.grid_sample(
            images.to(torch.float32),
            _moved(grid.to(torch.float32), images.device),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )

    def _square_drawn(self, draws: Draws) -> Tensor | None:
        """Return where the square around a random pixel of each image begins (2, N); None for no square."""
        if not self.cutout:
            return None
        pixels = torch.stack([draws.integers(self.shape.height), draws.integers(self.shape.width)])
        return pixels - self.cutout // 2

    def _squared(self, images: Tensor, drawn: Tensor | None) -> Tensor:
        """Set a square of each image to zero, which is the mean colour."""
        if drawn is None or not self.cutout:
            return images
        height, width = images.shape[2:]
        tops, lefts = drawn
        rows = _inside(tops, self.cutout, height)[:, None, :, None]
        columns = _inside(lefts, self.cutout, width)[:, None, None, :]
        return images.masked_fill(rows & columns, 0.0)


def _moved(drawn: Tensor, device: torch.device) -> Tensor:
    """Take what was drawn to the device without waiting for it: the copy has its own place in the device's queue."""
    return drawn.to(device, non_blocking=True)


def _centres(size: int) -> Tensor:
    """Return the centres of `size` pixels on the scale 0..1."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) / size


def _inside(start: Tensor, length: int, size: int) -> Tensor:
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < start[:, None] + length)


def _centre(images: Tensor, height: int, width: int) -> Tensor:
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]
