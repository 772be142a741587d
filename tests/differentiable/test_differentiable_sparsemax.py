"""Sparsemax against the projection that it is, found by trying every support."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from imbnas.differentiable.sparsemax import sparsemax


def projection(values: np.ndarray) -> np.ndarray:
    """Return the nearest point of the simplex: on each support the sum decides, the nearest feasible one is it."""
    best, nearest = np.inf, values
    for size in range(1, len(values) + 1):
        for support in map(list, itertools.combinations(range(len(values)), size)):
            point = np.zeros_like(values)
            point[support] = values[support] - (values[support].sum() - 1.0) / size
            distance = ((point - values) ** 2).sum()
            if point.min() >= 0.0 and distance < best:
                best, nearest = distance, point
    return nearest


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_it_is_the_euclidean_projection_on_the_simplex(count: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(count)
    values = scale * torch.randn(20, count, generator=generator, dtype=torch.float64)
    found = sparsemax(values)
    expected = np.stack([projection(row) for row in values.numpy()])
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12 * max(1.0, scale))
    assert (found >= 0.0).all()
    torch.testing.assert_close(found.sum(dim=1), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(sparsemax(found), found)


def test_its_gradients_are_right_to_the_second_order() -> None:
    scales = torch.linspace(0.2, 3.0, 8, dtype=torch.float64)[:, None]
    values = scales * torch.randn(8, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    values.requires_grad_(True)
    assert {int(count) for count in (sparsemax(values) > 0.0).sum(dim=1)} >= {1, 2, 3}, "supports of several sizes"
    assert torch.autograd.gradcheck(sparsemax, values)
    assert torch.autograd.gradgradcheck(lambda x: sparsemax(x).square(), values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_edge_is_left_with_one_operation_once_that_leads_by_the_temperature(dtype: torch.dtype) -> None:
    # Gaps that binary numbers hold: 3/4 of a temperature of 1 1/2 and of 1/2.
    alpha = torch.tensor([0.5, -0.25, -0.25, -1.0, -0.375], dtype=dtype)
    for temperature in (0.5, 0.75):
        assert sparsemax(alpha / temperature).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    soft = sparsemax(alpha / 1.5)
    assert 0.0 < float(soft[1]) < float(soft[0]) < 1.0
    tied = sparsemax(torch.zeros(2, 5, dtype=dtype))
    torch.testing.assert_close(tied, torch.full((2, 5), 0.2, dtype=dtype))


def test_projecting_once_more_changes_nothing_but_at_another_temperature() -> None:
    """ZO-DARTS++' published code projects weights again on every edge: harmless, unless they are divided again."""
    weights = sparsemax(torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    torch.testing.assert_close(sparsemax(weights), weights, rtol=0.0, atol=1e-14)
    assert (sparsemax(weights / 0.5) - weights).abs().max() > 0.1
