"""A grid of problems on which ``Auto()`` is compared with every algorithm that applies."""
