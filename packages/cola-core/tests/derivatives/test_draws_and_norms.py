"""Draws with a key are reparametrised: their gradient is that of the root times the same normal numbers.
Frobenius norms and quadratic forms; no rows, one row, single precision."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivatives import check_derivatives
from cola_core.testing.run import installed

N = 4

frameworks = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "jax")
    ],
)


def spd(rng, n):
    M = rng.standard_normal((n, n))
    return M @ M.T / n + np.eye(n)


def sym(M):
    return (M + M.T) / 2


COVARIANCES = {
    "dense": (lambda a: cola.PSD(ops.Dense(a[0])), lambda a: np.linalg.cholesky(sym(a[0]))),
    "kronecker": (
        lambda a: cola.kron(cola.PSD(ops.Dense(a[0])), cola.PSD(ops.Dense(a[1]))),
        lambda a: np.kron(np.linalg.cholesky(sym(a[0])), np.linalg.cholesky(sym(a[1]))),
    ),
    "lowrank": (lambda a: ops.LowRank(a[0][:, :2]), lambda a: a[0][:, :2]),
    "diagonal": (lambda a: cola.PSD(ops.Diagonal(a[0][0] ** 2)), lambda a: np.diag(np.abs(a[0][0]))),
}


@frameworks
@pytest.mark.parametrize("name", COVARIANCES)
def test_draws_move_with_the_root_of_the_covariance(library, name, rng):
    if library == "jax" and name != "kronecker":
        pytest.skip("on JAX one of them")
    be = get_backend(library)
    build, root = COVARIANCES[name]
    a = [spd(rng, N), spd(rng, 3)]
    turns = [[sym(rng.standard_normal((N, N))), sym(rng.standard_normal((3, 3)))] for _ in range(2)]
    rank = root(a).shape[-1]
    z = be.to_numpy(be.normal(7, (rank, 5), be.dtype("float64")))
    weights = rng.standard_normal((5, root(a).shape[0]))

    def loss(x):
        X = cola.sample(build(x), 7, (5,), *((cola.Cholesky(),) if name == "kronecker" else ()))
        return be.xp.sum(be.asarray(weights) * X**2) + be.xp.sum(be.asarray(weights) * X)

    def reference(x):
        X = (root(x) @ z).T
        return np.sum(weights * (X**2 + X))

    modes = (
        ("reverse", "forward", "forward-reverse") if library == "torch" else ("reverse", "forward-reverse")
    )
    check_derivatives(library, loss, reference, a, modes, directions=turns)


@frameworks
def test_frobenius_norms_and_quadratic_forms(library, rng):
    be = get_backend(library)
    a = [rng.standard_normal((N, 3)), rng.standard_normal((2, 2)), rng.standard_normal((N * 2, 2))]
    y = rng.standard_normal((6, 2))

    def loss(x):
        K = cola.kron(ops.Dense(x[0]), ops.Dense(x[1]))
        forms = be.xp.sum(cola.quad_form(K, x[2], be.asarray(y)))
        return cola.norm(K) * cola.norm(cola.no_dispatch(K)) + forms

    def reference(x):
        K = np.kron(x[0], x[1])
        return np.sum(K**2) + np.sum(x[2] * (K @ y))

    check_derivatives(library, loss, reference, a, ("reverse", "forward", "forward-reverse"))


@frameworks
def test_single_precision_gradients_are_as_accurate_as_values(library, rng):
    S, b = spd(rng, 12).astype("float32"), rng.standard_normal(12).astype("float32")
    turns = [[sym(rng.standard_normal((12, 12))), rng.standard_normal(12)] for _ in range(2)]

    def loss(x):
        form, value = cola.inv_quad_logdet(cola.PSD(ops.Dense(x[0])), x[1])
        return form + value

    def reference(x):
        A = sym(x[0])
        return x[1] @ np.linalg.solve(A, x[1]) + np.linalg.slogdet(A)[1]

    check_derivatives(library, loss, reference, [S, b], ("reverse",), directions=turns, rtol=1e-4)


@pytest.mark.parametrize("n", [0, 1])
def test_no_rows_and_one(n):
    torch = pytest.importorskip("torch")
    a = (2 * torch.eye(n, dtype=torch.float64)).requires_grad_()
    b = torch.ones(n, dtype=torch.float64, requires_grad=True)
    for alg in (cola.Cholesky(), cola.LU(), cola.LDL(), cola.SLQ()):
        value = cola.logdet(cola.PSD(ops.Dense(a)), alg) + 0 * a.sum()
        (g,) = torch.autograd.grad(value, a)
        torch.testing.assert_close(g, a.detach() / 4)
    form, value = cola.inv_quad_logdet(cola.PSD(ops.Dense(a)), b)
    (form + value + 0 * a.sum() + 0 * b.sum()).backward()
    torch.testing.assert_close(b.grad, torch.ones_like(b))
    hidden = cola.no_dispatch(cola.PSD(ops.Dense(a)))
    for alg in (cola.Hutchinson(), cola.XTrace(), cola.HutchPP(), cola.XNysTrace(), cola.Exact()):
        value = cola.trace(hidden, alg, on_failure="ignore") + 0 * a.sum()
        (g,) = torch.autograd.grad(value, a)
        torch.testing.assert_close(g, torch.eye(n, dtype=torch.float64))


def test_numpy_has_no_derivatives_and_says_which_library_has():
    with pytest.raises(cola.errors.BackendError, match="PyTorch or JAX"):
        get_backend("numpy").vjp(lambda x: x, np.ones(2))


@frameworks
def test_draws_and_solves_where_eigenvalues_repeat(library, rng):
    """Roots and solves by eigenvectors do not depend on the basis of an eigenspace, nor do gradients."""
    if library == "jax":
        modes: tuple[str, ...] = ("reverse",)
    else:
        modes = ("reverse", "forward", "reverse-reverse", "forward-reverse")
    be = get_backend(library)
    a, b = [np.diag([2.0, 2, 3]), np.diag([1.0, 1])], np.linspace(-1, 1, 6)
    turns = [[sym(rng.standard_normal((3, 3))), sym(rng.standard_normal((2, 2)))] for _ in range(2)]
    z = be.to_numpy(be.normal(3, (3, 2), be.dtype("float64")))

    def loss(x):
        A, B = (cola.PSD(ops.Dense(y)) for y in x)
        draws = cola.sample(A, 3, (2,), cola.Eigh())
        return be.xp.sum(cola.solve(cola.kronsum(A, B), be.asarray(b)) ** 3) + be.xp.sum(draws**3)

    def reference(x):
        A, B = map(sym, x)
        w, V = np.linalg.eigh(A)
        K = np.kron(A, np.eye(2)) + np.kron(np.eye(3), B)
        return np.sum(np.linalg.solve(K, b) ** 3) + np.sum(((V * np.sqrt(w)) @ V.T @ z) ** 3)

    check_derivatives(library, loss, reference, a, modes, directions=turns)
