"""Methods that propose other weights for the same network, so that a smaller bound can be proved of it."""
