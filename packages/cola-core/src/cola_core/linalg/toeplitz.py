"""Rules of Toeplitz and Hankel matrices and of convolutions: what their few numbers say without products."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..algorithms.base import Auto
from ..algorithms.factor import warn_if_singular
from ..algorithms.iteration import differentiated
from ..algorithms.levinson import toeplitz_factor
from ..backends.base import Array
from ..cost import Cost
from ..dispatch.choose import ask
from ..operators import ConvolveND, Hankel, Toeplitz
from ..operators.fourier import fft, good_length, ifft
from ..plugins.rulebook import RuleBook
from ..properties import PSD
from .determinant import SLOGDET
from .diagonal import DIAG, exactly, length
from .solve import SOLVE
from .trace import TRACE

__all__ = ["RULES"]

RULES = RuleBook()
SMALL = 64  # below this size a dense factorisation is as fast as a recursion, and more stable


# -- diagonals and traces ------------------------------------------------------------------------------------
@RULES.rule(
    DIAG,
    (Toeplitz,),
    id="diag/toeplitz",
    source="every diagonal is constant",
    when=exactly,
    complexity="O(N)",
)
def diag_toeplitz(A: Any, k: int, *, alg: Any) -> Array:
    size = length(A, k)
    if not size:
        return A._concrete_backend().zeros((*A.batch_shape, 0), A.dtype, A.device)
    entry = A.first_row[..., k : k + 1] if k > 0 else A.column[..., -k : 1 - k]
    be = A._concrete_backend()
    return be.xp.broadcast_to(be.astype(entry, A.dtype), (*A.batch_shape, size))


@RULES.rule(
    TRACE,
    (Toeplitz,),
    id="trace/toeplitz",
    source="the diagonal is constant",
    when=exactly,
    complexity="O(1)",
)
def trace_toeplitz(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1) if not A.shape[-1] else A.shape[-1] * _corner(A)


def _corner(A: Any) -> Array:
    be = A._concrete_backend()
    return be.xp.broadcast_to(be.astype(A.column[..., 0], A.dtype), A.batch_shape)


@RULES.rule(DIAG, (Hankel,), id="diag/hankel", source="H_ij = h_{i+j}", when=exactly, complexity="O(N)")
def diag_hankel(A: Any, k: int, *, alg: Any) -> Array:
    size = length(A, k)
    return A.antidiagonals[..., abs(k) : abs(k) + 2 * size : 2][..., :size]


@RULES.rule(DIAG, (ConvolveND,), id="diag/convolution", source="definition", when=exactly, complexity="O(N)")
def diag_convolution(A: Any, k: int, *, alg: Any) -> Array:
    i = np.arange(length(A, k))
    if not i.size:
        return A._concrete_backend().zeros((*A.batch_shape, 0), A.dtype, A.device)
    return A.entries(i + max(-k, 0), i + max(k, 0))


def _sum_of_diagonal(A: Any, *, alg: Any) -> Array:
    return A.xp.sum(ask(DIAG, (A, 0), alg), axis=-1)


for _cls, _name in ((Hankel, "hankel"), (ConvolveND, "convolution")):
    RULES.rule(
        TRACE,
        (_cls,),
        id=f"trace/{_name}",
        source="sum of the diagonal",
        when=exactly,
        complexity="that of diag",
    )(_sum_of_diagonal)


# -- solve and determinant -----------------------------------------------------------------------------------
def _recursion(A: Any, *operands: Any, alg: Any) -> bool | str:
    """Guard: square, not small, not declared PSD, and no algorithm was asked for."""
    if not isinstance(alg, Auto):
        return f"{type(alg).__name__} was asked for"
    if not A.is_square:
        return "not square"
    if A.isa(PSD):
        return "declared PSD: an algorithm is chosen by cost, without a check of leading minors"
    return True if A.shape[-1] >= SMALL else f"smaller than {SMALL}"


def _recursion_cost(A: Any, *operands: Any, alg: Any) -> Cost:
    n = A.shape[-1]
    return Cost(8.0 * n * n, 8.0 * A.itemsize * n * n, 6.0 * A.itemsize * n, 8, 3.0 * n)


def _factor(A: Any, *, alg: Any) -> Any:
    """The inverse's first and last column; NotImplemented where a leading minor is (nearly) singular."""
    be = A._concrete_backend()
    if be.name != "abstract" and not be.is_concrete(A.column, A.first_row):
        return NotImplemented  # compiled, the loss of accuracy could not be seen
    if not be.all_finite(A.column) or not be.all_finite(A.first_row):
        return NotImplemented  # the general path says so
    found = toeplitz_factor(A)
    if not found.sound():
        return NotImplemented
    if be.name != "abstract":
        warn_if_singular(found.rcond(), A, "Levinson")
    return found


