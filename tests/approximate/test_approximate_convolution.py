"""Emulated convolutions: equal to integer ones to the last bit, with the gradient of the exact convolution."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from integer_convolution import accumulators, equal
from torch import Tensor, nn

from imbnas.approximate.convolution import ApproximateConv2d, approximate_conv2d
from imbnas.approximate.emulation import Geometry, Multiplier
from imbnas.approximate.families import FAMILIES
from imbnas.approximate.product_tables import ProductTable, codes
from imbnas.approximate.quantisation import quantise

GEOMETRIES = {
    "3x3": (6, 8, 3, Geometry((1, 1), (1, 1), 1)),
    "1x1": (6, 4, 1, Geometry((1, 1), (1, 1), 1)),
    "strided": (6, 4, 3, Geometry((2, 2), (1, 1), 1)),
    "depthwise": (6, 6, 5, Geometry((1, 1), (1, 1), 6)),
    "dilated": (6, 6, 3, Geometry((2, 2), (2, 2), 6)),
    "grouped": (6, 4, 3, Geometry((1, 1), (1, 1), 2)),
}


def broken_array(omitted: int) -> ProductTable:
    """Return the unsigned array multiplier without the lowest columns' partial products (Mahdiani et al. 2010)."""
    values, bits = np.zeros((256, 256), np.int64), codes(signed=False)
    for i, j in itertools.product(range(8), range(8)):
        if i + j >= omitted:
            values += np.multiply.outer(bits >> i & 1, bits >> j & 1) << (i + j)
    return ProductTable(values, False, "test", f"broken-{omitted}")


def random_table(signed: bool) -> ProductTable:
    """Return a table without structure, whose product with 0 is not 0: its rank is full."""
    noise = np.random.default_rng(5).integers(-40, 41, (256, 256))
    exact = np.multiply.outer(codes(signed), codes(signed))
    return ProductTable(np.clip(exact + noise, -32768 if signed else 0, 32767 if signed else 65535), signed, "t", "t")


TABLES = {
    **{name: family.table(name) for name, family in FAMILIES.items()},
    "broken array": broken_array(5),
    "signed noise": random_table(signed=True),
    "unsigned noise": random_table(signed=False),
}
CONVOLUTIONS = {
    "exact": 1,
    "truncated-1": 1,
    "truncated-2": 1,
    "truncated-3": 1,
    "first-truncated-6": 1,
    "broken array": 6,
    "signed noise": None,
    "unsigned noise": None,
}


