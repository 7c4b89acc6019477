"""The modules beside the tests can be imported, and JAX computes in double precision."""

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

if importlib.util.find_spec("jax"):
    import jax

    jax.config.update("jax_enable_x64", True)
    # compiling is most of what the tests of small matrices do
    jax.config.update("jax_disable_most_optimizations", True)