@RULES.rule(
    SOLVE,
    (Toeplitz,),
    id="solve/toeplitz",
    source="Levinson-Trench-Zohar recursion; Golub & Van Loan, 4th ed., sec. 4.7",
    when=_recursion,
    cost=_recursion_cost,
    factor=_factor,
    complexity="O(N^2 + N k log N)",
)
def solve_toeplitz(A: Any, b: Array, *, alg: Any) -> Array:
    """O(n^2); steps back where the backward error shows that a leading minor was nearly singular."""
    be = A._concrete_backend()
    if be.name != "abstract" and differentiated(be, A, b):
        return NotImplemented if be.name == "jax" else _differentiable(be, A, b)
    found = _factor(A, alg=alg)
    return found if found is NotImplemented else found.solve(b)


def _differentiable(be: Any, A: Any, b: Array) -> Array:
    """In PyTorch the derivative is another solve, so memory does not grow with the steps of the recursion,
    and by the same factor: ``T^{-H} = conj(J T^{-1} J)``, J the reversal."""
    import torch

    from ..autodiff.torch_implicit import detached

    if torch.compiler.is_compiling():
        return NotImplemented  # type: ignore[return-value]
    fixed = detached(A)
    if not be.is_concrete(b, fixed.column, fixed.first_row):  # inside of torch.func: without what it wraps
        return be.implicit_solve(A, lambda T, rhs: (ask(SOLVE, (T, rhs), Auto()), None), b)[0]  # type: ignore[no-any-return]
    found = _factor(fixed, alg=Auto())
    if found is NotImplemented:
        return NotImplemented  # type: ignore[return-value]

    def solve(T: Any, rhs: Array) -> Any:
        x = found.solve(rhs)
        return (ask(SOLVE, (T, rhs), Auto()) if x is NotImplemented else x), None

    def solve_adjoint(T: Any, rhs: Array) -> Any:
        x = found.solve(be.conj(be.xp.flip(rhs, axis=-2)))
        if x is NotImplemented:
            return ask(SOLVE, (T, rhs), Auto()), None
        return be.conj(be.xp.flip(x, axis=-2)), None

    return be.implicit_solve(A, solve, b, solve_adjoint)[0]  # type: ignore[no-any-return]


@RULES.rule(
    SLOGDET,
    (Toeplitz,),
    id="slogdet/toeplitz",
    source="ratios of leading minors; Golub & Van Loan, 4th ed., sec. 4.7.2",
    when=_recursion,
    cost=_recursion_cost,
    complexity="O(N^2)",
)
def slogdet_toeplitz(A: Any, *, alg: Any) -> tuple[Array, Array]:
    be = A._concrete_backend()
    if be.name == "torch" and be.differentiating(A.column, A.first_row):
        return _differentiable_determinant(be, A)
    found = _factor_of_determinant(A)
    return found if found is NotImplemented else found.slogdet()


def _differentiable_determinant(be: Any, A: Any) -> tuple[Array, Array]:
    """``d log det T = sum_k s_k dt_k``, s_k the sum of the entries of ``T^{-1}`` that dt_k meets: FFTs of the
    inverse's first and last column, which are solutions again. The recursion is not recorded."""
    import torch

    n, batch = A.shape[-1], A.batch_shape
    if torch.compiler.is_compiling():
        return NotImplemented  # type: ignore[return-value]

    def run(t: Array) -> Any:
        T = _of_diagonals(t, n, A.declared)
        found = _factor_of_determinant(T)
        if found is NotImplemented:
            return be.lu_slogdet(be.lu_factor(T.to_dense())), None
        return found.slogdet(), None

    def tangent(d: Any, inputs: Any, outputs: Any) -> Any:
        (t,), xp = inputs, be.xp
        T = _of_diagonals(t, n, A.declared)
        ends = be.asarray(
            np.stack([np.arange(n) == 0, np.arange(n) == n - 1], axis=-1), t.dtype, be.device(t)
        )
        found = ask(SOLVE, (T, ends + be.zeros((*batch, n, 2), t.dtype, be.device(t))), Auto())
        change = xp.sum(sums_of_inverse(be, found[..., 0], found[..., 1]) * d[0], axis=-1)
        sign = outputs[0]
        if not be.is_complex(change):
            return xp.zeros_like(sign), change
        return 1j * xp.imag(change) * sign, xp.real(change)

    t = A.generator(2 * n - 1)
    t = be.xp.broadcast_to(t, (*batch, 2 * n - 1))
    return be.differentiable(run, tangent, t)[0]  # type: ignore[no-any-return]


