"""Values on their way from a GPU: asked for now, read once they have come, so that nothing waits for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def beside(device: torch.device) -> bool:
    """Return whether this is a training beside others: one that has a stream of its own."""
    return device.type == "cuda" and torch.cuda.current_stream(device) != torch.cuda.default_stream(device)


class Fetched:
    """A tensor, or dicts and lists of tensors and other things, as they are now on the stream of the moment.

    What the stream does later does not change them.
    """

    def __init__(self, value: Any) -> None:
        """Ask for copies in memory to which a GPU writes by itself."""
        self._value = _asked(value)
        self._event = torch.cuda.Event()
        self._event.record()

    @property
    def ready(self) -> bool:
        """Whether all has come."""
        return self._event.query()

    def get(self) -> Any:
        """Return the copies on the processor, after a wait for what has not come yet."""
        self._event.synchronize()
        return self._value


def _asked(value: Any) -> Any:
    if isinstance(value, Tensor):
        if not value.is_cuda:
            return value.clone()
        return torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
    if isinstance(value, dict):
        return {key: _asked(one) for key, one in value.items()}
    return [_asked(one) for one in value] if isinstance(value, list) else value
