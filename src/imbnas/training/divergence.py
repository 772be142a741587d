"""The loss from which on a training has failed."""

from __future__ import annotations

LARGEST_LOSS = 1e9
"""Beyond it a training has failed. No loss comes near: cross-entropies are at most their scale times the largest class
weight times a few units, Barlow Twins over D outputs at most D + D^2; and float32 has no digits behind the point there.
"""
SANE = f"a finite one up to {LARGEST_LOSS:g}"
"""The same in words, behind "expected"."""


def has_diverged(loss: float) -> bool:
    """Return whether a loss shows that the training has failed: not finite, or beyond LARGEST_LOSS."""
    return not abs(loss) <= LARGEST_LOSS
