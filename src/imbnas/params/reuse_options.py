"""A supernet of another project in place of a training: the steps `source` and `supernet` see it."""

from __future__ import annotations

import posixpath
from typing import Annotated

from pydantic import AfterValidator

from imbnas.params.dataset import file_name
from imbnas.params.section import Section

SUPERNETS = "supernets"
"""The directory of the supernets that a user brings along: DVC knows it as an input."""


def below_supernets(value: str) -> str:
    """Refuse a file elsewhere, whose changes DVC would not see, and signs that Snakemake takes for wildcards."""
    if posixpath.normpath(value) != value or not value.startswith(f"{SUPERNETS}/") or {"{", "}"} & {*value}:
        raise ValueError(
            f"found {value}, expected a file below {SUPERNETS}/, without braces, as in "
            f"{SUPERNETS}/cifar100-32.safetensors"
        )
    return value


SupernetPath = Annotated[str, AfterValidator(file_name), AfterValidator(below_supernets)]


class ReuseParams(Section):
    """The part of `supernet` that the source sees."""

    reuse: SupernetPath | None = None
