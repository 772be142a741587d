"""Compare `imbnas predict` on image files with the network alone on decoded images: images per second, as a ratio.

    python benchmarks/prediction.py [--images N] [--side PIXELS] [--model FILE]

Files are JPEG photographs of random blobs, twice the network's side. Both run in turn in one process, several rounds,
of which the best count. The result, benchmarks/prediction.json, holds two ratios: of wall-clock times, and of the
processor's time, which other processes of a shared machine do not change.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from imbnas.params.space_options import SpaceParams
from imbnas.predict import predict
from imbnas.saved import load_subnet
from imbnas.spaces.registry import make_space
from imbnas.training.checkpoint import save_weights

RESULT = Path(__file__).resolve().parent / "prediction.json"
SPACE = {
    "name": "resnet",
    "stem": {"channels": 16, "stride": 1},
    "stages": {"channels": [16, 32, 64], "repeats": [5, 5, 5], "strides": [1, 2, 2]},
    "last_channels": None,
}
"""The ResNet-32 of the long-tailed literature: small, so that decoding weighs more than beside others."""
CLASSES = [f"class {number}" for number in range(10)]


def write_network(path: Path, side: int) -> Path:
    """Write a network with random weights that takes images of this side."""
    space = make_space(SpaceParams.model_validate(SPACE))
    torch.manual_seed(0)
    architecture = (0,) * 15
    cost = space.cost(architecture, (side, side, 3), len(CLASSES))
    meta = {
        "kind": "subnet",
        "space": SpaceParams.model_validate(SPACE).described,
        "classes": CLASSES,
        "shape": [side, side, 3],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "load_side": side,
        "architecture": list(architecture),
        "blocks": space.describe(architecture),
        "macs": cost.macs,
        "params": cost.params,
    }
    save_weights(path, space.build_subnet(architecture, len(CLASSES), 3).state_dict(), meta)
    return path


def write_images(folder: Path, count: int, side: int) -> list[Path]:
    """Write JPEG files of smooth random colours, which decode as photographs do."""
    rng, files = np.random.default_rng(0), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        files.append(folder / f"{number}.jpg")
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(files[-1], quality=90)
    return files


def alone(model: Path, count: int) -> Callable[[], Any]:
    """Return the bare loop: the network on decoded images in batches of the same size, without anything around it."""
    network = load_subnet(model)
    bare = network.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    side = network.load_side
    batch = torch.rand(64, 3, side, side).contiguous(memory_format=torch.channels_last)

    def loop() -> None:
        with torch.inference_mode():
            for start in range(0, count, len(batch)):
                bare(batch[: count - start])

    return loop


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall-clock time of one run, and the processor's."""
    begin = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begin[0], time.process_time() - begin[1]


def main() -> None:
    """Measure and write the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, help="default: a ResNet-32 with random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or write_network(Path(folder) / "model.safetensors", options.side)
        side = load_subnet(model).load_side
        files = write_images(Path(folder), options.images, 2 * side)
        bare = alone(model, len(files))
        bare()
        times: dict[str, list[tuple[float, float]]] = {"alone": [], "predict": []}
        for _ in range(options.rounds):
            times["alone"].append(seconds(bare))
            times["predict"].append(seconds(lambda: predict(model, files, 1, device="cpu")))
    best = {name: [min(taken) for taken in zip(*found, strict=True)] for name, found in times.items()}
    ratio, cpu_ratio = (round(alone / ours, 2) for alone, ours in zip(best["alone"], best["predict"], strict=True))
    found: dict[str, Any] = {"images": options.images, "side": side, "file_side": 2 * side, "rounds": options.rounds}
    found |= {"threads": torch.get_num_threads(), "ratio": ratio, "cpu_ratio": cpu_ratio}
    if options.model is None:
        RESULT.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found), {name: f"{options.images / taken[0]:.0f} images/s" for name, taken in best.items()})


if __name__ == "__main__":
    main()
