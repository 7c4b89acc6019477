"""Eigenvalues of small self-adjoint matrices without a look at any value: cyclic Jacobi rotations.

LAPACK-like routines of GPU libraries report failures, and the wrappers of PyTorch wait for that report. Here
a fixed number of sweeps is made; in each, every pair of rows is rotated once, in rounds of disjoint pairs (a
round robin: Brent & Luk, SIAM J. Sci. Stat. Comput. 6 (1985) 69). Convergence is quadratic in the end, so
the number of sweeps grows like the logarithm of the size; what is left beside the diagonal after them is
judged by residuals, as everything is.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from cola_core.backends import Backend

from . import graphs

__all__ = ["LAUNCHES", "jacobi_eigh", "kernel_serves", "small_eigh", "sweeps_for"]

Array = Any
LAUNCHES = 35  # array operations a round


def small_eigh(be: Backend, A: Array) -> tuple[Array, Array]:
    """``be.eigh`` where it does not make the host wait (CPU, JAX); Jacobi on PyTorch's other devices."""
    if be.name == "torch" and A.device.type != "cpu":
        return jacobi_eigh(be, A)
    return be.eigh(A)


@cache
def _rounds(p: int) -> np.ndarray:
    """(p - 1, 2, p / 2) pairs of 0 .. p - 1 for even p: every pair in exactly one round."""
    ring = list(range(p))
    out = []
    for _ in range(p - 1):
        out.append((ring[: p // 2], ring[p // 2 :][::-1]))
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return np.asarray(out)


def sweeps_for(p: int) -> int:
    """Enough for clusters of eigenvalues, with which rotations of disjoint pairs converge late: measured for
    9, 20, 40 and 60 rows are 8, 12, 14 and 16 sweeps; without clusters 8 do."""
    return 4 + 2 * math.ceil(math.log2(max(p, 2)))


def jacobi_eigh(be: Backend, A: Array, sweeps: int | None = None) -> tuple[Array, Array]:
    """Ascending eigenvalues (n,) and eigenvectors (n, n) of one self-adjoint matrix."""
    xp = be.xp
    n = A.shape[-1]
    device = None if be.name == "jax" else be.device(A)
    V = be.eye(n, A.dtype, device)
    real = be.real_dtype(A.dtype)
    if n < 2:
        w = xp.linalg.diagonal(A)
        return (xp.real(w) if be.is_complex(w) else w), V
    p = n + n % 2
    if p != n:  # a row of zeros, never mixed with the others: its rotations have angle zero
        pad = be.zeros((n, 1), A.dtype, device)
        A = xp.concat([xp.concat([A, pad], axis=1), be.zeros((1, p), A.dtype, device)], axis=0)
        V = be.eye(p, A.dtype, device)
    sweeps = sweeps_for(p) if sweeps is None else sweeps
    found = _in_one_launch(be, A, sweeps)
    if found is not None:
        A, turned = found
        V = V @ turned
        sweeps = 0
    rounds = _pairs(be, p, device)
    eye = be.eye(p, A.dtype, device)
    for _ in range(sweeps):
        for i, j in rounds:
            c, s, phase = _angles(be, A, i, j, real)
            # columns i and j of the rotation: c e_i - s conj(phase) e_j and s phase e_i + c e_j
            left, right = eye[:, i], eye[:, j]
            c, s = be.astype(c, A.dtype), be.astype(s, A.dtype)
            J = (c * left - s * be.conj(phase) * right) @ left.mT + (s * phase * left + c * right) @ right.mT
            A = be.adjoint(J) @ A @ J
            V = V @ J
    w = xp.linalg.diagonal(A)[:n]
    w = xp.real(w) if be.is_complex(w) else w
    V = V[:n, :n]
    order = xp.argsort(w)
    return w[order], V[:, order]


_KEPT: dict[tuple[int, str], list[tuple[Array, Array]]] = {}


def _pairs(be: Backend, p: int, device: Any) -> list[tuple[Array, Array]]:
    """``_rounds`` as index arrays; those of CUDA are kept, since a copy from the host waits."""
    key = p, str(device)
    if key in _KEPT:
        return _KEPT[key]
    made = [(be.asarray(i, device=device), be.asarray(j, device=device)) for i, j in _rounds(p)]
    if key[1].startswith("cuda"):
        _KEPT[key] = made
    return made


_BROKEN: list[str] = []


def _in_one_launch(be: Backend, A: Array, sweeps: int) -> tuple[Array, Array] | None:
    """The rotations by the Triton kernel, for real matrices on CUDA where Triton is installed; None where
    they are array operations. A kernel that fails is not tried again, and that is noted."""
    if _BROKEN or not kernel_serves(be, A):
        return None
    try:
        from .jacobi_kernel import rotated

        key = A.shape[-1], f"{A.device}, 32 bits"
        if key not in _KEPT:
            pairs = be.asarray(_rounds(A.shape[-1]).astype(np.int32), device=A.device)
            _KEPT[key] = [(pairs, pairs)]
        return rotated(A, _KEPT[key][0][0], sweeps)
    except Exception as error:  # noqa: BLE001 - a compiler may fail in any way, and there is another path
        _BROKEN.append(f"rotations by array operations ({type(error).__name__} in the Triton kernel)")
        graphs.note(_BROKEN[0])
        return None


def kernel_serves(be: Backend, A: Array) -> bool:
    """Whether the kernel is for this matrix."""
    if be.name != "torch" or A.device.type != "cuda" or A.shape[-1] > 64 or be.is_complex(A):
        return False
    return A.dtype.itemsize >= 4 and find_spec("triton") is not None


def _angles(be: Backend, A: Array, i: Array, j: Array, real: Any) -> tuple[Array, Array, Array]:
    """Cosine, sine and the phase of the entry that the rotation of each pair makes zero."""
    xp = be.xp
    d = xp.linalg.diagonal(A)
    d = xp.real(d) if be.is_complex(d) else d
    off = A[i, j]
    size = xp.abs(off)
    # beside the diagonal entries it is nothing: a rotation would change no digit of them
    some = size > float(xp.finfo(size.dtype).eps) ** 2 * (xp.abs(d[i]) + xp.abs(d[j]))
    safe = xp.where(some, size, xp.ones_like(size))
    phase = xp.where(some, off / be.astype(safe, off.dtype), xp.ones_like(off))
    # the smaller root of t^2 + 2 theta t - 1 (Golub & Van Loan 2013, sec. 8.5.2)
    theta = (d[j] - d[i]) / (2 * safe)
    sign = xp.where(theta >= 0, xp.ones_like(theta), -xp.ones_like(theta))
    t = sign / (xp.abs(theta) + xp.hypot(theta, xp.ones_like(theta)))
    t = xp.where(some, t, xp.zeros_like(t))
    c = 1 / xp.hypot(t, xp.ones_like(t))
    return c, t * c, phase
