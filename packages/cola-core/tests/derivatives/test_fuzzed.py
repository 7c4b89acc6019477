"""What random compositions of operators and questions found, made small."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivatives import check_derivatives
from cola_core.testing.run import installed

frameworks = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "jax")
    ],
)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_a_complex_diagonal_beside_a_real_matrix(library, rng):
    """PyTorch's scatter into a real matrix drops the imaginary part."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    be = get_backend(library)
    M, d = rng.standard_normal((3, 3)), rng.standard_normal(3) + 1j * rng.standard_normal(3)
    A = ops.Dense(be.asarray(M)) + ops.Diagonal(be.asarray(d))
    b = rng.standard_normal(3)
    want = M + np.diag(d)
    np.testing.assert_allclose(be.to_numpy(A.to_dense()), want, rtol=1e-12)
    np.testing.assert_allclose(
        be.to_numpy(cola.solve(A, be.asarray(b))), np.linalg.solve(want, b), rtol=1e-6, atol=1e-8
    )


def kronecker_sum(a):
    """Of complex Gram matrices, which have no root but that of the whole."""
    A, B = (cola.PSD(ops.Dense(x @ x.conj().swapaxes(-1, -2))) for x in a)
    return cola.kronsum(A, B)


def root_of_tied_parts(a):
    """One factor has equal eigenvalues at this point, and moves away from it."""
    A, B = (cola.SelfAdjoint(ops.Dense(x + x.conj().swapaxes(-1, -2))) for x in a)
    return cola.PSD(cola.kronsum(A, B))


def dense_of(which, a):
    H = np.conj(np.swapaxes(a[0], -1, -2)), np.conj(np.swapaxes(a[1], -1, -2))
    A, B = (x @ y if which == "gram" else x + y for x, y in zip(a, H, strict=True))
    return np.kron(A, np.eye(len(B))) + np.kron(np.eye(len(A)), B)


def square_root(M):
    w, V = np.linalg.eigh(M)
    return (V * np.sqrt(w)) @ V.conj().T


@frameworks
@pytest.mark.parametrize("which", ["gram", "tied"])
def test_a_draw_does_not_see_the_phases_of_eigenvectors(library, which, rng):
    be = get_backend(library)
    if which == "gram":
        a = [rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n)) + 2 * np.eye(n) for n in (2, 3)]
        build = kronecker_sum
    else:
        a = [np.eye(2) + 0j, np.diag([1.0, 2.0, 2.0]) + 0j]
        build = root_of_tied_parts
    z = be.to_numpy(be.normal(3, (6, 1), be.dtype("complex128")))[:, 0]
    weight = rng.standard_normal(6)

    check_derivatives(
        library,
        lambda x: (cola.sample(build(x), 3).real * be.asarray(weight)).sum(),
        lambda x: ((square_root(dense_of(which, x)) @ z).real * weight).sum(),
        a,
        modes=("reverse", "forward", "reverse-reverse") if library == "torch" else ("reverse",),
        rtol=1e-5,
    )


def test_recomputation_of_plain_tensors_inside_of_a_transformation():
    """torch.func switches saved tensor hooks off for all that runs inside, not for its own tensors only."""
    torch = pytest.importorskip("torch")
    be, x = get_backend("torch"), torch.ones(3, dtype=torch.float64)
    g = torch.func.grad(lambda v: v.sum() * be.checkpoint(lambda y: (2 * y).sum())(x))(x)
    assert g.tolist() == [6.0, 6.0, 6.0]
