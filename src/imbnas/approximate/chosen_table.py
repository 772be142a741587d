"""The multiplier that the parameters name, as a table and as metadata tell it; torch is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from imbnas.approximate.families import FAMILIES
from imbnas.approximate.product_tables import ProductTable, read_products
from imbnas.errors import UserError
from imbnas.params.approximate import ApproximateParams


def chosen_table(params: ApproximateParams, root: Path) -> ProductTable | None:
    """Return the multiplier, None where convolutions stay in float32.

    UserError for a file that is not a table of products, or of another digest than the parameters say.
    """
    if params.multiplier is None:
        return None
    if params.multiplier != "table":
        return FAMILIES[params.multiplier].table(params.multiplier)
    # The parameters refuse a table without these.
    assert params.file is not None
    assert params.library is not None
    assert params.name is not None
    try:
        found = read_products(root / params.file, params.signed, params.library, params.name)
    except UserError as error:
        raise UserError(f"approximate.file: {error}") from None
    if found.sha256 != params.sha256:
        wanted = "null" if params.sha256 is None else params.sha256
        raise UserError(
            f"approximate.sha256: found {wanted}, expected {found.sha256}, the digest of {params.file}: a run belongs "
            "to one table"
        )
    return found


def described(params: ApproximateParams) -> dict[str, Any] | None:
    """Return what outputs say of the multiplier and of the convolutions that it is in; not where its file lies."""
    if params.multiplier is None:
        return None
    if params.multiplier == "table":
        known = {name: getattr(params, name) for name in ("library", "name", "sha256", "signed", "relative_energy")}
    else:
        family = FAMILIES[params.multiplier]
        table = family.table(params.multiplier)
        known = {
            "library": table.library,
            "name": table.name,
            "sha256": table.sha256,
            "signed": table.signed,
            "relative_energy": family.relative_energy,
        }
    return {**known, "operations": params.operations, "skeleton": params.skeleton}
