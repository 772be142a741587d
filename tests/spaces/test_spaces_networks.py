"""Supernet and subnet: the same numbers, shared steps, first weights."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from space_list import CHAINS, ONE_DEPTH
from torch import nn

from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages, Stem
from imbnas.spaces.networks import classify
from imbnas.spaces.registry import make_space

SPACES = ONE_DEPTH
LAYOUTS = [torch.contiguous_format, torch.channels_last]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name: str, seed: int = 0):
    torch.manual_seed(seed)
    return SPACES[name].build_supernet(10, 1)


def architectures(name: str, count: int):
    rng = np.random.default_rng(5)
    return [SPACES[name].sample(rng) for _ in range(count)]


def blur_statistics(network: nn.Module) -> None:
    """Give BatchNorm statistics and weights that eval mode would show."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
                module.weight.uniform_(0.5, 1.5)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("training", [True, False])
def test_a_subnet_with_the_supernets_weights_gives_the_same_bits(name, layout, training):
    space, supernet = SPACES[name], build(name)
    blur_statistics(supernet)
    supernet = supernet.to(memory_format=layout).train(training)
    x = torch.randn(7, 1, 8, 8).contiguous(memory_format=layout)
    for architecture in architectures(name, 4):
        subnet = space.build_subnet(architecture, 10, 1).to(memory_format=layout).train(training)
        subnet.load_state_dict(space.subnet_state(supernet.state_dict(), architecture))
        ours, theirs = subnet(x), supernet(x, architecture)
        assert ours.shape == (7, 10)
        assert torch.equal(ours, theirs)
        assert torch.equal(subnet.features(x), supernet.features(x, architecture))
        after = space.subnet_state(supernet.state_dict(), architecture)
        assert all(torch.equal(value, after[key]) for key, value in subnet.state_dict().items())


# Forms of an elastic block share weights: test_spaces_ofa.py.
@pytest.mark.parametrize("name", [name for name in SPACES if name != "ofa-mobilenetv3"])
def test_gradients_reach_the_path_alone_and_equal_the_subnets(name):
    space, supernet = SPACES[name], build(name)
    architecture = architectures(name, 1)[0]
    subnet = space.build_subnet(architecture, 10, 1)
    subnet.load_state_dict(space.subnet_state(supernet.state_dict(), architecture))
    x = torch.randn(7, 1, 8, 8)
    supernet(x, architecture).square().sum().backward()
    subnet(x).square().sum().backward()
    used = {key: parameter.grad for key, parameter in supernet.named_parameters() if parameter.grad is not None}
    renamed = space.subnet_state(used, architecture)
    assert len(renamed) == len(used)
    assert set(renamed) == {key for key, _ in subnet.named_parameters()}
    assert all(torch.equal(renamed[key], parameter.grad) for key, parameter in subnet.named_parameters())


@pytest.mark.parametrize("name", ["shufflenet", "mobile"])
def test_steps_compose_to_the_features_and_share_prefixes(name):
    supernet = build(name).eval()
    first = architectures(name, 1)[0]
    other = (*first[:3], (first[3] + 1) % SPACES[name].choices[3], *first[4:])
    x = torch.randn(3, 1, 8, 8)
    kept = x.clone()
    y = x
    for step in supernet.steps(first):
        y = step(y)
    assert torch.equal(y, supernet.features(x, first))
    assert torch.equal(supernet.head(y), supernet(x, first))
    same = [a is b for a, b in zip(supernet.steps(first), supernet.steps(other), strict=True)]
    assert same == [True] * 4 + [False] + [True] * 4
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", CHAINS)
def test_no_candidate_changes_its_input(name):
    supernet = build(name)
    x = supernet.stem(torch.randn(3, 1, 8, 8)).detach()
    for candidates in supernet.blocks:
        before = x.clone()
        outputs = [candidate(x).detach() for candidate in candidates]
        assert torch.equal(x, before)
        assert len({output.shape for output in outputs}) == 1
        x = outputs[0]


def test_an_architecture_of_the_wrong_length_is_refused():
    supernet = build("shufflenet")
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        supernet(torch.randn(2, 1, 8, 8), (0, 0, 0))
    with pytest.raises(UserError, match="has 3 choices, expected 6"):
        SPACES["shufflenet"].build_subnet((0, 0, 0), 10, 1)


