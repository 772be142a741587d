"""Networks whose training is over, kept so that another second stage does not train them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import write_json
from imbnas.training.weights import load_weights, save_weights


@dataclass(frozen=True)
class Trained:
    """A kept network, `<base>.<tag>.safetensors`, with the seconds of its training beside it.

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

    def load(self) -> tuple[dict[str, Tensor], float] | None:
        """Return the network's state and the seconds that it took; None where it is not kept, or not readable."""
        try:
            state, _ = load_weights(self._weights, "trained")
            seconds = float(json.loads(self._cost.read_text(encoding="utf-8"))["seconds"])
        except (UserError, OSError, ValueError, KeyError):
            return None
        return state, seconds

    def save(self, state: dict[str, Tensor], seconds: float) -> None:
        """Keep a network."""
        write_json(self._cost, {"seconds": round(seconds, 3)})
        save_weights(self._weights, state, {"kind": "trained"})
