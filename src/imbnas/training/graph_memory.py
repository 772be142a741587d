"""The memory of CUDA graphs: whether a GPU has room for a recording, and what the recordings of a network share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from imbnas.training.gpu_share import memory

OTHERS = "thread_local"
"""Mode of the recording: other threads may call CUDA meanwhile (one puts images into pinned memory)."""
ROOM = 0.25
"""Share of the memory that stays free, of the GPU's or of what is leased of it: a recording keeps what it works in."""


def room_for_step() -> bool:
    """Return whether a recording may take as much memory as steps have needed, and leave as much for others."""
    torch.cuda.empty_cache()
    free, total = memory()
    need = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    return free - need >= max(need, ROOM * total)


class CapturePool:
    """State shared by the parts of a network: the stream of their recordings, and whether there is room for more."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()
        self._full = False
        # Gives outputs a gradient although the function of a part takes no parameter.
        self.anchor = torch.zeros((), device="cuda", requires_grad=True)

    def has_room(self) -> bool:
        """Return whether another recording may take memory; once one may not, no other may."""
        if not self._full:
            free, total = memory()
            self._full = free < ROOM * total
        return not self._full

    @contextmanager
    def recording(self, pool: Any = None) -> Iterator[torch.cuda.CUDAGraph]:
        """Yield a graph that takes what is asked for; torch's own context collects garbage first, which takes long."""
        graph, cached = torch.cuda.CUDAGraph(), torch.is_autocast_cache_enabled()
        torch.cuda.synchronize()
        # A weight rounded in one recording must not serve in another.
        torch.set_autocast_cache_enabled(False)
        try:
            with torch.cuda.stream(self._stream):
                graph.capture_begin(pool=pool, capture_error_mode=OTHERS)
                try:
                    yield graph
                finally:
                    graph.capture_end()
        finally:
            torch.set_autocast_cache_enabled(cached)
