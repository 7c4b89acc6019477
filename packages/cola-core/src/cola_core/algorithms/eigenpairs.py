"""What methods for some eigenpairs share: settings, derivatives, residuals recomputed at exit, the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..autodiff.eigenpairs import general_pairs, selfadjoint_pairs
from ..backends.base import Array, Backend, dtype_name
from ..dispatch.session import SESSION, Session, record
from ..errors import NonFiniteError
from ..info import Info
from ..pytree import tree_leaves
from ..reasons import CONVERGED, NONFINITE, STAGNATED, TRACED
from .base import Algorithm
from .iteration import extreme_scale
from .krylov import first_vector
from .progress import Watch, watching
from .thick_restart import product, thick_restart

__all__ = [
    "basis_size",
    "krylov_pairs",
    "pair_tolerance",
    "quietly",
    "report_pairs",
]


def pair_tolerance(be: Backend, dtype: Any, given: float | None, default: float = 1e-10) -> float:
    """Tolerance of residuals, relative to the largest eigenvalue: the one given, else the default in double
    precision and what rounding allows in single."""
    eps = float(be.xp.finfo(be.real_dtype(dtype)).eps)
    return max(default, 100 * eps) if given is None else float(given)


def basis_size(k: int, n: int, given: int | None) -> int:
    """Vectors in the basis: ``max(2 k + 1, 30)``, as ARPACK's users take; all n where few are left."""
    m = max(2 * k + 1, 30) if given is None else max(int(given), k + 2)
    return n if m + 1 >= n else m


def complex_dtype(A: Any) -> str:
    """The complex dtype of A's precision."""
    return "complex64" if dtype_name(A.dtype) in ("float32", "complex64") else "complex128"


@dataclass(frozen=True)
class PairIteration(Algorithm):
    """Base of the methods for some eigenpairs or singular triples, with the means to watch an iteration that
    ``Iterative`` has; their positional settings stand in the order of CoLA's."""

    progress: bool = field(default=False, kw_only=True)
    callback: Callable[[int, float], Any] | None = field(default=None, kw_only=True)
    max_seconds: float | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "iterative"

    def watched(self, title: str, be: Backend, *arrays: Any) -> AbstractContextManager[Watch | None]:
        """A ``Watch`` for one run, None where none of the settings wants one."""
        compiled = be.name == "jax"
        traced = compiled and not be.is_concrete(*arrays)
        show = self.progress or getattr(self, "pbar", False)
        return watching(title, None, show, self.callback, self.max_seconds, compiled, traced)


def krylov_pairs(
    A: Any,
    settings: Any,
    k: int,
    which: str,
    *,
    hermitian: bool,
    method: str,
    eager: bool = False,
    spent: int = 0,
) -> tuple[Array, Array]:
    """k eigenpairs by the restarted Krylov iteration, reported; w most wanted first, X (n, k).

    spent: products made before, to be counted with the others. settings: the algorithm; an ``_iterate`` of
    its class, with the contract of ``thick_restart``, makes the steps, given what its ``_static()`` adds.
    """
    be = A._concrete_backend()
    n = A.shape[-1]
    tol = pair_tolerance(be, A.dtype, settings.tol)
    m = basis_size(k, n, settings.basis)
    limit = max(100 * m, 3000) if settings.max_iters is None else int(settings.max_iters)
    if k < n and m > limit:
        m = max(limit, k + 2)
    iterate, own = getattr(type(settings), "_iterate", thick_restart), {}
    if iterate is not thick_restart:
        own = settings._static()
    statics = ("k", "m", "which", "hermitian", "watch", *own)
    columns = 1 if hermitian or A._is_complex() else 2

    def run(operator: Any) -> tuple[Array, Array, Any]:
        start = first_vector(operator, settings.start_vector, settings.key, n, method)
        start = start if hermitian else be.astype(start, complex_dtype(operator))
        compile_ = be.is_concrete(*tree_leaves(operator)) and not eager
        f = be.jit(iterate, static=statics) if compile_ else iterate if eager else be.automatic(iterate)
        more = {} if compile_ else {"eager": eager}
        watched = settings.watched(method, be, start, *tree_leaves(operator))
        with watched as watch, nullcontext() if eager else quietly(be):
            settled = {"k": k, "m": m, "which": which, "hermitian": hermitian, "watch": watch, **more, **own}
            w, X, made, largest, code, condition = f(operator, start, tol, limit, **settled)
            probe = be.xp.real(start) if columns == 2 else start
            size = extreme_scale(be, operator, probe[:, None], largest[None])
            if size is not None:
                w, X, made, largest, code, condition = f(operator * (1 / size), start, tol, limit, **settled)
                w, largest = w * size, largest * size
            residuals = be.frobenius(product(be, operator, X) - X * be.astype(w, X.dtype), axis=-2)
        return w, X, (made, largest, code, condition, residuals)

    found = selfadjoint_pairs if hermitian else general_pairs
    w, X, (made, largest, code, condition, residuals) = found(be, A, run, tol, method)
    condition = None if hermitian else condition
    matvecs = spent + columns * (made + k)
    report_pairs(be, A, method, residuals, largest, tol, made, matvecs, code, condition)
    return w, X


