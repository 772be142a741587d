"""Using a finished network: which classes image files show, and how sure the network is."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from imbnas.data.decode import decode_file
from imbnas.data.verify import SizeLimit
from imbnas.errors import UserError, prints_unicode, visible, visible_json
from imbnas.params.dataset import LARGEST_IMAGE
from imbnas.saved import Network, load_subnet

BATCH = 64


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one image, with their probabilities, in descending order."""

    image: Path
    classes: list[tuple[str, float]]


def predict(
    model: Path, images: Sequence[Path], top: int, max_pixels: int = LARGEST_IMAGE
) -> tuple[list[Prediction], list[UserError]]:
    """Return the `top` likeliest classes (all, if there are fewer) of each image file, in the order given, and faults.

    `model` is a single network as `imbnas retrain` writes it; its metadata say how images are prepared and what the
    classes are called. The network runs on the CPU. An image that is missing, damaged, of another kind or of more than
    `max_pixels` has a fault in place of a prediction. Raises UserError naming a network that cannot be used.
    """
    network, limit = load_subnet(model), SizeLimit(max_pixels, "--max-pixels")
    found: list[Prediction] = []
    faults: list[UserError] = []
    for start in range(0, len(images), BATCH):
        good, pixels = [], []
        for image in images[start : start + BATCH]:
            try:
                pixels.append(_decoded(network, image, limit))
            except UserError as error:
                faults.append(error)
            else:
                good.append(image)
        if good:
            found += _batch(network, good, np.stack(pixels), top)
    return found, faults


def _decoded(network: Network, image: Path, limit: SizeLimit) -> np.ndarray:
    if not image.exists():
        raise UserError(f"{image}: not found, expected an image file")
    return decode_file(image, network.reading, limit)


def _batch(network: Network, images: Sequence[Path], pixels: np.ndarray, top: int) -> list[Prediction]:
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        logits = network.finite(network.model(network.preprocess()(inputs)))
    # A stable sort, so that classes of equal probability come in label order.
    shares, labels = logits.double().softmax(dim=1).sort(dim=1, descending=True, stable=True)
    names = network.meta["classes"]
    return [
        Prediction(image, [(names[label], share) for share, label in zip(row[:top], order[:top], strict=True)])
        for image, row, order in zip(images, shares.tolist(), labels.tolist(), strict=True)
    ]


def print_predictions(predictions: Sequence[Prediction], as_json: bool) -> None:
    """Print as JSON, as a table on a terminal, and else as lines of image, class and probability, tab-separated.

    Control characters in names, which would break lines and tables, are escaped; JSON has its own way for them.
    """
    if as_json:
        entries = [
            {
                "image": str(one.image),
                "classes": [{"class": name, "probability": round(share, 6)} for name, share in one.classes],
            }
            for one in predictions
        ]
        text = json.dumps(entries, indent=2, ensure_ascii=not prints_unicode(), allow_nan=False)
        print(visible_json(text))
    elif sys.stdout.isatty():
        _print_table(predictions)
    else:
        for one in predictions:
            for name, share in one.classes:
                print(f"{visible(one.image)}\t{visible(name)}\t{share:.6f}")


def _print_table(predictions: Sequence[Prediction]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("image")
    table.add_column("class")
    table.add_column("probability", justify="right")
    for one in predictions:
        for place, (name, share) in enumerate(one.classes):
            # Text, because brackets in a name would be taken for rich's markup.
            cells = Text(visible(one.image) if place == 0 else ""), Text(visible(name)), f"{share:.1%}"
            table.add_row(*cells, style="bold" if place == 0 else "", end_section=place == len(one.classes) - 1)
    Console().print(table)
