"""The equation behind derivatives of eigenvectors: ``A Z - B Z L = R`` beside the vectors that were found.

With a frame W of the found vectors, its dual G (``G^H W = I``) and the projector ``P = I - W G^H``, the map

    K(Z) = P^H (A P Z - B P Z L) + s G G^H Z

of (n, k) blocks is one-to-one where no eigenvalue of L is one of the rest of the spectrum; a right-hand side
in the range of ``P^H`` has a solution in that of P, whatever s. L is the matrix of A in the found space, a
diagonal one up to rounding: in the numbers its columns are k shifted systems, and they are solved as such, by
one iteration with a shift per column (MINRES where self-adjoint, GMRES else). Derivatives of K are those of
the coupled equation, so higher derivatives hold for multiple eigenvalues too.

Nothing larger than (n, k) appears; MINRES keeps seven such blocks, GMRES a basis of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..algorithms.thick_restart import product
from ..backends.base import Array, Backend
from ..errors import ConvergenceError, SingularMatrixError
from ..pytree import node, register_pytrees, static

__all__ = ["Augmented", "Complement", "Manner", "solve_complement"]

STEPS = 20_000
BASIS = 100  # of GMRES, per column


@node
@dataclass(frozen=True, eq=False)
class Complement:
    """K on blocks flattened row by row to (n k, c). A, B: operators (B None: the identity). W, G: (n, r).
    L: (k, k). s: a number."""

    A: Any
    B: Any
    W: Array
    G: Array
    L: Array
    s: Array
    hermitian: bool = static(True)

    @property
    def shape(self) -> tuple[int, int]:
        size = self.W.shape[-2] * self.L.shape[-1]
        return size, size

    @property
    def H(self) -> Complement:
        if self.hermitian:
            return self
        be = self.A._concrete_backend()
        B = None if self.B is None else self.B.H
        return replace(self, A=self.A.H, B=B, L=be.adjoint(self.L))

    def __matmul__(self, V: Array) -> Array:
        be = self.A._concrete_backend()
        n, k = self.W.shape[-2], self.L.shape[-1]
        c = V.shape[-1]
        Y = be.xp.reshape(V, (n, k * c))
        coupled = lambda Z: be.xp.reshape(  # noqa: E731
            be.matmul(self.L.mT, be.xp.reshape(Z, (n, k, c))), (n, k * c)
        )
        return be.xp.reshape(_applied(be, self, Y, coupled), (n * k, c))


@node
@dataclass(frozen=True, eq=False)
class Columns:
    """K with a diagonal L, one shift for each of k columns (n, k)."""

    A: Any
    B: Any
    W: Array
    G: Array
    w: Array
    s: Array

    @property
    def shape(self) -> tuple[int, int]:
        return self.W.shape[-2], self.W.shape[-2]

    def _is_complex(self) -> bool:
        return bool(self.A._concrete_backend().is_complex(self.W))

    def __matmul__(self, Z: Array) -> Array:
        return _applied(self.A._concrete_backend(), self, Z, lambda Y: Y * self.w)


def _applied(be: Backend, K: Any, Z: Array, times: Any) -> Array:
    beside = be.matmul(be.adjoint(K.G), Z)
    PZ = Z - be.matmul(K.W, beside)
    Y = product(be, K.A, PZ) - times(PZ if K.B is None else product(be, K.B, PZ))
    return Y - be.matmul(K.G, be.matmul(be.adjoint(K.W), Y) - K.s * beside)


@node
@dataclass(frozen=True, eq=False)
class Augmented:
    """``[0 A; A^H 0]``, whose eigenpairs are the singular triples of A."""

    A: Any

    def _concrete_backend(self) -> Backend:
        return self.A._concrete_backend()  # type: ignore[no-any-return]

    def _is_complex(self) -> bool:
        return bool(self.A._is_complex())

    def __matmul__(self, Z: Array) -> Array:
        m = self.A.shape[-2]
        return self._concrete_backend().xp.concat([self.A @ Z[m:], self.A.H @ Z[:m]], axis=-2)


@dataclass(frozen=True)
class Manner:
    """How the equation is solved. tol: relative residual. method: what found the vectors, for messages.
    inverse: None, or a function of A that gives an operator S close to ``(A - t I)^{-1}`` and t, where such
    systems are solved directly. preconditioner: None, or a function of A that gives a positive definite
    operator close to ``A^{-1}`` (None: there is none). told: the ``Derivative`` that the solves report to, or
    None."""

    tol: float
    method: str
    inverse: Any = None
    preconditioner: Any = None
    told: Any = None


def solve_complement(be: Backend, K: Complement, R: Array, how: Manner) -> Array:
    """``K(Z) = R``, differentiable in all of K and R. R: (n, k)."""
    register_pytrees()
    n, k = R.shape

    def solve(K: Any, b: Array) -> tuple[Array, Any]:
        c = b.shape[-1]
        X = [_columns(be, K, be.xp.reshape(b, (n, k, c))[..., i], how) for i in range(c)]
        return be.xp.reshape(be.xp.stack(X, axis=-1), (n * k, c)), None

    Z, _ = be.implicit_solve(K, solve, be.xp.reshape(R, (n * k, 1)))
    return be.xp.reshape(Z, (n, k))


def _columns(be: Backend, K: Complement, R: Array, how: Manner) -> Array:
    """The k shifted systems in numbers; an error (NaN under a trace) where they have no solution."""
    from ..algorithms.gmres import GMRES
    from ..algorithms.iteration import true_residual
    from ..algorithms.minres import MINRES
    from ..dispatch.session import aside

    xp, tol = be.xp, how.tol
    if be.is_concrete(R) and not bool(xp.any(R != 0)):
        return R
    w = xp.linalg.diagonal(K.L)
    system = Columns(K.A, K.B, K.W, K.G, w, K.s)
    solver: Any = MINRES() if K.hermitian else GMRES(restart=BASIS)
    limit = min(10 * R.shape[-2] + 100, STEPS)
    with aside(always=True):
        Z, steps, made = _by_inverse(be, K, w, R, how)
        P = _preconditioner(be, K, R, how) if Z is None else None
        if P is not None:
            Z, steps, made, *_ = solver._run(be, system, P, R, None, tol, limit)
            failed = true_residual(be, system, Z, R) > 10 * tol * be.frobenius(R, axis=-2)
            Z = None if bool(xp.any(failed)) else Z
        if Z is None:
            Z, steps, made, *_ = solver._run(be, system, None, R, None, tol, limit)
        left = true_residual(be, system, Z, R)
    size = be.frobenius(R, axis=-2)
    # a residual far above the tolerance, or a solution as large as rounding makes it: an eigenvalue beside
    # the found ones is next to one of them
    eps = float(xp.finfo(size.dtype).eps)
    next_to = be.frobenius(Z, axis=-2) * xp.max(xp.abs(w)) * max(2 * tol, 100 * eps) > size
    bad = ~(left <= min(max(1e3 * tol, 1e-6), 1e-2) * size) | next_to
    if be.is_concrete(bad):
        bad = bad & xp.isfinite(size)  # what was undefined before stays so
        if bool(xp.any(bad)):
            i = int(xp.argmax(be.astype(bad, "int32")))
            relative = float(left[i] / size[i])
            raise ConvergenceError(
                f"the derivative of the eigenvectors found by {how.method} needs the solution of a system "
                f"that {type(solver).__name__} left with the relative residual {relative:.1e} after "
                f"{int(steps)} steps: an eigenvalue outside of the found set is (nearly) equal to one "
                "inside, so that the vectors have no derivative, or the gap between them is small. Ask for "
                "another k that does not cut the cluster, or use a dense algorithm (Eigh(), Eig(), SVD())."
            )
    _tell(be, K, how, type(solver).__name__, left, size, steps, made)
    if be.is_concrete(bad):
        return Z
    return xp.where(bad, be.astype(xp.zeros_like(size) + float("nan"), Z.dtype), Z)


def _by_inverse(be: Backend, K: Complement, w: Array, R: Array, how: Manner) -> tuple[Any, Any, Any]:
    """``(A - w) Z = R`` as ``(S - 1/(w - t)) Z = -S R/(w - t)`` with ``S = (A - t)^{-1}``: the eigenvalues of
    S next to the found ones are far from the others, so that few steps are needed. None where it is not to be
    had."""
    from ..algorithms.gmres import GMRES
    from ..algorithms.minres import MINRES

    if how.inverse is None or K.B is not None or not be.is_concrete(R, w):
        return None, 0, 0
    xp = be.xp
    try:
        S, t = how.inverse(K.A)
        inside = product(be, S, R - be.matmul(K.G, be.matmul(be.adjoint(K.W), R)))
    except SingularMatrixError:
        return None, 0, 0
    if not bool(xp.all(xp.abs(w - t) > 0)):
        return None, 0, 0
    mu = 1 / (w - t)
    beside = be.matmul(be.adjoint(K.W), R)
    system = Columns(S, None, K.W, K.G, mu, xp.max(xp.abs(mu)))
    inside = inside - be.matmul(K.G, be.matmul(be.adjoint(K.W), inside))
    solver: Any = MINRES() if K.hermitian else GMRES(restart=BASIS)
    Z, steps, made, *_ = solver._run(be, system, None, -inside * mu, None, how.tol, STEPS)
    return Z + be.matmul(K.W, beside / K.s), steps, made + 1


@node
@dataclass(frozen=True, eq=False)
class Beside:
    """A preconditioner of A as one of K: P beside the found vectors, a number on them."""

    P: Any
    W: Array
    G: Array
    s: Array

    def __matmul__(self, V: Array) -> Array:
        be = self.P._concrete_backend()
        along = be.matmul(be.adjoint(self.W), V)
        Y = product(be, self.P, V - be.matmul(self.G, along))
        return Y - be.matmul(self.W, be.matmul(be.adjoint(self.G), Y) - along / self.s)


def _preconditioner(be: Backend, K: Complement, R: Array, how: Manner) -> Any:
    if how.preconditioner is None or not K.hermitian or not be.is_concrete(R):
        return None
    P = how.preconditioner(K.A)
    return None if P is None else Beside(P, K.W, K.G, K.s)


def _tell(
    be: Backend, K: Complement, how: Manner, solver: str, left: Array, size: Array, steps: Any, made: Any
) -> None:
    """Report how the systems of a derivative went, under the failure policy of the question."""
    from ..info import Info
    from ..reasons import CONVERGED, STAGNATED, TRACED

    if how.told is None:
        return
    xp = be.xp
    relative = left / xp.where(size > 0, size, xp.ones_like(size))
    good = relative <= 10 * how.tol
    info = Info(
        method=f"{how.method} ({solver})",
        converged=xp.all(good),
        reason=TRACED,
        codes=xp.where(good, CONVERGED, STAGNATED),
        iterations=steps,
        matvecs=(made + 1) * K.L.shape[-1],
        residual=xp.max(relative),
        residuals=relative,
        tolerance=how.tol,
    )
    how.told.tell(be, K.A, info.concrete(be) if be.is_concrete(relative) else info)
