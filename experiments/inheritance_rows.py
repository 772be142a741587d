"""The rows of the experiment on inherited weights: those that judge networks, and source and target rows together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from adaptation_place import Place, Tree

from imbnas.data.stored import IMAGES, INDEX, INFO, array_digest, write_table
from imbnas.data.tail import LongTail, write_longtail
from imbnas.files import write_json, write_with
from imbnas.progress import Log
from imbnas.run.context import Context
from imbnas.saved import Network, load_references, load_subnet
from imbnas.steps.rows import Rows, all_rows, make_augment, make_store, read_tail, read_validation
from imbnas.training.runtime import Runtime
from imbnas.training.scoring import tally

BATCH = 512


class Judge:
    """Scores trained networks by balanced accuracy on the validation and on the test rows."""

    def __init__(self, place: Place) -> None:
        """Read the rows."""
        context, params = Context("search", place.root, Log("judge")), place.params()
        runtime = Runtime(params.runtime)
        tail, held_out = read_tail(context)
        self.classes, augment = len(tail.split.info.classes), make_augment(tail.split, None)
        rows = {"validation": read_validation(context, held_out, "the experiment")}
        rows["test"] = all_rows(context, "target_test")
        self.validation, self.test = rows["validation"], rows["test"]
        self._batches = {
            name: [
                (augment(images, None), labels) for images, labels in make_store(own, runtime, context).ordered(BATCH)
            ]
            for name, own in rows.items()
        }

    def scores(self, final: Path, references: Path) -> Tree:
        """Return the balanced accuracy of each network by its name, on the validation and on the test rows."""
        networks = {"final": load_subnet(final), **load_references(references)}
        return {
            rows: {name: self._score(network, rows) for name, network in networks.items()} for rows in self._batches
        }

    def _score(self, network: Network, rows: str) -> float:
        batches = self._batches[rows]
        with torch.no_grad():
            answers = [network.model(images).argmax(dim=1) for images, _ in batches]
        return tally(answers, [labels for _, labels in batches], self.classes).balanced_accuracy


def joined(place: Place, folder: Path) -> dict[str, Path]:
    """Return a training split with the source's rows behind the target's, and a long tail with all of them.

    Raises ValueError where source and target have other classes or images than each other.
    """
    moved = {"target_train": folder / "train", "longtail": folder / "longtail.parquet"}
    if moved["longtail"].exists():
        return moved
    context = Context("search", place.root, Log("join"))
    tail, _ = read_tail(context)
    source = all_rows(context, "source_train")
    ours, theirs = tail.split.info, source.split.info
    if (ours.classes, ours.shape, ours.kind) != (theirs.classes, theirs.shape, "array"):
        raise ValueError(f"source and target have other classes or images: {theirs.dataset}, {ours.dataset}")
    whole = all_rows(context, "target_train")
    both = whole.with_all(source)
    _write(moved["target_train"], both)
    chosen = np.concatenate([tail.positions, len(whole) + np.arange(len(source))])
    write_longtail(moved["longtail"], LongTail(chosen, both.labels[chosen], np.zeros(len(chosen), dtype=bool)))
    return moved


def _write(folder: Path, rows: Rows) -> None:
    """Write rows as a split of its own, as the step `target` would; its description comes last."""
    images = rows.split.images
    assert images is not None
    folder.mkdir(parents=True, exist_ok=True)

    def write_images(part: Path) -> None:
        with part.open("wb") as stream:
            np.save(stream, np.asarray(images))

    write_with(folder / IMAGES, write_images, images.nbytes)
    index = rows.split.index[["label", "row"]].reset_index(drop=True)
    write_table(folder / INDEX, pa.Table.from_pandas(index, preserve_index=False))
    digest = array_digest(rows.labels, np.asarray(images)).hexdigest()
    write_json(folder / INFO, dataclasses.replace(rows.split.info, digest=digest).as_json())
