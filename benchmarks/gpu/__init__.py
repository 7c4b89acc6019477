"""``python -m benchmarks gpu``: the plugin cola-gpu on an accelerator, against peers and rooflines."""
