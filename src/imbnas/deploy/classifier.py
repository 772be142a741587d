"""Any file that holds a finished network, as a function from images to logits: our own, torch.export's, or ONNX."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from imbnas.data.raw import Reading
from imbnas.deploy.deployed import EXTRA
from imbnas.errors import UserError
from imbnas.files import MODEL_LIMIT, check_regular
from imbnas.metadata import LONGEST_NAME, MOST_CLASSES, TemperatureMeta, described
from imbnas.params.shared import Count, Device
from imbnas.saved import load_subnet
from imbnas.training.runtime import keep_memory, set_rounding

BATCH, CUDA_BATCH = 64, 256
"""Images in one forward pass, on the CPU and on a GPU."""


@dataclass(frozen=True)
class Classifier:
    """A network that answers: `logits` maps images uint8 (N, C, S, S) on the CPU to logits (N, classes) there."""

    path: Path
    classes: list[str]
    counts: list[int] | None
    """Training rows of each class, None where the file does not tell."""
    reading: Reading
    temperature: dict[str, Any] | None
    logits: Callable[[Tensor], Tensor]
    batch: int = BATCH

    def answer(self, images: Tensor) -> Tensor:
        """Return the logits; UserError if they are not finite, which finite weights do not prevent."""
        found = self.logits(images)
        if not bool(torch.isfinite(found).all()):
            raise UserError(f"{self.path}: its answers are not finite numbers, expected a trained network")
        return found

    def calibration(self, wanted_by: str) -> float:
        """Return the temperature that `retrain` has fitted; UserError in one line that says why there is none."""
        given = self.temperature
        if given is None or given["value"] is None:
            why = "it was written before `retrain` fitted one, run retrain again" if given is None else given["reason"]
            raise UserError(f"{self.path}: carries no temperature, which {wanted_by} needs: {why}")
        return float(given["value"])


class _Files(BaseModel):
    """The way from a file to the program's input."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    exif_rotation: bool
    square: Literal["central", "padded with black"]


class _Input(BaseModel):
    """The images that a program takes."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    shape: tuple[Literal["batch"], Literal[1, 3], Annotated[int, Field(gt=0, le=2**14)], int]


class DeployedMeta(BaseModel):
    """The metadata of an exported file, of which this is read."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    classes: Annotated[
        list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(min_length=1, max_length=MOST_CLASSES)
    ]
    input: _Input
    files: _Files
    counts: list[Count] | None = None
    temperature: TemperatureMeta | None = None


def open_classifier(path: Path, device: Device = "cpu") -> Classifier:
    """Return the network in a file, by its suffix: .onnx, .pt2, any other is ours.

    `device` is where a network of ours runs; exported ones run on the CPU. Raises UserError naming a file that cannot
    be used, or a device that torch does not see.
    """
    if path.suffix not in (".onnx", ".pt2"):
        return _own(path, device)
    if device == "cuda":
        raise UserError(f"--device cuda: {path} runs on the CPU, expected a network as imbnas retrain writes it")
    try:
        check_regular(path, MODEL_LIMIT)
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a file that imbnas export wrote") from None
    text, logits = _onnx(path) if path.suffix == ".onnx" else _program(path)
    found = described(DeployedMeta, _metadata(text, path), path)
    _, channels, side, _ = found.input.shape
    reading = Reading(side, channels, found.files.square != "central", found.files.exif_rotation)
    temperature = None if found.temperature is None else found.temperature.model_dump()
    return Classifier(path, found.classes, found.counts, reading, temperature, logits)


def _own(path: Path, device: Device) -> Classifier:
    cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise UserError("--device cuda: torch sees none on this machine, expected auto or cpu")
    network = load_subnet(path)
    keep_memory()
    if cuda:
        set_rounding("ieee")
    place = torch.device("cuda" if cuda else "cpu")
    model = network.model.to(device=place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    preprocess = network.preprocess()

    def logits(images: Tensor) -> Tensor:
        inputs = preprocess(images.to(place, non_blocking=True)).contiguous(memory_format=torch.channels_last)
        found: Tensor = model(inputs).cpu()
        return found

    meta = network.meta
    batch = CUDA_BATCH if cuda else BATCH
    return Classifier(
        path, meta["classes"], meta.get("counts"), network.reading, meta.get("temperature"), logits, batch
    )


def _onnx(path: Path) -> tuple[str | None, Callable[[Tensor], Tensor]]:
    from imbnas.deploy.onnx_file import run, session

    try:
        opened = session(path)
        text = opened.get_modelmeta().custom_metadata_map.get(EXTRA)
    except UserError:
        raise
    except Exception as error:
        raise _foreign(path, error) from None
    return text, lambda images: run(opened, images)


def _program(path: Path) -> tuple[str | None, Callable[[Tensor], Tensor]]:
    extra: dict[str, Any] = {EXTRA: ""}
    try:
        with path.open("rb") as stream:
            program = torch.export.load(cast(Any, stream), extra_files=extra).module()
    except Exception as error:
        raise _foreign(path, error) from None
    return extra[EXTRA], cast(Callable[[Tensor], Tensor], program)


def _metadata(text: str | None, path: Path) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except (json.JSONDecodeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no {EXTRA}, expected a file that imbnas export wrote")
    return found


def _foreign(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return UserError(f"{path}: cannot be opened ({reason}), expected a file that imbnas export wrote")
