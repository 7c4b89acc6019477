"""What you can ask of an operator:
one file per question, with its public function and its structural rules."""

from __future__ import annotations

from typing import Any

from ..algorithms import (
    CG,
    CGLS,
    FGMRES,
    GMRES,
    IDR,
    LQ,
    LSMR,
    LSQR,
    LSTSQ,
    LU,
    QR,
    SLQ,
    SVD,
    SVRG,
    Algorithm,
    AlternatingProjections,
    Arnoldi,
    Auto,
    BiCGStab,
    Cholesky,
    DenmanBeavers,
    DenseSVD,
    Eig,
    Eigh,
    Exact,
    ExpAction,
    Hutch,
    Hutchinson,
    InverseScalingSquaring,
    KrylovSchur,
    Lanczos,
    LanczosSVD,
    Levinson,
    NewtonSign,
    PowerIteration,
    ScalingSquaring,
    Schur,
    ShiftInvert,
    SparseLU,
    StochasticDualDescent,
    ToeplitzCG,
    circulant_preconditioner,
)
from .determinant import SLOGDET, det, logdet, slogdet
from .diagonal import DIAG, diag
from .eigen import EIG, EIGH, EIGS, EIGSH, EIGVALS, eig, eigh, eigmax, eigmin, eigvals, eigvalsh
from .elementwise import hadamard
from .exponential import ExponentialAction
from .factorizations import CHOLESKY, cholesky
from .generalized_eigen import GEIG, GEIGH, GEIGS, GEIGSH
from .inverse import INV, Inverse, inv
from .lstsq import LEAST_SQUARES, PINV, PseudoInverse, lstsq, pinv
from .matrix_function import (
    APPLY_UNARY,
    apply_unary,
    cos,
    exp,
    funm,
    isqrt,
    log,
    pow,
    sign,
    sin,
    sqrt,
)
from .norm import COND, NORM, RANK, cond, norm, rank
from .plu import PLU, lu, plu
from .prepare import Prepared, prepare
from .qr import LQ_FACTORS, QR_FACTORS, lq, qr
from .quadratic import INV_QUAD_LOGDET, inv_quad, inv_quad_logdet, quad_form
from .sampling import ROOT, SAMPLE, root, sample
from .scalar_function import ScalarFunction
from .schur import SCHUR, schur
from .solve import SOLVE, solve
from .subspaces import NULLSPACE, ORTH, nullspace, orth
from .svd import RIGHT_SINGULAR, SINGULAR, SINGULAR_VALUES, SOME_SINGULAR, svd, svdvals
from .sylvester import lyapunov, sylvester
from .trace import TRACE, trace

__all__ = [
    "AlternatingProjections",
    "SVRG",
    "StochasticDualDescent",
    "APPLY_UNARY",
    "CG",
    "CHOLESKY",
    "COND",
    "DIAG",
    "EIG",
    "EIGH",
    "EIGS",
    "EIGSH",
    "EIGVALS",
    "GEIG",
    "GEIGH",
    "GEIGS",
    "GEIGSH",
    "GMRES",
    "LSQR",
    "LSMR",
    "IDR",
    "FGMRES",
    "CGLS",
    "BiCGStab",
    "INV",
    "INV_QUAD_LOGDET",
    "LEAST_SQUARES",
    "LQ",
    "LQ_FACTORS",
    "LSTSQ",
    "LU",
    "NORM",
    "NULLSPACE",
    "ORTH",
    "PINV",
    "PLU",
    "QR",
    "QR_FACTORS",
    "RANK",
    "RIGHT_SINGULAR",
    "ROOT",
    "SAMPLE",
    "SCHUR",
    "SINGULAR",
    "SINGULAR_VALUES",
    "SLOGDET",
    "SLQ",
    "SOLVE",
    "SOME_SINGULAR",
    "SVD",
    "TRACE",
    "Algorithm",
    "Arnoldi",
    "Auto",
    "Cholesky",
    "DenmanBeavers",
    "DenseSVD",
    "Eig",
    "Eigh",
    "Exact",
    "ExpAction",
    "ExponentialAction",
    "Hutch",
    "Hutchinson",
    "Inverse",
    "InverseScalingSquaring",
    "KrylovSchur",
    "Lanczos",
    "LanczosSVD",
    "NewtonSign",
    "PowerIteration",
    "PseudoInverse",
    "Levinson",
    "ScalarFunction",
    "ScalingSquaring",
    "Schur",
    "ShiftInvert",
    "SparseLU",
    "ToeplitzCG",
    "apply_unary",
    "cholesky",
    "cond",
    "cos",
    "det",
    "circulant_preconditioner",
    "diag",
    "eig",
    "eigh",
    "eigmax",
    "eigmin",
    "eigvals",
    "eigvalsh",
    "exp",
    "funm",
    "hadamard",
    "inv",
    "inv_quad",
    "inv_quad_logdet",
    "isqrt",
    "log",
    "logdet",
    "lyapunov",
    "lq",
    "lstsq",
    "lu",
    "norm",
    "nullspace",
    "orth",
    "pinv",
    "Prepared",
    "prepare",
    "plu",
    "pow",
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
    "sylvester",
    "trace",
]


def __getattr__(name: str) -> Any:
    from ..migration import REPLACED

    try:
        return REPLACED[name]
    except KeyError:
        raise AttributeError(f"module 'cola_core.linalg' has no attribute {name!r}") from None
