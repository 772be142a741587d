"""Search over subnets of an adapted supernet: methods, the archive of scores, scoring many paths together, look-up."""
