"""The start of a final training with inherited weights: a path of the supernet that the search has handed on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from imbnas.params.retrain import RetrainParams
from imbnas.params.space_options import SpaceParams
from imbnas.spaces.networks import Architecture, Subnet
from imbnas.steps.handed import read_handed
from imbnas.steps.objective import describe_head
from imbnas.steps.recalibration import calibrate
from imbnas.steps.supernets import head_of
from imbnas.steps.workbench import TrainingStep


@dataclass(frozen=True)
class Inheritance:
    """A supernet's weights and metadata, and whether its classifier is of the kind that the training has."""

    weights: dict[str, Tensor]
    meta: dict[str, Any]
    with_head: bool

    @classmethod
    def read(cls, step: TrainingStep, space: SpaceParams, retrain: RetrainParams) -> Inheritance | None:
        """Return what the search has handed on, None where the networks begin with new weights."""
        if retrain.init == "scratch":
            return None
        weights, meta = read_handed(step.context, space, step.rows.split.info)
        source = meta.get("source")
        step.context.cost_notes["init"] = f"handed, source {source['dataset'] if source else 'none'}"
        wanted = describe_head(retrain.classifier.chosen(retrain.loss), retrain.classifier.scale)
        found = head_of(meta)
        if found["name"] != wanted["name"]:
            step.context.log(
                f"the supernet's {found['name']} head is not inherited: the training has a {wanted['name']} one"
            )
        return cls(weights, meta, found["name"] == wanted["name"])

    def give(self, step: TrainingStep, retrain: RetrainParams, network: Subnet, architecture: Architecture) -> None:
        """Give a new network the weights of its path in the supernet, and BatchNorm statistics of its own.

        A head of another kind than the supernet's keeps its first weights; a cosine head has the training's own scale.
        """
        state, path = network.state_dict(), step.space.subnet_state(self.weights, architecture)
        state |= {name: value for name, value in path.items() if self.with_head or not name.startswith("head.")}
        network.load_state_dict(state)
        calibrate(step, network, retrain.finetune.calibration)

    @property
    def described(self) -> dict[str, Any]:
        """What a network's metadata say of its start: method, adaptation, head, and the source of the weights.

        Classes that source and target share, by name, are those of which the source may hold more rows than the tail.
        """
        source, classes = self.meta.get("source"), set(self.meta["classes"])
        return {
            "weights": "handed",
            "method": self.meta["method"],
            "strategy": self.meta["recipe"]["strategy"],
            "head": "handed" if self.with_head else "new",
            "source": None
            if source is None
            else {
                "dataset": source["dataset"],
                "classes": len(source["classes"]),
                "shared": len(classes.intersection(source["classes"])),
            },
        }


def recipe_meta(retrain: RetrainParams) -> dict[str, Any]:
    """Return the recipe by which networks are trained, as their metadata tell it: what does not act is left out."""
    idle: dict[str, Any] = {"init": True, "finetune": True}
    if not retrain.distilled:
        idle["distill"] = True
    if not retrain.head.entry.generates:
        idle["head"] = {"synthesis"}
    recipe = retrain.acting.model_dump(mode="json", exclude=idle)
    if retrain.init == "handed":
        recipe |= {"init": retrain.init, "calibration": retrain.finetune.calibration.model_dump(mode="json")}
        if retrain.frozen:
            recipe |= {"backbone": "frozen"}
    return recipe
