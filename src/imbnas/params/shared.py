"""Ranges of values that several sections share, and how the arithmetic is done."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from imbnas.params.section import Section

Positive = Annotated[int, Field(gt=0, lt=2**31)]
"""Of rows, which a machine either has or has not; what makes something so large has a limit of its own below."""
Count = Annotated[int, Field(ge=0, lt=2**31)]
Width = Annotated[int, Field(gt=0, le=2**16)]
"""Channels of a layer; the widest published ones have some thousand."""
Even = Annotated[int, Field(ge=2, le=2**16, multiple_of=2)]
"""Channels that are split in two."""
Side = Annotated[int, Field(gt=0, le=2**13)]
"""Of an image, in pixels."""
Pixels = Annotated[int, Field(ge=0, le=2**13)]
Depth = Annotated[int, Field(gt=0, le=1000)]
"""Blocks or cells on top of each other."""
Batch = Annotated[int, Field(gt=0, le=2**20)]
"""Rows in one step."""
Pairs = Annotated[int, Field(ge=2, le=2**20)]
"""Rows in one step that is not defined for one."""
Epochs = Annotated[int, Field(ge=0, le=10**6)]
Rounds = Annotated[int, Field(gt=0, le=10**6)]
"""Of what is computed so many times, one after the other."""
Paths = Annotated[int, Field(ge=0, le=10**5)]
Workers = Annotated[int, Field(ge=0, le=1024)]
"""Processes or threads; more than any machine has processors."""
Some = Annotated[int, Field(gt=0, le=1024)]
"""The same, at least one."""
Cost = Annotated[int, Field(gt=0, lt=2**53)]
"""Of operations or parameters, which large networks have more than 2^31 of."""
_SHARE = r"(0?\.[0-9]*[1-9][0-9]*|1(\.0*)?)x"


def _cost_share(given: Any) -> str:
    if isinstance(given, str) and len(given) <= 20 and re.fullmatch(_SHARE, given):
        return given
    raise PydanticCustomError("cost_share", "a share of the largest up to 1, such as 0.6x")


CostShare = Annotated[str, Field(pattern=f"^{_SHARE}$", examples=["0.6x"]), BeforeValidator(_cost_share)]
"""Of what the architecture with the most MACs has."""
CostLimit = Cost | CostShare
LatencyLimit = Annotated[float, Field(gt=0.0, le=1e9)] | CostShare
"""In milliseconds."""
EnergyLimit = Annotated[float, Field(gt=0.0, le=1e15)] | CostShare
"""In nanojoules."""
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Above = Annotated[float, Field(gt=0.0)]
Beside = Literal["auto"] | Annotated[int, Field(gt=0, le=32)]
"""Trainings at a time; a GPU has no more than 32 streams to tell apart."""
Device = Literal["auto", "cpu", "cuda"]
Sampling = Literal["uniform", "fair", "sandwich", "mixture"]
PassesTaken = Literal["separate", "together"]
Precision = Literal["fp32", "tf32", "bf16"]


def check_teaching(inplace_distillation: bool, sampling: Sampling) -> None:
    """Raise ValueError where a step's largest path is to teach the others and no step is sure to have it."""
    if inplace_distillation and sampling != "sandwich":
        raise ValueError(
            f"inplace_distillation is true with sampling {sampling}, expected sandwich, whose largest path teaches"
        )


class Numerics(Section):
    """Settings that change the bits of a result, so that the steps depend on them."""

    device: Device = "auto"
    """`auto` takes CUDA when there is one."""
    precision: Precision = "fp32"
    """Of convolutions and matrix products, each with other bits: `tf32` rounds their inputs to 10 bits, on CUDA alone;
    `bf16` computes them in bfloat16: faster on CUDA and AVX512-BF16."""
    threads: Some = 2
    """CPU threads of the arithmetic; another number gives other bits, so it does not follow the machine."""
    channels_last: bool | Literal["tiled"] = True
    """Memory layout NHWC: 1.2 to 1.8 times faster convolutions on CPUs, other bits. With `tiled` trainings on CPUs also
    sum the gradients of depthwise convolutions by a few columns of the kernel at a time: faster for wide kernels,
    hardly for a whole network, again other bits."""
    deterministic: bool = True
    """Refuse operations that give other bits on a second run."""


class TrainingNumerics(Numerics):
    """The same for the steps that train: `supernet`, `adapt` and `retrain`."""

    processes: Some = 1
    """Processes that share each batch of a training, on CUDA with a GPU each: for trainings that take too long on one.
    `batch_size` stays that of all together. Sums are taken in another order: other bits."""


class RuntimeParams(TrainingNumerics):
    """Settings for running the steps; those that are not in `TrainingNumerics` never change a result."""

    state_interval: Annotated[float, Field(ge=0.0)] = 300.0
    """Seconds between two saved states of a training; 0 saves after every optimiser step."""
    workers: Workers = 2
    """Processes that make batches ahead: they decode images of path datasets and apply `augment.policy` to them, on
    CUDA to arrays too. Where a step waits for them, more are faster, up to the number of cores."""
    memory: Annotated[float, Field(ge=0.0, le=2**20)] = 2.0
    """GiB of activations that a search keeps where several candidates begin alike; with less it computes more."""
    gpu_share: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Part of a GPU's memory that a step leases and keeps to, so that several steps run on one; 1 leases it whole."""
    together: Beside = "auto"
    """Trainings of `retrain` (the chosen network, its references) and of a table's cells that take turns, step by step.
    On a GPU they overlap, so that small networks fill it. `auto`: there as many as have room, up to 8; on a CPU 1."""

    @model_validator(mode="after")
    def _one_after_the_other(self) -> Self:
        if self.processes > 1 and self.together not in ("auto", 1):
            raise ValueError(
                f"together is {self.together} with processes {self.processes}, expected auto or 1: trainings in "
                "several processes come one after the other"
            )
        return self

    @model_validator(mode="after")
    def _whole_gpus(self) -> Self:
        if self.processes > 1 and self.gpu_share < 1.0:
            raise ValueError(
                f"gpu_share is {self.gpu_share:g} with processes {self.processes}, expected 1: the processes of a "
                "training have a whole GPU each"
            )
        return self
