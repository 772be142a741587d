"""Networks whose training is over, kept so that another second stage does not train them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from imbnas.errors import UserError
from imbnas.files import digest_file
from imbnas.sealed import read_record, write_record
from imbnas.training.checkpoint import load_weights, save_weights


class Kept(NamedTuple):
    """A kept network: its state, what its training took, the run that spent that, and the loss of each epoch."""

    state: dict[str, Tensor]
    seconds: float
    run: str
    losses: list[float]


@dataclass(frozen=True)
class Trained:
    """The place of a kept network, `<base>.<tag>.safetensors`, with the cost and the losses of its training beside it.

    `base` ends in a digest of everything that determines the training. The files are not outputs, and deleting them
    costs only time.
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
        """Return the network; None where it is not kept, or not as it was kept."""
        try:
            cost = read_record(self._cost)
            if digest_file(self._weights) != cost["weights"]:
                return None
            state, _ = load_weights(self._weights, "trained")
            losses = [float(loss) for loss in cost["losses"]]
            return Kept(state, float(cost["seconds"]), str(cost["run"]), losses)
        except (UserError, OSError, ValueError, KeyError, TypeError):
            return None

    def save(self, kept: Kept) -> None:
        """Keep a network; it counts once its cost and digest are beside it."""
        save_weights(self._weights, kept.state, {"kind": "trained"})
        spent = {"seconds": round(kept.seconds, 3), "run": kept.run, "losses": kept.losses}
        write_record(self._cost, {**spent, "weights": digest_file(self._weights)})