@contextmanager
def quietly(be: Backend) -> Iterator[None]:
    """Nothing that solves inside a compiled loop reports, as its numbers do not leave the loop (JAX)."""
    if be.name != "jax":
        yield
        return
    token = SESSION.set(Session(question="product"))
    try:
        yield
    finally:
        SESSION.reset(token)


def report_pairs(
    be: Backend,
    A: Any,
    method: str,
    residuals: Array,
    largest: Array,
    tol: float,
    iterations: Any,
    matvecs: Any,
    code: Any,
    condition: Array | None = None,
) -> None:
    """Record how k pairs came out, from their recomputed residual norms ``|A x - w x|`` (k,).

    ``residuals`` of the Info are per pair and relative to the largest eigenvalue met; ``error_estimate`` is
    a bound of the eigenvalues' errors where self-adjoint, and the residual times the eigenvalue's condition
    number (to first order, that of the projected matrix) where not.
    """
    xp = be.xp
    eps = float(xp.finfo(residuals.dtype).eps)
    top = xp.where(largest > 0, largest, xp.ones_like(largest))
    relative = residuals / top
    good = relative <= max(10 * tol, 100 * eps * A.shape[-1] ** 0.5)
    error = residuals if condition is None else residuals * condition
    concrete = be.is_concrete(relative)
    if concrete and int(code) == NONFINITE:
        raise NonFiniteError(
            f"a product with {A!r} gave NaN or infinity within {int(iterations)} steps of {method}."
        )
    # a pair is found where its residual is small; while the iteration has not ended another one may be wanted
    # more than the last of them
    stop = xp.zeros_like(good, dtype=be.dtype("int32")) + code
    ended = stop == CONVERGED
    codes = xp.where(good, CONVERGED, xp.where(ended, STAGNATED, stop))
    last = xp.arange(good.shape[-1]) == good.shape[-1] - 1
    last = be.asarray(last, device=be.device(good))
    codes = xp.where(last & xp.all(good) & ~ended, stop, codes)
    none = 0 in relative.shape
    info = Info(
        method=method,
        converged=xp.all(codes == CONVERGED),
        reason=TRACED,
        codes=codes,
        iterations=iterations,
        matvecs=matvecs,
        residual=xp.sum(relative) if none else xp.max(relative),
        residuals=relative,
        tolerance=tol,
        error_estimate=xp.sum(error) if none else xp.max(error),
        condition=None if condition is None or none else xp.max(condition),
    )
    if concrete:
        if info.condition is not None:
            info = info.replace(condition=be.number(info.condition))
        info = info.concrete(be)
    record(info)