def _of_diagonals(t: Array, n: int, declared: Any) -> Toeplitz:
    """The Toeplitz matrix with t[k] on the k-th subdiagonal and t[-k] on the k-th superdiagonal."""
    from ..backends import backend_of

    xp = backend_of(t).xp  # type: ignore[union-attr]
    row = xp.concat((t[..., :1], xp.flip(t[..., n:], axis=-1)), axis=-1)
    return Toeplitz(t[..., :n], row, declared=declared)


def sums_of_inverse(be: Any, f: Array, g: Array) -> Array:
    """Of the inverse with first column f and last column g (*batch, n) of a Toeplitz matrix: the sums of its
    superdiagonals 0 to n - 1, then of its subdiagonals n - 1 to 1.

    By Gohberg and Semencul's formula the inverse is ``L(a) U(b) - L(c) U(d)`` with triangular Toeplitz
    matrices, and the sum of a diagonal of ``L(a) U(b)`` is a correlation of a and b with weights.
    """
    xp, n = be.xp, f.shape[-1]
    zero = xp.zeros_like(f[..., :1])
    pairs = (
        (f, xp.flip(g, axis=-1)),
        (xp.concat((zero, g[..., :-1]), axis=-1), xp.concat((zero, xp.flip(f[..., 1:], axis=-1)), axis=-1)),
    )
    weight = be.astype(n - xp.arange(n, device=be.device(f)), f.dtype)
    total: Any = 0
    for sign, (a, b) in zip((1, -1), pairs, strict=True):
        above = _correlation(be, a, weight * b)[..., :n]  # entries (i, i + k): the index of b is the larger
        below = _correlation(be, b, weight * a)[..., 1:n]
        total = total + sign * xp.concat((above, xp.flip(below, axis=-1)), axis=-1)
    return total / f[..., :1]


def _correlation(be: Any, a: Array, b: Array) -> Array:
    """``c_k = sum_q a_q b_{q+k}`` for k = 0 to n - 1."""
    xp, n = be.xp, a.shape[-1]
    length = good_length(2 * n - 1)
    # backwards, a correlation is a convolution, and it starts at index n - 1
    product = fft(be, xp.flip(a, axis=-1), (length,), -1) * fft(be, b, (length,), -1)
    found = ifft(be, product, (length,), -1)[..., n - 1 : 2 * n - 1]
    return found if be.is_complex(a) else xp.real(found)


def _factor_of_determinant(A: Any) -> Any:
    be = A._concrete_backend()
    if be.name != "abstract" and not be.is_concrete(A.column, A.first_row):
        return NotImplemented
    if not be.all_finite(A.column) or not be.all_finite(A.first_row):
        return NotImplemented
    found = toeplitz_factor(A)
    return found if found.sound() else NotImplemented


@RULES.rule(
    SOLVE, (Hankel,), id="solve/hankel", source="H = T J, J the reversal", complexity="that of solve/toeplitz"
)
def solve_hankel(A: Any, b: Array, *, alg: Any) -> Array:
    return A.xp.flip(ask(SOLVE, (A.toeplitz, b), alg), axis=-2)


@RULES.rule(
    SLOGDET,
    (Hankel,),
    id="slogdet/hankel",
    source="det H = det T det J",
    complexity="that of slogdet/toeplitz",
)
def slogdet_hankel(A: Any, *, alg: Any) -> tuple[Array, Array]:
    """The reversal of n entries is a permutation of floor(n/2) exchanges."""
    sign, value = ask(SLOGDET, (A.toeplitz,), alg)
    return (-sign if A.shape[-1] // 2 % 2 else sign), value
