"""The heads on a frozen backbone, declared in one place: the name of each, and what it can be combined with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from imbnas.params.recipe import RecipeParams, Tau
from imbnas.params.shared import NonNegative


@dataclass(frozen=True)
class HeadEntry:
    """The properties of a head that parameters are checked against; `imbnas.steps.head_stages` makes it.

    An `own` head is trained with the section's loss and sampler. One that `corrects` begins with a linear head that was
    trained before; with `prior` it takes the class frequencies out of it, which a training must not have done already.
    A head that `chooses_tau` does so on the validation rows where `tau` is auto. `trained` is false for heads without
    any training. One that `generates` goes on training on features of one network and others like them, so that it is a
    second stage of `retrain` alone: a supernet has as many features of a row as paths.
    """

    own: bool = False
    corrects: bool = False
    prior: bool = False
    chooses_tau: bool = False
    trained: bool = True
    generates: bool = False


HEADS: dict[str, HeadEntry] = {
    "linear": HeadEntry(own=True),
    "cosine": HeadEntry(own=True),
    "crt": HeadEntry(),
    "lws": HeadEntry(corrects=True),
    "tau-norm": HeadEntry(corrects=True, chooses_tau=True),
    "ncm": HeadEntry(trained=False),
    "logit-adjustment": HeadEntry(corrects=True, prior=True),
    "latent-diffusion": HeadEntry(corrects=True, generates=True),
    "gaussian": HeadEntry(corrects=True, generates=True),
    "mixup": HeadEntry(corrects=True, generates=True),
}
"""Every head, by the name that parameters give it."""

if TYPE_CHECKING:
    HeadName = str
    SecondStageName = str
else:
    HeadName = Literal[tuple(name for name, entry in HEADS.items() if not entry.generates)]
    SecondStageName = Literal["none", *HEADS]


class HeadRecipeParams(RecipeParams):
    """The training of a head, and the options of those that are corrected instead of trained."""

    tau: Tau = "auto"
    """Exponent of tau-norm; `auto` takes the best of 0, 0.1, ... 2 on the validation rows."""
    adjustment: NonNegative = 1.0
    """Factor of the log-prior that logit-adjustment subtracts."""
    name: SecondStageName
    """The head."""

    @model_validator(mode="before")
    @classmethod
    def _no_fixed_vectors(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("name") == "etf":
            raise ValueError(
                "name is etf, expected another head: its vectors are fixed, and nothing would train behind a frozen "
                "backbone; classifier.name etf trains a backbone towards them"
            )
        return given

    @property
    def entry(self) -> HeadEntry:
        """What is known of the head; of `none` nothing is."""
        return HEADS.get(self.name, HeadEntry())

    @property
    def judged(self) -> bool:
        """Whether validation rows choose its exponent."""
        return self.entry.chooses_tau and self.tau == "auto"
