"""Side-by-side measurements against peers: `python -m benchmarks [--short] [--out DIR] [NAME ...]`.
See README.md."""
