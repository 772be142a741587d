"""What surrounds a step: its process, files, signals, exit codes, lock, GPUs, cost, and the graph of all steps."""
