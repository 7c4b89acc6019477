"""How numbers get computed: one file per algorithm,
a frozen dataclass of settings and one method per question."""

from __future__ import annotations

from ..operators.sparse_rows import loop_form
from .alternating_projections import AlternatingProjections
from .arnoldi import Arnoldi
from .banded import BandedCholesky, BandedEigh, BandedLU
from .base import Algorithm, Auto, Iterative, default_tol
from .bicgstab import BiCGStab
from .block_cg import BlockCG
from .block_krylov_svd import BlockKrylovSVD
from .cg import CG
from .cgls import CGLS
from .chebyshev import Chebyshev
from .cholesky import Cholesky
from .contour import ContourQuadrature
from .davidson import Davidson
from .deflated_cg import DeflatedCG, Recycle
from .dense_exp import ScalingSquaring
from .derivative_solve import solved as differentiable_solve
from .eigh import Eig, Eigh
from .exact import Exact
from .exp_action import ExpAction
from .fgmres import FGMRES
from .gmres import GMRES
from .hutchinson import Hutchinson
from .hutchpp import HutchPP
from .idr import IDR
from .krylov import Tridiagonal
from .krylov import lanczos as lanczos_tridiagonal
from .krylov_schur import KrylovSchur
from .krylov_solver import KrylovSolver
from .lanczos import Lanczos
from .lanczos_svd import LanczosSVD
from .ldl import LDL
from .levinson import Levinson
from .lobpcg import LOBPCG
from .lsmr import LSMR
from .lsqr import LSQR
from .lstsq import LSTSQ
from .lu import LU
from .matrix_log import InverseScalingSquaring
from .matrix_root import DenmanBeavers
from .matrix_sign import NewtonSign
from .minres import MINRES
from .minres_qlp import MINRESQLP
from .power import PowerIteration
from .probing import Probing
from .qr import LQ, QR
from .randomized_svd import RandomizedSVD
from .refinement import IterativeRefinement
from .schur import Schur
from .shift_invert import ShiftInvert
from .slq import SLQ
from .sparse_lu import SparseLU
from .stochastic_dual_descent import StochasticDualDescent
from .svd import SVD
from .svrg import SVRG
from .toeplitz_cg import ToeplitzCG, circulant_preconditioner
from .xdiag import XDiag
from .xnystrace import XNysTrace
from .xtrace import XTrace

Hutch = Hutchinson  # the name of the CoLA package
DenseSVD = SVD  # likewise

__all__ = [
    "AlternatingProjections",
    "SVRG",
    "StochasticDualDescent",
    "CG",
    "GMRES",
    "LSQR",
    "LSMR",
    "IDR",
    "FGMRES",
    "CGLS",
    "BiCGStab",
    "LDL",
    "LQ",
    "LOBPCG",
    "LSTSQ",
    "LU",
    "QR",
    "SLQ",
    "SVD",
    "Algorithm",
    "BlockCG",
    "DeflatedCG",
    "Recycle",
    "MINRES",
    "MINRESQLP",
    "Arnoldi",
    "Auto",
    "BandedCholesky",
    "BandedEigh",
    "BandedLU",
    "Chebyshev",
    "Cholesky",
    "ContourQuadrature",
    "DenmanBeavers",
    "DenseSVD",
    "Eig",
    "Eigh",
    "Exact",
    "ExpAction",
    "Hutch",
    "HutchPP",
    "Hutchinson",
    "InverseScalingSquaring",
    "Iterative",
    "IterativeRefinement",
    "KrylovSolver",
    "KrylovSchur",
    "Davidson",
    "BlockKrylovSVD",
    "RandomizedSVD",
    "Lanczos",
    "Tridiagonal",
    "lanczos_tridiagonal",
    "loop_form",
    "LanczosSVD",
    "NewtonSign",
    "PowerIteration",
    "Probing",
    "Levinson",
    "ScalingSquaring",
    "Schur",
    "ShiftInvert",
    "SparseLU",
    "ToeplitzCG",
    "XDiag",
    "XNysTrace",
    "XTrace",
    "circulant_preconditioner",
    "default_tol",
    "differentiable_solve",
]
