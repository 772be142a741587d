"""The end of a single-stage search: its network with constant weights of operations, cut to those that act."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from imbnas.cell_graph import OPERATIONS
from imbnas.differentiable.learners import Learner
from imbnas.differentiable.mixed_cell import KIND, RelaxedCells
from imbnas.params.search import SearchView
from imbnas.run.context import Context
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.mixture import acting, describe_mixture, zero_share
from imbnas.spaces.relaxed import Relaxed
from imbnas.steps.handed import MIXTURE
from imbnas.steps.recalibration import calibrate
from imbnas.steps.supernets import read_supernet
from imbnas.steps.workbench import TrainingStep
from imbnas.training.checkpoint import save_weights


@dataclass(frozen=True)
class Mixture:
    """A mixture's constants (edges, operations), its network's state and cost."""

    weights: list[list[float]]
    state: dict[str, Tensor]
    cost: Cost

    @property
    def described(self) -> dict[str, Any]:
        """Return what results/architecture.json says of it beside the decoded cell, which is not what it costs."""
        return {
            "blocks": describe_mixture(self.weights),
            "macs": self.cost.macs,
            "params": self.cost.params,
            "mixture": {
                "weights": self.weights,
                "zeros": zero_share(self.weights),
                "acting": sum(map(len, acting(self.weights))),
            },
        }

    @property
    def sentence(self) -> str:
        """The operations that are left, in words."""
        found = self.described["mixture"]
        return (
            f"{found['acting']} operations act in the mixture, {found['zeros']:.1%} of all weights are exactly 0; it "
            f"has {self.cost.macs:,} MACs and {self.cost.params:,} parameters"
        )

    def hand_on(self, context: Context, view: SearchView) -> None:
        """Write the network that `retrain` takes as it is, with how it was trained."""
        _, meta = read_supernet(context.path("adapted"), view.space, "adapt")
        own = {
            "kind": MIXTURE,
            "step": "search",
            "method": view.search.method,
            "mixture": self.weights,
            "training": view.search.darts.model_dump(mode="json"),
        }
        save_weights(context.path("handed"), self.state, {**meta, **own})


def make_mixture(step: TrainingStep, view: SearchView, learner: Learner, relaxed: Relaxed) -> Mixture:
    """Return the learner's network at constant weights, its BatchNorm statistics measured as those of a score are."""
    relaxation = learner.network
    assert isinstance(relaxation, RelaxedCells)  # the parameters refuse another space
    given = relaxed.operations[KIND].detach().float().cpu()
    # Where weights do not compete, `none`, the first operation, has none.
    weights: list[list[float]] = F.pad(given, (len(OPERATIONS) - given.shape[1], 0)).tolist()
    network = step.space.mixture_on_meta(weights, step.classes, step.shape[2])
    network.head = copy.deepcopy(relaxation.head)
    own = network.state_dict()
    network.load_state_dict(
        {name: value.clone() for name, value in relaxation.supernet_state().items() if name in own}, assign=True
    )
    calibrate(step, step.placed(network), view.search.calibration)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    with torch.no_grad():
        return Mixture(weights, state, count(network, step.shape))
