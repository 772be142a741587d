"""Approximate 8-bit multipliers: their tables, their exact emulation in convolutions, and their energy."""
