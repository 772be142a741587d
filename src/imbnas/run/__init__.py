"""The surroundings of a step: process, files, signals, exit codes, lock, GPUs, cost, and the graph of all steps."""
