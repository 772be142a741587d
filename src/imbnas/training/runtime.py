"""Device, precision, threads and determinism, set once at the start of a step."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from imbnas.depthwise import mark_tiled
from imbnas.errors import UserError
from imbnas.params.shared import Numerics, TrainingNumerics
from imbnas.training import open_queues
from imbnas.training.gpu_share import keep_to_share
from imbnas.training.ranks import Ranks

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt."""


class Runtime:
    """The arithmetic's setting.

    Setting threads and determinism is global to the process: a step makes one Runtime and keeps it.
    """

    def __init__(self, numerics: Numerics) -> None:
        """Set threads, determinism and precision; raise UserError when CUDA is asked for and absent."""
        open_queues()
        if numerics.device == "cuda" and not torch.cuda.is_available():
            raise UserError("runtime.device: found 'cuda' on a machine where torch sees none, expected 'auto' or 'cpu'")
        cuda = numerics.device == "cuda" or (numerics.device == "auto" and torch.cuda.is_available())
        if numerics.precision == "tf32" and not cuda:
            raise UserError(
                "runtime.precision: found 'tf32' without CUDA, which alone has it, expected 'fp32' or 'bf16'"
            )
        # cuBLAS reads this when its first handle is made; without it matrix products on CUDA are not repeatable.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        keep_memory()
        torch.set_num_threads(numerics.threads)
        # The same as torch.use_deterministic_algorithms, which imports torch's compiler to set it there too.
        torch.set_deterministic_debug_mode("error" if numerics.deterministic else "default")
        # In that mode torch fills new memory before it is written, which shows errors and changes no result.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = False
        if cuda:
            set_rounding("tf32" if numerics.precision == "tf32" else "ieee")
        processes = numerics.processes if isinstance(numerics, TrainingNumerics) else 1
        self.ranks = Ranks.join(processes, cuda)
        self.device = torch.device("cuda", self.ranks.local) if cuda else torch.device("cpu")
        if cuda:
            keep_to_share(self.device)
        self.mixed = numerics.precision == "bf16"
        self.layout = torch.channels_last if numerics.channels_last else torch.contiguous_format
        self._tiled = numerics.channels_last == "tiled"

    @property
    def device_name(self) -> str:
        """Return the device as a person names it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"

    @property
    def records(self) -> bool:
        """Whether trainings play recorded work back: on a GPU, by one process (docs/decisions/0017)."""
        return self.device.type == "cuda" and self.ranks.count == 1

    def place(self, module: nn.Module) -> nn.Module:
        """Move a module to the device in the chosen memory layout, and choose how its gradients are summed."""
        mark_tiled(module, self._tiled)
        return module.to(device=self.device).to(memory_format=self.layout)  # type: ignore[call-overload]

    def seed(self, seed: int) -> None:
        """Seed torch's global generators of the processor and of the device, as `torch.manual_seed` does.

        For devices that are absent that function keeps the caller's stack, each time: half of a small step.
        """
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)

    def lay_out(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W) in the chosen memory layout; features (N, F) have but one."""
        return images if images.ndim != 4 else images.contiguous(memory_format=self.layout)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes run at the chosen precision."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16) if self.mixed else nullcontext()

    def forward(self, model: Callable[..., Any], inputs: Tensor, *arguments: Any) -> Any:
        """Return `model(inputs, *arguments)`, a tensor or several, at the chosen precision and as float32.

        With bf16 the inputs are rounded once, before the first layer.
        """
        if self.mixed:
            inputs = inputs.to(torch.bfloat16)
        with self.autocast():
            outputs = model(inputs, *arguments)
        return tuple(one.float() for one in outputs) if isinstance(outputs, tuple) else outputs.float()


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Let a loss draw from a stream of its own, the same in all processes: all take the loss of the whole batch."""
    generator = torch.default_generator
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(state)


def set_rounding(inputs: Literal["ieee", "tf32"]) -> None:
    """Set how CUDA rounds float32 inputs of convolutions and matrix products; torch's default rounds the former."""
    torch.backends.cudnn.conv.fp32_precision = inputs  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = inputs


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
