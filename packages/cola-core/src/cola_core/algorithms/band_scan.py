"""Band factorisations as one pass over the rows with a window of the size of the band.

Written with array operations only, so that they trace and differentiate: a ``lax.scan`` on JAX, a loop
elsewhere. Source: Golub & Van Loan, 4th ed., sec. 4.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.base import Array

__all__ = ["cholesky_bands", "lu_slogdet", "lu_solve"]


def scan(be: Any, step: Callable[[Any, Any], Any], carry: Any, xs: tuple[Array, ...]) -> Any:
    """``carry, y_i = step(carry, x_i)`` along the first axis of each of xs; the y_i stacked."""
    if be.name == "jax":
        import jax

        return jax.lax.scan(step, carry, xs)
    made = []
    # taken apart at once: the derivative of an index would be an array of the whole length for every step
    for parts in zip(*xs, strict=True):
        carry, y = step(carry, parts)
        made.append(y)
    return carry, tuple(be.xp.stack(ys) for ys in zip(*made, strict=True))


def _rows(be: Any, A: Any, dtype: Any, batch: tuple[int, ...], more: int) -> Array:
    """(n + more, *batch, l + u + 1): the entries of each row from left to right; ``more`` rows of zeros."""
    from ..operators.banded import _padded, diagonals_of

    xp, n = be.xp, A.shape[-1]
    columns = []
    for k, d in diagonals_of(A).items():  # type: ignore[union-attr]
        i = max(-k, 0)
        column = _padded(be, be.astype(d, dtype)[..., None], i, n + more - i - d.shape[-1])
        columns.append(xp.broadcast_to(column, (*batch, n + more, 1)))
    return xp.moveaxis(xp.concat(columns, axis=-1), -2, 0)


def _zeros(be: Any, like: Array, *shape: int) -> Array:
    return be.zeros(shape, like.dtype, be.device(like))


def _shifted(be: Any, W: Array, row: Array) -> Array:
    """The window one row down and one column right."""
    xp = be.xp
    W = W[..., 1:]
    W = xp.concat([W, _zeros(be, W, *W.shape[:-1], 1)], axis=-1)
    return xp.concat([W, row[..., None, :]], axis=-2)


def _eliminate(be: Any, A: Any, B: Array) -> tuple[Array, Array, Array]:
    """Gaussian elimination with partial pivoting of ``[A | B]``, B of shape (n, *batch, k).

    Returns the rows of U (n, *batch, l + u + 1), the transformed B, and the sign of each interchange.
    """
    xp = be.xp
    l, u = A.widths  # noqa: E741
    n, *batch, k = B.shape
    R = _rows(be, A, B.dtype, tuple(batch), l + 1)
    B = xp.concat([B, _zeros(be, B, l + 1, *batch, k)], axis=0)
    first = []
    for r in range(l + 1):
        tail = R[r][..., l - r :]
        first.append(xp.concat([tail, _zeros(be, tail, *batch, l - r)], axis=-1))
    W, Y = xp.stack(first, axis=-2), xp.moveaxis(B[: l + 1], 0, -2)
    place = xp.arange(l + 1, device=be.device(B))

    def step(carry: Any, new: Any) -> Any:
        W, Y = carry
        row, y = new
        p = xp.argmax(xp.abs(W[..., 0]), axis=-1)[..., None]
        chosen = (place == p)[..., None]
        top = xp.sum(xp.where(chosen, W, xp.zeros_like(W)), axis=-2)
        ytop = xp.sum(xp.where(chosen, Y, xp.zeros_like(Y)), axis=-2)
        # the row that stood on top takes the place of the pivot row
        W, Y = xp.where(chosen, W[..., :1, :], W), xp.where(chosen, Y[..., :1, :], Y)
        pivot = top[..., :1]
        safe = xp.where(pivot == 0, xp.ones_like(pivot), pivot)
        factor = W[..., 1:, :1] / safe[..., None, :]
        W = W[..., 1:, :] - factor * top[..., None, :]
        Y = Y[..., 1:, :] - factor * ytop[..., None, :]
        Y = xp.concat([Y, y[..., None, :]], axis=-2)
        sign = xp.where(p[..., 0] == 0, xp.ones_like(pivot[..., 0]), -xp.ones_like(pivot[..., 0]))
        return (_shifted(be, W, row), Y), (top, ytop, sign)

    _, (U, Y, signs) = scan(be, step, (W, Y), (R[l + 1 :], B[l + 1 :]))
    return U, Y, signs


def lu_solve(be: Any, A: Any, B: Array) -> Array:
    """``A^{-1} B`` for B (*batch, n, k) of the common dtype and batch shape."""
    xp = be.xp
    batch = B.shape[:-2]
    U, Y, _ = _eliminate(be, A, xp.moveaxis(B, -2, 0))
    width, k = U.shape[-1], B.shape[-1]

    def step(later: Any, row: Any) -> Any:
        u, y = row
        x = (y - xp.sum(u[..., 1:, None] * later, axis=-2)) / u[..., :1]
        return xp.concat([x[..., None, :], later], axis=-2)[..., : width - 1, :], (x,)

    start = _zeros(be, B, *batch, width - 1, k)
    _, (X,) = scan(be, step, start, (xp.flip(U, axis=0), xp.flip(Y, axis=0)))
    return xp.moveaxis(xp.flip(X, axis=0), 0, -2)


PANEL = 32  # columns eliminated at once: one small dense factorisation instead of so many steps


def lu_slogdet(be: Any, A: Any) -> tuple[Array, Array]:
    """Sign (or phase) and logarithm of the modulus of the determinant.

    The elimination of ``lu_solve`` a panel of columns at a time, with the same pivots: what stays below a
    panel are l rows, which are the first rows of the next one.
    """
    xp = be.xp
    from ..linalg.determinant import of_entries

    l, u = A.widths  # noqa: E741
    m, batch = max(PANEL, l + u), A.batch_shape
    first, panels = _panels(be, A, m)
    start = _flat_to_rows(be, first, l, l + u)
    place = xp.arange(l + m, device=be.device(panels))

    def step(carry: Any, new: Any) -> Any:
        top = xp.concat([carry, _zeros(be, carry, *batch, l, m)], axis=-1)
        W = xp.concat([top, new[0]], axis=-2)
        rows, L, U = be.lu(W[..., :m])
        W = xp.take_along_axis(W[..., m:], rows[..., None] + xp.zeros_like(place[:1])[None, :], axis=-2)
        above = be.solve_triangular(L[..., :m, :], W[..., :m, :], unit=True)
        left = W[..., m:, :] - be.matmul(L[..., m:, :], above)
        crossed = (rows[..., :, None] > rows[..., None, :]) & (place[:, None] < place[None, :])
        odd = xp.sum(be.astype(crossed, be.real_dtype(W.dtype)), axis=(-2, -1)) % 2
        return left, (xp.linalg.diagonal(U), 1 - 2 * odd)

    _, (pivots, signs) = scan(be, step, start, (panels,))
    pivots = xp.moveaxis(pivots, 0, -2)
    sign, value = of_entries(be, xp.reshape(pivots, (*batch, pivots.shape[-2] * m)))
    return sign * be.astype(xp.prod(signs, axis=0), sign.dtype), value


def _panels(be: Any, A: Any, m: int) -> tuple[Array, Array]:
    """The first l rows of A, (*batch, l, l + u + 1), and all that follow in panels of m rows as dense
    matrices (count, *batch, m, m + l + u), which starts where the first of their rows does. Beyond the end
    the diagonal is one."""
    import numpy as np

    xp = be.xp
    l, u = A.widths  # noqa: E741
    n, w = A.shape[-1], l + u + 1
    count = -(-n // m)
    more = count * m + l - n
    R = _rows(be, A, be.dtype(A.dtype), A.batch_shape, more)
    unit = np.zeros((n + more, w))
    unit[n : count * m, l] = 1
    unit = be.asarray(unit, R.dtype, be.device(R))
    R = xp.moveaxis(R + xp.reshape(unit, (n + more, *(1,) * len(A.batch_shape), w)), 0, -2)
    first, rest = R[..., :l, :], R[..., l:, :]
    rest = xp.reshape(rest, (*A.batch_shape, count, m, w))
    return first, xp.moveaxis(_flat_to_rows(be, rest, 0, m + l + u), -3, 0)


def _flat_to_rows(be: Any, R: Array, shift: int, width: int) -> Array:
    """Rows of a band, (..., m, w), as a matrix (..., m, width): row r starts at column r - shift."""
    import numpy as np

    xp = be.xp
    *lead, m, w = R.shape
    column = np.arange(width)[None, :] - np.arange(m)[:, None] + shift
    inside = (column >= 0) & (column < w)
    index = np.where(inside, np.arange(m)[:, None] * w + column, m * w)
    flat = xp.concat([xp.reshape(R, (*lead, m * w)), _zeros(be, R, *lead, 1)], axis=-1)
    return xp.reshape(flat[..., be.asarray(index.ravel(), device=be.device(R))], (*lead, m, width))


def cholesky_logdet(be: Any, A: Any) -> Array:
    """The logarithm of the determinant of a positive definite band matrix, a panel of rows at a time. The
    lower half is read; where that is not definite, be.cholesky says so (NaN under a trace)."""
    import numpy as np

    xp = be.xp
    l = A.widths[0]  # noqa: E741
    m, n, batch = max(PANEL, l), A.shape[-1], A.batch_shape
    count = -(-n // m)
    R = xp.moveaxis(_rows(be, A, be.dtype(A.dtype), batch, count * m - n)[..., : l + 1], 0, -2)
    W = _flat_to_rows(be, xp.reshape(R, (*batch, count, m, l + 1)), 0, l + m)
    B, D = xp.moveaxis(W[..., :l], -3, 0), xp.moveaxis(W[..., l:], -3, 0)
    inside = be.asarray(
        (np.arange(count * m) >= n).reshape(count, *(1,) * len(batch), m), D.dtype, be.device(D)
    )
    D = D + be.adjoint(xp.tril(D, k=-1)) + be.matrix_diag(inside)

    def step(corner: Any, new: Any) -> Any:
        b, d = new
        if l:
            x = be.adjoint(be.solve_triangular(corner, be.adjoint(b)))
            d = d - be.matmul(x, be.adjoint(x))
        L = be.cholesky(d)
        return L[..., m - l :, m - l :], (xp.linalg.diagonal(L),)

    start = be.eye(l, D.dtype, be.device(D)) + _zeros(be, D, *batch, l, l)
    _, (d,) = scan(be, step, start, (B, D))
    d = xp.log(xp.real(d) if be.is_complex(d) else d)
    return 2 * xp.sum(xp.sum(d, axis=-1), axis=0)


def cholesky_bands(be: Any, A: Any) -> Array:
    """The lower Cholesky factor in lower band storage (*batch, l + 1, n)."""
    xp = be.xp
    l, u = A.widths  # noqa: E741
    batch = A.batch_shape
    R = _rows(be, A, be.dtype(A.dtype), batch, l + 1)[..., : l + 1]
    first = []
    for r in range(l + 1):
        tail = R[r][..., l - r :]
        first.append(xp.concat([tail, _zeros(be, tail, *batch, l - r)], axis=-1))

    def step(W: Any, new: Any) -> Any:
        d = xp.sqrt(W[..., 0, 0])
        column = W[..., :, 0] / d[..., None]
        below = column[..., 1:]
        W = W[..., 1:, :] - below[..., :, None] * be.conj(column)[..., None, :]
        return _shifted(be, W, new[0]), (column,)

    _, (L,) = scan(be, step, xp.stack(first, axis=-2), (R[l + 1 :],))
    return xp.moveaxis(L, 0, -1)
