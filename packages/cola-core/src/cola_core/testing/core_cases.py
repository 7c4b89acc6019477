"""The core's own cases: every operator, alone and in company, and every algorithm."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import ops
from . import data
from .capabilities import Capabilities, closed, only
from .case import Case

__all__ = ["algorithm_cases", "cases", "operator_cases"]

normal, psd, selfadjoint, general = data.normal, data.psd, data.selfadjoint, data.general

_CLOSURE = "the functions are closures"


def _case(name: str, build: Any, reference: Any, **more: Any) -> Case:
    """build(put, dtype, seed) with put turning NumPy data into the backend's arrays."""

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return build(backend.asarray, dtype, seed)

    capabilities = more.pop("capabilities", Capabilities())
    return Case(name, factory=factory, reference=reference, capabilities=capabilities, **more)


def _of_arrays(name: str, arrays: Any, build: Any, dense: Any, **more: Any) -> Case:
    """arrays(dtype, seed) -> NumPy arrays; build(*arrays) an operator of them, dense(*arrays) its matrix."""
    return _case(
        name,
        lambda put, dtype, seed: build(*map(put, arrays(dtype, seed))),
        lambda dtype, seed: dense(*arrays(dtype, seed)),
        **more,
    )


def _kron(*Ms: Any) -> Any:
    out = Ms[0]
    for M in Ms[1:]:
        out = np.kron(out, M)
    return out


def _kronsum(*Ms: Any) -> Any:
    sizes = [len(M) for M in Ms]
    out: Any = 0
    for i, M in enumerate(Ms):
        out = out + _kron(*[M if j == i else np.eye(n, dtype=M.dtype) for j, n in enumerate(sizes)])
    return out


def _blocks(*Ms: Any) -> Any:
    m, n = sum(M.shape[0] for M in Ms), sum(M.shape[1] for M in Ms)
    out = np.zeros((m, n), Ms[0].dtype)
    i = j = 0
    for M in Ms:
        out[i : i + M.shape[0], j : j + M.shape[1]] = M
        i, j = i + M.shape[0], j + M.shape[1]
    return out


def _diagonals(d: Any) -> Any:
    return d[..., :, None] * np.eye(d.shape[-1], dtype=d.dtype)


def _sparse(dtype: str, seed: int) -> tuple[Any, Any, Any]:
    n = 9
    main = 4 + np.abs(normal(seed, (n,), dtype))
    upper, lower = normal(seed + 1, (n - 1,), dtype), normal(seed + 2, (n - 2,), dtype)
    data_ = np.concatenate([main, upper, lower]).astype(dtype)
    rows = np.concatenate([np.arange(n), np.arange(n - 1), np.arange(2, n)])
    cols = np.concatenate([np.arange(n), np.arange(1, n), np.arange(n - 2)])
    return data_, rows, cols


def _sparse_operator(put: Any, t: Any, s: Any) -> Any:
    data, rows, cols = map(put, _sparse(t, s))
    return ops.Sparse(data, rows, cols, (9, 9))


def _scatter(data_: Any, rows: Any, cols: Any, m: int, n: int) -> Any:
    out = np.zeros((m, n), data_.dtype)
    np.add.at(out, (rows, cols), data_)
    return out


def _perm(dtype: str, seed: int) -> Any:
    return np.random.default_rng(seed + 5).permutation(7)


def _two(seed: int, dtype: str, make: Any = general, sizes: tuple[int, int] = (3, 4)) -> list[Any]:
    return [make(seed, sizes[0], dtype), make(seed + 10, sizes[1], dtype)]


