"""Device, precision, threads and determinism, set once at the start of a step."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import AbstractContextManager
from typing import cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from torch import Tensor, nn

from imbnas.errors import UserError
from imbnas.params.shared import Numerics, TrainingNumerics
from imbnas.training.ranks import Ranks

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt."""


class Runtime:
    """The arithmetic's setting, carried by Lightning Fabric.

    Setting threads and determinism is global to the process: a step makes one Runtime and keeps it.
    """

    def __init__(self, numerics: Numerics) -> None:
        """Set threads and determinism; raise UserError when CUDA is asked for and absent."""
        if numerics.device == "cuda" and not torch.cuda.is_available():
            raise UserError("runtime.device: found 'cuda' on a machine where torch sees none, expected 'auto' or 'cpu'")
        # cuBLAS reads this when its first handle is made; without it matrix products on CUDA are not repeatable.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        keep_memory()
        torch.set_num_threads(numerics.threads)
        torch.use_deterministic_algorithms(numerics.deterministic)
        # In that mode torch fills new memory before it is written, which shows errors and changes no result.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        accelerator = "auto" if numerics.device == "auto" else numerics.device
        if accelerator == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        precision = "bf16-mixed" if numerics.precision == "bf16" else "32-true"
        processes = numerics.processes if isinstance(numerics, TrainingNumerics) else 1
        self.ranks = Ranks.join(processes, accelerator == "cuda")
        devices = [self.ranks.local] if processes > 1 and accelerator == "cuda" else 1
        # One process, or one of those that `ranks` brings together: Fabric must not take a Slurm job that it finds
        # itself in for a distributed run.
        alone = LightningEnvironment()
        self.fabric = Fabric(accelerator=accelerator, devices=devices, precision=precision, plugins=[alone])  # type: ignore[arg-type]
        self.device = self.fabric.device
        self.layout = torch.channels_last if numerics.channels_last else torch.contiguous_format

    @property
    def device_name(self) -> str:
        """Return the device as a person names it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device in the chosen memory layout."""
        return module.to(device=self.device).to(memory_format=self.layout)  # type: ignore[call-overload]

    def lay_out(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) in the chosen memory layout; features (N, F) have but one."""
        return images if images.ndim != 4 else images.contiguous(memory_format=self.layout)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context in which forward passes run at the chosen precision."""
        return cast(AbstractContextManager[object], self.fabric.autocast())


def keep_memory() -> None:
    """Let the C library keep freed memory for the next tensors instead of handing it back; elsewhere do nothing.

    Each large tensor otherwise comes as fresh pages, which the kernel clears one by one: a quarter of the time of an
    evaluation batch on a CPU. Bits do not change.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_MMAP_MAX, 0)
