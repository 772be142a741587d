"""Training: the loop, optimiser and schedule, resumable state, weights on disk, scoring, device and precision."""

import os

RENDEZVOUS = "IMBNAS_RENDEZVOUS"
"""Names the file through which the processes that a step has started find each other; torchrun has a server instead."""
GPU_MEMORY = "IMBNAS_GPU_MEMORY"
"""The mebibytes of a GPU that a step has leased; absent where it has all of them."""
GPU_CONTEXT = 640
"""Mebibytes of a share that are CUDA's own: kernels and the process's context, which torch does not count."""


def open_queues() -> None:
    """Give each stream of trainings side by side a queue of its own on the GPU; CUDA reads this once, as it starts."""
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
