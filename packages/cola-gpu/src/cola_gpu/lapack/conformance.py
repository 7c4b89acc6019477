"""The family's values for `cola_core.testing`: adjoints against differences, and what makes it particular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.testing import Capabilities, Case, closed, data

__all__ = ["lapack_case"]


def lapack_case() -> Case:
    """The family on every library, in double precision."""
    return Case(
        name="lapack",
        kind="domain",
        module="cola_gpu.lapack",
        values={
            "lq-is-transposed-qr": _lq,
            "lq-adjoint": _adjoint("gelqf"),
            "cholesky-adjoint": _adjoint("potrf"),
            "eigen-adjoint": _adjoint("syevd"),
            "projector-through-a-tie": _tie,
            "inverse-of-cholesky-adjoint": _pairs("potri", 1),
            "triangular-solve-adjoint": _pairs("trsm", 2),
            "triangular-product-adjoint": _pairs("trmm", 2),
            "product-adjoint": _pairs("gemm", 3, transpose_a=True, alpha=0.5, beta=2.0),
            "symmetric-product-adjoint": _pairs("syrk", 1),
            "inverse-adjoint": _pairs("inverse", 1),
            "log-determinant-adjoint": _log_determinant,
            "cofactors-of-a-singular-matrix": _cofactors,
            "triangle-there-and-back": _triangle,
            "lq-in-its-own-memory": _overwritten,
        },
        capabilities=Capabilities(complex=closed("the family is real, as in its source")),
    )


def _lq(backend: Any) -> tuple[Any, Any]:
    from cola_gpu.lapack import gelqf

    A = data.normal(0, (3, 4, 7))
    R = np.linalg.qr(np.swapaxes(A, -1, -2))[1]
    R = R * np.sign(np.diagonal(R, axis1=-2, axis2=-1))[..., :, None]
    return gelqf(backend.asarray(A)).L, np.swapaxes(R, -1, -2)


def _adjoint(name: str) -> Callable[[Any], tuple[Any, Any, float]]:
    def value(backend: Any) -> tuple[Any, Any, float]:
        from cola_gpu import lapack

        forward, backward = getattr(lapack, name), getattr(lapack, f"{name}_backward")
        A = data.normal(1, (3, 5)) if name == "gelqf" else data.psd(1, 4)
        direction = data.normal(2, A.shape)
        direction = direction if name == "gelqf" else direction + direction.T

        def outputs(M: np.ndarray) -> tuple[np.ndarray, ...]:
            out = forward(M)
            return tuple(out) if isinstance(out, tuple) else (out,)

        bars = [data.normal(3 + i, x.shape) for i, x in enumerate(outputs(A))]
        step = 1e-6
        pairs = zip(outputs(A + step * direction), outputs(A - step * direction), bars, strict=True)
        slope = sum(float(((up - down) * bar).sum()) for up, down, bar in pairs) / (2 * step)
        arguments = [backend.asarray(x) for x in (*outputs(A), *bars)]
        Abar = backward(*arguments)
        return backend.xp.sum(Abar * backend.asarray(direction)), np.asarray(slope), 1e-6

    return value


def _tie(backend: Any) -> tuple[Any, Any]:
    from cola_gpu.lapack import syevd, syevd_backward

    # P projects onto the eigenvectors of the double eigenvalue 1 of diag(1, 1, 3); dP in the direction D has
    # D_13 / (1 - 3) and D_23 / (1 - 3) between the third coordinate and the others, and zeros elsewhere
    A, C = np.diag([1.0, 1.0, 3.0]), np.arange(9.0).reshape(3, 3)
    U, lam = syevd(backend.asarray(A))
    bottom = backend.asarray(np.diag([1.0, 1.0, 0.0]))
    C = C + C.T
    Ubar = 2 * backend.xp.matmul(bottom, backend.xp.matmul(U, backend.asarray(C)))
    Abar = syevd_backward(U, lam, Ubar, backend.xp.zeros_like(lam))
    expected = np.zeros((3, 3))
    expected[:2, 2] = expected[2, :2] = C[:2, 2] / (1.0 - 3.0)
    return Abar, expected


def _pairs(name: str, count: int, **options: Any) -> Callable[[Any], tuple[Any, Any, float]]:
    """The adjoint of a function of `count` matrices (the first triangular) against differences in NumPy."""

    def value(backend: Any) -> tuple[Any, Any, float]:
        from cola_gpu import lapack

        forward, backward = getattr(lapack, name), getattr(lapack, f"{name}_backward")
        xs = [np.tril(data.psd(1, 4)), *(data.normal(2 + i, (3, 4, 4)) for i in range(count - 1))]
        ds = [data.normal(7 + i, x.shape) for i, x in enumerate(xs)]
        out, step = forward(*xs, **options), 1e-6
        bar = data.normal(11, out.shape)
        up, down = (
            forward(*(x + s * d for x, d in zip(xs, ds, strict=True)), **options) for s in (step, -step)
        )
        slope = ((up - down) * bar).sum() / (2 * step)
        before = {"potri": [*xs, out], "trsm": [xs[0], out], "inverse": [out]}.get(name, xs)
        found = backward(*(backend.asarray(x) for x in (*before, bar)), **options)
        found = found if isinstance(found, tuple) else (found,)
        total = sum(backend.xp.sum(g * backend.asarray(d)) for g, d in zip(found, ds, strict=True))
        return total, np.asarray(slope), 1e-6

    return value


def _log_determinant(backend: Any) -> tuple[Any, Any]:
    from cola_gpu.lapack import slogdet_backward

    A = data.psd(1, 4)
    return slogdet_backward(backend.asarray(A), backend.asarray(np.array(2.0))), 2 * np.linalg.inv(A)


def _cofactors(backend: Any) -> tuple[Any, Any]:
    from cola_gpu.lapack import det_backward

    A = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])  # of rank two
    expected = np.array([[4.0, 4.0, -4.0], [-2.0, -2.0, 2.0], [0.0, 0.0, 0.0]])
    return det_backward(backend.asarray(A), backend.asarray(np.array(1.0))), expected


def _triangle(backend: Any) -> tuple[Any, Any]:
    from cola_gpu.lapack import extracttrian, maketrian

    A = data.normal(1, (2, 5, 5))
    return maketrian(extracttrian(backend.asarray(A), offset=-1), offset=-1), np.tril(A, -1)


def _overwritten(backend: Any) -> tuple[Any, Any]:
    from cola_gpu.lapack import gelqf

    A = data.normal(1, (2, 3, 6))
    Q, L = gelqf(backend.asarray(A.copy()), overwrite=backend.name != "jax")
    return backend.matmul(L, Q), A
