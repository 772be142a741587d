"""Learned and random augmentation policies: AutoAugment and RandAugment, by torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imbnas.data.draws import Draws

PolicyName = Literal["autoaugment-cifar10", "autoaugment-imagenet", "autoaugment-svhn", "randaugment"]

# Grey, as the ports of AutoAugment in long-tailed codes fill what a rotation or a shift leaves empty.
_FILL = 128


class Policy:
    """Changes each image of a batch by operations drawn for it: rotations, shifts, colours, contrast and the like.

    AutoAugment (Cubuk et al. 2019) draws one of the 25 learned pairs of operations of a dataset's table, RandAugment
    (Cubuk et al. 2020) `operations` of 14 at one `magnitude`. Grey images work too: what changes saturation leaves them
    as they are.
    """

    def __init__(self, name: PolicyName, operations: int = 2, magnitude: int = 9) -> None:
        """Take the policy; `operations` (at least 1) and `magnitude` (0 to 30) are RandAugment's alone."""
        # The import takes seconds, which trainings without a policy need not spend.
        from torchvision.transforms import AutoAugment, AutoAugmentPolicy, RandAugment

        self._transform: Callable[[Image.Image], Image.Image]
        if name == "randaugment":
            self._transform = RandAugment(operations, magnitude, fill=_FILL)
        else:
            self._transform = AutoAugment(AutoAugmentPolicy(name.removeprefix("autoaugment-")), fill=_FILL)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return images uint8 (N, 1 or 3, H, W) changed, on their device.

        torchvision draws from torch's global generator: each image seeds it with a number of its own from `draws`, and
        afterwards it is put back. The work is done on the CPU, image by image, by PIL, which is up to five times faster
        here than torchvision's tensor operations and gives every device the same bytes.
        """
        seeds = draws.integers(2**63 - 1).tolist()
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()
        with torch.random.fork_rng(devices=[]):
            changed = [self._change(array, seed) for array, seed in zip(arrays, seeds, strict=True)]
        stacked = torch.from_numpy(np.array(changed, dtype=np.uint8).reshape(arrays.shape))
        return stacked.permute(0, 3, 1, 2).contiguous().to(images.device)

    def _change(self, array: np.ndarray, seed: int) -> np.ndarray:
        # torch.manual_seed would seed the generators of the GPUs too.
        torch.default_generator.manual_seed(seed)
        grey = array.shape[2] == 1
        return np.asarray(self._transform(Image.fromarray(np.ascontiguousarray(array[..., 0] if grey else array))))
