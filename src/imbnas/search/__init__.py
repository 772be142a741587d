"""Search over subnets of an adapted supernet: scoring, samplers, constraints, ranking statistics."""