def operands(geometry: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    inputs, outputs, kernel, shape = GEOMETRIES[geometry]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, inputs, 9, 8, generator=generator)
    # Images of different ranges, one of them without negative numbers, and padding of zeros.
    x = F.pad(x * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1, 1), (1, 1, 1, 1))
    x[2] = x[2].relu()
    return x, torch.randn(outputs, inputs // shape.groups, kernel, kernel, generator=generator)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", TABLES)
def test_factors_lookups_and_integers_agree_exactly(name: str, geometry: str) -> None:
    table, shape = TABLES[name], GEOMETRIES[geometry][3]
    x, kernel = operands(geometry)
    inputs, weights = quantise(x, table.signed, per_image=True), quantise(kernel, table.signed, per_image=False)
    expected = accumulators(inputs, weights, table, shape)
    multiplier = Multiplier(table)
    assert multiplier.convolutions == CONVOLUTIONS[name]
    assert equal(multiplier.sums(inputs, weights, shape), expected)
    assert equal(Multiplier(table, most_terms=-1).sums(inputs, weights, shape), expected)


def test_sums_beyond_a_float_are_exact() -> None:
    # All products are positive and large: 255 * 255 * 1,200 is above 2^24, where float32 loses odd numbers.
    table = broken_array(0)
    x, kernel = torch.full((1, 300, 2, 2), 255.0), torch.full((1, 300, 2, 2), 255.0)
    x[0, 0, 0, 0], kernel[0, 0, 0, 0] = 0.0, 254.0
    inputs, weights = quantise(x, False, per_image=True), quantise(kernel, False, per_image=False)
    shape = Geometry((1, 1), (1, 1), 1)
    found = Multiplier(table).sums(inputs, weights, shape)
    assert found.dtype == torch.float64
    expected = 1199 * int(table.values[255, 255]) + int(table.values[0, 254])
    assert int(found.item()) == expected > 2**24
    assert expected % 2
    few = Multiplier(table).sums(quantise(x[:, :1], False, True), quantise(kernel[:, :1], False, False), shape)
    assert few.dtype == torch.float32


@pytest.mark.parametrize("name", ["truncated-2", "broken array", "unsigned noise"])
def test_the_gradient_is_that_of_the_exact_convolution(name: str) -> None:
    table, shape = TABLES[name], GEOMETRIES["dilated"][3]
    x, kernel = operands("dilated")
    slope = torch.randn(3, 6, 4, 3, generator=torch.Generator().manual_seed(1))
    values = quantise(x, table.signed, True).values, quantise(kernel, table.signed, False).values
    exact = [one.clone().requires_grad_() for one in values]
    wanted = torch.autograd.grad(F.conv2d(*exact, None, (2, 2), 0, (2, 2), 6), exact, slope)
    given = [one.clone().requires_grad_() for one in (x, kernel)]
    y = approximate_conv2d(given[0], given[1], Multiplier(table), shape)
    found = torch.autograd.grad(y, given, slope)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    # Far from equal forward: the gradient is not that of what was computed.
    assert name == "broken array" or not torch.allclose(y, F.conv2d(*values, None, (2, 2), 0, (2, 2), 6), atol=1e-2)


def test_the_gradient_can_be_differentiated() -> None:
    table, shape = TABLES["exact"], GEOMETRIES["grouped"][3]
    x, kernel = (one.requires_grad_() for one in operands("grouped"))

    def curvature(first: Tensor, second: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        (slope,) = torch.autograd.grad(y.square().sum(), [second], create_graph=True)
        return torch.autograd.grad(slope.square().sum(), [first, second])

    multiplier = Multiplier(table)
    found = curvature(x, kernel, approximate_conv2d(x, kernel, multiplier, shape))
    exact = [quantise(one, True, image).values.detach().requires_grad_() for one, image in ((x, True), (kernel, False))]
    wanted = curvature(exact[0], exact[1], F.conv2d(exact[0], exact[1], None, 1, 0, 1, 2))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@pytest.mark.parametrize("signed", [True, False])
def test_quantisation_by_hand(signed: bool) -> None:
    x = torch.tensor([[-1.0, 0.0, 0.5, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 3.0, 1.0, 0.1]]).view(3, 1, 2, 2)
    found = quantise(x, signed, per_image=True)
    if signed:
        assert found.scale.flatten().tolist() == pytest.approx([2 / 127, 1.0, 3 / 127])
        assert found.codes.flatten(1).tolist() == [[-63, 0, 32, 127], [0, 0, 0, 0], [0, 127, 42, 4]]
    else:
        assert found.scale.flatten().tolist() == pytest.approx([3 / 255, 1.0, 3 / 255])
        assert found.zero.flatten().tolist() == [85, 0, 0]
        assert found.codes.flatten(1).tolist() == [[0, 85, 128, 255], [0, 0, 0, 0], [0, 255, 85, 9]]
    # 0 is a code of its own, so that padding is none the worse.
    assert (found.values[x == 0] == 0).all()


def test_an_answer_does_not_depend_on_the_other_images() -> None:
    x, _ = operands("3x3")
    conv = ApproximateConv2d.of(nn.Conv2d(6, 4, 3, padding=1), Multiplier(TABLES["truncated-3"])).requires_grad_(False)
    assert torch.equal(conv(x)[1:2], conv(x[1:2]))


def test_a_convolution_keeps_its_parameters_and_a_ruined_one_shows() -> None:
    plain = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=1)
    conv = ApproximateConv2d.of(plain, Multiplier(TABLES["broken array"]))
    assert conv.weight is plain.weight
    assert list(conv.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 4, 7, 7, generator=torch.Generator().manual_seed(3))
    conv.requires_grad_(False)
    assert conv(x).shape == plain(x).shape
    # 8 bits, and partial products below 2^5 left out: near, not equal.
    assert 0 < float((conv(x) - plain(x)).abs().max()) < 0.1
    x[0, 0, 0, 0] = math.nan
    assert conv(x)[0].isnan().any()
    assert not conv(x)[1].isnan().any()
