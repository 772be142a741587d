"""Checks, before a step begins, that machine and GPU have the least memory that its parameters imply."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from imbnas.errors import UserError
from imbnas.params import memory
from imbnas.params.config import Params
from imbnas.training import GPU_CONTEXT

_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container's limit stands, in the newer and the older kind of control groups."""


def check_memory(step: str, params: Params) -> None:
    """Raise UserError naming the parameter by which `step` needs more memory than there is.

    On CUDA batches lie elsewhere; networks begin on the processor in any case.
    """
    own = params.runtime.device == "cpu"
    found = [need for need in params.needs() if step in need.steps and (own or need.name == "space")]
    try:
        memory.refuse(found, available(), ", the memory of this machine")
    except ValueError as error:
        raise UserError(str(error)) from None


def check_gpu(step: str, params: Params, mebibytes: int, whose: str) -> None:
    """Raise UserError naming the parameter by which `step` needs more of a GPU than it may take.

    Weights are float32; of what a batch leaves for the gradient bf16 halves each number, and each process holds a part.
    """
    runtime = params.runtime
    halves = 2 if runtime.precision == "bf16" else 1
    found = [
        need if need.name == "space" else replace(need, least=need.least // (halves * runtime.processes))
        for need in params.needs()
        if step in need.steps
    ]
    try:
        memory.refuse(found, (mebibytes - GPU_CONTEXT) * 2**20, f", {whose}")
    except ValueError as error:
        raise UserError(str(error)) from None


def available() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's limit."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _LIMITS:
        try:
            found.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # none there, or "max"
            continue
    return min(found)
