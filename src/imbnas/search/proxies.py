"""Zero-cost proxies: scores of networks at initialisation, from one pass forwards and backwards.

They follow Abdelfattah et al. 2021 ("Zero-Cost Proxies for Lightweight NAS", arXiv 2101.08134, section 3), who took
both from elsewhere and applied them to whole networks. Neither looks at labels, nor at weights that were trained.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from imbnas.errors import UserError

Proxy = Callable[[nn.Module, Tensor], float]
"""The score of a network with its first weights, from normalised images (N, C, H, W) on its device."""

RIDGE = 1e-5
"""What `jacobian` adds to eigenvalues, as its authors do."""
PASSED = (nn.BatchNorm2d, nn.ReLU, nn.ReLU6)
"""Modules that `synflow` leaves out."""


def synflow(network: nn.Module, images: Tensor) -> float:
    """Return log(1 + S) of the synaptic flow S (Tanaka et al. 2020, arXiv 2006.05467; over networks: Abdelfattah 2021).

    All weights and biases are replaced by their absolute values, BatchNorm and activations left out, which makes the
    network linear, and R is the sum of its outputs for an image of ones. S is the sum of |w dR/dw| over the weights of
    convolutions and linear layers. ReLU lets all of it pass anyway; ReLU6 would cut it off at 6. Of the images only the
    shape counts. In float64; the logarithm, which changes no ranking, keeps deep networks readable, and the 1 gives 0
    to a network whose output its input does not reach.

    Raises UserError where the flow is beyond float64.
    """
    linear = _linear(network).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.abs_()
    layers = [module for module in linear.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    ones = torch.ones_like(images[:1], dtype=torch.float64)
    with torch.enable_grad():
        flow = linear(ones).sum()
        weights = [layer.weight for layer in layers]
        gradients = torch.autograd.grad(flow, weights, allow_unused=True)
    total = sum(
        float((weight.detach() * gradient).abs().sum())
        for weight, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    )
    if not np.isfinite(total):
        raise UserError("search.method synflow: the flow of a network is beyond float64, expected a smaller space")
    return float(np.log1p(total))


def jacobian(network: nn.Module, images: Tensor) -> float:
    """Return the Jacobian covariance score (Mellor et al. 2021, arXiv 2006.04647, first version; jacob_cov of
    Abdelfattah et al. 2021): how differently the network treats different images.

    Row i of J is the gradient of the sum of all outputs by image i's pixels, in training mode, where BatchNorm takes
    the statistics of this batch. With v the eigenvalues of the correlation matrix of J's rows, the score is
    -sum(log(v + 1e-5) + 1 / (v + 1e-5)), largest for rows that are uncorrelated. It does not change when a row is
    scaled by a positive factor or shifted. Rows without any variance, as where no way leads from the input to the
    output, have no correlation; they count as alike, which is the worst.
    """
    training = network.training
    network.train()
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_(True)
        outputs = network(x).float().sum()
        (gradient,) = torch.autograd.grad(outputs, x, allow_unused=True) if outputs.requires_grad else (None,)
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    network.train(training)
    rows = torch.zeros_like(x) if gradient is None else gradient
    return covariance_score(rows.flatten(1).double().cpu().numpy())


def covariance_score(rows: NDArray[np.float64]) -> float:
    """Return `jacobian`'s score of the rows (N, D) of a Jacobian matrix."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1)
    varied = norms > 1e-12 * np.abs(rows).max(axis=1)
    unit = centred / np.where(varied, norms, 1.0)[:, None]
    unit[~varied] = 0.0
    correlations = unit @ unit.T + np.outer(~varied, ~varied)
    values = np.maximum(np.linalg.eigvalsh(correlations), 0.0) + RIDGE
    return float(-(np.log(values) + 1.0 / values).sum())


PROXIES: dict[str, Proxy] = {"synflow": synflow, "jacobian": jacobian}
"""Every `search.method` that scores networks at initialisation."""


def _linear(network: nn.Module) -> nn.Module:
    """Return a copy of a network whose BatchNorm and activations pass their inputs on."""
    linear = copy.deepcopy(network)
    for module in list(linear.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, PASSED):
                setattr(module, name, nn.Identity())
    return linear
