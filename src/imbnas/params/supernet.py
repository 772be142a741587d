"""Section `supernet`: training the weight-sharing network on the balanced source."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from imbnas.params.recipe import RecipeParams
from imbnas.params.reuse_options import SupernetPath
from imbnas.params.section import View
from imbnas.params.shared import Epochs, PassesTaken, Rounds, Sampling, TrainingNumerics, check_teaching
from imbnas.params.space_options import SpaceParams


class SupernetParams(RecipeParams):
    """The supernet's training."""

    epochs: Epochs = 40
    sampling: Sampling = "fair"
    """Paths of one optimiser step: one uniform path; every choice of every block once (FairNAS); or the largest, the
    smallest and two uniform paths. `mixture`, in the space darts: no path, but all operations at equal weights."""
    passes: PassesTaken = "separate"
    """How the paths of a fair step are computed: one after the other, or in one pass, in the spaces shufflenet and
    nasbench201: a GPU then records the whole step. It holds all paths in memory at once; other rounding, other bits."""
    inplace_distillation: bool = False
    """Of the sampling `sandwich`: the largest path alone learns from labels, and the others of the step from its
    probabilities (Yu and Huang 2019; BigNAS)."""
    probe_paths: Rounds = 32
    """Random paths whose mean balanced accuracy on the source's validation rows is logged at the end."""
    reuse: SupernetPath | None = None
    """A supernet below `supernets/` that another project has trained, its models/supernet.safetensors, for the same
    space and as many channels, or in the space ofa-mobilenetv3 a published checkpoint: it is taken as it is with its
    normalisation, nothing is trained on a source, and no file of `source` is read. null: one is trained."""
    reuse_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Of `reuse`: the SHA-256 that the file must have; null: any."""

    @model_validator(mode="after")
    def _digest_of_nothing(self) -> Self:
        if self.reuse_sha256 is not None and self.reuse is None:
            raise ValueError(f"reuse_sha256 is {self.reuse_sha256} and reuse is null, expected the file that has it")
        return self

    @model_validator(mode="after")
    def _teaching(self) -> Self:
        check_teaching(self.inplace_distillation, self.sampling)
        return self

    @property
    def described(self) -> dict[str, Any]:
        """The recipe as the metadata of a supernet that was trained by it tell it: what acts."""
        idle = set() if self.inplace_distillation else {"inplace_distillation"}
        idle |= {"passes"} if self.passes == "separate" else set()
        return self.model_dump(mode="json", exclude={"reuse", "reuse_sha256"} | idle)


class SupernetView(View):
    """The view of the step `supernet`."""

    seed: int
    space: SpaceParams
    runtime: TrainingNumerics
    supernet: SupernetParams
