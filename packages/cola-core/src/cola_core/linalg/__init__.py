"""What you can ask of an operator:
one file per question, with its public function and its structural rules."""

from __future__ import annotations

from typing import Any

from ..algorithms import (
    CG,
    GMRES,
    LU,
    SLQ,
    Algorithm,
    Auto,
    Cholesky,
    DenmanBeavers,
    Eig,
    Eigh,
    Exact,
    Hutch,
    Hutchinson,
    InverseScalingSquaring,
    Lanczos,
    NewtonSign,
    ScalingSquaring,
    SparseLU,
)
from .determinant import SLOGDET, logdet, slogdet
from .diagonal import DIAG, diag
from .eigen import EIG, EIGH, EIGSH, eig, eigh, eigmax, eigmin, eigvalsh
from .factorizations import CHOLESKY, cholesky
from .inverse import INV, Inverse, inv
from .matrix_function import APPLY_UNARY, apply_unary, cos, exp, funm, isqrt, log, pow, sign, sin, sqrt
from .quadratic import INV_QUAD_LOGDET, inv_quad, inv_quad_logdet, quad_form
from .sampling import ROOT, SAMPLE, root, sample
from .scalar_function import ScalarFunction
from .solve import SOLVE, solve
from .trace import TRACE, trace

__all__ = [
    "APPLY_UNARY",
    "CG",
    "CHOLESKY",
    "DIAG",
    "EIG",
    "EIGH",
    "EIGSH",
    "GMRES",
    "INV",
    "INV_QUAD_LOGDET",
    "LU",
    "ROOT",
    "SAMPLE",
    "SLOGDET",
    "SLQ",
    "SOLVE",
    "TRACE",
    "Algorithm",
    "Auto",
    "Cholesky",
    "DenmanBeavers",
    "Eig",
    "Eigh",
    "Exact",
    "Hutch",
    "Hutchinson",
    "Inverse",
    "InverseScalingSquaring",
    "Lanczos",
    "NewtonSign",
    "ScalarFunction",
    "ScalingSquaring",
    "SparseLU",
    "apply_unary",
    "cholesky",
    "cos",
    "diag",
    "eig",
    "eigh",
    "eigmax",
    "eigmin",
    "eigvalsh",
    "exp",
    "funm",
    "inv",
    "inv_quad",
    "inv_quad_logdet",
    "isqrt",
    "log",
    "logdet",
    "pow",
    "quad_form",
    "root",
    "sample",
    "sign",
    "sin",
    "slogdet",
    "solve",
    "sqrt",
    "trace",
]


def __getattr__(name: str) -> Any:
    from ..migration import REPLACED

    try:
        return REPLACED[name]
    except KeyError:
        raise AttributeError(f"module 'cola_core.linalg' has no attribute {name!r}") from None
