"""The device on which a truth table's cells are trained, and the processor that is named beside the seconds."""

from __future__ import annotations

from imbnas.run.context import processor_model
from imbnas.training import open_queues


def device_name(wanted: str) -> str:
    """Return the name of the device that `runtime.device` stands for, as the table's column has it."""
    if wanted == "cpu":
        return "cpu"
    import torch

    open_queues()
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def processor(device: str) -> str:
    """Return the model of what computes: the processor's, or the GPU itself."""
    return processor_model() if device == "cpu" else device
