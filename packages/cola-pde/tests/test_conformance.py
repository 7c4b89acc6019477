"""The package against the conformance kit of the core.

Everything on NumPy and PyTorch. Eager JAX compiles every operation for every shape and dtype, so here two
operators in double precision stand for all; ``cola-core check-plugin pde`` runs the rest.
"""

from cola_core.testing import Case, parametrize_with_checks
from cola_pde.conformance import cases

ON_JAX = ("transform-dct2", "laplacian-grid", "cola-pde")


@parametrize_with_checks([Case("pde", kind="plugin"), *cases()], backends=("numpy", "torch"))
def test_conformance(check):
    check()


@parametrize_with_checks([c for c in cases() if c.name in ON_JAX], backends=("jax",), dtypes=("float64",))
def test_conformance_on_jax(check):
    check()
