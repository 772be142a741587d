"""BBN's cumulative learning (Zhou et al. 2020, arXiv 1912.02413): one batch of logits, two batches of labels."""

from __future__ import annotations

from torch import Tensor, nn

from imbnas.errors import UserError


class CumulativeLoss(nn.Module):
    """The loss of a mixed batch: alpha loss(logits, y_c) + (1 - alpha) loss(logits, y_r), their equation 4.

    Args:
        loss: a module from logits (B, C) and targets (B,) to a scalar; plain cross-entropy in the paper.
        alpha: weight of the conventional branch, in [0, 1], see `schedules.bbn_alpha`.

    Raises:
        UserError: for an alpha outside [0, 1].
    """

    def __init__(self, loss: nn.Module, alpha: float) -> None:
        super().__init__()
        if not 0.0 <= alpha <= 1.0:
            raise UserError(f"alpha: found {alpha}, expected a number from 0 to 1")
        self.loss = loss
        self.alpha = alpha

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (B, C) for targets (2 B,): the conventional half, then the re-balancing one."""
        conventional, rebalancing = target.reshape(2, len(logits))
        mixed: Tensor = self.alpha * self.loss(logits, conventional) + (1.0 - self.alpha) * self.loss(
            logits, rebalancing
        )
        return mixed
