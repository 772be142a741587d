"""The metadata of a supernet that another project has trained, the file that `supernet.reuse` names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imbnas.errors import UserError
from imbnas.files import check_named
from imbnas.metadata import SourceSupernetMeta, described
from imbnas.weights_meta import read_meta

NAME = "supernet.reuse"
EXPECTED = "expected a trained supernet: models/supernet.safetensors of another project"


def reused_meta(path: Path) -> dict[str, Any]:
    """Return the metadata of a supernet that was trained on a source.

    Raises UserError, which begins with the parameter, for a file that is absent, damaged, foreign, of another kind, or
    never trained.
    """
    check_named(path, NAME)
    try:
        meta = read_meta(path)
        if (meta.get("kind"), meta.get("step")) != ("supernet", "supernet"):
            raise UserError(f"{path}: holds a {meta.get('kind')} of the step {meta.get('step')}, {EXPECTED}")
        found = described(SourceSupernetMeta, meta, path)
    except UserError as error:
        raise UserError(f"{NAME}: {error}") from None
    if found.recipe.epochs == 0:
        raise UserError(f"{NAME}: {path}: was trained for 0 epochs, {EXPECTED}")
    return meta
