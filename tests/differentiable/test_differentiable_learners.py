"""The algebra of the bilateral network, Barlow Twins against its formula, relaxations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from imbnas.differentiable.barlow import barlow_twins
from imbnas.differentiable.learners import Bilateral, Classifier, Draw, Setting, Twins
from imbnas.differentiable.mixed_cell import RelaxedCells
from imbnas.differentiable.relaxation import ArchitectureParameters, edge_softmax, mean_entropy, zero_one_loss
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.spaces.darts import DartsSpace, Size
from imbnas.spaces.darts_network import SearchNetwork
from imbnas.spaces.darts_ops import OPERATIONS
from imbnas.spaces.registry import make_space
from imbnas.spaces.relaxed import Relaxed

SPACE = DartsSpace(Size(4, 4), Size(4, 4), OPERATIONS)


def draws(seed: int) -> list[Draw]:
    generator = torch.Generator().manual_seed(seed)
    return [
        Draw(torch.randn(8, 1, 8, 8, generator=generator), torch.randint(0, 3, (8,), generator=generator))
        for _ in range(2)
    ]


STAGES = Stages(channels=[4, 8], repeats=[1, 1], strides=[1, 2])
BENCHMARK = make_space(
    SpaceParams(name="nasbench201", last_channels=None, stem=Stem(channels=4, stride=1), stages=STAGES)
)


def built(space: str) -> SearchNetwork | RelaxedCells:
    """Return a new search network of either space."""
    torch.manual_seed(0)
    return (
        SPACE.build_supernet(3, 1) if space == "darts" else RelaxedCells(BENCHMARK.build_supernet(3, 1), learned=True)
    )


@pytest.fixture(params=["darts", "nasbench201"])
def bilateral(request: pytest.FixtureRequest) -> Bilateral:
    return Bilateral(built(request.param), fresh=True).train()


@pytest.mark.parametrize("mixing", [1.0, 0.0])
def test_a_branch_without_share_learns_nothing(bilateral: Bilateral, mixing: float) -> None:
    parameters = ArchitectureParameters(bilateral.network.layout, "softmax")
    batch = draws(1)
    loss = bilateral.loss(batch, parameters(), Setting(F.cross_entropy, mixing))
    loss.backward()
    live, idle = bilateral.network.tail, bilateral.rebalancing
    if mixing == 0.0:
        live, idle = idle, live
    assert all(not p.grad.any() for p in idle.parameters())
    assert all(p.grad.any() for name, p in live.named_parameters() if "none" not in name)
    half = bilateral.head.in_features // 2
    parts = [bilateral.head.weight.grad[:, :half], bilateral.head.weight.grad[:, half:]]
    assert parts[0 if mixing else 1].any()
    assert not parts[1 if mixing else 0].any()
    assert bilateral.head.bias.grad.any(), "the bias is shared"
    draw = batch[0 if mixing else 1]
    (features,) = bilateral.features(draw.images, parameters(), live)
    pair = (features, torch.zeros_like(features)) if mixing else (torch.zeros_like(features), features)
    logits = bilateral.head(2.0 * torch.cat(pair, dim=1))
    torch.testing.assert_close(loss, F.cross_entropy(logits, draw.labels))


def test_single_images_are_judged_at_equal_branches(bilateral: Bilateral) -> None:
    parameters = ArchitectureParameters(bilateral.network.layout, "softmax")
    images = draws(2)[0].images
    sides = bilateral.features(images, parameters(), bilateral.network.tail, bilateral.rebalancing)
    expected = bilateral.mixed(*sides, 0.5)
    torch.testing.assert_close(bilateral(images, parameters()), expected)
    torch.testing.assert_close(bilateral.head(torch.cat(sides, dim=1)), expected)
    assert not torch.allclose(bilateral.mixed(*sides, 0.9), expected)


def test_the_branches_share_everything_but_cell_and_head(bilateral: Bilateral) -> None:
    if isinstance(bilateral.network, SearchNetwork):
        assert bilateral.network.layout.kinds == ("normal", "reduce")
        assert bilateral.network.cells[-1].kind == "normal"
    count = sum(p.numel() for p in bilateral.parameters() if p.requires_grad)
    plain = sum(p.numel() for p in bilateral.network.parameters())
    cell = sum(p.numel() for p in bilateral.rebalancing.parameters() if p.requires_grad)
    head = bilateral.network.head
    assert count == plain + cell + head.weight.numel()
    pairs = zip(bilateral.rebalancing.parameters(), bilateral.network.tail.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in pairs if a.ndim > 1)


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_a_trained_network_answers_as_before_when_it_gets_a_second_branch(space: str) -> None:
    network = built(space)
    nn.init.normal_(network.head.bias)
    images, relaxed = draws(3)[0].images, ArchitectureParameters(network.layout, "softmax")()
    before = Classifier(network)(images, relaxed)
    torch.testing.assert_close(Bilateral(network, fresh=False)(images, relaxed), before)


def reference(first: torch.Tensor, second: torch.Tensor, off_diagonal: float) -> float:
    """The formula of the paper with BatchNorm as in its published description, entry by entry."""
    norm = nn.BatchNorm1d(first.shape[1], affine=False).double()
    correlation = norm(first).T @ norm(second) / len(first)
    total = 0.0
    for i in range(len(correlation)):
        for j in range(len(correlation)):
            value = float(correlation[i, j])
            total += (value - 1.0) ** 2 if i == j else off_diagonal * value**2
    return total


def test_barlow_twins_is_its_formula() -> None:
    torch.manual_seed(0)
    for off_diagonal in (0.0051, 0.5):
        first, second = torch.randn(40, 7).double(), torch.randn(40, 7).double() * 3.0 + 1.0
        assert abs(float(barlow_twins(first, second, off_diagonal)) - reference(first, second, off_diagonal)) < 1e-6
        single = float(barlow_twins(first.float(), second.float(), off_diagonal))
        assert abs(single - reference(first, second, off_diagonal)) < 1e-5


def test_barlow_twins_is_zero_for_equal_white_views_only() -> None:
    white = torch.linalg.qr(torch.randn(64, 6, generator=torch.Generator().manual_seed(0)).double() - 0.0)[0]
    white = torch.linalg.qr(white - white.mean(dim=0))[0] * 8.0
    assert float(barlow_twins(white, white, 0.005)) < 1e-8
    assert float(barlow_twins(white, white[torch.randperm(64)], 0.005)) > 1.0


def test_twins_without_supervision_read_no_label() -> None:
    torch.manual_seed(0)
    learner = Twins(SPACE.build_supernet(3, 1), 64, 16, 8, 0.005, 0.0)
    relaxed = ArchitectureParameters(learner.network.layout, "sigmoid")()
    first, second = draws(4)

    def broken(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a label was read")

    blind = learner.loss([first, second], relaxed, Setting(broken))
    assert not learner.scored
    assert not learner.network.head.weight.requires_grad
    joint = Twins(SPACE.build_supernet(3, 1), 64, 16, 8, 0.005, 2.0)
    joint.network.load_state_dict(learner.network.state_dict())
    joint.projector.load_state_dict(learner.projector.state_dict())
    both = joint.loss([first, second], relaxed, Setting(F.cross_entropy))
    labelled = F.cross_entropy(joint.network(first.images, relaxed), first.labels)
    torch.testing.assert_close(both, blind + 2.0 * labelled)


def test_first_parameters_and_their_weights() -> None:
    layout = SPACE.build_supernet(3, 1).layout
    torch.manual_seed(0)
    soft = ArchitectureParameters(layout, "softmax", edge_weights=True)
    values = torch.cat(list(soft.operations.values()))
    assert values.std().item() == pytest.approx(1e-3, rel=0.15)
    assert float(soft().operations["normal"].sum()) == pytest.approx(14.0)
    assert soft().edges["reduce"].split([2, 3, 4, 5])[2].sum().item() == pytest.approx(1.0)
    assert edge_softmax(torch.tensor([0.0, math.log(3.0), 5.0, 5.0]), (0, 0, 1, 1)).tolist() == pytest.approx(
        [0.25, 0.75, 0.5, 0.5]
    )
    fair = ArchitectureParameters(layout, "sigmoid")
    assert {float(value) for weights in fair().operations.values() for value in weights.flatten()} == {0.5}
    assert mean_entropy(fair(), "sigmoid") == pytest.approx(math.log(2.0))
    assert mean_entropy(soft(), "softmax") == pytest.approx(math.log(8.0), rel=1e-4)


def test_the_zero_one_loss_and_its_gradient() -> None:
    layout = SPACE.build_supernet(3, 1).layout
    fair = ArchitectureParameters(layout, "sigmoid").double()
    assert float(zero_one_loss(fair(), "l2")) == 0.0
    assert not torch.autograd.grad(zero_one_loss(fair(), "l2"), fair.operations["normal"])[0].any()
    for values in fair.operations.values():
        nn.init.normal_(values, std=2.0)
    for norm, expected in (("l2", lambda s: -2 * (s - 0.5)), ("l1", lambda s: -torch.sign(s - 0.5))):
        gradient = torch.autograd.grad(zero_one_loss(fair(), norm), fair.operations["normal"])[0]
        sigmoid = fair.operations["normal"].detach().sigmoid()
        torch.testing.assert_close(gradient, expected(sigmoid) * sigmoid * (1 - sigmoid) / (2 * 14 * 8))


def test_the_benchmarks_cell_has_no_scale_of_its_own_where_weights_learn() -> None:
    space = make_space(SpaceParams(name="nasbench201", last_channels=None))
    torch.manual_seed(0)
    supernet = space.build_supernet(3, 1)
    kept = RelaxedCells(copy.deepcopy(supernet), learned=False)
    learned = RelaxedCells(supernet, learned=True)
    names = {name for name, _ in learned.named_parameters()}
    gone = {name for name, _ in kept.named_parameters()} - names
    assert gone
    assert all(".edges." in name and ".norm." in name for name in gone)
    assert not any(".edges." in name and ".norm." in name for name in names)
    # An operation's convolution may grow as it likes: what it adds to a node depends on its weight alone.
    images, parameters = draws(3)[0].images, ArchitectureParameters(learned.layout, "softmax")
    before = learned.train()(images, parameters())
    with torch.no_grad():
        for name, parameter in learned.named_parameters():
            if ".edges." in name:
                parameter *= 8.0
    torch.testing.assert_close(learned(images, parameters()), before, rtol=1e-3, atol=1e-3)


def test_the_benchmark_s_cell_with_sigmoids_has_no_weight_for_none() -> None:
    torch.manual_seed(0)
    supernet = BENCHMARK.build_supernet(3, 1)
    fair, shared = (RelaxedCells(copy.deepcopy(supernet), learned=False, none=none).eval() for none in (False, True))
    assert fair.layout.operations == shared.layout.operations[1:]
    parameters = ArchitectureParameters(fair.layout, "sigmoid")
    with torch.no_grad():
        parameters.operations["cell"].normal_()
    relaxed, images = parameters(), draws(3)[0].images
    assert relaxed.operations["cell"].shape == (6, 4)
    padded = Relaxed({"cell": F.pad(relaxed.operations["cell"], (1, 0), value=0.3)})
    assert torch.equal(fair(images, relaxed), shared(images, padded))
    # Every weight acts by itself: the loss moves each of them.
    fair(images, relaxed).square().sum().backward()
    assert bool((parameters.operations["cell"].grad != 0.0).all())


@pytest.mark.parametrize("none", [True, False])
def test_the_benchmark_s_cell_at_the_weights_of_an_architecture_is_its_path(none: bool) -> None:
    torch.manual_seed(0)
    supernet = BENCHMARK.build_supernet(3, 1).eval()
    network = RelaxedCells(supernet, learned=False, none=none)
    images = draws(3)[0].images
    for architecture in ((3, 1, 2, 0, 4, 3), (0, 3, 0, 1, 0, 0)):
        found = network(images, network.one_hot(architecture))
        torch.testing.assert_close(found, supernet(images, architecture))
