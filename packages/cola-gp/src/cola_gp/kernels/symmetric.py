r"""``k(X)`` in blocks of rows: every pair of points is evaluated once, and what is between stays in cache.

``k(X)`` is made of the symmetric ``k(X_I)`` on its diagonal and of ``k(X_I, X_J)`` to the left of it; what is
to the right are mirror images. The contract is that of :meth:`Kernel.evaluate`, for symmetric weights: the
pullback evaluates the blocks again, so that no intermediate of the size of the matrix is kept between them.

JAX arrays, and tensors that are differentiated, take the kernel's own ``evaluate``.
"""

from __future__ import annotations

from typing import Any

from cola_core.backends import backend_of

from .._struct import leaves
from ..arrays import backend_for
from .base import Array, Kernel, Pullback, points
from .distances import overwritable

BLOCK_ENTRIES = 2**18  # 2 MiB in double precision, the size of a core's second-level cache
LEAST = 512  # points of which the whole matrix is no larger than a block


def _own(kernel: Kernel, backend: Any) -> list[Array]:
    return [leaf for leaf in leaves(kernel) if backend_of(leaf) is backend]


def symmetric(kernel: Kernel, X: Array) -> tuple[Array, Pullback]:
    """``k(X)``, ``X (n, d)``, and the map of a *symmetric* W to the derivatives of ``sum(W * k(X))``.

    Cost: half of the evaluations of ``kernel.evaluate(X)``, once here and once in the pullback.
    """
    points(X)
    backend = backend_for(X)
    n = X.shape[0]
    if n <= LEAST or not overwritable(X, *_own(kernel, backend)):
        return kernel.evaluate(X)
    size = max(16, BLOCK_ENTRIES // n)
    starts = range(0, n, size)
    K = backend.zeros((n, n), X.dtype, backend.device(X))
    for i in starts:
        rows = slice(i, min(i + size, n))
        K[rows, rows] = kernel(X[rows])
        if i:
            block = kernel(X[rows], X[:i])
            K[rows, :i] = block
            K[:i, rows] = block.T

    def pull(W: Array) -> tuple[Array, ...]:
        total: tuple[Array, ...] = ()
        for i in starts:
            rows = slice(i, min(i + size, n))
            parts = [kernel.evaluate(X[rows])[1](W[rows, rows])]
            if i:
                _, back = kernel.evaluate(X[rows], X[:i])
                parts.append(back(2.0 * W[rows, :i]))
            for part in parts:
                total = part if not total else tuple(a + b for a, b in zip(total, part, strict=True))
        return total

    return K, pull