def leaf_cases() -> list[Case]:
    """Operators that store something."""
    PSD, SelfAdjoint, Unitary = _properties()
    masked = Capabilities(matrix_free=closed("a stored matrix: a product masks the half that is not read"))
    out = [
        _of_arrays("dense", lambda t, s: [general(s, 6, t)], ops.Dense, lambda M: M),
        _of_arrays("dense-tall", lambda t, s: [normal(s, (7, 4), t)], ops.Dense, lambda M: M),
        _of_arrays("dense-wide", lambda t, s: [normal(s, (3, 8), t)], ops.Dense, lambda M: M),
        _of_arrays("dense-one", lambda t, s: [normal(s, (1, 1), t)], ops.Dense, lambda M: M),
        _of_arrays("dense-psd", lambda t, s: [psd(s, 6, t)], lambda M: PSD(ops.Dense(M)), lambda M: M),
        _of_arrays(
            "dense-selfadjoint",
            lambda t, s: [selfadjoint(s, 6, t)],
            lambda M: SelfAdjoint(ops.Dense(M)),
            lambda M: M,
        ),
        _of_arrays(
            "dense-unitary",
            lambda t, s: [data.orthogonal(s, 5, t).astype(t)],
            lambda M: Unitary(ops.Dense(M)),
            lambda M: M,
        ),
        _of_arrays(
            "dense-batch",
            lambda t, s: [np.stack([general(s, 4, t), general(s + 5, 4, t)])],
            ops.Dense,
            lambda M: M,
        ),
        _of_arrays("diagonal", lambda t, s: [normal(s, (6,), t)], ops.Diagonal, np.diag),
        _of_arrays(
            "diagonal-psd",
            lambda t, s: [(0.5 + np.abs(normal(s, (6,), t))).astype(t)],
            lambda d: PSD(ops.Diagonal(d)),
            np.diag,
        ),
        _of_arrays("diagonal-batch", lambda t, s: [2 + normal(s, (2, 4), t)], ops.Diagonal, _diagonals),
        _of_arrays(
            "scalar",
            lambda t, s: [np.asarray(-1.5 if "complex" not in t else -1.5 + 1j, t)],
            lambda c: ops.ScalarMul(c, 5),
            lambda c: c * np.eye(5, dtype=c.dtype),
        ),
        _case("identity", lambda put, t, s: ops.Identity(5, t), lambda t, s: np.eye(5)),
        _of_arrays(
            "lowrank",
            lambda t, s: [normal(s, (7, 2), t), normal(s + 1, (5, 2), t)],
            ops.LowRank,
            lambda U, V: U @ V.conj().T,
        ),
        _of_arrays("lowrank-psd", lambda t, s: [normal(s, (6, 2), t)], ops.LowRank, lambda U: U @ U.conj().T),
        _case(
            "permutation",
            lambda put, t, s: ops.Permutation(put(_perm(t, s)), t),
            lambda t, s: np.eye(7)[_perm(t, s)],
        ),
        _case(
            "sparse",
            _sparse_operator,
            lambda t, s: _scatter(*_sparse(t, s), 9, 9),
        ),
        _case(
            "sparse-wide",
            lambda put, t, s: ops.Sparse(
                put(normal(s, (4,), t)), put(np.array([0, 2, 1, 2])), put(np.array([3, 0, 6, 0])), (3, 7)
            ),
            lambda t, s: _scatter(normal(s, (4,), t), np.array([0, 2, 1, 2]), np.array([3, 0, 6, 0]), 3, 7),
        ),
    ]
    for lower in (True, False):
        for unit in (False, True):

            def dense(M: Any, lower: bool = lower, unit: bool = unit) -> Any:
                half = np.tril(M) if lower else np.triu(M)
                return half - np.diag(np.diag(half)) + np.eye(len(M), dtype=M.dtype) if unit else half

            out.append(
                _of_arrays(
                    f"triangular-{'lower' if lower else 'upper'}{'-unit' if unit else ''}",
                    lambda t, s: [0.3 * normal(s, (6, 6), t) + 2 * np.eye(6, dtype=t)],
                    lambda M, lower=lower, unit=unit: ops.Triangular(M, lower=lower, unit=unit),
                    dense,
                    capabilities=masked,
                )
            )
    return out


def _properties() -> tuple[Any, Any, Any]:
    from ..properties import PSD, SelfAdjoint, Unitary

    return PSD, SelfAdjoint, Unitary


