"""Once-for-All's MobileNetV3: the published package's logits and operations, and what makes an architecture."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ofa_weights import CLASSES, image, published_state
from torch import Tensor, nn

from imbnas.params.ofa_options import OfaChoices
from imbnas.spaces.constraints import largest, resolve, sample_feasible, smallest
from imbnas.spaces.cost import count
from imbnas.spaces.limits import Limits
from imbnas.spaces.networks import Architecture, Supernet
from imbnas.spaces.ofa import FORMS, SKIP, OfaSpace
from imbnas.spaces.ofa_costs import WIDTH
from imbnas.spaces.ofa_names import from_published
from imbnas.training.batchnorm import batch_statistics

GOLDEN = Path(__file__).with_name("ofa_golden.json")
SIDES = (128, 224)
SMALL = OfaSpace(OfaChoices(width=0.25))


def filled(space: OfaSpace, state: dict[str, Tensor] | None = None) -> Supernet:
    """Return the supernet with the weights of `ofa_weights`, in evaluation."""
    supernet = space.supernet_on_meta(CLASSES, 3)
    found = from_published(published_state(space) if state is None else state, supernet.state_dict())
    supernet.load_state_dict(found, assign=True)
    return supernet.eval()


def settings(architecture: Architecture) -> dict[str, list[int]]:
    """Return an architecture as the package's `set_active_subnet` takes it; what is left out has any form."""
    forms = [FORMS[0 if choice == SKIP else choice] for choice in architecture]
    stages = [architecture[begin : begin + WIDTH] for begin in range(0, len(architecture), WIDTH)]
    depths = [WIDTH - stage.count(SKIP) for stage in stages]
    return {"ks": [kernel for kernel, _ in forms], "e": [expansion for _, expansion in forms], "d": depths}


def operations(network: nn.Module, side: int) -> int:
    """Return the products of convolutions and linear layers, as the package counts them, in whole numbers."""
    found: list[int] = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        weight: Any = module.weight
        found.append(output.numel() * weight[0].numel())

    hooks = [part.register_forward_hook(note) for part in network.modules() if type(part) in (nn.Conv2d, nn.Linear)]
    with torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return sum(found)


@pytest.fixture(scope="module", params=[1.0, 1.2])
def pair(request: pytest.FixtureRequest) -> tuple[OfaSpace, Supernet, Any]:
    """Return the space of a width, its supernet, and the package's with the same weights."""
    networks = pytest.importorskip(
        "ofa.imagenet_classification.elastic_nn.networks", reason="the package ofa, the reference, is not installed"
    )
    space = OfaSpace(OfaChoices(width=request.param))
    lists = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    reference = networks.OFAMobileNetV3(n_classes=CLASSES, width_mult=request.param, dropout_rate=0, **lists)
    state = published_state(space)
    assert reference.state_dict().keys() == state.keys(), "names as the package saves them"
    nn.Module.load_state_dict(reference, state)
    saved = {name: value.clone() for name, value in reference.state_dict().items()}
    return space, filled(space, saved), reference.eval()


def test_logits_and_operations_are_the_packages(pair: tuple[OfaSpace, Supernet, Any]) -> None:
    space, supernet, reference = pair
    rng, worst, scale = np.random.default_rng(0), 0.0, 0.0
    for number in range(30):
        # Uniform draws hardly ever leave out two blocks.
        architecture = tuple(
            choice if number % 2 or place % WIDTH < 2 or rng.random() < 0.5 else SKIP
            for place, choice in enumerate(space.sample(rng))
        )
        architecture = space.canonical(architecture)
        reference.set_active_subnet(**settings(architecture))
        for side in SIDES:
            with torch.no_grad():
                theirs, ours = reference(image(side)), supernet(image(side), architecture)
            worst, scale = max(worst, float((theirs - ours).abs().max())), max(scale, float(theirs.std()))
            found = space.cost_table((side, side, 3), CLASSES).cost(architecture)
            assert found.macs == operations(reference.get_active_subnet(), side)
        subnet = reference.get_active_subnet()
        assert found.params == sum(parameter.numel() for parameter in subnet.parameters())
    print(f"width {space.options.width}: largest difference {worst:.2e} of logits with deviation {scale:.2f}")
    assert worst <= 1e-5
    assert scale > 0.1


def golden(space: OfaSpace, network: Any) -> Iterator[dict[str, Any]]:
    """Yield what the file of golden values holds of a width; `network` maps images and an architecture to logits."""
    architectures = {
        64: (3, 7, 2, 5, 0, 8, SKIP, SKIP, 6, 1, 4, SKIP, 5, 5, 0, 3, 8, 2, SKIP, SKIP),
        96: (8, 0, 1, SKIP, 2, 3, 7, 6, 1, 4, SKIP, SKIP, 0, 6, 8, SKIP, 3, 5, 7, 1),
    }
    for side, architecture in architectures.items():
        logits = network(image(side, 1), architecture)[0, :5].tolist()
        macs = space.cost_table((side, side, 3), CLASSES).cost(architecture).macs
        yield {"width": space.options.width, "side": side, "architecture": list(architecture), "macs": macs,
               "logits": [round(value, 6) for value in logits]}  # fmt: skip


