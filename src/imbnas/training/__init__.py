"""Training: the loop, optimiser and schedule, resumable state, weights on disk, scoring, device and precision."""
