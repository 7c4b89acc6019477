"""Answers made into smooth numbers without a gauge, so that their derivatives can be compared.

Eigenvectors have a phase, ties have a basis, a factorisation may permute: an entry of such an answer has no
derivative. A ``Smooth`` turns an answer into arrays that have one, wherever the answer itself has: sums over
all pairs, ``sum_i g(w_i) v_i v_i^H``, which stay smooth where eigenvalues meet, products of an operator with
a vector, triangular factors with a positive diagonal. ``smooth_problem`` is a question asked of an operator
as a function of the operator's arrays and the right-hand side, ready for ``derivatives.Derivatives``; the
reference is NumPy and SciPy on the dense matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..algorithms import Auto
from ..backends import get_backend
from ..operators import LinearOperator
from . import data
from .compare import condition, host
from .derivative_modes import modes_of
from .moving import Moving, double
from .precision import precision
from .probes import PROBES, Probe

__all__ = ["SMOOTH", "Smooth", "smooth_named", "smooth_problem"]


def _always(M: Any, operands: tuple[Any, ...]) -> bool:
    return True


@dataclass(frozen=True)
class Smooth:
    """probe: how the question is asked. reduce(be, answer, scale, extra) -> arrays with a derivative.

    dense(M, operands): the answer by NumPy, in the form that ``reduce`` takes. extra: how many columns of
    numbers, differentiated like the rest, an operator that is the answer is multiplied with. moves: whether
    the first operand, an array, is differentiated. suits(M, operands): whether the answer has a derivative.
    """

    name: str
    probe: Probe
    reduce: Callable[[Any, Any, float, Any], list[Any]]
    dense: Callable[[Any, tuple[Any, ...]], Any]
    extra: int = 0
    moves: bool = False
    suits: Callable[[Any, tuple[Any, ...]], bool] = _always


def _array(x: Any) -> Any:
    return x.to_dense() if isinstance(x, LinearOperator) else x


def _H(X: Any) -> Any:
    return np.conj(np.swapaxes(X, -1, -2))


def _plain(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    return [_array(x) for x in (answer if isinstance(answer, tuple) else (answer,))]


def _part(i: int) -> Callable[..., list[Any]]:
    return lambda be, answer, scale, extra: [answer[i]]


def _applied(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    """The operator that is the answer, times a block of vectors."""
    return [answer @ extra]


def _odd(be: Any, w: Any) -> Any:
    """Different at every number of modulus below two, and zero at zero."""
    return w + be.xp.sin(2 * w) / 3


def _values(be: Any, w: Any, scale: float) -> list[Any]:
    w = w / scale
    return [be.xp.sum(be.xp.cos(1.3 * w) - 1, axis=-1), be.xp.sum(_odd(be, w), axis=-1)]


def _outer(be: Any, w: Any, U: Any, V: Any, scale: float) -> Any:
    """``sum_i g(w_i) u_i v_i^H``."""
    g = _odd(be, w / scale)
    return be.matmul(U * g[..., None, :], be.adjoint(V))


def _unit(be: Any, V: Any) -> Any:
    return V / be.xp.sqrt(be.xp.sum(be.xp.real(be.xp.conj(V) * V), axis=-2))[..., None, :]


def _eigenvalues(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    return _values(be, answer[0] if isinstance(answer, tuple) else answer, scale)


def _orthogonal_pairs(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    w, V = answer[0], _array(answer[1])
    return [*_values(be, w, scale), _outer(be, w, V, V, scale)]


def _pairs(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    w, V = answer[0], _unit(be, _array(answer[1]))
    return [*_values(be, w, scale), _outer(be, w, V, V, scale)]


def _triples(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    U, s, V = (_array(x) for x in answer)
    pairs = ((U, U), (V, V), (U, V))
    return [*_values(be, s, scale), *(_outer(be, s, a, b, scale) for a, b in pairs)]


def _right(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    s, V = _array(answer[0]), _array(answer[1])
    return [*_values(be, s, scale), _outer(be, s, V, V, scale)]


def _projector(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    N = _array(answer)
    return [be.matmul(N, be.adjoint(N))]


def _gram(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    adjoint = answer.H if isinstance(answer, LinearOperator) else _H(answer)
    return [answer @ (adjoint @ extra)]


def _triangles(be: Any, answer: Any, scale: float, extra: Any) -> list[Any]:
    """The second and third factor: a permutation has no derivative."""
    return [_array(x) for x in answer[1:]]


def _eigh(M: Any, operands: Any = ()) -> tuple[Any, Any]:
    return np.linalg.eigh((M + _H(M)) / 2)


def _square_root(M: Any, operands: Any) -> Any:
    w, V = _eigh(M)
    return V * np.sqrt(np.maximum(w, 0))[..., None, :]


def _chosen(w: Any, which: str, k: int) -> Any:
    key = {"LA": -w.real, "SA": w.real, "LM": -np.abs(w), "SM": np.abs(w)}[which]
    return np.argsort(key, kind="stable")[:k]


def _some_of(solver: Callable[[Any, Any], tuple[Any, Any]], skip: int = 0) -> Callable[..., Any]:
    """k eigenpairs of one matrix; operands: skip others, then (k, which)."""

    def dense(M: Any, operands: Any) -> tuple[Any, Any]:
        w, V = solver(M, operands)
        chosen = _chosen(w, operands[skip + 1], operands[skip])
        return w[chosen], V[:, chosen]

    return dense


def _clear_cut(solver: Callable[[Any, Any], tuple[Any, Any]], skip: int = 0) -> Callable[..., bool]:
    """Whether the eigenvalues that are asked for differ from those that are not."""

    def suits(M: Any, operands: Any) -> bool:
        w = solver(M, operands)[0]
        k, which = operands[skip], operands[skip + 1]
        inside = _chosen(w, which, k)
        rest = np.setdiff1d(np.arange(len(w)), inside)
        key = np.abs(w) if which in ("LM", "SM") else w.real
        gap = np.abs(key[inside][:, None] - key[rest][None]).min(initial=np.inf)
        return bool(gap > 0.02 * np.abs(w).max(initial=0.0))

    return suits


def _apart(solver: Callable[[Any, Any], tuple[Any, Any]], skip: int | None = None) -> Callable[..., bool]:
    """Whether all eigenvalues differ (where they meet, vectors that are not orthogonal have no derivative),
    and those asked for from those that are not."""

    def suits(M: Any, operands: Any) -> bool:
        w = solver(M, operands)[0]
        gaps = np.abs(w[..., :, None] - w[..., None, :]) + np.eye(w.shape[-1]) * 1e300
        clear = bool(gaps.min(initial=np.inf) > 0.01 * np.abs(w).max(initial=0.0))
        return clear and (skip is None or _clear_cut(solver, skip)(M, operands))

    return suits


def _eig(M: Any, operands: Any = ()) -> tuple[Any, Any]:
    return np.linalg.eig(M.astype(complex))


def _pencil(M: Any, operands: Any) -> tuple[Any, Any]:
    import scipy.linalg as sl

    return sl.eigh((M + _H(M)) / 2, _wide(operands[0], M))


def _general_pencil(M: Any, operands: Any) -> tuple[Any, Any]:
    return np.linalg.eig(np.linalg.solve(_wide(operands[0], M), M).astype(complex))


def _wide(B: Any, M: Any) -> Any:
    return host(B).astype(np.result_type(M, host(B)))


def _svd(M: Any, operands: Any = ()) -> tuple[Any, Any, Any]:
    U, s, Vh = np.linalg.svd(M, full_matrices=False)
    return U, s, _H(Vh)


def _distinct(values: Callable[[Any, Any], Any]) -> Callable[..., bool]:
    """Whether all values but zeros differ: at exact ties a loss of values and vectors together may not be
    determined by what a decomposition returns."""

    def suits(M: Any, operands: Any) -> bool:
        w = values(M, operands)
        size = np.abs(w).max(initial=0.0)
        gaps = np.abs(w[..., :, None] - w[..., None, :]) + 1e300 * np.eye(w.shape[-1])
        gaps = np.where(np.abs(w[..., :, None]) < 1e-9 * size, 1e300, gaps)
        return bool(gaps.min(initial=np.inf) > 1e-3 * size)

    return suits


def _eigenvalues_of(M: Any, operands: Any = ()) -> Any:
    return _eigh(M)[0]


def _singular_values_of(M: Any, operands: Any = ()) -> Any:
    return np.linalg.svd(M, compute_uv=False)


def _top_triple(M: Any, operands: Any) -> tuple[Any, Any, Any]:
    U, s, V = _svd(M)
    k = operands[0]
    return U[..., :k], s[..., :k], V[..., :k]


def _top_gap(M: Any, operands: Any = ()) -> bool:
    s = np.linalg.svd(M, compute_uv=False)
    second = s[..., 1] if s.shape[-1] > 1 else 0 * s[..., 0]
    return bool((s[..., 0] - second > 0.02 * s[..., 0]).all())


def _both_gaps(M: Any, operands: Any = ()) -> bool:
    s = np.linalg.svd(M, compute_uv=False)
    return _top_gap(M) and (s.shape[-1] < 2 or bool((s[..., -2] - s[..., -1] > 0.02 * s[..., -1]).all()))


def _qr(M: Any, operands: Any = ()) -> tuple[Any, Any]:
    Q, R = np.linalg.qr(M)
    d = np.diagonal(R, 0, -2, -1)
    phase = d / np.abs(d)
    return Q * phase[..., None, :], np.conj(phase)[..., :, None] * R


def _lq(M: Any, operands: Any = ()) -> tuple[Any, Any]:
    Q, R = _qr(_H(M))
    return _H(R), _H(Q)


def _lu(M: Any, operands: Any = ()) -> tuple[Any, Any, Any]:
    import scipy.linalg as sl

    found = [sl.lu(m) for m in M.reshape((-1, *M.shape[-2:]))]
    return tuple(np.stack(x).reshape((*M.shape[:-2], *x[0].shape)) for x in zip(*found, strict=True))  # type: ignore[return-value]


def _clear_pivots(M: Any, operands: Any = ()) -> bool:
    """No pivot so nearly as large as another that a step of a difference would choose the other."""
    for m in M.reshape((-1, *M.shape[-2:])):
        A = m.copy()
        for k in range(min(A.shape)):
            sizes = np.sort(np.abs(A[k:, k]))[::-1]
            if sizes[0] == 0 or (len(sizes) > 1 and sizes[0] - sizes[1] < 0.1 * sizes[0]):
                return False
            p = k + int(np.argmax(np.abs(A[k:, k])))
            A[[k, p]] = A[[p, k]]
            A[k + 1 :] -= np.outer(A[k + 1 :, k] / A[k, k], A[k])
    return True


def _full_columns(M: Any, operands: Any = ()) -> bool:
    return M.shape[-2] >= M.shape[-1] and condition(M) < 1e6


def _full_rows(M: Any, operands: Any = ()) -> bool:
    return M.shape[-1] >= M.shape[-2] and condition(M) < 1e6


def _rank_basis(kernel: bool) -> Callable[..., Any]:
    def dense(M: Any, operands: Any) -> Any:
        U, s, Vh = np.linalg.svd(M)
        r = int((s > 1e-10 * s.max(initial=0.0)).sum())
        return _H(Vh)[:, r:] if kernel else U[:, :r]

    return dense


def _named(name: str, of: str, reduce: Any, dense: Any = None, **more: Any) -> Smooth:
    probe = PROBES[of]
    return Smooth(
        name, probe, reduce, dense or (lambda M, operands: _first(probe.dense(M, operands))), **more
    )


def _first(found: list[Any]) -> Any:
    return tuple(found) if len(found) > 1 else found[0]


_FUNCTIONS = ("exp", "sqrt", "log", "isqrt", "pow", "sign", "sin", "cos", "cube")

SMOOTH: dict[str, Smooth] = {
    s.name: s
    for s in (
        _named("solve", "solve", _plain, moves=True),
        _named("inv", "inv", _applied, extra=2),
        _named("slogdet", "slogdet", _part(1)),
        _named("slogdet-phase", "slogdet", _part(0), suits=lambda M, operands: M.dtype.kind == "c"),
        _named("trace", "trace", _plain),
        _named("diag", "diag", _plain),
        _named("diag-above", "diag-above", _plain),
        _named("diag-below", "diag-below", _plain),
        _named("inv_quad_logdet", "inv_quad_logdet", lambda be, x, s, e: [x[0], x[2]], moves=True),
        _named("eigh-values", "eigh", _eigenvalues, _eigh, suits=_distinct(_eigenvalues_of)),
        _named("eigh", "eigh", _orthogonal_pairs, _eigh, suits=_distinct(_eigenvalues_of)),
        *(
            _named(f"{name}{suffix}", name, reduce, _some_of(_eigh), suits=_clear_cut(_eigh))
            for name in ("eigsh", "eigsh-smallest", "eigsh-largest-one")
            for suffix, reduce in (("-values", _eigenvalues), ("", _orthogonal_pairs))
        ),
        _named(
            "eigvals",
            "eigvals",
            _eigenvalues,
            lambda M, o: np.linalg.eigvals(M).astype(complex),
            suits=_apart(_eig),
        ),
        _named("eig-values", "eig", _eigenvalues, _eig, suits=_apart(_eig)),
        _named("eig", "eig", _pairs, _eig, suits=_apart(_eig)),
        _named("eigs-values", "eigs", _eigenvalues, _some_of(_eig), suits=_clear_cut(_eig)),
        _named("eigs", "eigs", _pairs, _some_of(_eig), suits=_apart(_eig, 0)),
        *(
            _named(f"{name}{suffix}", name, reduce, _pencil, suits=_distinct(lambda M, o: _pencil(M, o)[0]))
            for name in ("geigh", "geigh-diagonal", "geigh-number")
            for suffix, reduce in (("-values", _eigenvalues), ("", _orthogonal_pairs))
        ),
        *(
            _named(f"geigsh{s}", "geigsh", r, _some_of(_pencil, 1), suits=_clear_cut(_pencil, 1))
            for s, r in (("-values", _eigenvalues), ("", _orthogonal_pairs))
        ),
        *(
            _named(name, of, reduce, _general_pencil, suits=suits)
            for of in ("geig", "geig-number")
            for name, reduce, suits in (
                (f"{of}-values", _eigenvalues, _apart(_general_pencil)),
                (of, _pairs, _apart(_general_pencil)),
            )
        ),
        *(
            _named(name, "geigs", reduce, _some_of(_general_pencil, 1), suits=suits)
            for name, reduce, suits in (
                ("geigs-values", _eigenvalues, _apart(_general_pencil, 1)),
                ("geigs", _pairs, _apart(_general_pencil, 1)),
            )
        ),
        *(_named(name, name, _applied, extra=2) for name in _FUNCTIONS),
        _named("root", "root", _gram, _square_root, extra=2),
        _named("cholesky", "cholesky", _plain, lambda M, o: np.linalg.cholesky(M)),
        _named("svd", "svd", _triples, _svd, suits=_distinct(_singular_values_of)),
        _named("svds-values", "svds", lambda be, x, s, e: _values(be, x[1], s), _top_triple, suits=_top_gap),
        _named("svds", "svds", _triples, _top_triple, suits=_top_gap),
        _named(
            "svdvals",
            "svdvals",
            lambda be, x, s, e: _values(be, x, s),
            lambda M, o: _svd(M)[1],
            suits=_distinct(_singular_values_of),
        ),
        _named(
            "right-singular",
            "right-singular",
            _right,
            lambda M, o: _svd(M)[1:],
            suits=_distinct(_singular_values_of),
        ),
        _named("qr", "qr", _plain, _qr, suits=_full_columns),
        _named("lq", "lq", _plain, _lq, suits=_full_rows),
        _named("lu", "lu", _triangles, _lu, suits=_clear_pivots),
        _named("lstsq", "lstsq", _plain, moves=True),
        _named("pinv", "pinv", _applied, extra=2),
        *(_named(f"norm-{p}", f"norm-{p}", _plain) for p in ("fro", 1, np.inf, "nuc")),
        _named("norm-2", "norm-2", _plain, suits=_top_gap),
        _named("cond-2", "cond-2", _plain, suits=_both_gaps),
        _named("cond-1", "cond-1", _plain),
        _named("nullspace", "nullspace", _projector, _rank_basis(kernel=True)),
        _named("orth", "orth", _projector, _rank_basis(kernel=False)),
    )
}
"""By name. Not here: ``rank`` (an integer), ``sample`` (see ``root``), ``schur`` (a basis without a unique
order); they have no derivative of this kind."""


def smooth_named(probe: str) -> list[Smooth]:
    """The reductions of the answer to one probe."""
    return [s for s in SMOOTH.values() if s.probe.name == probe]


def smooth_problem(
    smooth: Smooth,
    make: Callable[[Any, int], Any],
    backend: Any,
    dtype: str,
    seed: int,
    alg: Any = Auto(),
    own: bool = False,
    ask: Callable[[Any, tuple[Any, ...]], Any] | None = None,
) -> dict[str, Any] | None:
    """Arguments of ``derivatives.Derivatives`` (backend, loss, reference, ...) for a question asked of
    ``make(backend, seed)``, by ``alg``; None where the question does not suit the operator.

    It is differentiated in the operator's arrays, in those of operators beside it, and in the right-hand
    side. own: differences of the framework's own values (of an estimate, whose value is not the dense one).
    ask(A, operands): answers instead of dispatch.
    """
    with precision(backend.name, dtype):
        A = Moving(make, backend, seed)
        M0 = A.matrix
        if 0 in M0.shape or not smooth.probe.suits(A.here, M0):
            return None
        here = smooth.probe.operands(A.here, M0, A.home, dtype, seed)
        if not smooth.suits(M0, tuple(map(_matrix, here))):
            return None
        there = smooth.probe.operands(A.there, M0, backend, dtype, seed)
        # an operator beside A moves too
        beside = {
            i: Moving(partial(_operand, smooth, make, dtype, i), backend, seed)
            for i, x in enumerate(here)
            if isinstance(x, LinearOperator)
        }
    movers = [A, *beside.values()]
    arrays = [x for m in movers for x in m.arrays]
    axes = [[d for m in movers for d in m.directions[i]] for i in range(2)]
    if smooth.moves or smooth.extra:
        rows = M0.shape[-2] if smooth.name == "pinv" else M0.shape[-1]
        b = host(here[0]) if smooth.moves else data.normal(seed + 31, (rows, 2), dtype)
        arrays.append(b)
        for i, axis in enumerate(axes):
            axis.append(data.normal(seed + 41 + i, b.shape, dtype))
    if not arrays:
        return None

    plain = get_backend("numpy")
    scale = float(np.linalg.norm(M0, 2, axis=(-2, -1)).max()) or 1.0
    weights: dict[int, Any] = {}

    def total(be: Any, parts: list[Any]) -> Any:
        out: Any = 0
        for i, part in enumerate(parts):
            shape, rich = tuple(part.shape), be.is_complex(part)
            W = weights.setdefault(i, data.normal(seed + 61 + i, shape, "complex128" if rich else "float64"))
            W = be.asarray(W.astype(_like(part.dtype, rich)))
            product = be.xp.sum(be.xp.conj(W) * part)
            out = out + (be.xp.real(product) if rich else product)
        return out

    def split(new: list[Any]) -> tuple[list[list[Any]], Any]:
        supply = list(new)
        parts = [[supply.pop(0) for _ in m.arrays] for m in movers]
        return parts, supply[0] if supply else None

    def placed(operands: tuple[Any, ...], new: list[Any], extra: Any) -> tuple[Any, ...]:
        out = list(operands)
        for i, x in zip(beside, new, strict=True):
            out[i] = x
        if smooth.moves:
            out[0] = extra
        return tuple(out)

    def loss(new: list[Any]) -> Any:
        parts, extra = split(new)
        B, *others = [m.operator(x) for m, x in zip(movers, parts, strict=True)]
        operands = placed(there, others, extra)
        answer = (
            ask(B, operands) if ask else smooth.probe.question.run(B, *operands, alg=alg, on_failure="ignore")
        )
        return total(backend, smooth.reduce(backend, answer, scale, extra))

    def reference(new: list[Any]) -> Any:
        parts, extra = split(new)
        M, *others = [m.dense(x) for m, x in zip(movers, parts, strict=True)]
        answer = smooth.dense(M, placed(here, others, extra))
        return total(plain, smooth.reduce(plain, answer, scale, extra))

    compiled: list[Any] = []

    def estimate(new: list[Any]) -> Any:
        if not compiled:  # many values are asked for
            compiled.append(modes_of(backend.name, True).compiled(loss))
        with precision(backend.name, "float64"):
            return host(compiled[0]([backend.asarray(x) for x in new]))

    truth = estimate if own else reference
    return dict(
        backend=backend.name, loss=loss, reference=truth, size=1.0, arrays=arrays, directions=list(axes)
    )


def _like(dtype: Any, rich: bool) -> str:
    from ..backends.base import dtype_name

    if rich:
        return "complex128" if "128" in dtype_name(dtype) else "complex64"
    return "float64" if "64" in dtype_name(dtype) else "float32"


def _matrix(x: Any) -> Any:
    return double(host(x)) if isinstance(x, LinearOperator) else x


def _operand(smooth: Smooth, make: Any, dtype: str, i: int, backend: Any, seed: int) -> Any:
    A = make(backend, seed)
    return smooth.probe.operands(A, double(host(A)), backend, dtype, seed)[i]
