"""The eight steps of the chain, one module each; the only code that knows where files lie."""