def test_golden_values_are_the_packages(pair: tuple[OfaSpace, Supernet, Any]) -> None:
    space, _, reference = pair

    def network(x: Tensor, architecture: Architecture) -> Tensor:
        reference.set_active_subnet(**settings(architecture))
        with torch.no_grad():
            answers: Tensor = reference(x)
        return answers

    found = list(golden(space, network))
    if "WRITE_GOLDEN" in os.environ:
        kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else []
        GOLDEN.write_text(json.dumps([*kept, *found], indent=1) + "\n")
    known = [entry for entry in json.loads(GOLDEN.read_text()) if entry["width"] == space.options.width]
    assert [entry.pop("macs") for entry in found] == [entry.pop("macs") for entry in known]
    for one, other in zip(found, known, strict=True):
        np.testing.assert_allclose(one.pop("logits"), other.pop("logits"), rtol=0, atol=1e-5)
        assert one == other


@pytest.mark.parametrize("width", [1.0, 1.2])
def test_golden_values(width: float) -> None:
    # They were made by the package: `test_golden_values_are_the_packages`.
    space = OfaSpace(OfaChoices(width=width))
    supernet = filled(space)
    known = [entry for entry in json.loads(GOLDEN.read_text()) if entry["width"] == width]
    with torch.no_grad():
        found = list(golden(space, supernet))
    assert len(known) == len(found) == 2
    for one, other in zip(found, known, strict=True):
        np.testing.assert_allclose(one.pop("logits"), other.pop("logits"), rtol=0, atol=1e-5)
        assert one == other


def test_nothing_follows_a_skip() -> None:
    given = (*(0, 1, SKIP, 4), *(0, 1, 2, SKIP), *(8, 8, 8, 8) * 3)
    assert SMALL.accept(given) == (*(0, 1, SKIP, SKIP), *(0, 1, 2, SKIP), *(8, 8, 8, 8) * 3)
    assert SMALL.size == (81 * 91) ** 5
    rng = np.random.default_rng(1)
    for _ in range(50):
        drawn = SMALL.mutate(SMALL.sample(rng), rng, 0.3)
        assert all(drawn[k + 1] == SKIP for k in range(2, 20, WIDTH) if drawn[k] == SKIP)


def test_costs_within_limits() -> None:
    table, rng = SMALL.cost_table((32, 32, 3), 7), np.random.default_rng(2)
    assert smallest(table) == (0, 0, SKIP, SKIP) * 5
    assert largest(table, Limits()) == (8,) * 20
    limits = resolve(table, "0.4x", "0.5x")
    for architecture in (largest(table, limits), *(sample_feasible(SMALL, table, rng, limits) for _ in range(5))):
        assert SMALL.is_one(architecture)
        assert limits.allow(table.cost(architecture))
        counted = count(SMALL.build_subnet(architecture, 7, 3), (32, 32, 3))
        assert counted == table.cost(architecture)


def test_a_subnet_is_its_path() -> None:
    supernet, rng = filled(SMALL), np.random.default_rng(3)
    for _ in range(3):
        architecture = SMALL.sample(rng)
        subnet = SMALL.build_subnet(architecture, CLASSES, 3)
        subnet.load_state_dict(SMALL.subnet_state(supernet.state_dict(), architecture))
        with torch.no_grad():
            torch.testing.assert_close(subnet.eval()(image(32)), supernet(image(32), architecture), rtol=0, atol=0)


def test_statistics_of_a_narrow_path_are_its_own() -> None:
    supernet = filled(SMALL)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    narrow = (0,) * 20
    with torch.no_grad(), batch_statistics(supernet):
        supernet(image(32, 4), narrow)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())
    norm = "blocks.3.expand_norm.running_mean"
    with torch.no_grad():
        supernet.train()(image(32, 4), narrow)
    moved = supernet.state_dict()[norm] != before[norm]
    half = len(moved) // 2
    assert moved[:half].all()
    assert not moved[half:].any()


def test_new_matrices_are_identities_and_learn() -> None:
    torch.manual_seed(0)
    supernet = SMALL.build_supernet(3, 3)
    maps: Any = supernet.blocks[0].depthwise.maps
    assert torch.equal(maps.to5, torch.eye(25))
    supernet.train()(image(32), (0,) * 20).square().sum().backward()
    assert float(maps.to5.grad.abs().sum()) > 0
    assert float(maps.to3.grad.abs().sum()) > 0


def test_gradients_reach_the_first_channels_of_the_path_alone() -> None:
    supernet = filled(SMALL).train()
    architecture = (6, 7, SKIP, SKIP, *(8, 8, 8, 8) * 4)
    subnet = SMALL.build_subnet(architecture, CLASSES, 3).train()
    subnet.load_state_dict(SMALL.subnet_state(supernet.state_dict(), architecture))
    for network, arguments in ((supernet, (architecture,)), (subnet, ())):
        network.requires_grad_(True)
        network(image(32, 3), *arguments).square().sum().backward()
    found = {name: parameter.grad for name, parameter in supernet.named_parameters()}
    for name, parameter in subnet.named_parameters():
        whole = found.pop(name)
        assert whole is not None
        part = whole[tuple(slice(0, size) for size in parameter.shape)]
        torch.testing.assert_close(part, parameter.grad)
        assert int(whole.count_nonzero()) == int(part.count_nonzero()), name
    assert all(gradient is None for gradient in found.values()), "what is skipped, and matrices of smaller kernels"
