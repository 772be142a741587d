"""The start of the final training, with new weights or with those that the search hands on: both steps see it."""

from __future__ import annotations

from typing import Literal

from imbnas.params.section import Section

Init = Literal["scratch", "handed"]


class StartParams(Section):
    """The part of `retrain` that the search sees."""

    init: Init = "scratch"
