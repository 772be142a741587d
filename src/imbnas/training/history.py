"""The losses of trainings by epoch, as tables that `dvc plots` draws and compares between experiments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from imbnas.csv_text import csv_text
from imbnas.files import write_bytes


def write_losses(path: Path, losses: Sequence[float]) -> None:
    """Write epoch, counted from 1, and mean loss of each epoch of one training."""
    _write(path, ["epoch", "loss"], _rows(losses))


def write_losses_by_network(path: Path, losses: Mapping[str, Sequence[float]]) -> None:
    """Write network, epoch and loss of each epoch of several trainings, one after the other."""
    rows = ((name, *row) for name, one in losses.items() for row in _rows(one))
    _write(path, ["network", "epoch", "loss"], rows)


def _rows(losses: Sequence[float]) -> Iterable[tuple[int, str]]:
    return ((epoch, f"{loss:.6f}") for epoch, loss in enumerate(losses, 1))


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    write_bytes(path, csv_text(header, rows))
