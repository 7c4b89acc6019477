"""Structured linear algebra: lazy operators, questions on them, rules by multiple dispatch,
algorithms by cost.

    import cola_core as cola

    A = cola.kron(K1, K2) + 0.1 * cola.ops.Identity(n)
    x = cola.solve(cola.PSD(A), b)
    print(cola.explain(cola.solve, A, b))

Importing this imports neither PyTorch nor JAX nor any plugin.
"""

from __future__ import annotations

__version__ = "0.1.0"

from typing import Any

from . import algorithms, annotations, backends, errors, fns, linalg, ops, properties
from .algorithms import (
    CG,
    GMRES,
    LQ,
    LSTSQ,
    LU,
    QR,
    SLQ,
    SVD,
    Algorithm,
    Arnoldi,
    Auto,
    Cholesky,
    DenseSVD,
    Eig,
    Eigh,
    Exact,
    Hutch,
    Hutchinson,
    Lanczos,
    PowerIteration,
    Schur,
    ShiftInvert,
    SparseLU,
)
from .annotations import get_annotations
from .dispatch import Plan, explain
from .errors import ConvergenceError, ConvergenceWarning
from .functions import I_like, densify, lazify
from .info import Info
from .linalg import (
    apply_unary,
    cholesky,
    cond,
    cos,
    det,
    diag,
    eig,
    eigh,
    eigmax,
    eigmin,
    eigvals,
    eigvalsh,
    exp,
    funm,
    hadamard,
    inv,
    inv_quad,
    inv_quad_logdet,
    isqrt,
    log,
    logdet,
    lq,
    lstsq,
    lu,
    norm,
    nullspace,
    orth,
    pinv,
    plu,
    pow,
    qr,
    quad_form,
    rank,
    root,
    sample,
    schur,
    sign,
    sin,
    slogdet,
    solve,
    sqrt,
    svd,
    svdvals,
    trace,
)
from .operators import LinearOperator, as_operator, block, block_diag, kron, kronsum, no_dispatch
from .properties import PSD, Hermitian, SelfAdjoint, Stiefel, Unitary, check_properties

__all__ = [
    "CG",
    "GMRES",
    "LQ",
    "LSTSQ",
    "LU",
    "PSD",
    "QR",
    "SLQ",
    "SVD",
    "Algorithm",
    "Arnoldi",
    "Auto",
    "Cholesky",
    "ConvergenceError",
    "ConvergenceWarning",
    "DenseSVD",
    "Eig",
    "Eigh",
    "Exact",
    "Hermitian",
    "Hutch",
    "Hutchinson",
    "I_like",
    "Info",
    "Lanczos",
    "LinearOperator",
    "Plan",
    "PowerIteration",
    "Schur",
    "SelfAdjoint",
    "ShiftInvert",
    "SparseLU",
    "Stiefel",
    "Unitary",
    "__version__",
    "algorithms",
    "annotations",
    "apply_unary",
    "as_operator",
    "backends",
    "block",
    "block_diag",
    "check_properties",
    "cholesky",
    "cond",
    "cos",
    "densify",
    "det",
    "diag",
    "eig",
    "eigh",
    "eigmax",
    "eigmin",
    "eigvals",
    "eigvalsh",
    "errors",
    "exp",
    "explain",
    "fns",
    "funm",
    "get_annotations",
    "hadamard",
    "inv",
    "inv_quad",
    "inv_quad_logdet",
    "isqrt",
    "kron",
    "kronsum",
    "lazify",
    "linalg",
    "log",
    "logdet",
    "lq",
    "lstsq",
    "lu",
    "no_dispatch",
    "norm",
    "nullspace",
    "ops",
    "orth",
    "pinv",
    "plu",
    "pow",
    "properties",
    "qr",
    "quad_form",
    "rank",
    "root",
    "sample",
    "schur",
    "sign",
    "sin",
    "slogdet",
    "solve",
    "sqrt",
    "svd",
    "svdvals",
    "trace",
]


def __getattr__(name: str) -> Any:
    from .migration import REPLACED

    try:
        return REPLACED[name]
    except KeyError:
        raise AttributeError(f"module 'cola_core' has no attribute {name!r}") from None
