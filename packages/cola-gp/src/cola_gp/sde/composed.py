"""White noise in time, and kernels made of others: scaled, of one of the inputs, sums and products (Solin &
Sarkka 2014).

The state of a sum holds those of its terms, that of a product their Kronecker product; white noise has none
and is carried beside it.
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array, backend_for
from ..kernels import ActiveDims, Product, Scale, Sum, White
from .filtering import Cotangent, Steps
from .forms import Form, NoForm, Pull, form_of, scalar
from .recursions import mm, transpose


class _White(Form):
    size = 0

    def __init__(self, kernel: White):
        self.kernel = kernel

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        n = t.shape[0]
        empty = be.zeros((0, 0, n), t.dtype, be.device(t))
        variance = be.xp.exp(scalar(self.kernel.log_variance, t))
        steps = Steps(empty, empty, empty[..., 0], be.zeros((0, 1), t.dtype, be.device(t)))
        shape = tuple(self.kernel.log_variance.shape)
        return (
            steps,
            variance + 0.0 * t,
            lambda bar, white: (be.xp.reshape(variance * be.xp.sum(white), shape),),
        )


@form_of.register
def _(kernel: White) -> Form:
    return _White(kernel)


class _Scaled(Form):
    """``v k``: the observed combination times the root of v."""

    def __init__(self, kernel: Scale):
        self.kernel, self.inner = kernel, form_of(kernel.kernel)
        self.size = self.inner.size

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        xp = backend_for(t).xp
        root = xp.exp(0.5 * scalar(self.kernel.log_variance, t))
        steps, white, back = self.inner.steps(t, dt)
        H, scaled = root * steps.H, root * root * white
        shape = tuple(self.kernel.log_variance.shape)

        def pull(bar: Cotangent, bar_white: Array) -> tuple[Array, ...]:
            own = 0.5 * xp.sum(bar.H * H) + xp.sum(bar_white * scaled)
            return (
                *back(bar._replace(H=root * bar.H), root * root * bar_white),
                xp.reshape(own, shape),
            )

        return steps._replace(H=H), scaled, pull


@form_of.register
def _(kernel: Scale) -> Form:
    return _Scaled(kernel)


class _Selected(Form):
    def __init__(self, kernel: ActiveDims):
        if kernel.dims != (0,):
            raise NoForm(f"ActiveDims selects dimensions {kernel.dims}, there is one: time")
        self.inner = form_of(kernel.kernel)
        self.size = self.inner.size

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        return self.inner.steps(t, dt)


@form_of.register
def _(kernel: ActiveDims) -> Form:
    return _Selected(kernel)


def _block_diagonal(be: Any, parts: list[Array]) -> Array:
    """Matrices ``(s_i, s_i, ...)`` along the diagonal."""
    xp = be.xp
    rows = []
    for i, M in enumerate(parts):
        more = M.shape[2:]
        row = [
            M if j == i else be.zeros((M.shape[0], other.shape[0], *more), M.dtype, be.device(M))
            for j, other in enumerate(parts)
        ]
        rows.append(xp.concat(row, axis=1))
    return xp.concat(rows, axis=0)


def _observed(be: Any, parts: list[Array], n: int) -> list[Array]:
    """Observed combinations of one length: constant ones are repeated if others move."""
    if all(H.shape[-1] == 1 for H in parts) or n == 1:
        return parts
    return [be.xp.broadcast_to(H, (H.shape[0], n)) if H.shape[-1] == 1 else H for H in parts]


class _Added(Form):
    def __init__(self, kernel: Sum):
        self.parts = [form_of(term) for term in kernel.terms]
        self.size = sum(part.size for part in self.parts)

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        made = [part.steps(t, dt) for part in self.parts]
        stated = [m[0] for m, part in zip(made, self.parts, strict=True) if part.size]
        white = made[0][1]
        for _, more, _ in made[1:]:
            white = white + more
        if not stated:
            empty = made[0][0]
            return empty, white, lambda bar, w: tuple(g for _, _, back in made for g in back(bar, w))
        steps = Steps(
            _block_diagonal(be, [x.A for x in stated]),
            _block_diagonal(be, [x.Q for x in stated]),
            _block_diagonal(be, [x.P for x in stated]),
            be.xp.concat(_observed(be, [x.H for x in stated], t.shape[0]), axis=0),
        )

        def pull(bar: Cotangent, bar_white: Array) -> tuple[Array, ...]:
            out: list[Array] = []
            start = 0
            for part, (_, _, back) in zip(self.parts, made, strict=True):
                cut = slice(start, start + part.size)
                start += part.size
                own = Cotangent(bar.A[cut, cut], bar.Q[cut, cut], bar.P[cut, cut], bar.H[cut])
                out.extend(back(own, bar_white))
            return tuple(out)

        return steps, white, pull


@form_of.register
def _(kernel: Sum) -> Form:
    return _Added(kernel)


def _kron(be: Any, A: Array, B: Array) -> Array:
    """Kronecker products of ``(a, b, ...)`` and ``(c, d, ...)``."""
    both = A[:, None, :, None] * B[None, :, None]
    shape = (A.shape[0] * B.shape[0], A.shape[1] * B.shape[1], *both.shape[4:])
    return be.xp.reshape(both, shape)


class _Multiplied(Form):
    """Two kernels: Kronecker products of transitions and observations.

    ``Q = Q_1 x P_2 + (A_1 P_1 A_1^T) x Q_2``: both terms are positive semidefinite, nothing is subtracted.
    """

    def __init__(self, left: Form, right: Form):
        self.left, self.right = left, right
        self.size = left.size * right.size

    def steps(self, t: Array, dt: Array) -> tuple[Steps, Array, Pull]:
        be = backend_for(t)
        xp = be.xp
        (x, u, back_x), (y, v, back_y) = self.left.steps(t, dt), self.right.steps(t, dt)
        a, b = self.left.size, self.right.size
        P = y.P[..., None]
        moved = mm(be, mm(be, x.A, x.P[..., None]), transpose(be, x.A))
        xH, yH = _observed(be, [x.H, y.H], t.shape[0])
        H = xp.reshape(xH[:, None] * yH[None], (a * b, max(xH.shape[-1], yH.shape[-1])))
        steps = Steps(_kron(be, x.A, y.A), _kron(be, x.Q, P) + _kron(be, moved, y.Q), _kron(be, x.P, y.P), H)
        # the diagonal of a product: (k_1 + u) (k_2 + v) where either has a white part
        k1 = xp.sum(x.H * mm(be, x.P, x.H), axis=0)
        k2 = xp.sum(y.H * mm(be, y.P, y.H), axis=0)
        white = u * k2 + v * k1 + u * v

        def pull(bar: Cotangent, w: Array) -> tuple[Array, ...]:
            def parts(M: Array) -> Array:
                return xp.reshape(M, (a, b, a, b, *M.shape[2:]))

            A, Q, PP = parts(bar.A), parts(bar.Q), parts(bar.P)
            Hbar = xp.reshape(bar.H, (a, b, *bar.H.shape[1:]))
            Qx = xp.sum(Q * P[None, :, None], axis=(1, 3))
            moved_bar = xp.sum(Q * y.Q[None, :, None], axis=(1, 3))
            Ax = xp.sum(A * y.A[None, :, None], axis=(1, 3))
            Ax = Ax + mm(be, moved_bar + transpose(be, moved_bar), mm(be, x.A, x.P[..., None]))
            Px = xp.sum(PP * y.P[None, :, None], axis=(1, 3))
            Px = Px + xp.sum(mm(be, transpose(be, x.A), mm(be, moved_bar, x.A)), axis=-1)
            Hx = xp.sum(Hbar * yH[None], axis=1) + 2.0 * (w * v) * mm(be, x.P, xH)
            Px = Px + xp.sum((w * v) * xH[:, None] * xH[None], axis=-1)
            Qy = xp.sum(Q * moved[:, None, :, None], axis=(0, 2))
            Ay = xp.sum(A * x.A[:, None, :, None], axis=(0, 2))
            Py = xp.sum(PP * x.P[:, None, :, None], axis=(0, 2))
            Py = Py + xp.sum(xp.sum(Q * x.Q[:, None, :, None], axis=(0, 2)), axis=-1)
            Hy = xp.sum(Hbar * xH[:, None], axis=0) + 2.0 * (w * u) * mm(be, y.P, yH)
            Py = Py + xp.sum((w * u) * yH[:, None] * yH[None], axis=-1)
            return (
                *back_x(Cotangent(Ax, Qx, Px, Hx), w * (k2 + v)),
                *back_y(Cotangent(Ay, Qy, Py, Hy), w * (k1 + u)),
            )

        return steps, white, pull


@form_of.register
def _(kernel: Product) -> Form:
    form = form_of(kernel.factors[0])
    for factor in kernel.factors[1:]:
        form = _Multiplied(form, form_of(factor))
    return form
