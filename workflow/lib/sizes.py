"""How much memory and time a step's job asks for, estimated from the parameters alone; each attempt asks for more.

The estimates are coarse and generous. Too little time costs nothing but a place in the queue: a training that is
stopped at its limit goes on in the next attempt. `set-resources` in the profile replaces them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imbnas.data.arrays import count_rows
from imbnas.params.config import Params
from imbnas.params.dataset import PATH_DATASETS, PUBLISHED
from imbnas.params.medmnist import MEDMNIST

UNKNOWN_ROWS = 200_000
"""Of a folder of images, which is not searched for a number."""
SNAKEMAKE_MB, TORCH_MB, CUDA_MB, LOADER_MB = 400, 1600, 4000, 1000
BYTES = 4 * 8
"""Of activations kept for the gradient, for each channel and pixel of a choice block: eight tensors of four bytes."""
CPU_RATE, GPU_RATE = 60.0, 10_000.0
"""Images of 32 x 32 pixels a second in training, of a small network: for each thread, and on a GPU."""
BATCH_SECONDS = 0.05
"""A batch takes no less, however small its images are."""
LEAST_MINUTES, MOST_MINUTES = 60, 7 * 24 * 60
SHARED = ("supernet", "adapt", "retrain")
"""The steps whose trainings `runtime.processes` share."""


def processes(params: Params, step: str) -> int:
    """Return in how many processes a step computes."""
    return params.runtime.processes if step in SHARED and not takes_over(params, step) else 1


def gpus(params: Params, step: str) -> int:
    """Return how many GPUs a step asks for: one for each process, where it may use any."""
    return 0 if params.runtime.device == "cpu" or takes_over(params, step) else processes(params, step)


def gpu_percent(params: Params, step: str) -> int:
    """Return the hundredths of GPUs that a step leases: a counter for machines where several steps share one."""
    return max(1, int(100 * params.runtime.gpu_share + 1e-9)) * gpus(params, step) if gpus(params, step) else 0


def takes_over(params: Params, step: str) -> bool:
    """Say whether a step only copies a supernet of another project."""
    return step == "supernet" and params.supernet.reuse is not None


def loaders(params: Params, step: str, section: str) -> int:
    """Return how many processes make batches for one that computes: from files, and by policies for a GPU."""
    decoded = getattr(params, section).dataset in PATH_DATASETS
    policy = params.runtime.device != "cpu" and any(part.augment.policy != "none" for part in _trained(params, step))
    return params.runtime.workers if decoded or policy else 0


def megabytes(params: Params, step: str) -> int:
    """Return the memory of the first attempt of a training or scoring step, the job's own Snakemake included."""
    section = "source" if step == "supernet" else "target"
    # Of each process; the batch alone is shared.
    need = TORCH_MB + LOADER_MB * loaders(params, step, section)
    if getattr(params, section).dataset not in PATH_DATASETS:
        need += 2 * rows(params, section) * side(params) ** 2 * 3 // 2**20
    if step == "search":
        need += int(1024 * params.runtime.memory)
    if params.runtime.device != "cpu":
        need += CUDA_MB
    need = SNAKEMAKE_MB + need * processes(params, step)
    if params.runtime.device == "cpu":
        need += _batch(params, step) * _activations(params) // 2**20
    return int(need)


def minutes(params: Params, step: str) -> int:
    """Return the time limit of the first attempt of a step that computes, in minutes."""
    runtime = params.runtime
    rate = CPU_RATE * runtime.threads if runtime.device == "cpu" else GPU_RATE
    image_seconds = (side(params) / 32) ** 2 / (rate * processes(params, step)) + BATCH_SECONDS / _batch(params, step)
    return int(min(MOST_MINUTES, LEAST_MINUTES + _images(params, step) * image_seconds / 60))


def rows(params: Params, section: str) -> int:
    """Return about how many images a dataset has: a list's lines, an array's header, a guess for a folder."""
    data = getattr(params, section)
    if data.dataset == "list":
        file = Path(data.root) / data.splits.train
        if file.is_file():
            # Each job parses the workflow again: a list alone pays for the import.
            from imbnas.data.indexes import count_listed

            return count_listed(file)
    if data.dataset == "npz":
        return count_rows(Path(data.root)) or UNKNOWN_ROWS
    if data.name is not None:
        return sum(MEDMNIST[data.name].rows)
    return PUBLISHED[data.dataset].rows if data.dataset in PUBLISHED else UNKNOWN_ROWS


def side(params: Params) -> int:
    """Return the side of the network's input in pixels: the target's rules."""
    return params.target.shape[0]


def _images(params: Params, step: str) -> int:
    """Return how many images pass forward and backward through a network in `step`."""
    if takes_over(params, step):
        return 0
    if step == "supernet":
        return rows(params, "source") * params.supernet.epochs * _passes(params, params.supernet.sampling)
    if step == "adapt" and params.adapt.strategy == "head" and params.adapt.feature_cache.paths:
        cache = params.adapt.feature_cache
        # The training on features is nothing beside their passes.
        return rows(params, "target") * cache.paths * max(1, cache.views)
    if step == "adapt":
        return rows(params, "target") * _stage(params).epochs * _passes(params, params.adapt.sampling)
    if step == "search":
        search = params.search
        candidates = max(search.candidates, search.population * search.generations)
        scored = candidates * (search.calibration.rows + rows(params, "target") // 5) // 3
        if not search.shifting.updates:
            return scored
        # All candidates are scored twice.
        return 2 * scored + candidates * search.shifting.updates * search.shifting.batch_size
    if step == "retrain":
        networks = 1 + params.retrain.references.count + params.retrain.distilled
        return rows(params, "target") * params.retrain.acting.epochs * networks
    return rows(params, "target")


def _trained(params: Params, step: str) -> list[Any]:
    """Return the recipes of the trainings on images in a step."""
    if step == "adapt":
        return [_stage(params)]
    if step == "search":
        return [params.search.darts] if params.search.method == "darts" else []
    return [_section(params, step)] if step in SHARED else []


def _section(params: Params, step: str) -> Any:
    """Return a step's section, its recipe the one that acts."""
    return params.retrain.acting if step == "retrain" else getattr(params, step)


def _stage(params: Params) -> Any:
    """Return the recipe of the adaptation's strategy; `none` trains nothing, and the head's stands for it."""
    return getattr(params.adapt, params.adapt.strategy, params.adapt.head)


def _passes(params: Params, sampling: str) -> int:
    """Return the paths of one optimiser step, about: fair sampling takes each candidate of a block once."""
    return 1 if sampling == "uniform" else 4


def _batch(params: Params, step: str) -> int:
    part = _stage(params) if step == "adapt" else _section(params, step)
    return int(part.batch_size)


def _activations(params: Params) -> int:
    """Return about how many bytes the gradient of one image needs."""
    pixels = side(params) // params.space.stem.stride
    total = pixels**2 * params.space.stem.channels
    stages = params.space.stages
    for channels, repeats, stride in zip(stages.channels, stages.repeats, stages.strides, strict=True):
        pixels = max(1, pixels // stride)
        total += pixels**2 * channels * repeats
    return total * BYTES
