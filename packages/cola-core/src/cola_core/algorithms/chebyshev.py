"""``f(A) b`` by a Chebyshev expansion of f on an interval that holds the spectrum: products only, no inner
products, three vectors. Druskin & Knizhnerman 1989; coefficients by interpolation (Trefethen, Approximation
Theory and Approximation Practice, ch. 3-4).

With ``|x| <= 1`` on the scaled spectrum, ``|T_j(x)| <= 1``: the omitted coefficients bound the error, and a
term larger than b proves an eigenvalue outside of the interval, which is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..backends.base import Array, Backend
from ..cost import Cost
from ..errors import PropertyError
from ..properties import SelfAdjoint
from ..pytree import tree_leaves
from ..reasons import OUTSIDE, RUNNING
from .base import question_memory, refuse_batches
from .cholesky import check_finite
from .function_algorithm import FunctionAlgorithm, finish_product
from .progress import observe
from .spectral_bounds import spectral_bounds

__all__ = ["Chebyshev"]

TRACED_DEGREE = 128
EVERY = 8  # terms between looks at the error
GROWN = 1.01  # a term this much larger than b is no rounding error


@dataclass(frozen=True)
class Chebyshev(FunctionAlgorithm):
    """f(A) of a self-adjoint A by a polynomial of f on ``bounds``; f must be smooth there.

    tol: of the answer (default 1e-8, 1e-5 in single). max_iters: largest degree (default 2000). degree: this
    one, instead of one chosen from the coefficients. bounds: ``(low, high)`` around all eigenvalues; by
    default from a few Lanczos steps, with a margin, and wider where growth shows that they were too narrow.
    key: seed of those steps. Compiled code cannot choose: degree 128 unless given.

    >>> import numpy as np, cola_core as cola
    >>> A = cola.SelfAdjoint(np.diag(np.linspace(-1.0, 1.0, 50)))
    >>> y = cola.exp(cola.no_dispatch(A), cola.Chebyshev(bounds=(-1, 1))) @ np.ones(50)
    >>> bool(np.allclose(y, np.exp(np.linspace(-1, 1, 50))))
    True
    """

    degree: int | None = None
    bounds: tuple[float, float] | None = None
    key: Any = field(default=0, kw_only=True)

    kind: ClassVar[str] = "iterative"

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.isa(SelfAdjoint):
            return "the operator is not declared SelfAdjoint or PSD"
        if A.batch_shape:
            return "batches of operators are not supported"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        terms = 80 if self.degree is None else self.degree
        one = A.matvec_cost + Cost(6 * n, 8 * A.itemsize * n, 0, 0, 6)
        total = one * (terms + (0 if self.bounds else 30))
        return Cost(total.flops, total.bytes, question_memory(A, 5), total.matvecs or terms, total.calls)

    def check(self, A: Any, f: Any) -> None:
        refuse_batches(A, f"Chebyshev {f.name}", "Eigh()")
        if not A.isa(SelfAdjoint):
            raise PropertyError(
                f"Chebyshev({f.name}) of {A!r} needs a real spectrum: declare the operator SelfAdjoint or "
                "PSD, or use Arnoldi()."
            )
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise ValueError(
                f"Chebyshev(bounds={self.bounds!r}): the lower bound must be below the upper one."
            )

    def function_times(self, A: Any, f: Any, X: Array) -> Array:
        be = A._concrete_backend()
        tol = self.tolerance(A.dtype)
        positive = f.needs_positive or f.needs_nonzero and f.positive
        concrete = be.is_concrete(X, *tree_leaves(A))
        if concrete:
            check_finite(A, X)
        if be.name == "torch" and be.differentiating(X, *tree_leaves(A)) and (f.real or A._is_complex()):
            return self._differentiated(be, A, f, X)
        low, high, made = self._interval(be, A, f, positive)
        found = self._product(be, A, f, X, low, high, made, positive, concrete, tol)
        Y, error, codes, steps, made = found[:5]
        return finish_product(be, f"Chebyshev {f.name}", Y, error, codes, tol, steps, made)

    def _product(
        self,
        be: Backend,
        A: Any,
        f: Any,
        X: Array,
        low: Array,
        high: Array,
        made: Any,
        positive: bool,
        concrete: bool,
        tol: float,
    ) -> tuple[Any, ...]:
        """``f(A) X`` and its error, verdicts, degree, products and the interval it was made on."""
        xp = be.xp
        method = f"Chebyshev {f.name}"
        with self.watched(method, self.max_iters, be, X) as watch:
            for _ in range(8):
                if concrete:
                    c, tails = _chosen(
                        be, A, f, be.number(low), be.number(high), tol, self.degree, self._most()
                    )
                    stop = 0.5 * tol if self.degree is None else 0.0
                    Y, error, grown, steps, code = _run(be, A, X, low, high, c, tails, stop, watch)
                else:
                    c, tails = _traced_coefficients(be, A, f, low, high, self.degree or TRACED_DEGREE)
                    Y, error, grown, steps = _fixed(be, A, X, low, high, c, tails)
                    code = RUNNING
                made = made + steps * X.shape[-1]
                if not concrete or self.bounds is not None or not bool(xp.any(grown)) or code != RUNNING:
                    break
                middle, half = (low + high) / 2, (high - low) / 2
                high = middle + 1.2 * half
                low = low / 10 if positive else middle - 1.2 * half
        codes = xp.where(grown, OUTSIDE, code)
        error = xp.where(grown, xp.full_like(error, float("inf")), error)  # f outside of it is unknown
        return Y, error, codes, steps, made, low, high

    def _differentiated(self, be: Backend, A: Any, f: Any, X: Array) -> Array:
        """The same with derivatives of the expansion, in as few vectors as it takes itself."""
        from .function_derivative import FunctionTimes, function_derivative

        tol = self.tolerance(A.dtype)
        positive = f.needs_positive or f.needs_nonzero and f.positive
        interval: list[float] = []

        def value(A: Any, X: Array) -> tuple[Array, Any]:
            low, high, made = self._interval(be, A, f, positive)
            Y, *rest, low, high = self._product(be, A, f, X, low, high, made, positive, True, tol)
            interval[:] = [be.number(low), be.number(high)]
            return Y, rest

        def coefficients() -> Any:
            # all of them: those of a derivative die out later
            return _chosen(be, A, f, interval[0], interval[1], tol, self.degree, self._most())[0]

        def times(B: Any, g: Any, X: Array, adjoint: bool) -> Array:
            c = coefficients()
            low, high = (be.asarray(x, dtype=be.real_dtype(X.dtype), device=be.device(X)) for x in interval)
            c = np.conj(c) if g is not f or adjoint else c  # f of A^H by the coefficients of conj f
            return _run(be, B, X, low, high, c, np.full(c.size, np.inf), 0.0, None)[0]

        def pairs(B: Any, g: Any, G: Array, X: Array) -> Any:
            return _pairs(be, B, G, X, interval[0], interval[1], coefficients())

        Y, rest = function_derivative(FunctionTimes(times, pairs), A, f, X, value)
        error, codes, steps, made = rest
        return finish_product(be, f"Chebyshev {f.name}", Y, error, codes, tol, steps, made)

    def _most(self) -> int:
        return 2000 if self.max_iters is None else int(self.max_iters)

    def _interval(self, be: Backend, A: Any, f: Any, positive: bool) -> tuple[Array, Array, int]:
        real = be.real_dtype(A.dtype)
        if self.bounds is not None:
            return *(be.asarray(float(x), dtype=real, device=A.device) for x in self.bounds), 0
        low, high, made = spectral_bounds(A, positive, self.key)
        if positive and be.is_concrete(low) and be.number(low) <= 0:
            raise PropertyError(
                f"{f.name} of {A!r}, which has a Ritz value of {be.number(low):.3g}, is not real or not "
                "defined. Shift it by a multiple of the identity, or use another algorithm."
            )
        same = high <= low  # c I
        high = be.xp.where(same, low + be.xp.where(low == 0, be.xp.ones_like(low), abs(low)), high)
        return low, high, made


def _chosen(
    be: Backend, A: Any, f: Any, low: float, high: float, tol: float, degree: int | None, most: int
) -> tuple[Any, Any]:
    """Coefficients on the host, and for each degree a bound of what is left out; as many as rounding allows
    and no more than asked for."""
    from scipy.fft import dct

    from .small_function import on_host

    host = on_host(be, A, f)
    numpy = _numpy()

    def at(count: int) -> Any:
        x = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        values = np.asarray(host.on(numpy, (high + low) / 2 + (high - low) / 2 * x))
        parts = [values.real, values.imag] if np.iscomplexobj(values) else [values]
        made = [dct(v, type=2) / count for v in parts]
        c = made[0] if len(made) == 1 else made[0] + 1j * made[1]
        c[0] /= 2
        return c

    count = 32 if degree is None else 2 * (degree + 1)
    c = at(count)
    while degree is None and count < 2 * most:
        top = np.abs(c).max()
        if np.abs(c[-(count // 8) :]).max() <= 1e-15 * top:
            break
        count *= 2
        c = at(count)
    size = np.abs(c)
    tails = np.append(np.cumsum(size[::-1])[::-1][1:], 0.0)
    if degree is None:
        # coefficients at the level of rounding say nothing
        keep = int(np.max(np.nonzero(size > 1e-16 * size.max())[0], initial=0)) + 1
        keep = min(keep, most + 1)
        tails[-1] = max(tails[-1], size[-1])
    else:
        keep = degree + 1
    return c[:keep], tails[:keep]


def _scaled(A: Any, X: Array, middle: Array, half: Array) -> Array:
    return (A._matmat(X) - middle * X) / half


def _run(
    be: Backend, A: Any, X: Array, low: Array, high: Array, c: Any, tails: Any, stop: float, watch: Any
) -> tuple[Array, Array, Array, int, int]:
    """The expansion, until what is left out is small: answer, error, columns with growth, degree, verdict."""
    xp = be.xp
    wide = np.iscomplexobj(c) and not be.is_complex(X)
    dtype = xp.result_type(X.dtype, xp.complex64) if wide else X.dtype
    real = be.real_dtype(X.dtype)
    middle, half = be.astype((high + low) / 2, X.dtype), be.astype((high - low) / 2, X.dtype)
    size = be.norm(be.constant(X))
    if be.name == "jax":
        room = 1 << max(int(np.ceil(np.log2(c.size))), 4)
        coefficients = be.asarray(np.pad(c, (0, room - c.size)), dtype=dtype)
        rest = be.asarray(np.pad(tails, (0, room - c.size)), dtype=real)
        loop = be.jit(_loop, static=("watch",))
        Y, last, top, code = loop(A, X, middle, half, coefficients, rest, size, stop, c.size, watch=watch)
        last = int(last)
        return Y, float(tails[last]) * size, top > GROWN * size, last, int(code)
    before, T = None, X
    Y = X * complex(c[0]) if wide else X * _plain(c[0])
    if not wide:
        Y = be.astype(Y, X.dtype)
    top, code, last = size, RUNNING, 0
    for j in range(1, c.size):
        if before is None:
            before, T = T, _scaled(A, T, middle, half)
        else:
            before, T = T, 2 * _scaled(A, T, middle, half) - before
        Y = Y + T * _plain(c[j])
        last = j
        if j % EVERY == 0 or j + 1 == c.size:
            quiet = be.constant(T)
            top = xp.maximum(top, be.norm(quiet))
            answer = be.norm(be.constant(Y))
            if watch is not None:
                code = watch(
                    j, be.number(xp.max(tails[j] * size / xp.where(answer > 0, answer, 1 + 0 * answer)))
                )
            if code != RUNNING or bool(xp.all(float(tails[j]) * size <= stop * answer)):
                break
            if bool(xp.any(top > 1e8 * size)):
                break
    return Y, float(tails[last]) * size, top > GROWN * size, last, code


def _pairs(be: Backend, A: Any, G: Array, X: Array, low: float, high: float, c: Any) -> Any:
    """What ``function_derivative`` asks for: the terms t_j again from the last to the first (the recurrence
    runs both ways), beside the adjoint recurrence ``l_j = conj(c_j) g + 2 S^H l_(j+1) - l_(j+2)``."""
    xp = be.xp
    middle, half = (high + low) / 2, (high - low) / 2

    def times(V: Array) -> Array:
        return (A._matmat(V) - middle * V) / half

    def back(V: Array) -> Array:
        return (A._rmatmat(V) - middle * V) / half

    if c.size == 1:
        return
    term, t = X, times(X)  # t_(j-1), t_j
    for _ in range(2, c.size):
        term, t = t, 2 * times(t) - term
    later, last = xp.zeros_like(G), xp.zeros_like(G)  # l_(j+2), l_(j+1)
    for j in range(c.size - 1, 0, -1):
        factor = _plain(np.conj(c[j]))
        later, last = last, factor * G + 2 * back(last) - later if j + 1 < c.size else factor * G
        yield (last if j == 1 else 2 * last) / half, term
        if j > 1:
            term, t = 2 * times(term) - t, term


def _loop(
    A: Any,
    X: Array,
    middle: Array,
    half: Array,
    c: Array,
    tails: Array,
    size: Array,
    stop: Any,
    count: Any,
    *,
    watch: Any = None,
) -> tuple[Array, Any, Array, Any]:
    """The same, compiled."""
    import jax

    be: Any = A._concrete_backend()
    xp = be.xp
    first = _scaled(A, X, middle, half)
    Y = c[0] * X + c[1] * first

    def verdict(j: Any, Y: Array) -> Array:
        if watch is None:
            return xp.asarray(RUNNING)
        answer = be.norm(Y)
        error = tails[j] * size / xp.where(answer > 0, answer, xp.ones_like(answer))
        return observe(be, watch, j, error, xp.asarray(RUNNING))

    state = (xp.asarray(1), X, first, Y, xp.maximum(size, be.norm(first)), verdict(xp.asarray(1), Y))

    def running(state: Any) -> Any:
        j, _, _, Y, top, code = state
        open_ = tails[j] * size > stop * be.norm(Y)
        return (j + 1 < count) & xp.any(open_) & ~xp.any(top > 1e8 * size) & (code == RUNNING)

    def body(state: Any) -> Any:
        j, before, T, Y, top, _ = state
        following = 2 * _scaled(A, T, middle, half) - before
        Y = Y + c[j + 1] * following
        return j + 1, T, following, Y, xp.maximum(top, be.norm(following)), verdict(j + 1, Y)

    j, _, _, Y, top, code = jax.lax.while_loop(running, body, state)
    return Y, j, top, code


def _traced_coefficients(
    be: Backend, A: Any, f: Any, low: Array, high: Array, degree: int
) -> tuple[Array, Array]:
    """Coefficients inside a trace, from twice as many points; the tail as one number."""
    xp = be.xp
    count = 2 * (degree + 1)
    angle = np.pi * (np.arange(count) + 0.5) / count
    real = be.real_dtype(A.dtype)
    table = 2 / count * np.cos(np.arange(count)[:, None] * angle)
    table[0] /= 2
    x = be.asarray(np.cos(angle), dtype=real, device=A.device)
    values = f.on(be, (high + low) / 2 + (high - low) / 2 * x)
    c = xp.sum(be.asarray(table, dtype=real, device=A.device) * values[None, :], axis=-1)
    return c[: degree + 1], be.constant(xp.sum(xp.abs(c[degree + 1 :])))


def _fixed(
    be: Backend, A: Any, X: Array, low: Array, high: Array, c: Array, tail: Array
) -> tuple[Array, Array, Array, int]:
    """All terms of a given degree, differentiable in both modes."""
    xp = be.xp
    count = int(c.shape[0])
    middle, half = be.astype((high + low) / 2, X.dtype), be.astype((high - low) / 2, X.dtype)
    size = be.norm(be.constant(X))
    before, T = X, _scaled(A, X, middle, half)
    Y = c[0] * before + (c[1] * T if count > 1 else 0)
    top = xp.maximum(size, be.norm(be.constant(T)))
    if be.name == "jax":
        import jax

        def body(state: Any, coefficient: Any) -> Any:
            before, T, Y, top = state
            following = 2 * _scaled(A, T, middle, half) - before
            top = xp.maximum(top, be.norm(be.constant(following)))
            return (T, following, Y + coefficient * following, top), None

        (_, _, Y, top), _ = jax.lax.scan(body, (before, T, Y, top), c[2:])
    else:
        for j in range(2, count):
            before, T = T, 2 * _scaled(A, T, middle, half) - before
            Y = Y + c[j] * T
            top = xp.maximum(top, be.norm(be.constant(T)))
    return Y, tail * size, top > GROWN * size, count - 1


def _plain(c: Any) -> Any:
    return complex(c) if isinstance(c, complex) or np.iscomplexobj(c) else float(c)


def _numpy() -> Any:
    from ..backends import get_backend

    return get_backend("numpy")
