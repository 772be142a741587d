"""Training: the loop, optimiser and schedule, resumable state, weights on disk, scoring, device and precision."""

RENDEZVOUS = "IMBNAS_RENDEZVOUS"
"""Names the file through which the processes that a step has started find each other; torchrun has a server instead."""
GPU_MEMORY = "IMBNAS_GPU_MEMORY"
"""The mebibytes of a GPU that a step has leased; absent where it has all of them."""
GPU_CONTEXT = 640
"""Mebibytes of a share that are CUDA's own: kernels and the process's context, which torch does not count."""
