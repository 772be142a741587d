"""The optional libraries of `imbnas export` and of networks that it wrote: ONNX, and what runs it."""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from imbnas.errors import UserError

NAMES = ("onnx", "onnxscript", "onnxruntime")
"""What the extra `deploy` of the package installs."""


def needed(*names: str) -> list[Any]:
    """Return the imported libraries; UserError in one line that names those which are not installed."""
    found: list[Any] = []
    absent: list[str] = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            absent.append(name.partition(".")[0])
    if absent:
        raise UserError(
            f"{', '.join(dict.fromkeys(absent))}: not installed, expected the libraries of ONNX: "
            "pip install 'imbnas[deploy]'"
        )
    return found


def check_installed(parameter: str) -> None:
    """Raise UserError that begins with the dotted `parameter` where a library is absent, without importing any."""
    absent = [name for name in NAMES if find_spec(name) is None]
    if absent:
        raise UserError(
            f"{parameter}: {', '.join(absent)} not installed, expected the libraries of ONNX: "
            "pip install 'imbnas[deploy]'"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what these libraries tell about themselves from a terminal; their errors are raised all the same."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx", None)]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def usable_cores() -> int:
    """Return how many processors this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1
