"""The answers of a finished network on the test rows, and the norms of its class vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from imbnas.data.grouping import COLUMN, numbered
from imbnas.data.images import ImageStore
from imbnas.data.stored import Split, write_table
from imbnas.longtail.etf import EtfHead
from imbnas.longtail.heads import CosineHead, NearestClassMean, posthoc_adjustment
from imbnas.report.scores import Answers
from imbnas.run.context import Context
from imbnas.saved import Network
from imbnas.training.runtime import Runtime

PREDICTION_TYPES = {
    "network": pa.string(),
    "row": pa.int64(),
    "label": pa.int32(),
    "predicted": pa.int32(),
    "confidence": pa.float32(),
}
"""The columns of results/predictions.parquet: one row for each network and each row of the test split.

Where the rows have groups, their numbers follow as the column group.
"""


def answer(
    network: Network, test: Split, runtime: Runtime, context: Context, batch_size: int, logit_adjustment: float
) -> Answers:
    """Return the network's answers on all rows of the test split, in evaluation mode and without augmentation.

    `logit_adjustment` is the factor of the post-hoc adjustment by the rows on which the network was trained; 0 leaves
    the logits. Confidences are rounded to the float32 that results/predictions.parquet holds. Raises UserError where
    the adjustment meets a class without training rows.
    """
    preprocess = network.preprocess()
    model = runtime.place(network.model)

    def logits(images: Tensor) -> Tensor:
        with runtime.autocast():
            found: Tensor = model(runtime.lay_out(preprocess(images)))
            return found

    return collected(logits, network, test, runtime.device, context, batch_size, logit_adjustment)


@torch.inference_mode()
def collected(
    answering: Callable[[Tensor], Tensor],
    network: Network,
    test: Split,
    device: torch.device,
    context: Context,
    batch_size: int,
    logit_adjustment: float,
) -> Answers:
    """Return what `answering`, from images uint8 (N, C, S, S) to logits, says of all rows; see `answer`."""
    size = network.load_side if test.images is None else None
    store = ImageStore(test, None, device, context.workers, size)
    predicted, confidence, extremes = [], [], []
    with context.log.bar("test rows", len(store)) as bar:
        for images, _ in store.ordered(batch_size):
            logits = answering(images).double()
            # One look at the end: each would wait for the GPU.
            extremes.append(torch.stack(logits.aminmax()))
            if logit_adjustment > 0.0:
                logits = posthoc_adjustment(logits, network.meta["trained_counts"], logit_adjustment)
            best = logits.softmax(dim=1).max(dim=1)
            predicted.append(best.indices)
            confidence.append(best.values)
            bar.advance(len(images))
    network.finite(torch.cat(extremes))
    return Answers(
        store.labels.cpu().numpy(),
        torch.cat(predicted).cpu().numpy(),
        # Rounding may lift a sum of shares above 1.
        torch.cat(confidence).clamp(max=1.0).float().cpu().numpy(),
        numbered(test.index[COLUMN].tolist()) if COLUMN in test.index else None,
    )


def write_predictions(path: Path, answers: dict[str, Answers]) -> None:
    """Write all networks' answers as a table of PREDICTION_TYPES, network by network in the test split's order."""
    networks = list(answers)
    rows = len(answers[networks[0]].actual)
    columns = {
        "network": np.repeat(networks, rows),
        "row": np.tile(np.arange(rows), len(networks)),
        "label": np.concatenate([one.actual for one in answers.values()]),
        "predicted": np.concatenate([one.predicted for one in answers.values()]),
        "confidence": np.concatenate([one.confidence for one in answers.values()]),
    }
    types = dict(PREDICTION_TYPES)
    groups = answers[networks[0]].groups
    if groups is not None:
        types[COLUMN] = pa.int64()
        columns[COLUMN] = np.tile(groups, len(networks))
    arrays = [pa.array(column).cast(types[name]) for name, column in columns.items()]
    write_table(path, pa.table(arrays, pa.schema(list(types.items()))))


def class_norms(head: nn.Module) -> tuple[str, np.ndarray]:
    """Return the kind of a head (`linear`, `cosine`, `etf`, `ncm`) and the Euclidean norm of each class's vector (C,).

    A vector is the class's whole row of weights, its fixed vector, or its mean feature in a nearest-class-mean head.
    """
    if isinstance(head, NearestClassMean):
        kind, vectors = "ncm", head.centroids
    elif isinstance(head, EtfHead):
        kind, vectors = "etf", head.vectors
    else:
        kind, vectors = "cosine" if isinstance(head, CosineHead) else "linear", head.get_parameter("weight")
    return kind, vectors.detach().double().norm(dim=1).cpu().numpy()
