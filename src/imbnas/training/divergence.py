"""The loss from which on a training has failed, and the error that says so."""

from __future__ import annotations

from imbnas.errors import UserError
from imbnas.training.definition import Training

LARGEST_LOSS = 1e9
"""Beyond it a training has failed. No loss comes near: cross-entropies are at most their scale times the largest class
weight times a few units, Barlow Twins over D outputs at most D + D^2; and float32 has no digits behind the point there.
"""
SANE = f"a finite one up to {LARGEST_LOSS:g}"
"""The same in words, behind "expected"."""


def has_diverged(loss: float) -> bool:
    """Return whether a loss shows that the training has failed: not finite, or beyond LARGEST_LOSS."""
    return not abs(loss) <= LARGEST_LOSS


def diverged(training: Training, what: str) -> UserError:
    """Return the error of a training that has failed; `what` says what was found, and what was expected."""
    return UserError(
        f"{training.name}: {what}; "
        f"lower its optimizer.lr (found {training.recipe.optimizer.lr:g}), its optimizer.clip or its loss's options"
    )
