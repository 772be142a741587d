"""Networks whose training is over, kept so that another second stage does not train them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.training.weights import load_weights, save_weights


class Kept(NamedTuple):
    """A kept network: its state, the seconds that its training took, and the run that spent them."""

    state: dict[str, Tensor]
    seconds: float
    run: str


@dataclass(frozen=True)
class Trained:
    """Where a network is kept, `<base>.<tag>.safetensors`, with the cost of its training beside it.

    `base` ends in a digest of all that determines the training; the files are no outputs, and deleting them costs
    nothing but time.
    """

    base: Path
    tag: str

    @property
    def _weights(self) -> Path:
        return self.base.with_name(f"{self.base.name}.{self.tag}.safetensors")

    @property
    def _cost(self) -> Path:
        return self._weights.with_suffix(".json")

    def load(self) -> Kept | None:
        """Return the network; None where it is not kept, or not readable."""
        try:
            state, _ = load_weights(self._weights, "trained")
            cost = json.loads(self._cost.read_text(encoding="utf-8"))
            return Kept(state, float(cost["seconds"]), str(cost["run"]))
        except (UserError, OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, kept: Kept) -> None:
        """Keep a network."""
        write_json(self._cost, {"seconds": round(kept.seconds, 3), "run": kept.run})
        save_weights(self._weights, kept.state, {"kind": "trained"})
