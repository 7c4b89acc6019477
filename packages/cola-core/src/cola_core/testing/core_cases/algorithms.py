"""All algorithms of the core, each with the problem it is for."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ... import ops
from ...operators import no_dispatch
from ...properties import PSD
from .. import data
from ..capabilities import Capabilities, closed, only
from ..case import Case

__all__ = ["algorithm_cases"]


def algorithm_cases() -> list[Case]:
    """All algorithms of the core."""
    from ... import algorithms as a

    one_by_one = closed("operators one by one, not in batches")
    no_stack = closed("batches are stacks of dense matrices here; its own tests solve batches of columns")
    plain = only("float64", "complex128", reason="SuperLU is checked in double precision")
    opaque = {"algorithm.products": "a sum whose terms are hidden cannot be sampled"}
    traces = ("trace", "diag", "diag-above", "diag-below")
    return [
        _algorithm("cholesky", lambda: a.Cholesky(), ("solve", "slogdet", "cholesky"), "psd"),
        _algorithm("lu", lambda: a.LU(), ("solve", "slogdet", "lu"), "general"),
        _algorithm(
            "ldl",
            lambda: a.LDL(),
            ("solve", "slogdet"),
            "selfadjoint",
            capabilities=Capabilities(
                backends=only("numpy", "torch", reason="JAX has no LDL factorisation"), batch=one_by_one
            ),
        ),
        _algorithm(
            "iterative-refinement", lambda: a.IterativeRefinement(), ("solve",), "general", max_condition=1e4
        ),
        _algorithm("qr", lambda: a.QR(), ("qr", "solve"), "general"),
        _algorithm("lq", lambda: a.LQ(), ("lq", "solve"), "general"),
        _algorithm(
            "svd",
            lambda: a.SVD(),
            ("svd", "svds", "svdvals", "right-singular", "norm-2", "norm-nuc"),
            "general",
        ),
        _algorithm("schur", lambda: a.Schur(), ("schur-real", "schur-complex"), "general"),
        _algorithm("lstsq", lambda: a.LSTSQ(), ("lstsq",), "general", max_condition=1e4),
        _algorithm(
            "sparse-lu",
            lambda: a.SparseLU(),
            ("solve", "slogdet"),
            _sparse_problem,
            max_condition=1e4,
            capabilities=Capabilities(
                backends=only("numpy", reason="SuperLU works on NumPy arrays"), dtypes=plain, batch=one_by_one
            ),
        ),
        _algorithm(
            "levinson",
            lambda: a.Levinson(),
            ("solve", "slogdet"),
            _toeplitz_problem,
            max_condition=1e4,
            capabilities=Capabilities(batch=no_stack),
        ),
        _algorithm(
            "toeplitz-cg",
            lambda: a.ToeplitzCG(),
            ("solve",),
            _toeplitz_problem,
            max_condition=1e4,
            capabilities=Capabilities(batch=no_stack),
        ),
        _algorithm(
            "banded-lu",
            lambda: a.BandedLU(),
            ("solve", "slogdet"),
            _band_problem,
            max_condition=1e4,
            capabilities=Capabilities(batch=no_stack),
        ),
        _algorithm(
            "banded-cholesky",
            lambda: a.BandedCholesky(),
            ("solve", "slogdet", "cholesky"),
            partial(_band_problem, definite=True),
            max_condition=1e4,
            capabilities=Capabilities(batch=no_stack),
        ),
        _algorithm(
            "banded-eigh",
            lambda: a.BandedEigh(),
            ("eigh", "eigsh"),
            partial(_band_problem, definite=True),
            max_condition=1e4,
            capabilities=Capabilities(
                backends=only("numpy", reason="LAPACK works on NumPy arrays"), batch=one_by_one
            ),
        ),
        _algorithm("eigh", lambda: a.Eigh(), ("eigh", "eigsh", "exp", "cube"), "selfadjoint"),
        _algorithm("eigh-psd", lambda: a.Eigh(), ("sqrt", "log"), "psd", max_condition=1e4),
        _algorithm("eig", lambda: a.Eig(), ("eig",), "general", max_condition=1e2),
        _algorithm("cg", lambda: a.CG(), ("solve",), "psd", max_condition=1e4),
        _algorithm("block-cg", lambda: a.BlockCG(), ("solve",), "psd", max_condition=1e4),
        _algorithm(
            "deflated-cg",
            lambda: a.DeflatedCG(),
            ("solve",),
            "psd",
            max_condition=1e4,
            capabilities=Capabilities(batch=one_by_one),
        ),
        _algorithm("minres", lambda: a.MINRES(), ("solve",), "selfadjoint", max_condition=1e4),
        _algorithm("minres-qlp", lambda: a.MINRESQLP(), ("solve",), "selfadjoint", max_condition=1e4),
        _algorithm("gmres", lambda: a.GMRES(), ("solve",), "general", max_condition=1e4),
        _algorithm("fgmres", lambda: a.FGMRES(), ("solve",), "general", max_condition=1e4),
        _algorithm("bicgstab", lambda: a.BiCGStab(), ("solve",), _right_half_plane, max_condition=1e2),
        _algorithm("idr", lambda: a.IDR(), ("solve",), _right_half_plane, max_condition=1e2),
        _algorithm("lsmr", lambda: a.LSMR(), ("lstsq", "solve"), "general", max_condition=1e2),
        _algorithm("lsqr", lambda: a.LSQR(), ("lstsq", "solve"), "general", max_condition=1e2),
        _algorithm("cgls", lambda: a.CGLS(), ("lstsq", "solve"), "general", max_condition=1e2),
        _algorithm(
            "lanczos",
            lambda: a.Lanczos(),
            ("eigsh",),
            "selfadjoint",
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only(
                    "float64", "complex128", reason="restarts to 1e-10 are checked in double precision"
                ),
            ),
        ),
        _algorithm(
            "lanczos-svd",
            lambda: a.LanczosSVD(),
            ("svds", "norm-2"),
            "general",
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only(
                    "float64", "complex128", reason="restarts to 1e-10 are checked in double precision"
                ),
            ),
        ),
        _algorithm(
            "lanczos-function",
            lambda: a.Lanczos(),
            ("exp", "sqrt"),
            "psd",
            max_condition=1e4,
            accuracy=1e-8,
            capabilities=Capabilities(
                batch=one_by_one, starved=closed("answers lazily: its products report")
            ),
        ),
        _algorithm(
            "arnoldi-function",
            lambda: a.Arnoldi(),
            ("exp", "sqrt"),
            _right_half_plane,
            max_condition=1e4,
            accuracy=1e-8,
            capabilities=Capabilities(
                batch=one_by_one, starved=closed("answers lazily: its products report")
            ),
        ),
        _algorithm(
            "chebyshev",
            lambda: a.Chebyshev(),
            ("exp", "cube"),
            "selfadjoint",
            accuracy=1e-6,
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one, starved=closed("answers lazily: its products report")
            ),
        ),
        _algorithm(
            "contour-quadrature",
            lambda: a.ContourQuadrature(),
            ("sqrt", "log"),
            "psd",
            accuracy=1e-6,
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one, starved=closed("answers lazily: its products report")
            ),
        ),
        _algorithm("exact", lambda: a.Exact(bs=3), (*traces, "norm-fro", "norm-1", "norm-inf"), "general"),
        _algorithm(
            "exp-action",
            lambda: a.ExpAction(),
            ("exp",),
            "general",
            accuracy=1e-13,
            capabilities=Capabilities(starved=closed("answers lazily: its products report")),
        ),
        _algorithm(
            "arnoldi",
            lambda: a.Arnoldi(),
            ("eigs",),
            "general",
            max_condition=1e2,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-10 is checked in double precision"),
                jit=closed("the number of ARPACK's products depends on values"),
                starved=closed("ARPACK returns converged pairs only: fewer are an error"),
            ),
        ),
        _algorithm(
            "krylov-schur",
            lambda: a.KrylovSchur(),
            ("eigs",),
            "general",
            max_condition=1e2,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-10 is checked in double precision"),
            ),
        ),
        _algorithm(
            "lobpcg",
            lambda: a.LOBPCG(tol=1e-11),
            ("eigsh",),
            "selfadjoint",
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-11 is checked in double precision"),
            ),
        ),
        _algorithm(
            "davidson",
            lambda: a.Davidson(tol=1e-11),
            ("eigsh",),
            "selfadjoint",
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-11 is checked in double precision"),
            ),
        ),
        _algorithm(
            "randomized-svd",
            lambda: a.RandomizedSVD(tol=1e-10, max_iters=3000),
            ("svds",),
            "general",
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-10 is checked in double precision"),
            ),
        ),
        _algorithm(
            "block-krylov-svd",
            lambda: a.BlockKrylovSVD(tol=1e-10),
            ("svds",),
            "general",
            max_condition=1e4,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-10 is checked in double precision"),
            ),
        ),
        _algorithm(
            "shift-invert",
            lambda: a.ShiftInvert(),
            ("eigsh-smallest",),
            "selfadjoint",
            max_condition=1e2,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-10 is checked in double precision"),
                jit=closed("the number of products depends on values"),
            ),
        ),
        _algorithm(
            "power-iteration",
            lambda: a.PowerIteration(tol=1e-7, max_iter=100_000),
            ("eigsh-largest-one",),
            "psd",
            max_condition=1e2,
            accuracy=1e-6,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-7 is checked in double precision"),
            ),
        ),
        _algorithm(
            "hutchinson",
            lambda: a.Hutchinson(),
            ("trace", "diag"),
            "psd",
            max_condition=1e2,
        ),
        _algorithm(
            "hutchpp",
            lambda: a.HutchPP(bs=2, tol=0.1),
            ("trace",),
            "psd",
            max_condition=1e2,
            estimate=True,
        ),
        _algorithm(
            "xtrace", lambda: a.XTrace(samples=4, max_iters=4), ("trace",), "general", max_condition=1e2
        ),
        _algorithm(
            "xnystrace", lambda: a.XNysTrace(samples=6, max_iters=6), ("trace",), "psd", max_condition=1e2
        ),
        _algorithm(
            "xdiag", lambda: a.XDiag(samples=4, max_iters=4), (*traces[1:],), "general", max_condition=1e2
        ),
        _algorithm(
            "probing",
            lambda: a.Probing(distance=1, tol=0.5),
            ("trace", "diag"),
            _inverse_of_a_band,
            max_condition=1e2,
            starve={"max_iters": 1, "tol": 1e-8},
            capabilities=Capabilities(batch=no_stack),
        ),
        _algorithm(
            "slq",
            lambda: a.SLQ(),
            ("slogdet",),
            "psd",
            max_condition=1e2,
            starve={"samples": 2, "max_samples": 2, "tol": 1e-8},
            capabilities=Capabilities(batch=one_by_one),
            estimate=True,
        ),
        _algorithm("scaling-squaring", lambda: a.ScalingSquaring(), ("exp", "sin", "cos"), "general"),
        _algorithm(
            "denman-beavers",
            lambda: a.DenmanBeavers(),
            ("sqrt", "isqrt"),
            _right_half_plane,
            max_condition=1e4,
        ),
        _algorithm(
            "inverse-scaling-squaring",
            lambda: a.InverseScalingSquaring(),
            ("log", "pow"),
            _right_half_plane,
            max_condition=1e4,
        ),
        _algorithm("newton-sign", lambda: a.NewtonSign(), ("sign",), _right_half_plane, max_condition=1e4),
        _algorithm(
            "svrg",
            lambda: a.SVRG(max_iters=20_000),
            ("solve",),
            _many_terms,
            max_condition=1e1,
            starve={"max_iters": 1, "tol": 1e-10},
            capabilities=Capabilities(batch=one_by_one),
            expected_failures=opaque,
        ),
        _algorithm(
            "svrg-eigen",
            lambda: a.SVRG(tol=1e-9),
            ("eigsh-largest-one",),
            _many_terms,
            max_condition=1e1,
            accuracy=1e-8,
            capabilities=Capabilities(
                batch=one_by_one,
                dtypes=only("float64", "complex128", reason="1e-9 is checked in double precision"),
            ),
            expected_failures=opaque,
        ),
        _algorithm(
            "stochastic-dual-descent",
            lambda: a.StochasticDualDescent(max_iters=20_000, batch=4),
            ("solve",),
            "psd",
            max_condition=1e1,
            capabilities=Capabilities(batch=one_by_one),
            expected_failures={"algorithm.products": "where only products are known, a row takes one"},
        ),
        _algorithm(
            "alternating-projections",
            lambda: a.AlternatingProjections(max_iters=20_000, block=4),
            ("solve",),
            "psd",
            max_condition=1e2,
            capabilities=Capabilities(batch=one_by_one),
        ),
    ]


def _algorithm(name: str, make: Any, questions: tuple[str, ...], problem: Any, **more: Any) -> Case:
    return Case(
        f"algorithm-{name}",
        kind="algorithm",
        factory=lambda backend, dtype, seed: make(),
        questions=questions,
        problem=problem,
        **more,
    )


def _many_terms(backend: Any, dtype: str, seed: int, n: int, cond: float) -> tuple[Any, Any]:
    """A positive definite matrix, as the sum of four that share out its eigenvalues."""
    M = data.psd(seed, n, dtype, min(cond, 1e3))
    w, V = np.linalg.eigh(M)
    w[:1] *= cond < np.inf
    M = (V * w) @ V.conj().T
    parts = [(V[:, i::4] * w[i::4]) @ V[:, i::4].conj().T for i in range(4)]
    terms = [PSD(ops.Dense(backend.asarray(P.astype(dtype)))) for P in parts]
    return PSD(ops.Sum(*terms)), M.astype(dtype)


def _right_half_plane(backend: Any, dtype: str, seed: int, n: int, cond: float) -> tuple[Any, Any]:
    """Not normal, eigenvalues in the right half-plane: a positive definite part and a skew one."""
    skew = data.normal(seed + 3, (n, n), dtype)
    M = data.psd(seed, n, dtype, cond) + 0.2 * (skew - skew.conj().T)
    return no_dispatch(ops.Dense(backend.asarray(M.astype(dtype)))), M.astype(dtype)


def _toeplitz_problem(backend: Any, dtype: str, seed: int, n: int, cond: float) -> tuple[Any, Any]:
    """A self-adjoint Toeplitz matrix of about this condition number: ``(-rho)^|i - j|``, rotated where
    complex."""
    from scipy.linalg import toeplitz

    rho = 1 - 2 / (cond**0.5 + 1)
    column = (-rho) ** np.arange(n)
    if "complex" in dtype:
        column = column * np.exp(0.3j * np.arange(n))
    column = column.astype(dtype)
    return PSD(ops.Toeplitz(backend.asarray(column))), toeplitz(column)


def _band_problem(
    backend: Any, dtype: str, seed: int, n: int, cond: float, definite: bool = False
) -> tuple[Any, Any]:
    """Four on the diagonal, two nearby ones beside it, and a last row on its own of size 4/cond."""
    diagonals = {k: np.full(max(n - abs(k), 0), 4.0 if k == 0 else -0.5) for k in range(-2, 3)}
    M: Any = sum(np.diag(d, k) for k, d in diagonals.items() if abs(k) < max(n, 1))
    M[-1:, :], M[:, -1:] = 0, 0
    M[-1:, -1:] = 4 / cond
    M = np.asarray(M, dtype)
    bands = np.zeros((5, n), dtype)
    for k in range(-2, 3):
        if abs(k) < n:
            bands[2 - k, max(k, 0) : n + min(k, 0)] = np.diag(M, k)
    A = ops.Banded(backend.asarray(bands), (2, 2))
    return (PSD(A) if definite else A), M


def _inverse_of_a_band(backend: Any, dtype: str, seed: int, n: int, cond: float) -> tuple[Any, Any]:
    """The inverse of a tridiagonal matrix, whose entries decay with the distance from the diagonal."""
    from ...linalg.inverse import Inverse

    M = np.diag(np.linspace(3.0, 4.0, n)) - np.diag(np.ones(max(n - 1, 0)), 1) * 0.5
    M = (M - np.diag(np.full(max(n - 1, 0), 0.7), -1)).astype(dtype)
    diagonals = [np.diagonal(M, k).copy() for k in (-1, 0, 1)]
    T = ops.Tridiagonal(*(backend.asarray(d) for d in diagonals))
    return no_dispatch(Inverse(no_dispatch(T))), np.linalg.inv(
        M.astype(np.result_type(M, np.float64))
    ).astype(dtype)


def _sparse_problem(backend: Any, dtype: str, seed: int, n: int, cond: float) -> tuple[Any, Any]:
    """A tridiagonal matrix whose last pivot is about 1/cond."""
    M = (
        np.diag(np.full(n, 4.0))
        + np.diag(np.full(max(n - 1, 0), -1.0), 1)
        + np.diag(np.full(max(n - 1, 0), -1.0), -1)
    )
    M[-1, :], M[:, -1] = 0, 0
    M[-1, -1] = 4 / cond
    M = M.astype(dtype)
    rows, cols = np.nonzero(np.abs(M) > 0) if n > 1 else (np.array([0]), np.array([0]))
    return ops.Sparse(backend.asarray(M[rows, cols]), rows, cols, (n, n)), M
