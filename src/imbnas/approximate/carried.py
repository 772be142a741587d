"""The multiplier of a saved network: what its metadata say, and the table that its file carries if it is a user's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imbnas.approximate.families import FAMILIES
from imbnas.approximate.placement import Placement
from imbnas.approximate.product_tables import SIDE, ProductTable
from imbnas.errors import UserError
from imbnas.params.approximate import OWN

TENSOR = "multiplier"
"""The name of the table in a file of networks."""


def table_tensor(placement: Placement | None) -> dict[str, Tensor]:
    """Return what a file of networks carries: the products, or nothing where their definition is known."""
    if placement is None or placement.table.library == OWN:
        return {}
    return {TENSOR: torch.from_numpy(placement.table.values.astype(np.int32))}


def placement_meta(placement: Placement | None) -> dict[str, Any]:
    """Return what metadata say of a multiplier, nothing where there is none."""
    return {} if placement is None else {"approximate": dict(placement.meta)}


def expected_tensor(meta: Mapping[str, Any] | None) -> dict[str, Tensor]:
    """Return the tensor, without memory, that a file with these metadata (`approximate`) must have, if any."""
    if meta is None or meta["library"] == OWN:
        return {}
    return {TENSOR: torch.empty(SIDE, SIDE, dtype=torch.int32, device="meta")}


def read_placement(meta: Mapping[str, Any] | None, tensors: Mapping[str, Tensor], path: Path) -> Placement | None:
    """Return the multiplier of a file of networks, None where it has none; UserError where both do not agree."""
    if meta is None:
        return None
    if meta["library"] != OWN:
        values = tensors[TENSOR].numpy().astype(np.int64)
        table = ProductTable(values, meta["signed"], meta["library"], meta["name"])
    elif meta["name"] in FAMILIES:
        table = FAMILIES[meta["name"]].table(meta["name"])
    else:
        raise UserError(
            f"{path}: its metadata: approximate: found {meta['name']}, expected one of {', '.join(FAMILIES)}"
        )
    if table.sha256 != meta["sha256"]:
        raise UserError(
            f"{path}: its metadata: approximate.sha256: found {meta['sha256']}, expected {table.sha256}, the digest of "
            "its multiplier"
        )
    return Placement(table, meta["operations"], meta["skeleton"], meta)
