"""A linear classifier on overlapping Gaussian classes with a long tail: the losses must do what they are for."""

import pytest
import torch
from torch import Tensor, nn

from imbnas.longtail.heads import choose_tau, posthoc_adjustment, tau_normalise
from imbnas.longtail.losses import build_loss
from imbnas.longtail.metrics import summarise

torch.set_num_threads(1)
COUNTS = [int(600 * 0.01 ** (k / 5)) for k in range(6)]
CENTRES = 2.0 * torch.randn(6, 8, generator=torch.Generator().manual_seed(2)) / 8**0.5 * 1.5


def sample(counts: list[int], seed: int) -> tuple[Tensor, Tensor]:
    labels = torch.repeat_interleave(torch.arange(6), torch.tensor(counts))
    noise = torch.randn(len(labels), 8, generator=torch.Generator().manual_seed(seed))
    return CENTRES[labels] + noise, labels


def train(name: str, **options: object) -> nn.Linear:
    x, y = sample(COUNTS, 0)
    head = nn.Linear(8, 6)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    loss = build_loss(name, COUNTS, **options)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, momentum=0.9)
    for _ in range(150):
        optimizer.zero_grad()
        loss(head(x), y).backward()
        optimizer.step()
    return head


def score(logits: Tensor, y: Tensor) -> dict[str, object]:
    return summarise(y.numpy(), logits.argmax(dim=1).numpy(), COUNTS, "kang")


@pytest.fixture(scope="module")
def plain():
    return train("ce")


X_TEST, Y_TEST = sample([400] * 6, 1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("balanced-softmax", {}),
        ("logit-adjustment", {}),
        ("vs", {"gamma": 0.1}),
        ("inverse-frequency", {}),
        ("effective-number", {}),
        ("seesaw", {}),
    ],
)
@torch.no_grad()
def test_few_shot_recall_rises_over_cross_entropy(plain, name, options):
    before = score(plain(X_TEST), Y_TEST)
    with torch.enable_grad():
        head = train(name, **options)
    after = score(head(X_TEST), Y_TEST)
    assert after["few"] > before["few"] + 0.05
    assert after["balanced_accuracy"] > before["balanced_accuracy"]


@torch.no_grad()
def test_posthoc_adjustment_and_tau_normalisation_help_too(plain):
    before = score(plain(X_TEST), Y_TEST)
    adjusted = score(posthoc_adjustment(plain(X_TEST), COUNTS), Y_TEST)
    assert adjusted["few"] > before["few"] + 0.05
    x, y = sample([30] * 6, 3)
    tau = choose_tau(plain, x, y)
    normalised = score(tau_normalise(plain, tau)(X_TEST), Y_TEST)
    assert normalised["few"] > before["few"]
