"""Options of knowledge distillation: a teacher whose answers a training follows beside the labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imbnas.params.section import Section


class DistillParams(Section):
    """Knowledge distillation (Hinton et al. 2015) of the chosen network and its references alike."""

    teacher: Literal["none", "largest"] = "none"
    """`largest`: the largest subnet within the limits of the search is trained first, by the same recipe without
    distillation, and every network, the reference of its architecture too, follows its answers."""
    weight: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    """Share w of the teacher in the loss (1 - w) L + w T^2 KL(teacher || network); 1: no label is read."""
    temperature: Annotated[float, Field(gt=0.0, le=1000.0)] = 4.0
    """Temperature T, by which the logits of both are divided; 4 and a weight of 0.9 are those of Tian et al. 2020."""
