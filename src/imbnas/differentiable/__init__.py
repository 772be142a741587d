"""Differentiable search: DARTS, HLRS, FairDARTS with self-supervision, and what keeps them from collapsing."""
