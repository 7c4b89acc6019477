"""Every question of the core as the kit asks it:
operands, the dense answer, and how two answers are compared.

A ``Probe`` turns an answer into plain NumPy arrays that are unique: eigenvalues sorted, eigenvectors as the
matrix they rebuild, factors as their product. That way a rule, a fallback, an algorithm and the dense answer
compare entrywise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import linalg, ops
from ..dispatch.question import QUESTIONS, Question
from ..linalg.scalar_function import COS, EXP, ISQRT, LOG, SIGN, SIN, SQRT, ScalarFunction, power
from ..operators import split_scalar
from ..properties import PSD, SelfAdjoint
from . import data
from .compare import condition, host

__all__ = ["PROBES", "Probe", "probe"]

CUBE = ScalarFunction("cube", lambda xp, w: w**3)


@dataclass(frozen=True)
class Probe:
    """name: as given to checks ("exp" asks ``apply_unary``).
    operands(A, M, backend, dtype, seed) -> after the operator.

    arrays(A, M, answer, operands): the answer as comparable arrays. dense(M, operands): what they should be.
    suits(A, M): whether the question makes sense. public(A, operands): (public function, its arguments), for
    ``explain``. everywhere: asked of every operator; others are asked of the rules and algorithms that answer
    the question.
    """

    name: str
    question: Question
    operands: Callable[..., tuple[Any, ...]]
    arrays: Callable[..., list[Any]]
    dense: Callable[..., list[Any]]
    suits: Callable[[Any, Any], bool]
    public: Callable[[Any, tuple[Any, ...]], tuple[Any, tuple[Any, ...]]]
    sensitivity: Callable[[Any], float] = lambda M: 1.0
    everywhere: bool = True


def probe(name: str) -> Probe:
    """The probe of this name."""
    return PROBES[name]


def _square(A: Any, M: Any) -> bool:
    return M.shape[-1] == M.shape[-2]


def _regular(A: Any, M: Any) -> bool:
    return _square(A, M) and condition(M) < 1e6


def _claims(*props: Any) -> Callable[[Any, Any], bool]:
    return lambda A, M: _square(A, M) and all(A.isa(p) for p in props)


def _definite(A: Any, M: Any) -> bool:
    return _claims(PSD)(A, M) and condition(M) < 1e6


def _none(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return ()


def _plain(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    return [host(x) for x in (answer if isinstance(answer, tuple) else (answer,))]


def _rhs(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return (backend.asarray(data.normal(seed + 11, (M.shape[-1], 2), dtype)),)


def _H(X: Any) -> Any:
    return np.conj(np.swapaxes(X, -1, -2))


def _slogdet(M: Any, operands: Any) -> list[Any]:
    sign, value = np.linalg.slogdet(M)
    return [np.asarray(sign), np.asarray(value)]


def _inv_quad_logdet(M: Any, operands: Any) -> list[Any]:
    B = host(operands[0]).astype(M.dtype)
    quad = np.sum(np.conj(B) * np.linalg.solve(M, B), axis=-2)
    return [quad, *_slogdet(M, operands)]


def _eigen(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    w, V = host(answer[0]), np.broadcast_to(host(answer[1]), M.shape)
    order = np.argsort(w, axis=-1)
    eye = _H(V) @ V
    return [np.take_along_axis(w, order, -1), (V * w[..., None, :]) @ _H(V), eye]


def _eigen_dense(M: Any, operands: Any) -> list[Any]:
    return [np.linalg.eigvalsh((M + _H(M)) / 2), M, np.broadcast_to(np.eye(M.shape[-1]), M.shape)]


def _some(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return (max(1, M.shape[-1] // 4), "LA")


def _some_arrays(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    w, V = host(answer[0]), host(answer[1])
    return [np.sort(w), M @ V - V * w, _H(V) @ V]


def _some_dense(M: Any, operands: Any) -> list[Any]:
    k, n = operands[0], M.shape[-1]
    return [np.linalg.eigvalsh(M)[n - k :], np.zeros((n, k)), np.eye(k)]


def _by_modulus(M: Any, which: str) -> Any:
    w = np.linalg.eigvalsh(M)
    return w[np.argsort(-np.abs(w) if which == "LM" else np.abs(w), kind="stable")]


def _nearest_arrays(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    w, V = host(answer[0]), host(answer[1])
    return [np.sort(np.abs(w)), M @ V - V * w]  # of +w and -w either may come


def _nearest_dense(M: Any, operands: Any) -> list[Any]:
    k, which = operands
    return [np.sort(np.abs(_by_modulus(M, which)[:k])), np.zeros((M.shape[-1], k))]


def _mass(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    """A definite B of A's structure; of a sum of Kronecker products, made of A's own definite factors."""

    def definite(n: int, salt: int = 0) -> Any:
        return PSD(ops.Dense(backend.asarray(data.psd(seed + 5 + salt, n, dtype))))

    if isinstance(A, ops.Kronecker) and all(F.is_square for F in A.Ms):
        return (ops.Kronecker(*(definite(F.shape[-1], i) for i, F in enumerate(A.Ms))),)
    if isinstance(A, ops.BlockDiag) and all(F.is_square for F in A.Ms):
        return (A.with_blocks(*(definite(F.shape[-1], i) for i, F in enumerate(A.Ms))),)
    if isinstance(A, ops.Sum):
        grids: list[Any] = [split_scalar(F)[1] for F in A.Ms]
        if all(isinstance(K, ops.Kronecker) for K in grids) and len({len(K.Ms) for K in grids}) == 1:
            places = zip(*(K.Ms for K in grids), strict=True)
            chosen: list[Any] = [next((F for F in place if F.isa(PSD)), None) for place in places]
            if all(F is not None for F in chosen):
                return (ops.Kronecker(*chosen),)
    return (definite(M.shape[-1]),)


def _diagonal_mass(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    d = 1 + np.abs(data.normal(seed + 5, (M.shape[-1],), dtype)).astype(dtype)
    return (PSD(ops.Diagonal(backend.asarray(d))),)


def _number_mass(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return (2.5 * ops.Identity(M.shape[-1]),)


def _and_count(operands: Any) -> Any:
    return lambda A, M, *rest: (*operands(A, M, *rest), max(1, M.shape[-1] // 4), "LM")


def _pencil(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    """Moduli of the eigenvalues, and the residual of each pair."""
    B, w, V = host(operands[0]), host(answer[0]), host(answer[1])
    norms = np.linalg.norm(V, axis=-2)
    return [np.sort(np.abs(w)), (M @ V - B @ V * w) / norms]


def _pencil_dense(M: Any, operands: Any) -> list[Any]:
    w = np.sort(np.abs(np.linalg.eigvals(np.linalg.solve(host(operands[0]).astype(M.dtype), M))))
    k = operands[1] if len(operands) > 1 else M.shape[-1]
    return [w[len(w) - k :], np.zeros((M.shape[-1], k))]


_PENCILS = (ops.Dense, ops.Kronecker, ops.BlockDiag, ops.Sum)


def _pencil_suits(claims: bool) -> Callable[[Any, Any], bool]:
    def suits(A: Any, M: Any) -> bool:
        shaped = _square(A, M) and M.ndim == 2 and M.size > 0 and type(A) in _PENCILS
        return bool(shaped and A.isa(SelfAdjoint) if claims else shaped and _eig_condition(M) < 1e3)

    return suits


def _public_pencil(question: str) -> Callable[[Any, Any], tuple[Any, tuple[Any, ...]]]:
    """B is a keyword of eigh and eig, so the plan asks through a function of its own."""
    f = linalg.eigh if question in ("geigh", "geigsh") else linalg.eig

    def public(A: Any, operands: Any) -> tuple[Any, tuple[Any, ...]]:
        B, *rest = operands

        def asked(A: Any, B: Any, *rest: Any, **options: Any) -> Any:
            return f(A, *rest, B=B, **options)

        asked.question = QUESTIONS[question]  # type: ignore[attr-defined]
        return asked, (A, B, *rest)

    return public


def _eig(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    """Eigenvalues in the order of NumPy's (nearest first), the residual, and that no eigenvector is zero."""
    w, V = host(answer[0]), host(answer[1])
    want = np.linalg.eigvals(M)
    if M.ndim > 2:
        w = np.sort_complex(w.astype(complex))
    else:
        left = list(w)
        w = np.array([left.pop(int(np.argmin([abs(x - t) for x in left]))) for t in want], dtype=complex)
    norms = np.linalg.norm(V, axis=-2)
    residual = (M @ V - V * host(answer[0])[..., None, :]) / norms[..., None, :]
    return [w, residual]


