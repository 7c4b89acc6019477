"""Determinants, quadratic forms and solves from one factorisation: every mode, real and complex."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.backends import get_backend
from cola_core.testing.derivatives import check_derivatives
from cola_core.testing.run import installed

N = 5

frameworks = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "jax")
    ],
)
kinds = pytest.mark.parametrize("kind", ["float64", "complex128"])


def draw(rng, *shape, kind="float64"):
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if "complex" in kind else x


def herm(M):
    return (M + M.conj().swapaxes(-1, -2)) / 2


def psd(rng, n=N, kind="float64"):
    M = draw(rng, n, n, kind=kind)
    return M @ M.conj().T / n + np.eye(n)


def quad(A, B):
    return np.sum(B.conj() * np.linalg.solve(A, B)).real


def problems(rng, kind, library):
    """name: loss, reference, arrays, directions (self-adjoint ones where a triangle is read)."""
    be = get_backend(library)
    xp = be.xp
    S, M, B = psd(rng, kind=kind), draw(rng, N, N, kind=kind), draw(rng, N, 2, kind=kind)
    turns = [[herm(draw(rng, N, N, kind=kind)), draw(rng, N, 2, kind=kind)] for _ in range(2)]
    D, P = ops.Dense, lambda a: cola.PSD(ops.Dense(a))

    def phase(sign):
        return 0.3 * xp.real(sign) + 0.7 * xp.imag(sign) if "complex" in kind else 0 * sign

    def numpy_phase(sign):
        return 0.3 * np.real(sign) + 0.7 * np.imag(sign) if "complex" in kind else 0.0

    def slogdet(a):
        sign, value = cola.slogdet(D(a[0]), cola.LU())
        return phase(sign) + value

    def numpy_slogdet(a):
        sign, value = np.linalg.slogdet(a[0])
        return numpy_phase(sign) + value

    def likelihood(a):
        form, value = cola.inv_quad_logdet(P(a[0]), a[1], cola.Cholesky())
        return xp.sum(form) * value

    def general(a):
        form, _ = cola.inv_quad_logdet(D(a[0]), a[1], cola.LU())
        return xp.sum(xp.abs(form + 1) ** 2)

    one = [[t[0]] for t in turns]
    out = {
        "cholesky": (
            lambda a: cola.logdet(P(a[0]), cola.Cholesky()),
            lambda a: np.linalg.slogdet(herm(a[0]))[1],
            [S],
            one,
        ),
        "lu": (slogdet, numpy_slogdet, [M], None),
        "likelihood": (
            likelihood,
            lambda a: quad(herm(a[0]), a[1]) * np.linalg.slogdet(herm(a[0]))[1],
            [S, B],
            turns,
        ),
        "general": (
            general,
            lambda a: np.sum(np.abs(1 + np.sum(a[1].conj() * np.linalg.solve(a[0], a[1]), 0)) ** 2),
            [M, B],
            None,
        ),
        "form": (
            lambda a: xp.sum(cola.inv_quad(P(a[0]), a[1], cola.CG(tol=1e-12))),
            lambda a: quad(herm(a[0]), a[1]),
            [S, B],
            turns,
        ),
    }
    if library == "torch":
        out["ldl"] = (
            lambda a: cola.slogdet(cola.SelfAdjoint(D(a[0])), cola.LDL())[1],
            lambda a: np.linalg.slogdet(herm(a[0]))[1],
            [herm(M)],
            one,
        )
    return out


@frameworks
@kinds
@pytest.mark.parametrize("name", ["cholesky", "lu", "likelihood", "general", "form", "ldl"])
def test_every_mode(library, kind, name, rng):
    if library == "jax" and (name == "ldl" or (name in ("cholesky", "likelihood")) == ("complex" in kind)):
        pytest.skip("on JAX each in one of both kinds")
    modes = ("reverse", "forward", "reverse-reverse", "forward-reverse")
    if name != "form":
        modes = (*modes, "vmap")
    loss, reference, arrays, directions = problems(rng, kind, library)[name]
    check_derivatives(library, loss, reference, arrays, modes, directions=directions)


def test_one_factorisation_serves_value_and_gradient(monkeypatch, rng):
    """One Cholesky factorisation, one inverse from it, no other system for the quadratic form."""
    torch = pytest.importorskip("torch")
    be, made = get_backend("torch"), []

    def counting(name):
        plain = getattr(type(be), name)

        def counted(self, *args, **kwargs):
            made.append(name)
            return plain(self, *args, **kwargs)

        monkeypatch.setattr(type(be), name, counted)

    for name in ("cholesky", "cholesky_inverse", "cholesky_solve", "lu_factor", "eye"):
        counting(name)
    A = torch.as_tensor(psd(rng, 6)).requires_grad_()
    b = torch.ones(6, dtype=torch.float64, requires_grad=True)
    form, value = cola.inv_quad_logdet(cola.PSD(ops.Dense(A)), b, cola.Cholesky())
    assert made == ["cholesky", "cholesky_solve"]
    (form + value).backward()
    assert made == ["cholesky", "cholesky_solve", "cholesky_inverse"]
    x = torch.linalg.solve(A.detach(), b.detach())
    torch.testing.assert_close(A.grad, torch.linalg.inv(A.detach()) - torch.outer(x, x))
    torch.testing.assert_close(b.grad, 2 * x)


COLUMNS: list[int] = []


@ops.operator
class Counted(ops.LinearOperator):
    """A matrix that counts the columns it is multiplied with."""

    array: object

    def _shape(self):
        return tuple(self.array.shape)

    def _dtype(self):
        return self.array.dtype

    def _matmat(self, X):
        COLUMNS.append(X.shape[-1])
        return self.array @ X

    def _rmatmat(self, X):
        return self._matmat(X)

    def _adjoint(self):
        return self


def test_the_gradient_of_a_quadratic_form_solves_nothing():
    """``-x x^H`` takes the product that the leaves are differentiated through, and no other."""
    torch = pytest.importorskip("torch")
    array = torch.diag(torch.linspace(1, 50, 80, dtype=torch.float64)).requires_grad_()
    b = torch.ones(80, dtype=torch.float64, requires_grad=True)
    COLUMNS.clear()
    form = cola.inv_quad(cola.PSD(Counted(array)), b, cola.CG(tol=1e-12))
    steps = len(COLUMNS)
    form.backward()
    assert steps > 20 and len(COLUMNS) - steps == 1
    x = b.detach() / torch.diagonal(array.detach())
    torch.testing.assert_close(array.grad, -torch.outer(x, x))
    torch.testing.assert_close(b.grad, 2 * x)


@frameworks
def test_at_a_singular_matrix_the_determinant_has_no_derivative(library):
    """(0, -inf) has a value; its gradient is an error by name where values can be looked at."""
    be = get_backend(library)
    singular = be.asarray(np.diag([1.0, 0.0, 2.0]))

    def loss(M):
        return cola.slogdet(ops.Dense(M), cola.LU())[1]

    if library == "torch":
        with pytest.raises(cola.errors.SingularMatrixError, match="derivative"):
            loss(singular.clone().requires_grad_()).backward()
        return
    import jax

    with pytest.raises(cola.errors.SingularMatrixError, match="derivative"):
        jax.grad(loss)(singular)
    assert not np.isfinite(np.asarray(jax.jit(jax.grad(loss))(singular))).all()


@frameworks
def test_singular_matrices_of_a_batch_do_not_spoil_the_others(library, rng):
    be = get_backend(library)
    M = np.stack([np.diag([1.0, 0.0]), np.array([[0.0, 2.0], [1.0, 0.0]])])
    sign, value = cola.slogdet(ops.Dense(be.asarray(M)), cola.LU())
    np.testing.assert_allclose(be.to_numpy(sign), [0, -1])
    np.testing.assert_allclose(be.to_numpy(value), [-np.inf, np.log(2)])
