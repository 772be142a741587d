"""One system under test in a process of its own: reads requests from stdin, answers each with seconds on stdout.

Runs in the environment of the system, so that it imports nothing but torch and the system itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from imbnas.params.space_options import SpaceParams

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
CLASSES = 10


class System:
    """A supernet on the cells of NAS-Bench-201 (16 channels, 5 cells a stage), with its usual optimiser step."""

    def __init__(self, device: torch.device) -> None:
        """Build the model and its optimiser."""
        self.device = device
        self.model: nn.Module = self.build().to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        self.loss = nn.CrossEntropyLoss()

    def build(self) -> nn.Module:
        """Return the model."""
        raise NotImplementedError

    def take(self, path: list[int]) -> None:
        """Make the path the one of the next forward passes."""
        raise NotImplementedError

    def begin(self, task: str) -> None:
        """Prepare for a task, which others of its kind follow."""

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Run the path."""
        out: torch.Tensor = self.model(images)
        return out

    def train(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Take one optimiser step, as the peers' loops do."""
        self.optimizer.zero_grad()
        self.loss(self.logits(images), labels).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimizer.step()

    def evaluate(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Run one evaluation batch."""
        with torch.no_grad():
            self.logits(images).argmax(1)


class Xautodl(System):
    """AutoDL-Projects: the generic supernet in the mode "dynamic", without affine BatchNorm as its scripts set it."""

    def build(self) -> nn.Module:
        """Return the model."""
        from xautodl.models.cell_operations import NAS_BENCH_201
        from xautodl.models.cell_searchs.generic_model import GenericNAS201Model

        model = GenericNAS201Model(16, 5, 4, CLASSES, NAS_BENCH_201, False, True)
        model.set_algo("random")
        return model

    def take(self, path: list[int]) -> None:
        """Make the path the one of the next forward passes."""
        from xautodl.models import CellStructure

        words = [f"{OPERATIONS[choice]}~{source}|" for (source, _), choice in zip(EDGES, path, strict=True)]
        nodes = ["|" + "".join(w for w, (_, n) in zip(words, EDGES, strict=True) if n == node) for node in (1, 2, 3)]
        self.model.set_cal_mode("dynamic", CellStructure.str2structure("+".join(nodes)))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """Run the path."""
        out: torch.Tensor = self.model(images)[1]
        return out


class Nni(System):
    """NNI 3.0: its hub's NAS-Bench-201 made a supernet by the strategy RandomOneShot."""

    def build(self) -> nn.Module:
        """Return the model."""
        from nni.nas.hub.pytorch.nasbench201 import NasBench201
        from nni.nas.strategy import RandomOneShot

        model: nn.Module = RandomOneShot().mutate_model(NasBench201(16, 5, CLASSES))
        return model

    def take(self, path: list[int]) -> None:
        """Make the path the one of the next forward passes."""
        from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule

        names = {edge: OPERATIONS[choice].replace("nor_", "") for edge, choice in zip(EDGES, path, strict=True)}
        memo = {f"cell/{source}_{node}": name for (source, node), name in names.items()}
        for module in self.model.modules():
            if isinstance(module, BaseSuperNetModule):
                module.resample(memo)


class Ours(System):
    """imbnas as its steps `supernet` and `search` run it."""

    precision = "fp32"
    bare = False
    clip = 5.0
    channels_last: Any = True

    def __init__(self, device: torch.device) -> None:
        """Build the model and its optimiser."""
        from imbnas.params.recipe import OptimizerParams
        from imbnas.params.shared import Numerics
        from imbnas.spaces.registry import make_space
        from imbnas.training.optimizer import make_optimizer
        from imbnas.training.runtime import Runtime

        threads = torch.get_num_threads()
        numerics = Numerics(
            device=device.type,
            precision=self.precision,
            threads=threads,
            channels_last=self.channels_last,
            deterministic=True,
        )
        self.runtime = Runtime(numerics)
        self.space = make_space(self.space_params())
        self.loss = nn.CrossEntropyLoss()
        self.arguments: tuple[Any, ...] = ()
        self.recorded = ExitStack()
        if not self.bare:
            self.model = self.runtime.place(self.space.build_supernet(CLASSES, 3))
            self.optimizer = make_optimizer(self.model, OptimizerParams())

    def space_params(self) -> SpaceParams:
        """Return the search space."""
        from imbnas.params.space_options import SpaceParams, Stages

        stages = Stages(channels=[16, 32, 64], repeats=[5, 5, 5], strides=[1, 2, 2])
        return SpaceParams(name="nasbench201", stages=stages, last_channels=None)

    def take(self, path: list[int]) -> None:
        """Make the path the one of the next forward passes."""
        if self.bare:
            self.model = self.runtime.place(self.space.build_subnet(path, CLASSES, 3))
        else:
            self.arguments = (tuple(path),)

    def begin(self, task: str) -> None:
        """Let a GPU play recorded parts back in training, as `training.loop` does; an evaluation has none."""
        self.recorded.close()
        if task == "train" and self.runtime.device.type == "cuda" and not self.bare:
            from imbnas.training.cuda_graphs import recorded_parts

            self.recorded.enter_context(recorded_parts(self.model))

    def train(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Take one optimiser step as `training.loop` does; a bare subnet goes without the optimiser."""
        images = self.runtime.lay_out(images)
        (self.model if self.bare else self.optimizer).zero_grad()
        loss = self.loss(self.runtime.forward(self.model, images, *self.arguments), labels)
        loss.backward()
        if not self.bare:
            if self.clip:
                self.optimizer.clip(self.clip)
            self.optimizer.step()

    def evaluate(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Run one evaluation batch."""
        with torch.no_grad(), self.runtime.autocast():
            self.model(self.runtime.lay_out(images), *self.arguments).argmax(1)


class OursTf32(Ours):
    """imbnas with inputs rounded to 10 bits, as torch lets the peers' convolutions round them on CUDA."""

    precision = "tf32"


class OursBf16(Ours):
    """imbnas in bfloat16."""

    precision = "bf16"


class Bare(Ours):
    """The subnet alone, without an optimiser: the ceiling of a supernet that only switches paths."""

    bare = True


class BareTf32(Bare):
    """The same with rounded inputs."""

    precision = "tf32"


class BareBf16(Bare):
    """The same in bfloat16."""

    precision = "bf16"


SYSTEMS = {
    "xautodl": Xautodl,
    "nni": Nni,
    "imbnas": Ours,
    "imbnas-tf32": OursTf32,
    "imbnas-bf16": OursBf16,
    "subnet": Bare,
    "subnet-tf32": BareTf32,
    "subnet-bf16": BareBf16,
}


def serve(systems: Mapping[str, Callable[[torch.device], System]]) -> None:
    """Serve the system that the command line names.

    Each request is a task, a path and a batch size, each answer its wall and CPU seconds.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with answers
    name, device_name, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    device = torch.device(device_name)
    torch.manual_seed(0)
    system = systems[name](device)
    batches: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    taken = task = None
    for line in sys.stdin:
        request = json.loads(line)
        size = request["batch"]
        if size not in batches:
            images = torch.randn(size, 3, 32, 32, device=device)
            batches[size] = images, torch.randint(CLASSES, (size,), device=device)
        if taken != request["path"]:
            system.take(taken := request["path"])
        if task != request["task"]:
            system.begin(task := request["task"])
        # Once an epoch in everybody's loop, so not a part of a step.
        system.model.train(request["task"] == "train")
        action = getattr(system, request["task"])
        if device.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter(), time.process_time()
        for _ in range(request["repeat"]):
            action(*batches[size])
        if device.type == "cuda":
            torch.cuda.synchronize()
        end = time.perf_counter(), time.process_time()
        spent = [(b - a) / request["repeat"] for a, b in zip(begin, end, strict=True)]
        print(json.dumps(spent), file=answers, flush=True)


if __name__ == "__main__":
    serve(SYSTEMS)
