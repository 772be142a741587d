"""Tables of truth: architectures that were each trained alone, under several conditions and seeds."""
