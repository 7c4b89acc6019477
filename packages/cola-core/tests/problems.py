"""Matrices with known answers for tests of algorithms: prescribed spectra, and real problems from pyamg.

All are NumPy or SciPy; ``tests/zoo`` has operators of every class instead. Spectra are scaled to [.., 1].
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

SPECTRA = {
    # name: eigenvalues of an (n, n) positive definite matrix, descending
    "decaying": lambda n, cond: cond ** -np.linspace(0, 1, n),
    "polynomial": lambda n, cond: np.maximum(np.arange(1, n + 1.0) ** -2.0, 1 / cond),
    "clustered": lambda n, cond: np.sort(
        np.concatenate([np.full(n - n // 2, 1.0), np.full(n // 2, 1 / cond)])
        * (1 + 1e-6 * np.cos(np.arange(n)))
    )[::-1],
    "step": lambda n, cond: np.where(np.arange(n) < max(n // 10, 1), 1.0, 1 / cond),
    "flat": lambda n, cond: np.linspace(1, 0.5, n),
}


def spectrum(name, n, cond=1e4):
    """Eigenvalues of ``SPECTRA[name]``, descending."""
    return np.asarray(SPECTRA[name](n, float(cond)), dtype=float)


def with_spectrum(values, seed=0, complex_=False):
    """A self-adjoint dense matrix with the given eigenvalues and random eigenvectors."""
    values = np.asarray(values)
    Q = orthogonal(len(values), seed, complex_)
    M = (Q * values) @ Q.conj().T
    return (M + M.conj().T) / 2


def with_singular_values(values, m, n, seed=0, complex_=False):
    """An (m, n) dense matrix with the given min(m, n) singular values."""
    values = np.asarray(values)
    U, V = orthogonal(m, seed, complex_), orthogonal(n, seed + 1, complex_)
    k = min(m, n)
    return (U[:, :k] * values) @ V[:, :k].conj().T


def orthogonal(n, seed=0, complex_=False):
    """A Haar distributed orthogonal (unitary) matrix."""
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((n, n))
    if complex_:
        Z = Z + 1j * rng.standard_normal((n, n))
    Q, R = np.linalg.qr(Z)
    d = np.diagonal(R)
    return Q * (d / np.where(np.abs(d) > 0, np.abs(d), 1))


def indefinite(n, cond=1e3, negative=0.3):
    """Eigenvalues of both signs, |.| in [1/cond, 1]."""
    values = spectrum("decaying", n, cond)
    values[:: max(int(1 / negative), 1)] *= -1
    return np.sort(values)[::-1]


def poisson(*shape):
    """The Laplacian of a grid with the five-point (2-D) stencil, CSR, positive definite, scale 2 per axis."""
    total = None
    for i, n in enumerate(shape):
        T = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
        left, right = int(np.prod(shape[:i])), int(np.prod(shape[i + 1 :]))
        term = sp.kron(sp.kron(sp.eye_array(left), T), sp.eye_array(right))
        total = term if total is None else total + term
    return sp.csr_array(total)


def poisson_eigenvalues(*shape):
    """The eigenvalues of ``poisson(*shape)``, ascending; multiple ones where sides are equal."""
    total = np.zeros(1)
    for n in shape:
        total = np.add.outer(total, 2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))).ravel()
    return np.sort(total)


def grcar(n, k=3):
    """Grcar's Toeplitz matrix: -1 below, 1 on and k above the diagonal; non-normal, sensitive eigenvalues."""
    M = np.eye(n) - np.eye(n, k=-1)
    for j in range(1, k + 1):
        M += np.eye(n, k=j)
    return M


def convection_diffusion(m, peclet=20.0):
    """Upwind-free central differences of ``-u'' + peclet u_x`` on an m x m grid, CSR, non-symmetric."""
    h = 1 / (m + 1)
    D = sp.diags_array([-1.0, 1.0], offsets=[-1, 1], shape=(m, m)) * (peclet * h / 2)
    return sp.csr_array(poisson(m, m) + sp.kron(sp.eye_array(m), D))


def jordan(n, value=0.5):
    """One Jordan block, defective."""
    return value * np.eye(n) + np.eye(n, k=1)


def pyamg_example(name):
    """A matrix that ships with pyamg ("airfoil", "bar", "unit_square", "knot"), CSR; skips without it."""
    import pytest

    data = pytest.importorskip("pyamg.gallery")
    return sp.csr_array(data.load_example(name)["A"])
