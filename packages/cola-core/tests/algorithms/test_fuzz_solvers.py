"""Random problems of every kind for every algorithm: nothing wrong is called right, nothing is NaN without
saying so, and what cannot be answered is an error of ours by name."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.linalg as sl
from problems import grcar, indefinite, spectrum, with_singular_values, with_spectrum

import cola_core as cola
from cola_core import algorithms, ops, reasons
from cola_core.errors import ColaError, IllConditionedWarning, PropertyError, SingularMatrixError

DEFINITE = ("CG", "BlockCG")
SYMMETRIC = ("MINRES", "MINRESQLP")
GENERAL = ("GMRES", "FGMRES", "BiCGStab", "IDR", "LSQR", "LSMR", "CGLS")
SCALES = ((1.0, 1.0), (1e-9, 1e9), (1e12, 1e-200), (1e-150, 1.0))

quiet = pytest.mark.filterwarnings("ignore")


def matrices(n, rng):
    yield "definite", with_spectrum(spectrum("decaying", n, 1e3), int(rng.integers(99)))
    yield "step", with_spectrum(spectrum("step", n, 1e8), int(rng.integers(99)))
    yield "indefinite", with_spectrum(indefinite(n), 1)
    yield "singular", with_spectrum(np.where(np.arange(n) < n // 2, spectrum("decaying", n, 10), 0))
    yield "grcar", grcar(n)
    yield "random", rng.standard_normal((n, n))
    yield "multiple", 3 * np.eye(n)
    yield "zero", np.zeros((n, n))
    G = rng.standard_normal((n, n))
    yield "skew", G - G.T
    yield "nilpotent", np.eye(n, k=1)
    yield "permutation", np.eye(n)[rng.permutation(n)]
    yield "rank one", np.eye(n) + 10 * np.outer(G[0], G[-1]) / n
    yield "negative", -with_spectrum(spectrum("decaying", n, 1e3))


def wide(x):
    return np.asarray(x, dtype=np.result_type(x, np.float64))


def residual(A, X, B, scale, size):
    """The relative residual in double precision, worst column, at scales where nothing overflows."""
    A, B, X = wide(A) / scale, wide(B) / size, wide(X) / size * scale
    norms = np.linalg.norm(B, axis=0)
    return (np.linalg.norm(B - A @ X, axis=0) / np.where(norms > 0, norms, 1)).max()


def verdict(A, B, X, info, scale, size):
    """What is wrong with an answer, in words, or None."""
    X = np.asarray(X)
    if not np.isfinite(X).all():
        return "not finite"
    true = residual(A, X, B, scale, size)
    # of the residual that the dtype shows, this much is rounding
    length = np.linalg.norm(wide(A) / scale) * np.linalg.norm(wide(X) / size * scale, axis=0)
    against = np.linalg.norm(wide(B) / size, axis=0)
    noise = 2 * np.finfo(X.dtype).eps * (length / np.where(against > 0, against, 1)).max()
    if info.reason not in reasons.REASONS.values() or (info.reason == "converged") != bool(info.converged):
        return f"reason {info.reason!r}"
    if info.converged and not true <= 1.5 * info.tolerance + noise:
        return f"claims {info.residual:.1e}, is {true:.1e}"
    if not info.converged and true <= 0.5 * info.tolerance - noise:
        return f"says {info.reason}, is {true:.1e}"
    return None


@quiet
@pytest.mark.parametrize("dtype", ["float64", "float32", "complex128"])
@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_solvers_on_numpy(n, dtype):
    rng = np.random.default_rng(n)
    wrong = []
    for kind, M in matrices(n, rng):
        for scale, size in SCALES:
            if dtype == "float32" and not 1e-30 < scale * size < 1e30:
                continue
            if scale != 1 and rng.random() < 0.4:
                continue
            A = (M * scale).astype(dtype)
            if dtype == "complex128":
                turn = np.exp(1j * rng.standard_normal(n))
                A = turn[:, None] * A * turn.conj()
            B = rng.standard_normal((n, 3))
            B[:, 1] = 0
            B = ((M @ B if kind == "singular" else B) * size).astype(dtype)
            symmetric = np.allclose(A / scale, A.conj().T / scale)
            for name in (*(DEFINITE + SYMMETRIC if symmetric else ()), *GENERAL):
                declare = cola.PSD if name in DEFINITE else cola.SelfAdjoint if name in SYMMETRIC else list
                op = ops.Dense(A) if declare is list else declare(ops.Dense(A))
                X, info = cola.solve(
                    op, B, getattr(cola, name)(max_iters=150), return_info=True, on_failure="ignore"
                )
                found = verdict(A, B, X, info, scale, size)
                if found:
                    wrong.append(f"{name} {kind} {scale:g} {size:g}: {found}")
    assert not wrong, "\n".join(wrong)


@quiet
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_solvers_elsewhere(library, backend):
    n, wrong = 5, []
    rng = np.random.default_rng(0)
    names = DEFINITE + SYMMETRIC + GENERAL if library == "torch" else ("BiCGStab", "LSQR")
    for kind, M in matrices(n, rng):
        if library == "jax" and kind not in ("nilpotent", "singular", "random"):
            continue
        B = rng.standard_normal((n, 3))
        B[:, 1] = 0
        for scale, size in ((1.0, 1.0), (1e12, 1e-200)):
            for name in names:
                if name in DEFINITE + SYMMETRIC and not np.allclose(M, M.T):
                    continue
                op = ops.Dense(backend.asarray(M * scale))
                if name in DEFINITE + SYMMETRIC:
                    op = cola.PSD(op) if name in DEFINITE else cola.SelfAdjoint(op)
                X, info = cola.solve(
                    op,
                    backend.asarray(B * size),
                    getattr(cola, name)(max_iters=100),
                    return_info=True,
                    on_failure="ignore",
                )
                found = verdict(M * scale, B * size, backend.to_numpy(X), info, scale, size)
                if found:
                    wrong.append(f"{name} {kind} {scale:g} {size:g}: {found}")
    assert not wrong, "\n".join(wrong)


def test_a_reason_is_the_first_cause():
    """The swap has no positive curvature to walk along; it is not singular."""
    A = cola.PSD(ops.Dense(np.array([[0.0, 1.0], [1.0, 0.0]])))
    for b in ([1.0, 1e-17], [1.0, -0.5], [1.0, 1e-9]):
        _, info = cola.solve(A, np.array(b), cola.CG(), return_info=True, on_failure="ignore")
        assert info.converged or info.reason == reasons.REASONS[reasons.INDEFINITE], (b, info.reason)


# -- least squares -------------------------------------------------------------------------------------------
@quiet
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (3, 7), (30, 12)])
def test_least_squares(shape):
    m, n = shape
    rng, wrong = np.random.default_rng(m), []
    low = rng.standard_normal((m, 2)) @ rng.standard_normal((2, n))
    empty = rng.standard_normal((m, n)) * (np.arange(n) % 2)
    kinds = {
        "random": rng.standard_normal((m, n)),
        "low rank": low,
        "zero": np.zeros((m, n)),
        "step": with_singular_values(spectrum("step", min(m, n), 1e3), m, n),
        "empty columns": empty,
    }
    for kind, A in kinds.items():
        b = rng.standard_normal((m, 3))
        b[:, 1] = 0
        for damp in (0.0, 0.5):
            tall = np.vstack([A, damp * np.eye(n)]) if damp else A
            right = np.vstack([b, np.zeros((n, 3))]) if damp else b
            want = np.linalg.pinv(tall, rcond=1e-11) @ right
            for scale, size in (*SCALES, (1e-150, 1e-200), (1e150, 1e100)):
                for name in ("LSQR", "LSMR", "CGLS", "LSTSQ"):
                    if damp and name == "LSTSQ":
                        continue
                    alg = getattr(cola, name)(**({"damp": damp * scale} if damp else {}))
                    x, info = cola.lstsq(
                        cola.no_dispatch(ops.Dense(A * scale)),
                        b * size,
                        alg,
                        return_info=True,
                        on_failure="ignore",
                    )
                    got = np.asarray(x) / size * scale
                    error = np.linalg.norm(got - want) / max(np.linalg.norm(want), 1.0)
                    if not info.converged or not error <= 1e-4:
                        wrong.append(f"{name} {kind} {damp} {scale:g} {size:g}: {info.reason} {error:.1e}")
    assert not wrong, "\n".join(wrong)


def test_least_squares_in_single_precision_without_overflow():
    """The squares of x = 1e22 leave the range; that must not look like a solution."""
    A = with_singular_values(np.logspace(0, -4, 3), 3, 7).astype("float32") * np.float32(1e-9)
    b = np.float32(1e9) * np.array([[1.0], [-2.0], [0.5]], "float32")
    for name in ("LSQR", "LSMR", "CGLS"):
        x, info = cola.lstsq(A, b, getattr(cola, name)(), return_info=True, on_failure="ignore")
        true = np.linalg.norm(wide(b) - wide(A) @ wide(x)) / np.linalg.norm(wide(b))
        assert not info.converged or true < 0.1, (name, true, info)


# -- eigenvalues ---------------------------------------------------------------------------------------------
def symmetric(n, rng):
    v = rng.standard_normal(n)
    yield "definite", with_spectrum(spectrum("decaying", n, 1e3), 3)
    yield "indefinite", with_spectrum(indefinite(n), 1)
    yield "multiple", with_spectrum(np.resize([1.0, 2.0, -3.0], n), 2)
    yield "identity", 3 * np.eye(n)
    yield "zero", np.zeros((n, n))
    yield "rank one", np.outer(v, v)
    yield "ones", np.ones((n, n))


@quiet
@pytest.mark.parametrize("scale", [1.0, 1e-160, 1e200])
@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_eigenvalues(n, scale):
    rng, wrong = np.random.default_rng(n), []
    for kind, M in symmetric(n, rng):
        every = np.linalg.eigvalsh(M)
        top = np.abs(every).max() or 1.0
        for k in sorted({1, min(3, n), min(n, 5)}):
            for alg in (cola.Lanczos(), cola.LOBPCG(), cola.Davidson()):
                which = "LA" if rng.random() < 0.5 else "SA"
                A = cola.no_dispatch(cola.SelfAdjoint(ops.Dense(M * scale)))
                (w, V), info = cola.eigh(A, k, which, alg, return_info=True, on_failure="ignore")
                w, V = np.asarray(w) / scale, np.asarray(V.to_dense())
                want = every[-k:] if which == "LA" else every[:k]
                bad = np.abs(np.sort(w) - want).max() > 1e-7 * top
                bad = bad or np.abs(V.T @ V - np.eye(k)).max() > 1e-8
                if not np.isfinite(V).all() or (info.converged and bad) or not info.converged:
                    wrong.append(f"{type(alg).__name__} {kind} {k} {which}: {info.reason} {w} {want}")
    assert not wrong, "\n".join(wrong)


@quiet
@pytest.mark.parametrize("scale", [1.0, 1e-160])
@pytest.mark.parametrize("n", [2, 5, 12])
def test_general_eigenvalues(n, scale):
    rng, wrong = np.random.default_rng(n), []
    for kind, M in matrices(n, rng):
        if kind in ("nilpotent", "grcar"):
            continue
        every = np.linalg.eigvals(M)
        norm = np.linalg.norm(M, 2) or 1.0
        for k in sorted({1, min(2, n), n}):
            for alg in (cola.Arnoldi(), cola.KrylovSchur()):
                op = cola.no_dispatch(ops.Dense(M * scale))
                (w, V), info = cola.eig(op, k, "LM", alg, return_info=True, on_failure="ignore")
                w, V = np.asarray(w) / scale, np.asarray(V.to_dense())
                fine = np.isfinite(V).all() and np.abs(np.linalg.norm(V, axis=0) - 1).max() < 1e-6
                fine = fine and np.linalg.norm(M @ V - V * w) < 1e-6 * norm
                sizes = np.sort(np.abs(every))[::-1][:k]
                fine = fine and np.abs(np.sort(np.abs(w))[::-1] - sizes).max() < 1e-5 * norm
                if not fine:
                    wrong.append(f"{type(alg).__name__} {kind} {k}: {info.reason}")
    assert not wrong, "\n".join(wrong)


# -- functions -----------------------------------------------------------------------------------------------
FUNCTIONS = {
    "exp": (cola.exp, np.exp),
    "log": (cola.log, np.log),
    "sqrt": (cola.sqrt, np.sqrt),
    "isqrt": (cola.isqrt, lambda w: w**-0.5),
    "sign": (cola.sign, np.sign),
    "cos": (cola.cos, np.cos),
    "power": (lambda A, alg: cola.pow(A, -0.3, alg), lambda w: w**-0.3),
}
ANSWER = [
    name
    for name in algorithms.__all__
    if isinstance(getattr(algorithms, name), type) and hasattr(getattr(algorithms, name), "apply_unary")
]


@quiet
@pytest.mark.parametrize("name", ANSWER)
def test_an_algorithm_computes_the_function_or_refuses(name):
    """Asked for in person, an algorithm for one function does not answer for another."""
    M = with_spectrum(np.linspace(0.7, 3, 6), 5)
    w, Q = np.linalg.eigh(M)
    A = cola.no_dispatch(cola.PSD(ops.Dense(M)))
    answered = 0
    for f, (question, g) in FUNCTIONS.items():
        try:
            got = question(A, getattr(algorithms, name)()) @ np.eye(6)
        except (ColaError, NotImplementedError):
            continue
        answered += 1
        assert np.abs(got - (Q * g(w)) @ Q.T).max() < 1e-6, f
    assert answered


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_imaginary_parts_are_not_dropped(dtype):
    """log(-1e-9) has an imaginary part of a seventh of its size."""
    for n, value in ((1, -1e-9), (2, -0.3)):
        A = cola.no_dispatch(ops.Dense(np.diag([value, 1.0][:n]).astype(dtype)))
        for question in (cola.log, cola.sqrt):
            with pytest.raises(PropertyError, match="not real"):
                question(A, cola.Eig())


def test_a_sign_on_the_imaginary_axis_is_refused():
    for n, dtype in ((2, "float64"), (6, "float64"), (6, "float32")):
        for seed in range(4):
            G = np.random.default_rng(seed).standard_normal((n, n)).astype(dtype)
            with pytest.raises(PropertyError, match="imaginary axis"):
                cola.sign(cola.no_dispatch(ops.Dense(G - G.T)))


def test_signs_off_the_axis_are_found():
    rng = np.random.default_rng(1)
    for dtype, near in (("float64", 1e-6), ("float32", 1e-2)):
        for n in (2, 9, 30):
            V = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.linspace(1, 3, n)
            signs = np.where(np.arange(n) % 2, 1.0, -1.0)
            M = (V * (signs * np.logspace(np.log10(near), 0, n))) @ np.linalg.inv(V)
            S = cola.sign(cola.no_dispatch(ops.Dense(M.astype(dtype)))).to_dense()
            want = (V * signs) @ np.linalg.inv(V)
            assert np.abs(S - want).max() < (1e-6 if dtype == "float64" else 1e-1)


# -- estimators ----------------------------------------------------------------------------------------------
@quiet
@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e-160, 1e200])
def test_estimates_are_within_their_errors(scale):
    rng = np.random.default_rng(4)
    v = rng.standard_normal(20)
    kinds = {
        "decaying": with_spectrum(spectrum("decaying", 20, 1e3), 1),
        "step": with_spectrum(spectrum("step", 20, 1e4), 1),
        "identity": 3 * np.eye(20),
        "rank one": np.outer(v, v),
        "zero": np.zeros((20, 20)),
    }
    wrong = []
    for kind, M in kinds.items():
        A = cola.no_dispatch(cola.PSD(ops.Dense(M * scale)))
        for name in ("Hutchinson", "HutchPP", "XTrace", "XNysTrace", "XDiag"):
            question, want = (cola.diag, np.diag(M)) if name == "XDiag" else (cola.trace, np.trace(M))
            errors = []
            for key in range(6):
                alg = getattr(cola, name)(key=key)
                got, info = question(A, alg=alg, return_info=True, on_failure="ignore")
                error = np.linalg.norm(np.asarray(got) / scale - want)
                told = np.linalg.norm(np.asarray(info.standard_error) / scale)
                errors.append(np.isfinite(error) and error <= 4 * told + 1e-9 * np.abs(M).max())
            if np.mean(errors) < 0.8:
                wrong.append(f"{name} {kind}")
        got, info = cola.diag(A, alg=cola.Hutchinson(), return_info=True, on_failure="ignore")
        error = np.linalg.norm(np.asarray(got) / scale - np.diag(M))
        if not error <= 4 * float(info.standard_error) / scale + 1e-9 * np.abs(M).max():
            wrong.append(f"diag Hutchinson {kind}")
    assert not wrong, wrong


# -- direct solvers ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [1, 3, 30])
def test_direct_solvers(n):
    rng, wrong = np.random.default_rng(n), []
    kinds = dict(matrices(n, rng))
    kinds["hilbert"] = sl.hilbert(n)
    kinds["hollow"] = (lambda G: (G + G.T) * (1 - np.eye(n)))(rng.standard_normal((n, n)))
    for kind, M in kinds.items():
        singular = np.linalg.svd(M)[1][-1] <= 1e-14 * np.abs(M).max()
        for scale, size in ((1.0, 1.0), (1e-150, 1.0), (1e140, 1e-150), (1e-250, 1e-250)):
            for alg in (
                cola.LU(),
                cola.Cholesky(),
                cola.LDL(),
                cola.QR(),
                cola.SVD(),
                cola.IterativeRefinement(),
            ):
                name = type(alg).__name__
                if name in ("Cholesky", "LDL") and not np.allclose(M, M.T):
                    continue
                op = ops.Dense(M * scale)
                op = cola.PSD(op) if name == "Cholesky" else op
                b = rng.standard_normal((n, 2)) * size
                b[:, 1] = 0
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    try:
                        x, info = cola.solve(
                            cola.no_dispatch(op), b, alg, return_info=True, on_failure="ignore"
                        )
                    except ColaError as error:
                        definite = name != "Cholesky" or np.linalg.eigvalsh(M)[0] > 0
                        if np.linalg.cond(M) < 1e6 and definite:
                            wrong.append(f"{name} {kind} {scale:g}: {error!r:.150}")
                        continue
                told = any(issubclass(w.category, IllConditionedWarning) for w in seen)
                other = [str(w.message) for w in seen if not issubclass(w.category, IllConditionedWarning)]
                if other:
                    wrong.append(f"{name} {kind} {scale:g}: warns {other[0]}")
                if not np.isfinite(x).all() and info.converged:
                    wrong.append(f"{name} {kind} {scale:g}: not finite")
                elif (
                    not told
                    and info.converged
                    and (singular or residual(op.to_dense(), x, b, scale, size) > 1e-6)
                ):
                    wrong.append(f"{name} {kind} {scale:g}: wrong in silence")
    assert not wrong, "\n".join(wrong)


def test_singular_values_of_zero_are_an_error():
    with pytest.raises(SingularMatrixError, match="singular value"):
        cola.solve(np.diag([1.0, 0.0]), np.ones(2), cola.SVD())


def test_a_jitter_is_a_number():
    for jitter in (True, -1e-3, float("nan")):
        with pytest.raises(ValueError, match="jitter"):
            cola.Cholesky(jitter=jitter)


def test_norms_of_complex_numbers_next_to_zero(backend):
    """Complex quotients of denormal numbers form squares that underflow."""
    x = backend.asarray(np.array([[3e-310 + 4e-310j]]))
    if backend.name == "numpy":
        assert abs(float(backend.frobenius(x, axis=-2)[0]) / 5e-310 - 1) < 1e-6
    y = backend.asarray(np.array([[3e-200 + 4e-200j]]))
    assert abs(float(backend.frobenius(y, axis=-2)[0]) / 5e-200 - 1) < 1e-12
