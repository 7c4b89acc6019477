"""Products with every family of operators: derivatives of both orders, in every floating leaf and in the
operand, against differences of the NumPy operator's dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
from leaves import directions, on_numpy, taken_apart
from zoo import ZOO, installed

import cola_core as cola
from cola_core.backends import get_backend
from cola_core.testing.derivatives import MODES, check_derivatives

JAX_SHARE, JAX_ALL_MODES = 3, 24  # JAX compiles every program: one in so many operators, in turn


def _cases():
    for i, name in enumerate(ZOO):
        for library in ("torch", "jax"):
            present = pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
            if library == "jax" and i % JAX_SHARE:
                continue
            dtype = ("float64", "complex128")[i % 2] if library == "jax" else None
            for d in (dtype,) if dtype else ("float64", "complex128"):
                yield pytest.param((name, library, d), id=f"{name}-{library}-{d}", marks=present)


def check_product(library, build, dtype, rng, modes=MODES, **options):
    be = get_backend(library)
    _, framework = taken_apart(build(lambda x: be.asarray(np.asarray(x).astype(dtype))))
    arrays, numpy = on_numpy(build, dtype)
    A = numpy(arrays)
    selfadjoint = A.isa(cola.SelfAdjoint)
    X = rng.normal(size=(A.shape[-1], 2)).astype(dtype)
    weights = rng.normal(size=(2, 2))

    def measure(be, y, z):
        w = be.asarray(weights)
        pairs = [be.xp.sum(be.xp.real(be.conj(x) * x), axis=-2) for x in (y, z)]
        return be.xp.sum(be.xp.stack(pairs) * w)

    def loss(arrays):
        A = framework(arrays[:-1])
        y = A @ arrays[-1]
        return measure(be, y, A.H @ (y if A.is_square else y * y))

    def reference(arrays):
        D = numpy(arrays[:-1]).to_dense()
        DH = D if selfadjoint else np.conj(np.swapaxes(D, -1, -2))
        y = D @ arrays[-1]
        return measure(get_backend("numpy"), y, DH @ (y if A.is_square else y * y))

    along = [[*directions(A, rng), rng.normal(size=X.shape)] for _ in range(2)]
    check_derivatives(be, loss, reference, [*arrays, X], modes, directions=along, **options)


@pytest.mark.parametrize("case", list(_cases()))
def test_products_of_every_family(case, rng):
    name, library, dtype = case
    few = library == "jax" and list(ZOO).index(name) % JAX_ALL_MODES
    modes = ("reverse",) if few else MODES
    build, _ = ZOO[name](rng, "complex" in dtype)
    check_product(library, build, dtype, rng, modes, jit=library == "jax", rtol2=1e-4)
