"""Connected reductive groups: the invariants are the kernel of the Casimir operator, reached by a polynomial.

With a Frobenius-orthonormal Lie basis A_i closed under A -> A^H, C = sum_i drho(A_i)^H drho(A_i) is the
quadratic Casimir of the compact form. It is zero exactly on the invariants and has few distinct eigenvalues
(SO(3) on T(k): k+1), which a Lanczos run of as many steps finds. The product of (1 - C/lambda) over the
nonzero ones is then the projector.

C is the sum over pairs of axes of one fixed d^2 x d^2 matrix that does not depend on how the generators were
chosen; it is sparse, so C is stored sparse, with about k^2 entries in each row. (Humphreys section 6.2;
Lanczos breakdown as the sign of completeness: Saad, Numerical Methods for Large Eigenvalue Problems, section
6.3.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .tensor import orthonormal

MAX_STEPS = 150
BREAKDOWN = 1e-9


def casimir_matrix(lie: np.ndarray, word: tuple[bool, ...]) -> Any:
    """C as a scipy.sparse CSR array (N, N). lie: orthonormal (m, d, d); word: which letters are dual."""
    from scipy.sparse import coo_array

    d, k = lie.shape[1], len(word)
    n = d**k
    forms = {False: lie, True: -lie.transpose(0, 2, 1)}
    drop = 1e-14 * max(1.0, float(np.sqrt(len(lie))))
    rows, cols, data = [], [], []

    def add(axes: tuple[int, ...], block: np.ndarray) -> None:
        """Scatter a matrix acting on these axes, identity on the rest."""
        others = [a for a in range(k) if a not in axes]
        strides = [d ** (k - 1 - a) for a in range(k)]
        base = np.zeros(1, np.int64)
        for a in others:
            base = (base[:, None] + strides[a] * np.arange(d)).reshape(-1)
        inner = np.zeros(1, np.int64)
        for a in axes:
            inner = (inner[:, None] + strides[a] * np.arange(d)).reshape(-1)
        i, j = np.nonzero(np.abs(block) > drop)
        rows.append((base[:, None] + inner[i]).reshape(-1))
        cols.append((base[:, None] + inner[j]).reshape(-1))
        data.append(np.tile(block[i, j], len(base)))

    def pair(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """sum_i x_i^H (x) y_i + x_i (x) y_i^H as a (d^2, d^2) matrix."""
        one = np.tensordot(x.conj(), y, (0, 0)).transpose(1, 2, 0, 3)
        two = np.tensordot(x, y.conj(), (0, 0)).transpose(0, 3, 1, 2)
        return (one + two).reshape(d * d, d * d)

    for a in range(k):
        x = forms[word[a]]
        add((a,), np.tensordot(x.conj(), x, ((0, 1), (0, 1))))
        for b in range(a + 1, k):
            add((a, b), pair(x, forms[word[b]]))
    entries = (np.concatenate(data), (np.concatenate(rows), np.concatenate(cols)))
    return coo_array(entries, shape=(n, n)).tocsr()


def distinct_eigenvalues(c: Any, rng: np.random.Generator) -> np.ndarray | None:
    """All distinct eigenvalues of a Hermitian C, ascending, by Lanczos until breakdown; None if there are too
    many.
    """
    n = c.shape[0]
    v = rng.standard_normal(n).astype(c.dtype)
    basis = [v / np.linalg.norm(v)]
    alpha: list[float] = []
    beta: list[float] = []
    scale = 0.0
    for _ in range(min(n, MAX_STEPS)):
        w = c @ basis[-1]
        alpha.append(float(np.vdot(basis[-1], w).real))
        scale = max(scale, float(np.linalg.norm(w)))
        q = np.stack(basis, axis=1)
        for _ in range(2):
            w = w - q @ (q.conj().T @ w)
        b = float(np.linalg.norm(w))
        if b <= BREAKDOWN * scale or len(alpha) == n:
            return np.linalg.eigvalsh(np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1))
        beta.append(b)
        basis.append(w / b)
    return None


def _stable_order(roots: np.ndarray) -> np.ndarray:
    """The order in which partial products of |1 - x/root| stay smallest on the spectrum: no growth to cancel
    later.
    """
    left, order = list(roots), []
    value = np.ones(len(roots))
    while left:
        peaks = [np.max(value * np.abs(1 - roots / r)) for r in left]
        r = left.pop(int(np.argmin(peaks)))
        value = value * np.abs(1 - roots / r)
        order.append(r)
    return np.array(order)


def casimir_invariants(lie: np.ndarray, word: tuple[bool, ...], expected: int | None) -> np.ndarray | str:
    """Orthonormal basis (N, r) of the kernel of C, or the reason why this method does not apply.

    expected: the exact dimension if known; it only sizes the first random block and is never trusted.
    """
    c = casimir_matrix(lie, word)
    n = c.shape[0]
    if c.nnz == 0:
        return np.eye(n, dtype=c.dtype)
    rng = np.random.default_rng(0)
    spectrum = distinct_eigenvalues(c, rng)
    if spectrum is None:
        return f"the Casimir operator has more than {MAX_STEPS} distinct eigenvalues"
    largest = float(spectrum[-1])
    zero = np.abs(spectrum) <= 1e-7 * largest
    if not zero.any():
        return np.zeros((n, 0), c.dtype)
    roots = _stable_order(spectrum[~zero])

    def project(y: np.ndarray) -> np.ndarray:
        for r in roots:
            y = y - (c @ y) / r
        return y

    width = min(n, (16 if expected is None else expected) + 8)
    while True:
        # Rank: directions that survive the polynomial have size about 1, the others about 1e-10.
        q = orthonormal(project(rng.standard_normal((n, width)).astype(c.dtype)), 1e-5)
        if q.shape[1] < width or width == n:
            break
        width = min(n, 2 * width)
    for _ in range(3):
        if not q.shape[1] or np.abs(c @ q).max() <= 1e-13 * largest:
            break
        q = orthonormal(project(q), 1e-5)
    return q
