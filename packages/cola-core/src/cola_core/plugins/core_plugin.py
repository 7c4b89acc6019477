"""The core's own rules and algorithms, registered through the same door as everybody's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .hookspecs import hookimpl
from .info import PLUGIN_API, PluginInfo


@hookimpl
def cola_plugin_info() -> PluginInfo:
    from .. import __version__

    return PluginInfo("core", PLUGIN_API, "operators, questions, rules and algorithms", __version__)


@hookimpl
def cola_register(registrar: Any, trigger: str) -> None:
    from .. import algorithms as a
    from .. import linalg as q
    from ..linalg.block import RULES as block
    from ..linalg.determinant import RULES as determinant
    from ..linalg.diagonal import RULES as diagonal
    from ..linalg.eigen_rules import RULES as eigen
    from ..linalg.elementwise import RULES as elementwise
    from ..linalg.entrywise import RULES as entrywise
    from ..linalg.exponential import RULES as exponential
    from ..linalg.factorizations import RULES as factorizations
    from ..linalg.function_rules import RULES as function_rules
    from ..linalg.generalized_eigen import RULES as generalized
    from ..linalg.householder import RULES as householder
    from ..linalg.inverse import RULES as inverse
    from ..linalg.kronecker_schur import RULES as kronecker_schur
    from ..linalg.lowrank import RULES as lowrank
    from ..linalg.lstsq import RULES as least_squares
    from ..linalg.matrix_function import RULES as functions
    from ..linalg.norm import RULES as norms
    from ..linalg.periodic import RULES as periodic
    from ..linalg.plu import RULES as plu
    from ..linalg.products import RULES as products
    from ..linalg.projections import RULES as projections
    from ..linalg.qr import RULES as orthogonal
    from ..linalg.quadratic import RULES as quadratic
    from ..linalg.sampling import RULES as sampling
    from ..linalg.schur import RULES as schur
    from ..linalg.shared_bases import RULES as shared_bases
    from ..linalg.solve import RULES as solve
    from ..linalg.spectral_diagonal import RULES as spectral_diagonal
    from ..linalg.subspaces import RULES as subspaces
    from ..linalg.svd import RULES as singular
    from ..linalg.tied_function import RULES as tied_function
    from ..linalg.toeplitz import RULES as toeplitz
    from ..linalg.trace import RULES as trace
    from ..linalg.transforms import RULES as transforms
    from ..linalg.zero import RULES as zero

    for book in (
        inverse,
        solve,
        determinant,
        diagonal,
        trace,
        eigen,
        functions,
        factorizations,
        exponential,
        function_rules,
        quadratic,
        sampling,
        zero,
        householder,
        block,
        elementwise,
        projections,
        lowrank,
        products,
        entrywise,
    ):
        registrar.include(book)
    for book in (singular, orthogonal, plu, schur, least_squares, norms, subspaces):
        registrar.include(book)
    for book in (kronecker_schur, generalized, shared_bases, spectral_diagonal):
        registrar.include(book)
    for book in (periodic, tied_function, toeplitz, transforms):
        registrar.include(book)
    direct = (a.Cholesky, a.LU, a.BandedCholesky, a.BandedLU, a.SparseLU, a.Levinson)
    chosen: dict[Any, tuple[type, ...]] = {
        q.SOLVE: (*direct, a.ToeplitzCG, a.CG, a.BlockCG, a.MINRES, a.GMRES),
        q.SLOGDET: (*direct, a.SLQ),
        q.DIAG: (a.Exact, a.XDiag, a.Hutchinson),
        q.TRACE: (a.Exact, a.XNysTrace, a.XTrace, a.Hutchinson),
        q.EIGH: (a.Eigh, a.BandedEigh),
        q.EIGSH: (a.Eigh, a.BandedEigh, a.Lanczos, a.ShiftInvert),
        q.EIG: (a.Eig,),
        q.EIGS: (a.Eig, a.Arnoldi, a.ShiftInvert),
        q.EIGVALS: (a.Eigh, a.BandedEigh, a.Eig),
        q.GEIGH: (a.Eigh,),
        q.GEIGSH: (a.Eigh, a.Arnoldi),
        q.GEIG: (a.Eig,),
        q.GEIGS: (a.Eig, a.Arnoldi),
        q.APPLY_UNARY: (
            a.Eigh,
            a.ScalingSquaring,
            a.DenmanBeavers,
            a.InverseScalingSquaring,
            a.NewtonSign,
            a.ExpAction,
            a.Eig,
            a.Lanczos,
            a.Arnoldi,
        ),
        q.CHOLESKY: (a.Cholesky, a.BandedCholesky),
        q.ROOT: (a.Cholesky, a.Eigh, a.Lanczos),
        q.SINGULAR: (a.SVD,),
        q.SOME_SINGULAR: (a.SVD, a.LanczosSVD),
        q.SINGULAR_VALUES: (a.SVD,),
        q.RIGHT_SINGULAR: (a.SVD,),
        q.QR_FACTORS: (a.QR,),
        q.LQ_FACTORS: (a.LQ,),
        q.PLU: (a.LU,),
        q.SCHUR: (a.Schur,),
        q.LEAST_SQUARES: (a.LSTSQ, a.LSMR),
        q.NORM: (a.Exact, a.SVD, a.LanczosSVD),
    }
    on_request: dict[Any, tuple[type, ...]] = {
        q.SOLVE: (
            *(a.DeflatedCG, a.MINRESQLP, a.FGMRES, a.BiCGStab, a.IDR, a.LSMR, a.LSQR, a.CGLS),
            *(a.SVRG, a.StochasticDualDescent, a.AlternatingProjections),
            *(a.LDL, a.QR, a.LQ, a.SVD, a.IterativeRefinement),
        ),
        q.SLOGDET: (a.LDL,),
        q.LEAST_SQUARES: (a.LSQR, a.CGLS, a.CG),
        q.APPLY_UNARY: (a.Chebyshev, a.ContourQuadrature),
        q.EIGSH: (a.PowerIteration, a.SVRG, a.Davidson, a.LOBPCG),
        q.GEIGSH: (a.LOBPCG,),
        q.EIGS: (a.PowerIteration, a.KrylovSchur),
        q.TRACE: (a.SLQ, a.HutchPP, a.Probing),
        q.DIAG: (a.Probing,),
        q.SOME_SINGULAR: (a.RandomizedSVD, a.BlockKrylovSVD),
    }
    for choice, automatic in ((chosen, True), (on_request, False)):
        for question, classes in choice.items():
            for cls in classes:
                registrar.algorithm(question, cls, automatic=automatic)


@hookimpl
def cola_conformance_cases() -> Iterable[Any]:
    from ..testing.core_cases import cases

    return cases()
