"""The end of a differentiable search whose architecture has settled."""

from __future__ import annotations

from imbnas.params.section import Section
from imbnas.params.shared import NonNegative, Rounds


class StabilityParams(Section):
    """The Jensen-Shannon divergence between an epoch's weights of operations and earlier ones (arXiv 2604.14849)."""

    divergence: NonNegative = 0.0
    """In nats, the mean over edges; the search stops when it stays below. 0: not measured."""
    back: Rounds = 1
    """Epochs between the weights that are compared."""
    patience: Rounds = 5
    """Epochs in a row in which it must be below."""
