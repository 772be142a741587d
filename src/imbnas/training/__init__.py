"""Training: the loop, optimiser and schedule, resumable state, weights on disk, scoring, device and precision."""

RENDEZVOUS = "IMBNAS_RENDEZVOUS"
"""Names the file through which the processes that a step has started find each other; torchrun has a server instead."""