def test_subnet_state_renames_without_copying():
    supernet = build("mobile")
    state = supernet.state_dict()
    chosen = SPACES["mobile"].subnet_state(state, (6, 0, 1, 6, 5, 2))
    # A skipped block holds no tensors.
    assert {key.split(".")[1] for key in chosen if key.startswith("blocks.")} == {"1", "2", "4", "5"}
    assert chosen["blocks.2.branch.0.weight"] is state["blocks.2.1.branch.0.weight"]
    assert chosen["head.weight"] is state["head.weight"]


@pytest.mark.parametrize("name", SPACES)
def test_first_weights_are_a_function_of_torchs_seed(name):
    space = SPACES[name]
    first = build(name, 3).state_dict()
    random.seed(1)
    np.random.seed(1)
    space.cost_table((8, 8, 1), 10)
    again = build(name, 3).state_dict()
    other = build(name, 4).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])
    architecture = architectures(name, 1)[0]
    torch.manual_seed(3)
    subnet = space.build_subnet(architecture, 10, 1).state_dict()
    torch.manual_seed(3)
    twin = space.build_subnet(architecture, 10, 1).state_dict()
    assert all(torch.equal(value, twin[key]) for key, value in subnet.items())


def test_measuring_costs_draws_nothing_from_torch():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    make_space(SpaceParams()).cost_table((8, 8, 1), 10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SPACES)
def test_first_weights_have_the_documented_distribution(name):
    supernet = build(name)
    deviations = []
    for module in supernet.modules():
        if isinstance(module, nn.Conv2d):
            expected = (2.0 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            deviations.append(float((module.weight.detach() / expected).square().mean()))
        elif isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))
            assert not module.bias.any()
            assert not module.running_mean.any()
            assert torch.equal(module.running_var, torch.ones_like(module.running_var))
            assert int(module.num_batches_tracked) == 0
    assert np.mean(deviations) == pytest.approx(1.0, abs=0.05)
    assert float(supernet.head.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
    assert not supernet.head.bias.any()
    assert all(p.requires_grad and p.dtype == torch.float32 for p in supernet.parameters())


@pytest.mark.parametrize("name", ["shufflenet", "mobile"])
def test_stages_that_narrow_or_widen_at_stride_one_run(name):
    space = make_space(
        SpaceParams(
            name=name,
            stem=Stem(channels=12, stride=2),
            stages=Stages(channels=[24, 16, 16], repeats=[1, 2, 2], strides=[1, 1, 2]),
            last_channels=20,
        )
    )
    supernet = space.build_supernet(3, 3)
    assert supernet(torch.randn(2, 3, 17, 13), (0,) * 5).shape == (2, 3)
    assert supernet(torch.randn(2, 3, 17, 13), tuple(count - 1 for count in space.choices)).shape == (2, 3)
    assert space.num_features == supernet.head.in_features == 20


def test_a_cifar_scale_space_runs_at_three_resolutions():
    space = make_space(
        SpaceParams(
            stages=Stages(channels=[64, 160, 320, 640], repeats=[1, 1, 1, 1], strides=[1, 2, 2, 1]),
            last_channels=1024,
        )
    )
    supernet = space.build_supernet(10, 3).eval()
    x, sides = torch.randn(1, 3, 32, 32), []
    with torch.no_grad():
        for step in supernet.steps((0, 1, 2, 3))[:-2]:
            x = step(x)
            sides.append(x.shape[2])
    assert sides == [32, 32, 16, 8, 8]


def test_scores_do_not_tie_in_half_precision() -> None:
    head = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        # Rounded to eight bits both classes score 1, and the first one, the larger, would win.
        head.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 0.001, 0.0, 0.0]]))
    features = torch.ones(1, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert head(features).argmax() == 0
        scores = classify(head, features)
        assert torch.is_autocast_enabled("cpu")
    assert scores.dtype == torch.float32
    assert scores.argmax() == 1
    exact = features.double()
    assert classify(head.double(), exact).dtype == torch.float64
