"""The ETF classifier: the geometry of its vectors, and what of it is trained."""

from __future__ import annotations

import pytest
import torch

from imbnas.longtail.etf import EtfHead, simplex
from imbnas.longtail.heads import make_head


@pytest.mark.parametrize(("width", "classes"), [(64, 10), (9, 10), (99, 100), (512, 100), (5, 2)])
def test_vectors_are_a_simplex_equiangular_tight_frame(width: int, classes: int) -> None:
    torch.manual_seed(3)
    vectors = simplex(width, classes)
    assert (vectors.shape, vectors.dtype) == ((classes, width), torch.float32)
    products = vectors.double() @ vectors.double().T
    angles = torch.full((classes, classes), -1.0 / (classes - 1), dtype=torch.float64).fill_diagonal_(1.0)
    assert (products - angles).abs().max() < 1e-6
    assert vectors.double().sum(dim=0).abs().max() < 1e-6, "they balance"


def test_the_orientation_is_of_the_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(simplex(8, 4))
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_scores_are_scaled_cosines_whatever_the_features_size() -> None:
    torch.manual_seed(0)
    head = EtfHead(6, 4, 16.0)
    scores = head(7.0 * head.vectors)
    torch.testing.assert_close(scores.diag(), torch.full((4,), 16.0))
    torch.testing.assert_close(scores[0, 1], torch.tensor(-16.0 / 3.0))
    torch.testing.assert_close(head(0.1 * head.vectors), scores)


def test_a_projection_is_trained_where_features_are_too_few_and_nothing_else_ever() -> None:
    enough, few = EtfHead(9, 10), EtfHead(8, 10)
    assert list(enough.parameters()) == []
    assert {name: tuple(value.shape) for name, value in few.named_parameters()} == {"projection.weight": (9, 8)}
    few(torch.randn(5, 8)).logsumexp(dim=1).sum().backward()
    assert few.projection.weight.grad is not None
    assert few(torch.randn(5, 8)).shape == (5, 10)
    assert EtfHead(3, 1)(torch.randn(2, 3)).shape == (2, 1)


def test_a_file_s_description_makes_the_head_and_its_state_is_whole() -> None:
    described = {"name": "etf", "scale": 4.0}
    torch.manual_seed(0)
    head = make_head(described, 3, 7)
    with torch.device("meta"):
        empty = make_head(described, 3, 7)
    empty.load_state_dict(head.state_dict(), assign=True)
    features = torch.randn(4, 3)
    assert torch.equal(empty(features), head(features))
