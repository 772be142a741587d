"""imbnas: neural architecture search for long-tailed data, as a reproducible workflow."""

__version__ = "0.1.0"
