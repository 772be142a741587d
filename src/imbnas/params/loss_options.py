"""The losses, declared in one place: the name of each, its options, and what it can be combined with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from imbnas.params.section import Section
from imbnas.params.shared import Fraction, NonNegative, Share

ClassWeights = Literal["none", "inverse-frequency", "effective-number"]


class FocalParams(Section):
    """Softmax focal loss (Lin et al. 2017)."""

    gamma: NonNegative = 2.0
    """Exponent of (1 - p); the class weight stays outside of p."""


class LdamParams(Section):
    """Label-distribution-aware margins (Cao et al. 2019)."""

    max_margin: NonNegative = 0.5
    """Margin of the rarest class, on cosines."""


class AdjustmentParams(Section):
    """Logit-adjusted loss (Menon et al. 2021)."""

    tau: NonNegative = 1.0
    """Strength of the log-prior; 1 is balanced softmax."""


class VsParams(Section):
    """Vector scaling (Kini et al. 2021)."""

    gamma: NonNegative = 0.3
    """Exponent of the class temperatures; 0 gives the logit-adjusted loss."""
    tau: NonNegative = 1.0
    """Strength of the log-prior; 0 gives CDT."""


class CdtParams(Section):
    """Class-dependent temperatures (Ye et al. 2020)."""

    gamma: NonNegative = 0.2
    """Exponent of the class temperatures."""


class SeesawParams(Section):
    """Seesaw loss (Wang et al. 2021)."""

    p: NonNegative = 0.8
    """Exponent of the mitigation by class counts."""
    q: NonNegative = 2.0
    """Exponent of the compensation of wrong answers."""


class SeqlParams(Section):
    """Softmax equalisation (Tan et al. 2020)."""

    gamma: Share = 0.9
    """Chance that a rare class is left out of another row's denominator."""
    threshold: Share = 4.3e-4
    """Classes with a smaller share of the rows are rare."""


class SmoothingParams(Section):
    """Label-aware smoothing (Zhong et al. 2021)."""

    head: Fraction = 0.4
    """Smoothing of the largest class."""
    tail: Fraction = 0.1
    """Smoothing of the smallest class, at most `head`."""

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.tail > self.head:
            raise ValueError(f"tail is {self.tail}, expected at most head ({self.head})")
        return self


@dataclass(frozen=True)
class LossEntry:
    """The properties of a loss that parameters are checked against; its class in `imbnas.longtail` has the same name.

    `options` are the section `losses.<name>`. `smoothable` losses define label smoothing, `prior_corrected` ones take
    the class frequencies out of the network's answer, `cosine` ones need the cosine classifier. `weights` are the class
    weights of a loss that is cross-entropy with weights, and named after them; None leaves them to `weighting.weights`.
    """

    options: type[Section] | None = None
    smoothable: bool = True
    prior_corrected: bool = False
    cosine: bool = False
    weights: ClassWeights | None = None


LOSSES: dict[str, LossEntry] = {
    "ce": LossEntry(weights="none"),
    "inverse-frequency": LossEntry(weights="inverse-frequency", prior_corrected=True),
    "effective-number": LossEntry(weights="effective-number", prior_corrected=True),
    "focal": LossEntry(FocalParams, smoothable=False),
    "ldam": LossEntry(LdamParams, cosine=True),
    "balanced-softmax": LossEntry(prior_corrected=True),
    "logit-adjustment": LossEntry(AdjustmentParams, prior_corrected=True),
    "vs": LossEntry(VsParams, prior_corrected=True),
    "cdt": LossEntry(CdtParams),
    "seesaw": LossEntry(SeesawParams),
    "seql": LossEntry(SeqlParams, smoothable=False),
    "label-aware-smoothing": LossEntry(SmoothingParams, smoothable=False),
}
"""Every loss, by the name that parameters give it."""

if TYPE_CHECKING:
    LossName = str
else:
    LossName = Literal[tuple(LOSSES)]


def _fields() -> dict[str, Any]:
    """Return the fields of `losses`: the options of every loss that has some."""
    return {
        name.replace("-", "_"): (entry.options, Field(entry.options(), description=f"Of {name}."))
        for name, entry in LOSSES.items()
        if entry.options is not None
    }


class LossesParams(create_model("Options", __base__=Section, **_fields())):  # type: ignore[misc]
    """Options of the losses; each acts where `loss` names its loss."""

    def of(self, loss: LossName) -> dict[str, Any]:
        """Return the options of one loss, under the names that its class gives them."""
        return dict(getattr(self, loss.replace("-", "_")).model_dump()) if LOSSES[loss].options else {}
