"""The relaxation of cells for each stage: kernels that begin as crops, exits, derivation, and expected costs."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from imbnas.differentiable.derive_stages import derived_stages
from imbnas.differentiable.expected_cost import CostPenalty
from imbnas.differentiable.expected_stage_cost import stage_chances, stage_rows
from imbnas.differentiable.mixed_stages import RelaxedStages, stage_layout
from imbnas.differentiable.relaxation import ArchitectureParameters
from imbnas.params.space_options import CellChoices, SpaceParams, Stages
from imbnas.spaces.registry import make_space

STAGES = Stages(channels=[4, 6], repeats=[3, 2], strides=[1, 2])
SPACE = make_space(
    SpaceParams(
        name="nasbench201",
        stem={"channels": 4},
        stages=STAGES,
        last_channels=None,
        nasbench201=CellChoices(per_stage=True, kernels=[3, 5, 7], exits=True),
    )
)
IMAGE = (8, 8, 1)


@pytest.fixture
def relaxation() -> RelaxedStages:
    torch.manual_seed(0)
    return RelaxedStages(SPACE.build_supernet(5, 1), SPACE, learned=True).eval()


def parameters(*, wide: bool) -> ArchitectureParameters:
    torch.manual_seed(1)
    made = ArchitectureParameters(stage_layout(SPACE), "sparsemax")
    if wide:
        made.widen(0)
    return made


def test_one_hot_weights_give_the_path_of_the_supernet(relaxation):
    x, rng = torch.randn(2, 1, 8, 8), np.random.default_rng(0)
    for architecture in [SPACE.sample(rng) for _ in range(6)]:
        relaxed = relaxation.one_hot(architecture)
        found = derived_stages(SPACE, relaxed)
        assert tuple(found["architecture"]) == architecture
        assert not found["opened"]
        torch.testing.assert_close(relaxation(x, relaxed), relaxation.supernet(x, architecture), rtol=1e-4, atol=1e-5)


def test_before_they_are_searched_the_largest_kernel_and_all_cells_are_there(relaxation):
    relaxed = parameters(wide=False)()
    loss = relaxation(torch.randn(2, 1, 8, 8), relaxed).square().sum()
    loss.backward()
    for cell in (relaxation.supernet.blocks[2], relaxation.supernet.blocks[-1]):
        edge = cell.edges[3]
        assert edge[6].conv.weight.grad.any()
        assert edge[3].conv.weight.grad is None
        assert edge[5].conv.weight.grad is None
    architecture = derived_stages(SPACE, relaxed)["architecture"]
    assert (architecture[6], architecture[13]) == (2, 1)
    assert not {3, 5} & {*architecture[:6], *architecture[7:13]}


def test_smaller_kernels_begin_as_the_centre_of_the_largest(relaxation):
    before = {name: value.clone() for name, value in relaxation.state_dict().items()}
    relaxation.crop_kernels()
    for cell in (relaxation.supernet.blocks[0], relaxation.supernet.blocks[-1]):
        for edge in cell.edges:
            large = edge[6].conv.weight
            assert torch.equal(edge[5].conv.weight, large[:, :, 1:6, 1:6])
            assert torch.equal(edge[3].conv.weight, large[:, :, 2:5, 2:5])
            assert len({id(edge[place].norm) for place in (3, 5, 6)}) == 3
    changed = {name for name, value in relaxation.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {
        name for name in before if name.endswith((".3.conv.weight", ".5.conv.weight")) and "edges" in name
    }


def test_a_copy_of_the_network_leaves_the_space_and_its_tables_where_they_are(relaxation):
    """Each twin, and each judgement of an epoch, is a copy: with the costs of all cells it took seconds."""
    SPACE.cost_table(IMAGE, 5)
    copied: dict[int, object] = {}
    copy.deepcopy(relaxation, copied)
    assert id(relaxation.supernet) in copied
    assert id(SPACE) not in copied


def test_exits_weigh_the_outputs_of_chained_cells(relaxation):
    x = torch.randn(2, 1, 8, 8)
    cell = (0, 0, 0, 3, 0, 0)
    ends = [relaxation.one_hot((*cell, place, 0, 0, 0, 1, 0, 0, 0)) for place in range(3)]
    supernet, stem = relaxation.supernet, relaxation.supernet.stem(x)
    outputs, y = [], stem
    for block in supernet.blocks[:3]:
        y = block(y, cell)
        outputs.append(y)
    weights = torch.tensor([0.5, 0.2, 0.3])
    ends[0].exits["stage_1"] = weights
    mixed = sum(weight * output for weight, output in zip(weights, outputs, strict=True))
    expected = supernet.pool(supernet.last(supernet.blocks[3](mixed)))
    torch.testing.assert_close(relaxation.features(x, ends[0]), expected, rtol=1e-4, atol=1e-5)


def test_the_expected_cost_is_that_of_the_architecture_once_weights_are_one_hot(relaxation):
    table, rng = SPACE.cost_table(IMAGE, 5), np.random.default_rng(0)
    for name in ("macs", "params"):
        penalty = CostPenalty(
            float(getattr(table.fixed, name)), stage_rows(table, name), stage_chances(SPACE), 1.0, None, 1.0, 1.0, 0
        )
        for architecture in [SPACE.sample(rng) for _ in range(5)]:
            assert penalty.expected(relaxation.one_hot(architecture)).item() == getattr(table.cost(architecture), name)
    source = parameters(wide=True)
    mixed = source()
    edges, cells = [], []
    for kind, row in zip(stage_layout(SPACE).kinds, table.operations, strict=True):
        operations, kernels = mixed.operations[kind].double(), mixed.kernels[kind].double()
        sizes = torch.tensor([row[3].params, row[5].params, row[6].params]).double()
        conv = operations[:, 3] * (kernels @ sizes)
        edges.append((conv + operations[:, 2] * row[2].params).sum())
        cells.append((mixed.exits[kind].double() * torch.arange(1, len(mixed.exits[kind]) + 1)).sum())
    expected = table.fixed.params + sum(edge * count for edge, count in zip(edges, cells, strict=True))
    torch.testing.assert_close(penalty.expected(mixed), expected)
    penalty.expected(mixed).backward()
    assert all(values.grad is not None and values.grad.any() for values in source.parameters())


def test_widening_draws_by_its_seed_and_leaves_the_operations_as_they_are():
    first, second, other = parameters(wide=True), parameters(wide=True), parameters(wide=False)
    before = {kind: values.clone() for kind, values in other.operations.items()}
    other.widen(1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.kernels["stage_1"], other.kernels["stage_1"])
    assert all(torch.equal(other.operations[kind], values) for kind, values in before.items())
    assert [len(values) for values in other.exits.values()] == [3, 2]
    other.narrow()
    assert not other.widened
    assert other().kernels == other().exits == {}
