"""A step keeps to the share of a GPU that it has leased; the device is pretended, as no test machine has one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from imbnas.training import GPU_CONTEXT, GPU_MEMORY, gpu_share, graph_memory

GIB = 2**30
DEVICE = torch.device("cuda", 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A GPU of 8 GiB, of which 5 are free and this process has 1; returns what its allocator is told."""
    told: list[Any] = []
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=8 * GIB))
    monkeypatch.setattr(cuda, "set_per_process_memory_fraction", lambda *given: told.append(given))
    monkeypatch.setattr(cuda, "mem_get_info", lambda device=None: (5 * GIB, 8 * GIB))
    monkeypatch.setattr(cuda, "memory_reserved", lambda device=None: GIB)
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda: GIB)
    monkeypatch.setattr(cuda, "memory_allocated", lambda: GIB // 2)
    monkeypatch.setattr(cuda, "empty_cache", lambda: None)
    monkeypatch.delenv(GPU_MEMORY, raising=False)
    return told


def test_the_allocator_is_bounded_by_the_share_alone(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_share.keep_to_share(DEVICE)
    assert (asked, gpu_share.memory()) == ([], (5 * GIB, 8 * GIB))
    monkeypatch.setenv(GPU_MEMORY, str(2048 + GPU_CONTEXT))
    gpu_share.keep_to_share(DEVICE)
    assert asked == [(0.25, DEVICE)]
    assert gpu_share.memory() == (GIB, 2 * GIB)


def test_recordings_leave_free_what_steps_need_of_the_share(asked: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert graph_memory.room_for_step()
    # A step takes half a GiB; what is left must be as much again, or a quarter of the share.
    for mebibytes, room in ((2304, True), (2000, False)):
        monkeypatch.setenv(GPU_MEMORY, str(mebibytes + GPU_CONTEXT))
        assert graph_memory.room_for_step() is room
