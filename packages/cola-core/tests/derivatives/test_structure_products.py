"""Products with every family of operators: derivatives of both orders, in every floating leaf and in the
operand, against differences of the NumPy operator's dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
from leaves import directions, on_numpy, taken_apart
from zoo import ZOO, installed

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivatives import MODES, check_derivatives

JAX_SHARE, JAX_ALL_MODES = 9, 24  # JAX compiles every program: one in so many operators, in turn


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


@pytest.mark.parametrize("library", ["torch", "jax"])
@pytest.mark.parametrize("kind", ["kernel", "jacobian", "hessian", "real", "function"])
def test_products_of_operators_made_of_functions(library, kind, rng):
    """In the points and parameters that a function is given as arguments, and in the operand."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    be = get_backend(library)
    W, p, x, v = rng.normal(size=(4, 3)), rng.uniform(1, 2, size=3), rng.normal(size=3), rng.normal(size=3)

    def vector(xp, x, p):  # 3 -> 4
        return xp.sin(W_of(xp) @ (p * x))

    def W_of(xp):
        return W if xp is np else be.asarray(W)

    def build(x, p):
        if kind == "kernel":
            points = be.asarray(W[:3]) * x[0]
            return ops.Kernel(
                points, None, lambda a, b, q: be.xp.exp(-q[0] * (a - 1) @ (b - 1).T), 2, params=p
            )
        if kind == "jacobian":
            return ops.Jacobian(lambda z: vector(be.xp, z[0], z[1]), (x, p))
        if kind == "hessian":
            return ops.Hessian(lambda z: be.xp.sum(vector(be.xp, z[0], z[1]) ** 2), (x, p))
        if kind == "real":
            return ops.RealPart(ops.Circulant((x + 0j) * (p + 1j * x)))
        once = ops.FunctionOperator(
            lambda y: be.xp.flip(y, axis=0) * 2, (3, 3), "float64", backend=library, rmatvec=None
        )
        return p[0] * once + ops.Diagonal(x)

    def dense(x, p):
        if kind == "kernel":
            a = W[:3] * x[0]
            return np.exp(-p[0] * (a - 1) @ (a - 1).T)
        if kind in ("jacobian", "hessian"):
            z, M = W @ (p * x), np.hstack([W * p, W * x])  # the derivative in x, and in p
            if kind == "jacobian":
                return np.cos(z)[:, None] * M
            H = 2 * M.T @ (np.cos(2 * z)[:, None] * M)
            mixed = W.T @ np.sin(2 * z)  # that of p * x itself
            return H + np.block([[np.zeros((3, 3)), np.diag(mixed)], [np.diag(mixed), np.zeros((3, 3))]])
        if kind == "real":
            c = x * p
            return np.array([[c[(i - j) % 3] for j in range(3)] for i in range(3)])
        return 2 * p[0] * np.eye(3)[::-1] + np.diag(x)

    modes = ("reverse",) if library == "jax" else MODES
    check_derivatives(
        be,
        lambda a: be.xp.sum((build(a[0], a[1]) @ a[2]) ** 2),
        lambda a: np.sum((dense(a[0], a[1]) @ a[2]) ** 2),
        [x, p, rng.normal(size=6) if kind in ("jacobian", "hessian") else v],
        modes,
        jit=library == "jax",
    )