def _eig_dense(M: Any, operands: Any) -> list[Any]:
    want = np.linalg.eigvals(M).astype(complex)
    return [np.sort_complex(want) if M.ndim > 2 else want, np.zeros(M.shape)]


def _eigvals(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    return _eig(A, M, (answer, np.broadcast_to(np.eye(M.shape[-1]), M.shape)), operands)[:1]


def _largest(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return (max(1, M.shape[-1] // 4), "LM")


def _largest_arrays(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    """Moduli of the eigenvalues (of a complex pair either may come), and the residual."""
    w, V = host(answer[0]), host(answer[1])
    norms = np.linalg.norm(V, axis=-2)
    return [np.sort(np.abs(w)), (M @ V - V * w) / norms]


def _largest_dense(M: Any, operands: Any) -> list[Any]:
    k, n = operands[0], M.shape[-1]
    return [np.sort(np.abs(np.linalg.eigvals(M)))[n - k :], np.zeros((n, k))]


def _eig_condition(M: Any) -> float:
    """Condition number of the eigenvector basis (Bauer-Fike)."""
    return condition(np.linalg.eig(M.astype(complex))[1])


def _function(f: Any) -> Callable[[Any, Any], list[Any]]:
    def dense(M: Any, operands: Any) -> list[Any]:
        if f is EXP:
            from scipy.linalg import expm

            return [expm(M)]
        if f.kind and np.abs(M - _H(M)).max(initial=0.0) > 1e-5 * np.abs(M).max(initial=0.0):
            return [_of_general(f, M)]
        w, V = np.linalg.eigh((M + _H(M)) / 2)
        if f.needs_positive:
            w = np.maximum(w, 0)
        return [(V * f.fn(np, w)[..., None, :]) @ _H(V)]

    return dense


def _of_general(f: Any, M: Any) -> Any:
    import scipy.linalg as sl

    known = {"sqrt": sl.sqrtm, "log": sl.logm, "sign": sl.signm, "sin": sl.sinm, "cos": sl.cosm}
    known["power"] = lambda x: sl.fractional_matrix_power(x, f.exponent)

    def double(x: Any) -> Any:  # older SciPys answer in extended precision, which LAPACK does not take
        return np.asarray(x).astype(np.complex128 if np.iscomplexobj(x) else np.float64)

    known["isqrt"] = lambda x: np.linalg.inv(double(sl.sqrtm(x)))
    return np.stack([double(known[f.kind](x)) for x in M.reshape((-1, *M.shape[-2:]))]).reshape(M.shape)


def _cholesky(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    L = host(answer)
    return [L @ _H(L), np.triu(L, 1)]


def _direct(f: Any) -> Callable[[Any, Any], tuple[Any, tuple[Any, ...]]]:
    return lambda A, operands: (f, (A, *operands))


def _matrix_function(f: Any) -> tuple[Any, Any, Any]:
    return (lambda A, M, backend, dtype, seed: (f,), _plain, _function(f))


def _triples(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    """Sorted singular values, the matrix that the triples rebuild, and how far from orthonormal they are."""
    U, s, V = (host(x) for x in answer)
    eye = np.eye(s.shape[-1])
    back = np.broadcast_to((U * s[..., None, :]) @ _H(V), M.shape)
    defect = np.abs(_H(U) @ U - eye).max(initial=0.0) + np.abs(_H(V) @ V - eye).max(initial=0.0)
    return [*_sorted_values(A, M, s, operands), back, defect]


def _sorted_values(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    s = -np.sort(-host(answer), -1)
    missing = min(M.shape[-2:]) - s.shape[-1]
    s = np.concatenate([s, np.zeros((*s.shape[:-1], missing), s.dtype)], -1) if missing > 0 else s
    return [np.broadcast_to(s, (*M.shape[:-2], s.shape[-1]))]


def _values(M: Any) -> Any:
    return np.linalg.svd(M, compute_uv=False)


def _top(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return (1, "LM")


def _top_arrays(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    U, s, V = (host(x) for x in answer)
    return [s, M @ V - U * s[..., None, :], _H(M) @ U - V * s[..., None, :]]


def _right(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    s, V = host(answer[0]), host(answer[1])
    gram = (V * s[..., None, :] ** 2) @ _H(V)
    return [
        np.broadcast_to(gram, (*M.shape[:-2], *gram.shape[-2:])),
        np.abs(_H(V) @ V - np.eye(V.shape[-1])).max(initial=0.0),
    ]


def _qr(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    """The product, how far from orthonormal, from triangular, and from a non-negative diagonal."""
    Q, R = (host(x) for x in answer)
    d = np.diagonal(R, 0, -2, -1)
    wrong = np.abs(np.tril(R, -1)).max(initial=0.0) + np.abs(np.abs(d) - d).max(initial=0.0)
    return [np.broadcast_to(Q @ R, M.shape), _defect(Q), wrong]


def _defect(Q: Any) -> Any:
    return np.abs(_H(Q) @ Q - np.eye(Q.shape[-1])).max(initial=0.0)


def _lq(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    L, Q = (host(x) for x in answer)
    back, defect, wrong = _qr(A, _H(M), (_H(Q), _H(L)), operands)
    return [_H(back), defect, wrong]


def _plu(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    P, L, U = (host(x) for x in answer)
    unit = np.abs(np.diagonal(L, 0, -2, -1) - 1).max(initial=0.0)
    rest = np.abs(np.triu(L, 1)).max(initial=0.0) + np.abs(np.tril(U, -1)).max(initial=0.0)
    return [np.broadcast_to(P @ L @ U, M.shape), unit + rest]


def _schur(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    T, Z = (host(x) for x in answer)
    below = np.abs(np.tril(T, -1 if operands[0] == "complex" else -2)).max(initial=0.0)
    return [np.broadcast_to(Z @ T @ _H(Z), M.shape), _defect(Z), below]


def _exactly(defects: int) -> Callable[[Any, Any], list[Any]]:
    """The matrix itself, and no defect."""
    return lambda M, operands: [M] + [np.asarray(0.0)] * defects


def _tall_rhs(A: Any, M: Any, backend: Any, dtype: str, seed: int) -> tuple[Any, ...]:
    return (backend.asarray(data.normal(seed + 12, (M.shape[-2], 2), dtype)), None)


def _any(A: Any, M: Any) -> bool:
    return True


def _clear_rank(A: Any, M: Any) -> bool:
    """No singular value so small that rounding decides whether it counts."""
    s = _values(M)
    small = s <= 1e-10 * s.max(initial=0.0)
    return bool((s[~small] >= 1e-4 * s.max(initial=0.0)).all())


def _one_matrix(A: Any, M: Any) -> bool:
    return M.ndim == 2 and _clear_rank(A, M)


def _gain(M: Any) -> float:
    """Condition number of M on the complement of its null space, squared as in least squares."""
    s = _values(M)
    kept = s[s > 1e-10 * s.max(initial=0.0)]
    return float((kept.max() / kept.min()) ** 2) if kept.size else 1.0


def _projector(A: Any, M: Any, answer: Any, operands: Any) -> list[Any]:
    N = host(answer)
    return [N @ _H(N), np.asarray(float(N.shape[-1])), _defect(N)]


def _subspace(kernel: bool) -> Callable[[Any, Any], list[Any]]:
    def dense(M: Any, operands: Any) -> list[Any]:
        U, s, Vh = np.linalg.svd(M)
        r = int((s > 1e-10 * s.max(initial=0.0)).sum())
        B = _H(Vh)[:, r:] if kernel else U[:, :r]
        return [B @ _H(B), np.asarray(float(B.shape[-1])), np.asarray(0.0)]

    return dense


def _asked(name: str, question: str, arrays: Any, dense: Any, **more: Any) -> Probe:
    """A probe that only rules and algorithms are asked."""
    operands = more.pop("operands", _none)
    suits = more.pop("suits", _any)
    public = more.pop("public", None) or _direct(getattr(linalg, question))
    return Probe(name, QUESTIONS[question], operands, arrays, dense, suits, public, everywhere=False, **more)


def _with(operand: Any) -> Callable[..., tuple[Any, ...]]:
    return lambda *a: (operand,)


def _norm(M: Any, operands: Any) -> list[Any]:
    return [np.linalg.norm(M, operands[0], axis=(-2, -1))]


def _small(A: Any, M: Any) -> bool:
    return _square(A, M) and bool(np.abs(M).max(initial=0.0) < 50)


PROBES: dict[str, Probe] = {
    p.name: p
    for p in (
        Probe(
            "solve",
            QUESTIONS["solve"],
            _rhs,
            _plain,
            lambda M, ops: [np.linalg.solve(M, host(ops[0]).astype(M.dtype))],
            _regular,
            _direct(linalg.solve),
            condition,
        ),
        Probe(
            "inv",
            QUESTIONS["inv"],
            _none,
            _plain,
            lambda M, ops: [np.linalg.inv(M)],
            _regular,
            _direct(linalg.inv),
            condition,
        ),
        Probe(
            "slogdet",
            QUESTIONS["slogdet"],
            _none,
            _plain,
            _slogdet,
            _regular,
            _direct(linalg.slogdet),
            condition,
        ),
        Probe(
            "trace",
            QUESTIONS["trace"],
            _none,
            _plain,
            lambda M, ops: [np.trace(M, axis1=-2, axis2=-1)],
            _square,
            _direct(linalg.trace),
        ),
        Probe(
            "diag",
            QUESTIONS["diag"],
            lambda *a: (0,),
            _plain,
            lambda M, ops: [np.diagonal(M, ops[0], -2, -1)],
            lambda A, M: True,
            _direct(linalg.diag),
        ),
        Probe(
            "diag-above",
            QUESTIONS["diag"],
            lambda *a: (1,),
            _plain,
            lambda M, ops: [np.diagonal(M, ops[0], -2, -1)],
            lambda A, M: True,
            _direct(linalg.diag),
        ),
        Probe(
            "diag-below",
            QUESTIONS["diag"],
            lambda *a: (-1,),
            _plain,
            lambda M, ops: [np.diagonal(M, ops[0], -2, -1)],
            lambda A, M: True,
            _direct(linalg.diag),
        ),
        Probe(
            "eigh", QUESTIONS["eigh"], _none, _eigen, _eigen_dense, _claims(SelfAdjoint), _direct(linalg.eigh)
        ),
        Probe(
            "eigsh",
            QUESTIONS["eigsh"],
            _some,
            _some_arrays,
            _some_dense,
            lambda A, M: _claims(SelfAdjoint)(A, M) and M.ndim == 2,
            lambda A, ops: (linalg.eigh, (A, *ops)),
        ),
        Probe(
            "eig",
            QUESTIONS["eig"],
            _none,
            _eig,
            _eig_dense,
            lambda A, M: _square(A, M) and _eig_condition(M) < 1e4,
            _direct(linalg.eig),
            _eig_condition,
        ),
        Probe(
            "eigsh-smallest",
            QUESTIONS["eigsh"],
            lambda A, M, *rest: (max(1, M.shape[-1] // 4), "SM"),
            _nearest_arrays,
            _nearest_dense,
            lambda A, M: _claims(SelfAdjoint)(A, M) and M.ndim == 2 and M.size > 0 and condition(M) < 1e6,
            lambda A, ops: (linalg.eigh, (A, *ops)),
            condition,  # the error of the smallest eigenvalues is relative to the largest
        ),
        Probe(
            "eigsh-largest-one",
            QUESTIONS["eigsh"],
            lambda A, M, *rest: (1, "LM"),
            _nearest_arrays,
            _nearest_dense,
            lambda A, M: _claims(SelfAdjoint)(A, M) and M.ndim == 2 and M.size > 0 and condition(M) < 1e6,
            lambda A, ops: (linalg.eigh, (A, *ops)),
        ),
        *(
            Probe(
                name,
                QUESTIONS[question],
                operands if question in ("geigh", "geig") else _and_count(operands),
                _pencil,
                _pencil_dense,
                _pencil_suits(question.startswith("geigh") or question == "geigsh"),
                _public_pencil(question),
                lambda M: 100.0 * _eig_condition(M),
            )
            for name, question, operands in (
                ("geigh", "geigh", _mass),
                ("geigh-diagonal", "geigh", _diagonal_mass),
                ("geigh-number", "geigh", _number_mass),
                ("geigsh", "geigsh", _mass),
                ("geig", "geig", _mass),
                ("geig-number", "geig", _number_mass),
                ("geigs", "geigs", _mass),
            )
        ),
        Probe(
            "eigvals",
            QUESTIONS["eigvals"],
            _none,
            _eigvals,
            lambda M, ops: _eig_dense(M, ops)[:1],
            lambda A, M: _square(A, M) and _eig_condition(M) < 1e4,
            _direct(linalg.eigvals),
            _eig_condition,
        ),
        Probe(
            "eigs",
            QUESTIONS["eigs"],
            _largest,
            _largest_arrays,
            _largest_dense,
            lambda A, M: _square(A, M) and M.ndim == 2 and M.size > 0 and _eig_condition(M) < 1e4,
            lambda A, ops: (linalg.eig, (A, *ops)),
            _eig_condition,
        ),
        Probe(
            "exp",
            QUESTIONS["apply_unary"],
            *_matrix_function(EXP),
            _small,
            lambda A, ops: (linalg.exp, (A,)),
            lambda M: 1.0 + float(np.abs(M).sum(axis=-1).max()),
        ),
        Probe(
            "sqrt",
            QUESTIONS["apply_unary"],
            *_matrix_function(SQRT),
            _definite,
            lambda A, ops: (linalg.sqrt, (A,)),
            condition,
        ),
        Probe(
            "log",
            QUESTIONS["apply_unary"],
            *_matrix_function(LOG),
            _definite,
            lambda A, ops: (linalg.log, (A,)),
            condition,
        ),
        Probe(
            "isqrt",
            QUESTIONS["apply_unary"],
            *_matrix_function(ISQRT),
            _definite,
            lambda A, ops: (linalg.isqrt, (A,)),
            condition,
        ),
        Probe(
            "pow",
            QUESTIONS["apply_unary"],
            *_matrix_function(power(0.3)),
            _definite,
            lambda A, ops: (linalg.pow, (A, 0.3)),
            condition,
        ),
        Probe(
            "sign",
            QUESTIONS["apply_unary"],
            *_matrix_function(SIGN),
            lambda A, M: _regular(A, M) and A.isa(SelfAdjoint),
            lambda A, ops: (linalg.sign, (A,)),
            condition,
        ),
        Probe(
            "sin",
            QUESTIONS["apply_unary"],
            *_matrix_function(SIN),
            _small,
            lambda A, ops: (linalg.sin, (A,)),
            lambda M: 1.0 + float(np.abs(M).sum(axis=-1).max()),
        ),
        Probe(
            "cos",
            QUESTIONS["apply_unary"],
            *_matrix_function(COS),
            _small,
            lambda A, ops: (linalg.cos, (A,)),
            lambda M: 1.0 + float(np.abs(M).sum(axis=-1).max()),
        ),
        Probe(
            "cube",
            QUESTIONS["apply_unary"],
            *_matrix_function(CUBE),
            _claims(SelfAdjoint),
            lambda A, ops: (linalg.apply_unary, (CUBE, A)),
        ),
        Probe(
            "root",
            QUESTIONS["root"],
            _none,
            lambda A, M, answer, ops: [host(answer) @ _H(host(answer))],
            lambda M, ops: [M],
            _claims(PSD),
            _direct(linalg.root),
        ),
        Probe(
            "sample",  # draws differ from one root to another: what they are is checked by "root"
            QUESTIONS["sample"],
            lambda *a: (0, (2,)),
            lambda A, M, answer, ops: [np.asarray(answer.shape, float)],
            lambda M, ops: [np.asarray((2, *M.shape[:-1]), float)],
            _claims(PSD),
            _direct(linalg.sample),
        ),
        Probe(
            "inv_quad_logdet",
            QUESTIONS["inv_quad_logdet"],
            _rhs,
            _plain,
            _inv_quad_logdet,
            _regular,
            _direct(linalg.inv_quad_logdet),
            condition,
        ),
        Probe(
            "cholesky",
            QUESTIONS["cholesky"],
            _none,
            _cholesky,
            lambda M, ops: [M, np.zeros(M.shape)],
            _definite,
            _direct(linalg.cholesky),
        ),
        Probe(
            "svd",
            QUESTIONS["svd"],
            _none,
            _triples,
            lambda M, ops: [_values(M), M, np.asarray(0.0)],
            _any,
            _direct(linalg.svd),
        ),
        _asked(
            "svds",
            "svds",
            _top_arrays,
            lambda M, ops: [_values(M)[..., :1], 0 * M[..., :, :1], 0 * M.mT[..., :, :1]],
            operands=_top,
            public=lambda A, ops: (linalg.svd, (A, *ops)),
        ),
        _asked("svdvals", "svdvals", _sorted_values, lambda M, ops: [_values(M)]),
        _asked(
            "right-singular",
            "right_singular",
            _right,
            lambda M, ops: [_H(M) @ M, np.asarray(0.0)],
            public=lambda A, ops: (linalg.nullspace, (A,)),
        ),
        _asked("qr", "qr", _qr, _exactly(2)),
        _asked("lq", "lq", _lq, _exactly(2)),
        _asked("lu", "lu", _plu, _exactly(1)),
        *(
            _asked(
                f"schur-{output}",
                "schur",
                _schur,
                _exactly(2),
                operands=_with(output),
                suits=_square,
                public=lambda A, ops: (linalg.schur, (A,)),
            )
            for output in ("real", "complex")
        ),
        Probe(
            "lstsq",
            QUESTIONS["lstsq"],
            _tall_rhs,
            _plain,
            lambda M, ops: [np.linalg.pinv(M, rcond=1e-10) @ host(ops[0]).astype(M.dtype)],
            _clear_rank,
            lambda A, ops: (linalg.lstsq, (A, ops[0])),
            _gain,
        ),
        _asked(
            "pinv",
            "pinv",
            _plain,
            lambda M, ops: [np.linalg.pinv(M, rcond=1e-10)],
            operands=_with(None),
            suits=_clear_rank,
            public=lambda A, ops: (linalg.pinv, (A,)),
            sensitivity=_gain,
        ),
        *(
            _asked(f"norm-{ord}", "norm", _plain, _norm, operands=_with(ord))
            for ord in ("fro", 2, 1, np.inf, "nuc")
        ),
        *(
            _asked(
                f"cond-{p}",
                "cond",
                _plain,
                lambda M, ops: [np.linalg.cond(M, ops[0])],
                operands=_with(p),
                suits=_regular,
                sensitivity=condition,
            )
            for p in (2, 1)
        ),
        _asked(
            "rank",
            "rank",
            _plain,
            lambda M, ops: [np.linalg.matrix_rank(M, rtol=1e-10)],
            operands=_with(None),
            suits=_clear_rank,
        ),
        _asked(
            "nullspace",
            "nullspace",
            _projector,
            _subspace(kernel=True),
            operands=_with(None),
            suits=_one_matrix,
            sensitivity=_gain,
        ),
        _asked(
            "orth",
            "orth",
            _projector,
            _subspace(kernel=False),
            operands=_with(None),
            suits=_one_matrix,
            sensitivity=_gain,
        ),
    )
}
