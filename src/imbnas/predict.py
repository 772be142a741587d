"""Using a finished network: which classes image files show, and how sure the network is."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from imbnas.data.decode import decode_file
from imbnas.data.raw import Reading
from imbnas.data.verify import SizeLimit, threads
from imbnas.deploy.answers_file import Prediction, predictions_json
from imbnas.deploy.classifier import BATCH, Classifier, open_classifier
from imbnas.errors import UserError, prints_unicode, visible
from imbnas.params.dataset import LARGEST_IMAGE
from imbnas.params.shared import Device
from imbnas.progress import Log

__all__ = ["BATCH", "Prediction", "predict", "print_predictions"]
CHUNK = 8
"""Image files that a thread decodes before it takes the next."""
AHEAD = 3
"""Batches that are decoded while the network is busy, at most."""
Decoded = np.ndarray | UserError


def predict(
    model: Path,
    images: Sequence[Path],
    top: int,
    max_pixels: int = LARGEST_IMAGE,
    abstain: float | None = None,
    device: Device = "auto",
) -> tuple[list[Prediction], list[UserError]]:
    """Return the `top` likeliest classes (all, if there are fewer) of each image file, in the order given, and faults.

    `model` is a single network as `imbnas retrain` writes it, or a file of `imbnas export`; its metadata say how images
    are prepared and what the classes are called. Threads decode the next images while the network answers. An image
    that is missing, damaged, of another kind or of more than `max_pixels` has a fault in place of a prediction. With
    `abstain`, probabilities are those of the temperature that the network carries, and a prediction whose likeliest
    class has less than that says so. Raises UserError naming a network that cannot be used, or carries no temperature.
    """
    if abstain is not None and not 0.0 <= abstain <= 1.0:
        raise UserError(f"--abstain {abstain:g}: expected a probability")
    network, limit = open_classifier(model, device), SizeLimit(max_pixels, "--max-pixels")
    temperature = 1.0 if abstain is None else network.calibration("--abstain")
    found: list[Prediction] = []
    faults: list[UserError] = []
    with Log("predict").bar("images", len(images)) as bar:
        for batch, decoded in decoded_ahead(images, network.reading, limit, network.batch):
            good, pixels = [], []
            for image, one in zip(batch, decoded, strict=True):
                if isinstance(one, UserError):
                    faults.append(one)
                else:
                    good.append(image)
                    pixels.append(one)
            if good:
                found += _answers(network, good, np.stack(pixels), top, temperature, abstain)
            bar.advance(len(batch))
    return found, faults


def decoded_ahead(
    images: Sequence[Path], reading: Reading, limit: SizeLimit, batch: int
) -> Iterator[tuple[Sequence[Path], list[Decoded]]]:
    """Yield the files of each batch with their pixels uint8 (S, S, C), or the fault of one, decoded by threads ahead.

    PIL decodes without Python's lock. No more than AHEAD batches are held.
    """
    chunks = iter([images[start : start + CHUNK] for start in range(0, len(images), CHUNK)])
    pending: deque[Future[list[Decoded]]] = deque()
    executor = ThreadPoolExecutor(threads())

    def fill() -> None:
        while len(pending) < AHEAD * max(batch // CHUNK, 1) and (chunk := next(chunks, None)) is not None:
            pending.append(executor.submit(lambda files: [_decoded(file, reading, limit) for file in files], chunk))

    try:
        for start in range(0, len(images), batch):
            files = images[start : start + batch]
            found: list[Decoded] = []
            while len(found) < len(files):
                fill()
                found += pending.popleft().result()
            fill()
            yield files, found
    finally:
        executor.shutdown(cancel_futures=True)


def _decoded(image: Path, reading: Reading, limit: SizeLimit) -> Decoded:
    try:
        if not image.exists():
            return UserError(f"{image}: not found, expected an image file")
        return decode_file(image, reading, limit)
    except UserError as error:
        return error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return UserError(f"{image}: {reason}, expected an image file")


def _answers(
    network: Classifier, images: Sequence[Path], pixels: np.ndarray, top: int, temperature: float, abstain: float | None
) -> list[Prediction]:
    inputs = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        logits = network.answer(inputs).double() / temperature
    # A stable sort, so that classes of equal probability come in label order.
    shares, labels = logits.softmax(dim=1).sort(dim=1, descending=True, stable=True)
    names = network.classes
    return [
        Prediction(
            image,
            [(names[label], share) for share, label in zip(row, order, strict=True)],
            None if abstain is None else row[0] < abstain,
        )
        for image, row, order in zip(images, shares[:, :top].tolist(), labels[:, :top].tolist(), strict=True)
    ]


def print_predictions(predictions: Sequence[Prediction], as_json: bool) -> None:
    """Print as JSON, as a table on a terminal, and else as lines of image, class and probability, tab-separated.

    Control characters in names, which would break lines and tables, are escaped; JSON has its own way for them. A
    fourth column says `abstained` where the network abstains.
    """
    if as_json:
        print(predictions_json(predictions, prints_unicode()))
    elif sys.stdout.isatty():
        _print_table(predictions)
    else:
        for one in predictions:
            for name, share in one.classes:
                print(f"{visible(one.image)}\t{visible(name)}\t{share:.6f}{_TAB_ABSTAINED * bool(one.abstained)}")


_TAB_ABSTAINED = "\tabstained"


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
            class_name = Text(visible(name) if not one.abstained else f"({visible(name)}: abstained)")
            cells = Text(visible(one.image) if place == 0 else ""), class_name, f"{share:.1%}"
            table.add_row(*cells, style="bold" if place == 0 else "", end_section=place == len(one.classes) - 1)
    Console().print(table)
