"""Two-branch networks: BBN's algebra, which part learns at which alpha, exact costs, names and seeds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from space_list import CHAINS
from torch.utils.flop_counter import FlopCounterMode

from imbnas.errors import UserError
from imbnas.params.space_options import SpaceParams, Stages
from imbnas.spaces.cost import Cost, count
from imbnas.spaces.registry import make_space

SPACES = {**CHAINS, "resnet": make_space(SpaceParams(name="resnet", last_channels=None))}
NAMES = list(SPACES)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name, seed=0):
    torch.manual_seed(seed)
    space = SPACES[name]
    architecture = space.sample(np.random.default_rng(seed))
    return architecture, space.build_bilateral(architecture, 5, 1)


def halves(rows=4):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, 1, 8, 8, generator=generator), torch.randn(rows, 1, 8, 8, generator=generator)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_logits_are_bbns(name, alpha):
    _, network = build(name)
    first, second = halves()
    conventional, rebalancing = (
        branch(network.trunk(half)) for branch, half in zip(network.branches, (first, second), strict=True)
    )
    width = SPACES[name].num_features
    weight, bias = network.head.weight, network.head.bias
    expected = (
        2 * alpha * conventional @ weight[:, :width].T + 2 * (1 - alpha) * rebalancing @ weight[:, width:].T + bias
    )
    logits = network(torch.cat((first, second)), alpha)
    assert logits.shape == (4, 5)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_alpha_one_half_with_the_same_images(name):
    _, network = build(name)
    network.eval()
    images, _ = halves()
    features = network.features(images)
    assert features.shape == (4, 2 * SPACES[name].num_features)
    assert torch.equal(network(images), network.head(features))
    torch.testing.assert_close(network(torch.cat((images, images)), 0.5), network(images))
    shared = network.trunk(images)
    assert torch.equal(features, torch.cat([branch(shared) for branch in network.branches], dim=1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("alpha", "still"), [(1.0, 1), (0.0, 0)])
def test_at_the_ends_of_alpha_one_branch_learns_nothing(name, alpha, still):
    _, network = build(name)
    loss = F.cross_entropy(network(torch.cat(halves()), alpha), torch.tensor([0, 1, 2, 4]))
    loss.backward()
    width = SPACES[name].num_features
    grads = network.head.weight.grad.split(width, dim=1)
    for branch in (0, 1):
        found = [bool(parameter.grad.any()) for parameter in network.branches[branch].parameters()]
        assert found
        assert any(found) is (branch != still)
        assert bool(grads[branch].any()) is (branch != still)
    assert all(parameter.grad.any() for parameter in network.stem.parameters())


def test_swapped_branches_and_halves_mirror_alpha():
    _, network = build("shufflenet")
    _, mirror = build("shufflenet")
    state, width = network.state_dict(), SPACES["shufflenet"].num_features
    swapped = {"branches.0.": "branches.1.", "branches.1.": "branches.0."}
    renamed = {swapped.get(key[:11], key[:11]) + key[11:]: value for key, value in state.items()}
    renamed["head.weight"] = state["head.weight"].roll(width, dims=1)
    mirror.load_state_dict(renamed)
    first, second = halves()
    there, back = network(torch.cat((first, second)), 0.8), mirror(torch.cat((second, first)), 0.2)
    torch.testing.assert_close(there, back)


def test_each_half_is_normalised_by_itself():
    _, network = build("resnet")
    first, second = halves()
    plain = network(torch.cat((first, second)), 1.0)
    # What the re-balancing half holds cannot reach the conventional logits, in training either.
    assert torch.equal(network(torch.cat((first, 100 * second)), 1.0), plain)
    statistics = {key: value.clone() for key, value in network.state_dict().items() if "running_mean" in key}
    network(torch.cat((first, second)), 0.5)
    assert all(not torch.equal(value, network.state_dict()[key]) for key, value in statistics.items())
    batches = network.state_dict()["stem.1.num_batches_tracked"]
    assert int(batches) == 6
    assert int(network.state_dict()["branches.0.blocks.0.branch.1.num_batches_tracked"]) == 3


def test_an_odd_number_of_images_is_refused():
    _, network = build("resnet")
    with pytest.raises(ValueError, match="expected a conventional and a re-balancing half, found 3 images"):
        network(torch.randn(3, 1, 8, 8), 0.5)


@pytest.mark.parametrize("name", NAMES)
def test_state_names_and_shapes(name):
    space = SPACES[name]
    architecture, network = build(name)
    subnet = space.build_subnet(architecture, 5, 1).state_dict()
    expected = {}
    for key, value in subnet.items():
        part, _, rest = key.partition(".")
        number, _, inner = rest.partition(".")
        if part == "blocks" and int(number) >= 4:
            # Two blocks in each of three stages: the last two are in both branches.
            expected |= {f"branches.{b}.blocks.{int(number) - 4}.{inner}": value.shape for b in (0, 1)}
        elif part == "last":
            expected |= {f"branches.{b}.{key}": value.shape for b in (0, 1)}
        else:
            expected[key] = value.shape
    expected["head.weight"] = torch.Size((5, 2 * space.num_features))
    assert {key: value.shape for key, value in network.state_dict().items()} == expected


def test_first_weights_are_a_function_of_the_seed_and_differ_between_branches():
    (_, first), (_, again) = build("shufflenet", 3), build("shufflenet", 3)
    twin = again.state_dict()
    assert all(torch.equal(value, twin[key]) for key, value in first.state_dict().items())
    torch.manual_seed(4)
    other = SPACES["shufflenet"].build_bilateral(build("shufflenet", 3)[0], 5, 1)
    assert not torch.equal(other.stem[0].weight, first.stem[0].weight)
    one, two = (branch.state_dict() for branch in first.branches)
    assert one.keys() == two.keys()
    weights = [key for key in one if one[key].ndim == 4]
    assert weights
    assert not any(torch.equal(one[key], two[key]) for key in weights)
    assert not first.head.bias.any()
    assert first.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in first.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_is_what_is_there_twice(name):
    space, image = SPACES[name], (9, 8, 1)
    architecture, network = build(name)
    found = count(space.build_bilateral(architecture, 5, image[2]), image)
    table = space.cost_table(image, 5)
    ends = [row[choice] for row, choice in zip(table.blocks[4:], architecture[4:], strict=True)]
    last = space.outline.last_channels or 0
    single = table.cost(architecture)
    # 9x8 pixels, halved twice and rounded upwards, are 3x2.
    assert found.macs == single.macs + sum(end.macs for end in ends) + 6 * 64 * last + 5 * space.num_features
    assert found.params == single.params + sum(end.params for end in ends) + 66 * last + 5 * space.num_features
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 1, 9, 8))
    assert found == Cost(counter.get_total_flops() // 2, sum(p.numel() for p in network.parameters()))
    network.train()
    assert count(network, image) == found
    assert network.training
    assert next(network.parameters()).device.type == "cpu"
    assert count(space.build_subnet(architecture, 5, 1), image) == single


def test_resnet32_with_two_branches_by_hand():
    space = make_space(SpaceParams(name="resnet", stages=Stages(repeats=[5, 5, 5]), last_channels=None))
    third = 9 * (32 * 64 + 9 * 64 * 64) + 20 * 64
    assert count(space.build_bilateral((0,) * 15, 10, 3), (32, 32, 3)).params == 464_154 + third + 640 == 816_282


def test_a_space_of_one_stage_shares_the_stem():
    space = make_space(SpaceParams(stages=Stages(channels=[16], repeats=[2], strides=[1])))
    network = space.build_bilateral((0, 1), 5, 1)
    assert len(network.blocks) == 0
    assert network(torch.cat(halves()), 0.5).shape == (4, 5)


def test_a_wrong_architecture_is_refused():
    with pytest.raises(UserError, match="has 2 choices, expected 6"):
        SPACES["mobile"].build_bilateral((0, 0), 5, 1)
    with pytest.raises(UserError, match="choice 1"):
        SPACES["mobile"].build_bilateral((9, 0, 0, 0, 0, 0), 5, 1)