def composed_cases() -> list[Case]:
    """Operators made of operators, and compositions of those."""
    PSD, SelfAdjoint, _ = _properties()
    D = ops.Dense

    def pair(make: Any = general, sizes: tuple[int, int] = (3, 4)) -> Any:
        return lambda t, s: _two(s, t, make, sizes)

    def dense_psd(M: Any) -> Any:
        return PSD(D(M))

    out = [
        _of_arrays("sum", pair(general, (5, 5)), lambda A, B: ops.Sum(D(A), D(B)), lambda A, B: A + B),
        _of_arrays(
            "sum-shift",
            lambda t, s: [selfadjoint(s, 6, t)],
            lambda A: SelfAdjoint(D(A)) + 0.3 * ops.Identity(6),
            lambda A: A + 0.3 * np.eye(6, dtype=A.dtype),
        ),
        _of_arrays(
            "product", pair(general, (5, 5)), lambda A, B: ops.Product(D(A), D(B)), lambda A, B: A @ B
        ),
        _of_arrays(
            "product-wide",
            lambda t, s: [normal(s, (7, 2), t), normal(s + 1, (2, 7), t)],
            lambda A, B: ops.Product(D(A), D(B)),
            lambda A, B: A @ B,
        ),
        _of_arrays("scaled", lambda t, s: [psd(s, 5, t)], lambda A: 3.0 * dense_psd(A), lambda A: 3 * A),
        _of_arrays("kronecker", pair(), lambda A, B: ops.Kronecker(D(A), D(B)), np.kron),
        _of_arrays(
            "kronecker-psd", pair(psd), lambda A, B: ops.Kronecker(dense_psd(A), dense_psd(B)), np.kron
        ),
        _of_arrays(
            "kronecker-rectangular",
            lambda t, s: [normal(s, (2, 3), t), normal(s + 1, (4, 2), t)],
            lambda A, B: ops.Kronecker(D(A), D(B)),
            np.kron,
        ),
        _of_arrays(
            "kronecker-three",
            lambda t, s: [general(s, 2, t), 2 + normal(s, (3,), t), general(s + 9, 2, t)],
            lambda A, d, B: ops.Kronecker(D(A), ops.Diagonal(d), D(B)),
            lambda A, d, B: _kron(A, np.diag(d), B),
        ),
        _of_arrays("kronsum", pair(general), lambda A, B: ops.KronSum(D(A), D(B)), _kronsum),
        _of_arrays("kronsum-psd", pair(psd), lambda A, B: ops.KronSum(dense_psd(A), dense_psd(B)), _kronsum),
        _of_arrays(
            "blockdiag",
            lambda t, s: [general(s, 2, t), general(s + 3, 3, t)],
            lambda A, B: ops.BlockDiag(D(A), D(B), multiplicities=(3, 1)),
            lambda A, B: _blocks(A, A, A, B),
        ),
        _of_arrays(
            "blockdiag-psd",
            lambda t, s: [psd(s, 2, t), psd(s + 3, 3, t)],
            lambda A, B: ops.BlockDiag(dense_psd(A), dense_psd(B), multiplicities=(1, 2)),
            lambda A, B: _blocks(A, B, B),
        ),
        _of_arrays(
            "blockdiag-rectangular",
            lambda t, s: [normal(s, (2, 3), t), normal(s + 1, (3, 1), t)],
            lambda A, B: ops.BlockDiag(D(A), D(B), multiplicities=(2, 1)),
            lambda A, B: _blocks(A, A, B),
        ),
        _of_arrays(
            "transpose", lambda t, s: [normal(s, (4, 6), t)], lambda M: ops.Transpose(D(M)), lambda M: M.T
        ),
        _of_arrays(
            "transpose-square", lambda t, s: [general(s, 5, t)], lambda M: ops.Transpose(D(M)), lambda M: M.T
        ),
        _of_arrays(
            "adjoint-selfadjoint",
            lambda t, s: [selfadjoint(s, 5, t)],
            lambda M: ops.Adjoint(SelfAdjoint(D(M))),
            lambda M: M,
        ),
        _of_arrays(
            "scaled-kronecker",
            pair(selfadjoint),
            lambda A, B: -2.0 * ops.Kronecker(SelfAdjoint(D(A)), SelfAdjoint(D(B))),
            lambda A, B: -2 * np.kron(A, B),
        ),
        _case(
            "scalar-psd",
            lambda put, t, s: PSD(ops.ScalarMul(put(np.asarray(2.5, t)), 4)),
            lambda t, s: 2.5 * np.eye(4),
        ),
        _of_arrays(
            "adjoint", lambda t, s: [general(s, 5, t)], lambda M: ops.Adjoint(D(M)), lambda M: M.conj().T
        ),
        _case(
            "sliced",
            lambda put, t, s: ops.Sliced(
                D(put(normal(s, (6, 5), t))), put(np.array([4, 0, 0, 2])), put(np.array([1, 3, 4]))
            ),
            lambda t, s: normal(s, (6, 5), t)[np.ix_([4, 0, 0, 2], [1, 3, 4])],
        ),
        _of_arrays(
            "sliced-principal",
            lambda t, s: [psd(s, 6, t)],
            lambda M: dense_psd(M)[1:5, 1:5],
            lambda M: M[1:5, 1:5],
        ),
        _of_arrays(
            "no-dispatch",
            pair(psd),
            lambda A, B: ops.no_dispatch(ops.Kronecker(dense_psd(A), dense_psd(B))),
            np.kron,
        ),
        _of_arrays(
            "inverse",
            lambda t, s: [general(s, 5, t)],
            _inverse,
            np.linalg.inv,
            capabilities=_inverse_capabilities(),
        ),
        _case("function", _function_operator, _function_dense, capabilities=_function_capabilities()),
        _of_arrays(
            "nested-kron-shift",
            pair(psd),
            lambda A, B: 2.0 * ops.Kronecker(dense_psd(A), dense_psd(B)) + 0.5 * ops.Identity(12),
            lambda A, B: 2 * np.kron(A, B) + 0.5 * np.eye(12, dtype=A.dtype),
        ),
        _of_arrays(
            "nested-lowrank-diagonal",
            lambda t, s: [normal(s, (9, 2), t), (1 + np.abs(normal(s + 1, (9,), t))).astype(t)],
            lambda U, d: ops.LowRank(U) + PSD(ops.Diagonal(d)),
            lambda U, d: U @ U.conj().T + np.diag(d),
        ),
        _of_arrays(
            "nested-blockdiag-kron",
            lambda t, s: [psd(s, 2, t), psd(s + 1, 2, t), psd(s + 2, 3, t)],
            lambda A, B, C: ops.BlockDiag(
                ops.Kronecker(dense_psd(A), dense_psd(B)), ops.KronSum(dense_psd(C))
            ),
            lambda A, B, C: _blocks(np.kron(A, B), C),
        ),
        _of_arrays(
            "nested-product-kron",
            pair(),
            lambda A, B: ops.Product(ops.Kronecker(D(A), D(B)), ops.Kronecker(D(B), D(A)).H),
            lambda A, B: np.kron(A, B) @ np.kron(B, A).conj().T,
        ),
        _of_arrays(
            "kronecker-batch",
            lambda t, s: [np.stack([general(s, 2, t), general(s + 1, 2, t)]), general(s + 2, 3, t)],
            lambda A, B: ops.Kronecker(D(A), D(B)),
            lambda A, B: np.stack([np.kron(a, B) for a in A]),
        ),
        _of_arrays(
            "kronsum-batch",
            lambda t, s: [np.stack([psd(s, 2, t), psd(s + 1, 2, t)]), psd(s + 2, 3, t)],
            lambda A, B: ops.KronSum(dense_psd(A), dense_psd(B)),
            lambda A, B: np.stack([_kronsum(a, B) for a in A]),
        ),
        _of_arrays(
            "blockdiag-batch",
            lambda t, s: [np.stack([general(s, 2, t), general(s + 1, 2, t)]), general(s + 2, 3, t)],
            lambda A, B: ops.BlockDiag(D(A), D(B), multiplicities=(2, 1)),
            lambda A, B: np.stack([_blocks(a, a, B) for a in A]),
        ),
    ]
    return out


