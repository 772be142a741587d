"""The memory of a GPU that a step may take: all of it, or the share that it has leased."""

from __future__ import annotations

import os

import torch

from imbnas.training import GPU_CONTEXT, GPU_MEMORY


def keep_to_share(device: torch.device) -> None:
    """Let torch's allocator take no more of the GPU than the step has leased: other steps count on the rest."""
    share = _share()
    if share is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, share / total), device)


def memory(device: torch.device | None = None) -> tuple[int, int]:
    """Return the free and all bytes of what this process may take of a GPU, as `torch.cuda.mem_get_info` does."""
    free, total = torch.cuda.mem_get_info(device)
    share = _share()
    if share is None:
        return free, total
    return min(free, share - torch.cuda.memory_reserved(device)), share


def _share() -> int | None:
    """Return the bytes that torch's allocator may take, None where the GPU is the step's own."""
    leased = os.environ.get(GPU_MEMORY)
    return None if leased is None else (int(leased) - GPU_CONTEXT) * 2**20
