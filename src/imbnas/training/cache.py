"""Features of a frozen backbone on disk: a file of fp16 that is made path after path, and a head's training on it."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imbnas.data.order import Sampler
from imbnas.disk import room_for
from imbnas.errors import UserError
from imbnas.sealed import DamagedError, read_record, write_record
from imbnas.training.batchnorm import batch_statistics
from imbnas.training.frozen import Backbone
from imbnas.training.gpu_share import memory
from imbnas.training.inputs import batches_of
from imbnas.training.runtime import Runtime

HALF = np.dtype("<f2")
MOST = float(np.finfo(HALF).max)
_PIECE = 1 << 24


@dataclass(frozen=True)
class Entry:
    """A path whose features are whole on disk: their SHA-256, the seconds they took, and which run made them."""

    digest: str
    seconds: float
    run: str


class FeatureFile:
    """Features fp16 (paths, views, rows, F) at `<base>.npy`; `<base>.json` says which paths are whole.

    A path counts once its bytes are on disk and its digest is noted, and only while the bytes have that digest: a file
    that was cut, overwritten or left by a killed process is never taken for whole. `base` ends in a digest of
    everything that determines the features. The files are not outputs, and deleting them costs only time.
    """

    def __init__(self, base: Path, shape: tuple[int, int, int, int]) -> None:
        """Prepare; nothing is read yet."""
        self.path = base.with_name(f"{base.name}.npy")
        self.shape = shape
        self._marks = base.with_name(f"{base.name}.json")
        self._block = shape[1] * shape[2] * shape[3] * HALF.itemsize
        self.entries: list[Entry] = []

    @property
    def nbytes(self) -> int:
        """Return the bytes of all features."""
        return self.shape[0] * self._block

    def open(self) -> int:
        """Find the whole paths and return their number: those before the first that is missing or damaged."""
        self.entries = []
        try:
            marks = read_record(self._marks)
            noted = [Entry(**entry) for entry in marks["paths"]] if tuple(marks["shape"]) == self.shape else []
            with self.path.open("rb") as stream:
                if stream.read(len(self._header())) != self._header():
                    noted = []
                for entry in noted[: self.shape[0]]:
                    if self._digest(stream) != entry.digest:
                        break
                    self.entries.append(entry)
        except (OSError, DamagedError, ValueError, KeyError, TypeError):
            self.entries = []
        return len(self.entries)

    def write(self, batches: Iterable[np.ndarray]) -> str:
        """Write the next path's features fp16 (N, F), view after view, and return their digest; `note` makes it count.

        Raises UserError for a value that fp16 cannot hold, or a full disk.
        """
        found, written = hashlib.sha256(), 0
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with room_for(self.path, self.nbytes), self.path.open("r+b" if self.path.exists() else "w+b") as stream:
            stream.write(self._header())
            stream.seek(len(self.entries) * self._block, os.SEEK_CUR)
            for batch in batches:
                if not np.isfinite(batch).all():
                    raise UserError(
                        f"adapt.feature_cache.paths: some features are beyond {MOST:g}, fp16's largest number, or "
                        "no numbers, expected paths: 0, which trains without a cache"
                    )
                piece = batch.tobytes()
                found.update(piece)
                written += stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        if written != self._block:
            raise ValueError(f"a path has {written} bytes of features, expected {self._block}")
        return found.hexdigest()

    def note(self, entry: Entry) -> None:
        """Let the path that was written last count as whole."""
        self.entries.append(entry)
        write_record(self._marks, {"shape": list(self.shape), "paths": [vars(entry) for entry in self.entries]})

    def features(self) -> Tensor:
        """Return the features, mapped into memory; all paths must be whole."""
        # "c" because torch warns about memory that it may not write; nothing does.
        return torch.from_numpy(np.load(self.path, mmap_mode="c"))

    def _header(self) -> bytes:
        head = io.BytesIO()
        described = {"descr": HALF.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(head, described)
        return head.getvalue()

    def _digest(self, stream: Any) -> str:
        found, left = hashlib.sha256(), self._block
        while left:
            piece = stream.read(min(left, _PIECE))
            if not piece:
                break
            found.update(piece)
            left -= len(piece)
        return found.hexdigest()


def path_features(
    network: nn.Module, runtime: Runtime, path: tuple[Any, ...], batches: Iterable[tuple[np.ndarray, Tensor]], rows: int
) -> np.ndarray:
    """Return the fp16 features (rows, F) of one path, from batches of positions and their normalised images.

    Each batch is normalised by its own statistics; no parameter and no buffer changes.
    """
    backbone: Backbone = network  # type: ignore[assignment]
    found = np.empty((rows, 0), HALF)
    with torch.no_grad(), batch_statistics(network):
        for places, images in batches:
            with runtime.autocast():
                features = backbone.features(runtime.lay_out(images), *path).half().cpu().numpy()
            if not found.size:
                found = np.zeros((rows, features.shape[1]), HALF)
            found[places] = features
    return found


class CachedStore:
    """Features of several paths in place of images: each batch holds its rows once for each path of its step.

    A position is row + rows * turn, see `CachedSampler`.
    """

    def __init__(self, features: Tensor, labels: Tensor, groups: Sequence[Sequence[int]], device: torch.device) -> None:
        """Take features fp16 (paths, views, N, F), labels int64 (N,) and the paths of each group, equally many.

        On a GPU the features lie in its memory where they take less than half of what is free.
        """
        views, self._rows = features.shape[1:3]
        self._features = features.flatten(0, 2)
        self._labels = labels.to(device)
        self._device = device
        if device.type == "cuda" and features.nbytes < memory(device)[0] // 2:
            self._features = self._features.to(device)
        starts = torch.tensor(
            [[(path * views + view) * self._rows for path in group] for view in range(views) for group in groups]
        )
        self._starts = starts.to(self._features.device)
        self.paths_per_batch = starts.shape[1]
        self.turns = starts.shape[0]

    def batches(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features float32 (paths x B, F), path after path, and their labels for each array of positions (B,)."""
        for chosen in batches:
            rows = torch.from_numpy(chosen % self._rows).to(self._starts.device, non_blocking=True)
            places = self._starts[int(chosen[0]) // self._rows].unsqueeze(1) + rows
            found = self._features.index_select(0, places.flatten()).to(self._device).float()
            labels = self._labels.index_select(0, rows.to(self._device))
            yield found, labels.repeat(self.paths_per_batch)


class CachedSampler:
    """A sampler over cached rows: optimiser step s takes the s-th turn, a group of paths in one of their views.

    Groups change with every step and views once all groups had theirs, as a function of the step alone.
    """

    def __init__(self, sampler: Sampler, rows: int, turns: int, batch_size: int) -> None:
        """Take the sampler of the rows, whose epochs are equally long, their number, and the turns of the store."""
        self._sampler, self._rows, self._turns, self._batch_size = sampler, rows, turns, batch_size
        self._per_epoch = len(batches_of(sampler.epoch(0), batch_size))

    def epoch(self, epoch: int) -> np.ndarray:
        """Return the positions of the 0-based epoch: row + rows * turn."""
        rows = self._sampler.epoch(epoch)
        steps = epoch * self._per_epoch + np.arange(len(rows)) // self._batch_size
        return rows + steps % self._turns * self._rows