def _inverse(M: Any) -> Any:
    from ..linalg import Inverse

    return Inverse(ops.Dense(M))


def _inverse_capabilities() -> Capabilities:
    return Capabilities(
        matrix_free=closed("the first product factorises the matrix it inverts"),
        torch_compile=closed(
            "a solve looks at its session, a context variable, which torch does not compile"
        ),
    )


def _function_operator(put: Any, dtype: str, seed: int) -> Any:
    M = put(general(seed, 6, dtype))
    be = _backend_of(M)
    return ops.FunctionOperator(
        lambda x: be.matmul(M, x),
        (6, 6),
        dtype,
        rmatvec=lambda y: be.matmul(be.adjoint(M), y),
        backend=be.name,
    )


def _backend_of(x: Any) -> Any:
    from ..backends import backend_of

    return backend_of(x)


def _function_dense(dtype: str, seed: int) -> Any:
    return general(seed, 6, dtype)


def _function_capabilities() -> Capabilities:
    return Capabilities(
        pickle=closed(_CLOSURE),
        moving=closed("a function cannot be moved to another library or precision"),
    )


def operator_cases() -> list[Case]:
    """All operators of the core."""
    return leaf_cases() + composed_cases()


def algorithm_cases() -> list[Case]:
    """All algorithms of the core."""
    from .. import algorithms as a

    one_by_one = closed("operators one by one, not in batches")
    quotient = closed("reverse-mode differentiation of this iteration is not offered")
    plain = only("float64", "complex128", reason="SuperLU is checked in double precision")
    return [
        _algorithm("cholesky", lambda: a.Cholesky(), ("solve", "slogdet", "cholesky"), "psd"),
        _algorithm("lu", lambda: a.LU(), ("solve", "slogdet"), "general"),
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
        _algorithm("eigh", lambda: a.Eigh(), ("eigh", "eigsh", "exp", "cube"), "selfadjoint"),
        _algorithm("eigh-psd", lambda: a.Eigh(), ("sqrt", "log"), "psd", max_condition=1e4),
        _algorithm("eig", lambda: a.Eig(), ("eig",), "general", max_condition=1e2),
        _algorithm("cg", lambda: a.CG(), ("solve",), "psd", max_condition=1e4),
        _algorithm(
            "gmres",
            lambda: a.GMRES(),
            ("solve",),
            "general",
            max_condition=1e4,
            expected_failures={
                "algorithm.tolerance@jax": "on JAX a restart cycle always runs to its end",
            },
        ),
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
                jit=closed("the number of restarts depends on values"),
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
        _algorithm("exact", lambda: a.Exact(bs=3), ("trace", "diag", "diag-above", "diag-below"), "general"),
        _algorithm(
            "hutchinson",
            lambda: a.Hutchinson(),
            ("trace", "diag"),
            "psd",
            max_condition=1e2,
        ),
        _algorithm(
            "slq",
            lambda: a.SLQ(),
            ("slogdet",),
            "psd",
            max_condition=1e2,
            starve={"samples": 2, "max_samples": 2, "tol": 1e-8},
            capabilities=Capabilities(batch=one_by_one, grad=quotient),
        ),
        _algorithm("scaling-squaring", lambda: a.ScalingSquaring(), ("exp",), "general"),
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


def cases() -> list[Case]:
    """Operators, algorithms, and every rule of the core on an operator where it steps in."""
    from .rule_checks import rule_cases

    operators = operator_cases()
    return operators + algorithm_cases() + rule_cases("core", operators)[0]
