"""Search spaces: an architecture is a tuple of ints, one choice per choice block."""
