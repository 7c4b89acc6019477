"""Batches of operators answer every question as the stack of their members does.

Every operator of the zoo is built from stacked arrays, with the batch axes on all arrays, on one, or on
different ones that broadcast; each answer is compared, member by member, with the dense one.
"""

from __future__ import annotations

import warnings
import zlib

import numpy as np
import pytest
import scipy.linalg as sl
from compare import fractional_power, sqrtm
from zoo import DTYPES, ZOO, installed
from zoo.common import draw, spd, sym, well

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import Auto
from cola_core.backends import get_backend
from cola_core.dispatch.registry import REGISTRY
from cola_core.operators import LinearOperator
from cola_core.testing.compare import close, eps_of, host
from cola_core.testing.probes import PROBES


def sparse_one_pattern(rng, c):
    rows, cols = np.array([0, 1, 2, 3, 4, 0, 2, 3]), np.array([0, 1, 2, 3, 4, 3, 1, 0])
    v = draw(rng, 8, cplx=c) + np.array([5, 5, 5, 5, 5, 0, 0, 0])
    return lambda f: ops.Sparse(f(v), rows, cols, (5, 5)), None


def sparse_sum(rng, c):
    rows, cols = np.array([0, 1, 2, 3, 0]), np.array([0, 1, 2, 3, 3])
    v, d = draw(rng, 5, cplx=c) + 5, draw(rng, 4, cplx=c)
    return lambda f: ops.Sparse(f(v), rows, cols, (4, 4)) @ ops.Diagonal(f(d)) + ops.Diagonal(f(d)), None


def scaled_by_array(rng, c):
    a, s = well(rng, 4, c), draw(rng, cplx=c) + 2
    return lambda f: ops.ScalarMul(f(np.asarray(s)), 4) @ ops.Dense(f(a)), None


def scaled_kron(rng, c):
    a, b, s = well(rng, 2, c), well(rng, 3, c), draw(rng, cplx=c) + 2
    return lambda f: ops.ScalarMul(f(np.asarray(s)), 6) @ cola.kron(f(a), f(b)), None


def adjoint(rng, c):
    a = well(rng, 3, c)
    return lambda f: ops.Transpose(cola.no_dispatch(ops.Dense(f(a)))) @ ops.Dense(f(a)).H, None


def real_part(rng, c):
    a = well(rng, 4, True)
    return lambda f: ops.RealPart(ops.Dense(f(a))), None


def tridiagonal_psd(rng, c):
    b, g = np.abs(draw(rng, 5)) + 6, draw(rng, 4, cplx=c)

    def build(f):
        G = f(g)
        return cola.PSD(ops.Tridiagonal(G.conj(), f(b), G))

    return build, None


def dense_wide(rng, c):
    a = draw(rng, 3, 5, cplx=c)
    return lambda f: ops.Dense(f(a)), None


def dense_tall(rng, c):
    a = draw(rng, 5, 3, cplx=c)
    return lambda f: ops.Dense(f(a)), None


def concatenated_wide(rng, c):
    a, b = draw(rng, 3, 2, cplx=c), draw(rng, 3, 4, cplx=c)
    return lambda f: ops.Concatenated(f(a), f(b), axis=-1), None


def lazy_inverse(rng, c):
    a, b = well(rng, 4, c), well(rng, 4, c)
    return lambda f: cola.inv(cola.no_dispatch(ops.Dense(f(a)))) @ ops.Dense(f(b)), None


def kron_of_diagonals(rng, c):
    a, b, d = draw(rng, 2, cplx=c) + 3, draw(rng, 3, cplx=c) + 3, well(rng, 2, c)
    return lambda f: cola.kron(ops.Diagonal(f(a)), ops.Diagonal(f(b)), f(d)), None


def kron_permuted(rng, c):
    a, b = well(rng, 2, c), well(rng, 3, c)

    def build(f):
        A = f(a)
        P = ops.Permutation(cola.backends.backend_of(A).asarray(np.array([3, 1, 0, 5, 2, 4])))
        return P @ cola.kron(A, f(b))

    return build, None


def blockdiag_of_kron(rng, c):
    a, b, d = spd(rng, 2, c), spd(rng, 2, c), np.abs(draw(rng, 3)) + 1
    return (
        lambda f: cola.block_diag(cola.kron(cola.PSD(f(a)), cola.PSD(f(b))), cola.PSD(ops.Diagonal(f(d)))),
        None,
    )


def blockdiag_many(rng, c):
    parts = [spd(rng, 2, c) for _ in range(5)]
    return lambda f: cola.block_diag(*(cola.PSD(ops.Dense(f(p))) for p in parts)), None


def toeplitz_kron(rng, c):
    a, b = draw(rng, 3, cplx=c) / 4 + np.array([3, 0, 0]), spd(rng, 2, c)
    return lambda f: cola.kron(cola.SelfAdjoint(ops.Toeplitz(f(a.real + 0 * a))), cola.PSD(f(b))), None


def lowrank_sum(rng, c):
    u, v, d = draw(rng, 6, 2, cplx=c), draw(rng, 6, 1, cplx=c), np.abs(draw(rng, 6)) + 1
    return lambda f: ops.LowRank(f(u)) + ops.LowRank(f(v)) + cola.PSD(ops.Diagonal(f(d))), None


def householder_pair(rng, c):
    v, w = draw(rng, 4, cplx=c), draw(rng, 4, cplx=c)
    return lambda f: ops.Householder(f(v)) @ ops.Householder(f(w)), None


def projection(rng, c):
    q = np.linalg.qr(draw(rng, 5, 2, cplx=c))[0]
    return lambda f: ops.Projection(cola.Stiefel(f(q))), None


def product_of_three(rng, c):
    a, b, d = well(rng, 4, c), sym(rng, 4, c), draw(rng, 4, cplx=c) + 3
    return lambda f: ops.Dense(f(a)) @ cola.SelfAdjoint(ops.Dense(f(b))) @ ops.Diagonal(f(d)), None


def similarity_psd(rng, c):
    a, d = well(rng, 4, c), np.abs(draw(rng, 4)) + 1

    def build(f):
        A = ops.Dense(f(a))
        return A.H @ cola.PSD(ops.Diagonal(f(d))) @ A

    return build, None


def kernel_pair(rng, c):
    x, y = rng.normal(size=(4, 2)), rng.normal(size=(4, 2))
    return lambda f: ops.Kernel(f(x), f(y), _near, 3, 2) + ops.Identity(4), None


def _near(a, b):
    return 1 / (1 + (a * a).sum(-1)[:, None] + (b * b).sum(-1)[None, :] - 2 * a @ b.T)


MORE = (
    sparse_one_pattern, sparse_sum, scaled_by_array, scaled_kron, adjoint, real_part, tridiagonal_psd,
    dense_wide, dense_tall, concatenated_wide, lazy_inverse, kron_of_diagonals, kron_permuted,
    blockdiag_of_kron, blockdiag_many, toeplitz_kron, lowrank_sum, householder_pair, projection,
    product_of_three, similarity_psd, kernel_pair,
)  # fmt: skip

TABLE = {k: v for k, v in ZOO.items() if k not in ("sparse", "transform", "permutation", "zero")}
TABLE |= {f.__name__: f for f in MORE}

ONE_MATRIX = ("nullspace", "orth")  # the dimensions of a batch differ: refused

PATTERNS = {
    "all": lambda i, count: (2,),
    "mixed": lambda i, count: (3,) if i % 2 else (2, 1),
    "first": lambda i, count: (2,) if i == 0 else (),
    "last": lambda i, count: (2,) if i == count - 1 else (),
}


def batched(name, backend, dtype, pattern):
    """The operator with batches put on its arrays by the pattern, its members by index, and the batch.

    None three times where the pattern says nothing new (an operator of one array).
    """
    seed = zlib.crc32(name.encode()) % 1000
    cplx = "complex" in dtype
    draws = []
    for k in range(6):
        given = []
        build, _ = TABLE[name](np.random.default_rng(seed + k), cplx)

        def note(x, given=given):
            given.append(np.asarray(x).astype(dtype if np.asarray(x).dtype.kind != "c" else _complex(dtype)))
            return backend.asarray(given[-1])

        build(note)
        draws.append(given)
    build, _ = TABLE[name](np.random.default_rng(seed), cplx)
    count = len(draws[0])
    shapes = [PATTERNS[pattern](i, count) for i in range(count)]
    if count == 1 and pattern in ("first", "last"):
        return None, None, None
    B = np.broadcast_shapes(*shapes)
    stacks = [
        np.stack([draws[k][i] for k in range(int(np.prod(s)))]).reshape((*s, *draws[0][i].shape))
        for i, s in enumerate(shapes)
    ]

    def give(arrays):
        rest = iter(arrays)
        return build(lambda x: backend.asarray(next(rest)))

    members = {}
    for index in np.ndindex(B):
        mine = []
        for s, x in zip(shapes, stacks, strict=True):
            own = index[len(index) - len(s) :]
            mine.append(x[tuple(0 if n == 1 else j for n, j in zip(s, own, strict=True))])
        members[index] = give(mine)
    A = give(stacks)
    assert A.batch_shape == B
    return A, members, B


def _complex(dtype):
    return {"float64": "complex128", "float32": "complex64"}.get(dtype, dtype)


def _wide(dtype):
    return np.complex128 if "complex" in dtype else np.float64


def _leaves(answer):
    return answer if isinstance(answer, tuple) else (answer,)


def check_probe(probe, A, members, B, backend, dtype, alg=Auto()):
    """The batch's answer is the stack of the dense answers, in shape too; or a refusal that names itself."""
    dense = {i: host(a.to_dense()).astype(_wide(dtype)) for i, a in members.items()}
    if probe.name in ONE_MATRIX or not all(probe.suits(a, dense[i]) for i, a in members.items()):
        return
    first = next(iter(members))
    operands = probe.operands(members[first], dense[first], backend, dtype, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = _leaves(probe.question.run(A, *operands, alg=alg, on_failure="raise"))
        single = _leaves(probe.question.run(members[first], *operands, alg=alg, on_failure="raise"))
    assert len(answer) == len(single)
    arrays = []
    for whole, one in zip(answer, single, strict=True):
        core = np.shape(host(one)) if not isinstance(one, LinearOperator) else tuple(one.shape)
        got = host(whole)
        lead, tail = got.shape[: got.ndim - len(core)], got.shape[got.ndim - len(core) :]
        if probe.name == "sample":
            assert got.shape == (*core[:-1], *B, core[-1])
            return
        if probe.name == "root":  # some roots are not square
            core = tail = (core[0], got.shape[-1])
        assert tail == core, f"shape {got.shape} for a batch of {B} with members of {core}"
        if isinstance(whole, LinearOperator) or probe.name == "root":
            np.broadcast_shapes(lead, B)
        else:
            assert lead == B, f"shape {got.shape} for a batch of {B} with members of {core}"
        arrays.append(np.broadcast_to(got, (*B, *core)))
    for index, a in members.items():
        M = dense[index]
        mine = tuple(x[index] for x in arrays)
        mine = mine[0] if len(mine) == 1 else mine
        got = probe.arrays(a, M, mine, operands)
        want = probe.dense(M, operands)
        # an iteration ends at a residual of its own, relative to the right-hand side
        left = 1e-8 if getattr(alg, "kind", "direct") == "iterative" else 0.0
        tol = max(1e3 * eps_of(dtype) * max(M.shape), left) * probe.sensitivity(M)
        for g, w in zip(got, want, strict=True):
            size = np.abs(w).max(initial=0.0) or np.abs(M).max(initial=0.0)
            close(g, w, f"{probe.name} of member {index}", tol, float(max(size, 1.0)))


def _right(dtype, *shape):
    x = np.random.default_rng(5).normal(size=shape)
    return (x + 0.5j * x[..., ::-1] if "complex" in dtype else x).astype(dtype)


PRODUCTS = ("vector", "matrix", "batch", "broadcast", "solve-vector", "solve-batch", "solve-broadcast",
            "lstsq-vector", "lstsq-batch", "quad-vector", "quad-batch", "adjoint", "transpose",
            "exp-action", "inv-quad", "sample", "index", "arithmetic")  # fmt: skip


def check_product(name, A, members, B, backend, dtype):
    D = np.stack([host(a.to_dense()) for a in members.values()])
    D = D.reshape(*B, *D.shape[1:])
    m, n = A.shape[-2:]
    what = name.split("-")[-1]
    rows = m if name.startswith("lstsq") else n
    shape = {"vector": (rows,), "matrix": (rows, 2), "batch": (*B, rows, 2)}.get(
        what, (3, *[1] * len(B), rows, 2)
    )
    x = _right(dtype, *shape)
    X = x[:, None] if x.ndim == 1 else x
    v = backend.asarray(x)
    square = m == n
    cond = max(np.linalg.cond(D).max(), 1.0) if D.size else 1.0

    def same(got, want, sens=1.0):
        want = want[..., 0] if x.ndim == 1 and not name.startswith(("quad", "inv-quad")) else want
        close(host(got), want, name, 1e3 * eps_of(dtype) * n * sens)

    H = np.conj(np.swapaxes(D, -1, -2))
    if name in ("vector", "matrix", "batch", "broadcast"):
        same(A @ v, D @ X)
    elif name == "adjoint":
        y = _right(dtype, 3, *[1] * len(B), m, 2)
        close(host(A.H @ backend.asarray(y)), H @ y, name, 1e3 * eps_of(dtype) * n)
        y = _right(dtype, m)
        close(host(A.H @ backend.asarray(y)), (H @ y[:, None])[..., 0], name, 1e3 * eps_of(dtype) * n)
    elif name == "transpose":
        y = _right(dtype, *B, m, 2)
        close(host(A.T @ backend.asarray(y)), np.swapaxes(D, -1, -2) @ y, name, 1e3 * eps_of(dtype) * n)
    elif name.startswith("solve"):
        if square and cond < 1e6:
            same(
                cola.solve(A, v),
                np.linalg.solve(
                    D, np.broadcast_to(X, (*np.broadcast_shapes(X.shape[:-2], B), *X.shape[-2:]))
                ),
                cond,
            )
    elif name.startswith("lstsq"):
        s = np.linalg.svd(D, compute_uv=False)
        s = s[s > 1e-5 * s.max()]
        if s.min() > 1e-3 * s.max():
            same(cola.lstsq(A, v), np.linalg.pinv(D, rcond=1e-5) @ X, (s.max() / s.min()) ** 2)
    elif name.startswith("quad"):
        if square:
            want = np.sum(np.conj(X) * (D @ X), axis=-2)
            same(cola.quad_form(A, v), want[..., 0] if x.ndim == 1 else want)
    elif name == "inv-quad":
        if square and cond < 1e6:
            y = _right(dtype, n)
            q, ld = cola.inv_quad_logdet(A, backend.asarray(y))[0], cola.logdet(A)
            want = np.sum(
                np.conj(y[:, None]) * np.linalg.solve(D, np.broadcast_to(y[:, None], (*B, n, 1))), axis=-2
            )[..., 0]
            close(host(q), want, name, 1e3 * eps_of(dtype) * n * cond, 1.0)
            assert tuple(ld.shape) == B
    elif name == "exp-action":
        if square and np.abs(D).max() < 20:
            y = _right(dtype, 3, *[1] * len(B), n, 2)
            E = sl.expm(D.astype(complex))
            close(
                host(cola.exp(A) @ backend.asarray(y)),
                E @ y,
                name,
                1e4 * eps_of(dtype) * n * (1 + np.abs(D).sum(-1).max()),
            )
            y = y[(0,) * (y.ndim - 2)][:, 0]
            close(
                host(cola.exp(A) @ backend.asarray(y)),
                E @ y,
                name,
                1e4 * eps_of(dtype) * n * (1 + np.abs(D).sum(-1).max()),
            )
    elif name == "sample":
        if A.isa(cola.PSD):
            draws = cola.sample(A, 0, shape=(3, 1))
            assert tuple(draws.shape) == (3, 1, *B, n)
    elif name == "index":
        if m < 2 or n < 2:
            return
        close(host(A[..., 0]), D[..., 0], name, 1e3 * eps_of(dtype) * n)
        close(host(A[..., 1, :]), D[..., 1, :], name, 1e3 * eps_of(dtype) * n)
        close(host(A[..., 1, 0]), D[..., 1, 0], name, 1e3 * eps_of(dtype) * n)
        close(host(A[..., :2, 1:].to_dense()), D[..., :2, 1:], name, 1e3 * eps_of(dtype) * n)
    elif name == "arithmetic":
        t = 1e3 * eps_of(dtype) * n
        close(host((2 * A - A).to_dense()), D, name, t)
        c = backend.asarray(_right(dtype, *B))
        close(host((c * A).to_dense()), _right(dtype, *B)[..., None, None] * D, name, t)
        close(host((A.H @ A).to_dense()), H @ D, name, t)
        close(
            host(cola.kron(A, ops.Diagonal(backend.asarray(_right(dtype, 2)))).to_dense()),
            np.stack([np.kron(D[i], np.diag(_right(dtype, 2))) for i in np.ndindex(B)]).reshape(
                *B, 2 * m, 2 * n
            ),
            name,
            t,
        )
        close(host(cola.block_diag(A, A).to_dense())[..., :m, :n], D, name, t)
        one = ops.Dense(backend.asarray(_right(dtype, m, n)))
        close(host((A + one).to_dense()), D + _right(dtype, m, n), name, t)
        close(host(A.conj().to_dense()), D.conj(), name, t)
        if square:
            close(host((A + ops.Identity(n)).to_dense()), D + np.eye(n), name, t)
            close(host((A @ A).to_dense()), D @ D, name, t)
            close(host(cola.trace(A)), np.trace(D, axis1=-2, axis2=-1), name, t)


def _cases():
    """Every operator with every pattern on NumPy in double precision; a share of them elsewhere."""
    for i, name in enumerate(TABLE):
        for j, pattern in enumerate(PATTERNS):
            yield name, "numpy", "float64", pattern
            if j == i % len(PATTERNS):
                yield name, "numpy", ("complex64", "complex128", "float32")[i % 3], pattern
            if j == i % 2 and i % 3 == 0:
                yield name, "torch", DTYPES[i % len(DTYPES)], pattern
            if j == 1 and name in ("dense", "toeplitz"):
                yield name, "jax", "float64", pattern


def _marked():
    for name, library, dtype, pattern in _cases():
        absent = pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
        label = f"{name}-{library}-{dtype}-{pattern}"
        yield pytest.param((name, library, dtype, pattern), id=label, marks=absent)


@pytest.mark.parametrize("case", list(_marked()))
def test_batches(case):
    name, library, dtype, pattern = case
    backend = get_backend(library)
    A, members, B = batched(name, backend, dtype, pattern)
    if A is None:
        return
    probes = list(PROBES.values())
    products = list(PRODUCTS)
    if library == "jax":  # every shape is compiled anew
        probes, products = [PROBES[q] for q in ("solve", "slogdet", "eigvals", "svdvals")], products[:4]
    wrong = []
    for what, check in [(p.name, check_probe) for p in probes] + [(c, check_product) for c in products]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                subject = PROBES[what] if check is check_probe else what
                check(subject, A, members, B, backend, dtype)
            except Exception as error:  # noqa: BLE001 - all that is wrong in one report
                wrong.append(f"{what}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("hidden", [False, True], ids=["shown", "hidden"])
@pytest.mark.parametrize(
    "name", ["dense_psd", "dense", "banded_psd", "toeplitz_psd", "sparse_one_pattern", "dense_wide"]
)
def test_algorithms(name, hidden):
    """An algorithm asked for by name answers a batch, or says that it does not take batches."""
    backend = get_backend("numpy")
    A, members, B = batched(name, backend, "float64", "all")
    cola.trace(ops.Dense(np.eye(1)))  # the registry is filled by the first question
    if hidden:
        A, members = cola.no_dispatch(A), {i: cola.no_dispatch(a) for i, a in members.items()}
    one = members[(0,)]
    for probe in PROBES.values():
        for entry in REGISTRY.algorithms.get(probe.question.name, []):
            alg = entry.cls()
            if alg.kind == "stochastic":
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    check_probe(probe, one, {(): one}, (), backend, "float64", alg)
                except Exception:  # noqa: BLE001 - not for this operator
                    continue
                try:
                    check_probe(probe, A, members, B, backend, "float64", alg)
                except NotImplementedError as error:
                    text = str(error)
                    assert "does not support batches" in text, text
                    assert text.startswith(type(alg).__name__) or isinstance(A, ops.Kronecker), text


@pytest.mark.parametrize("size", [(3000, 3000), (3000, 2500)])
def test_auto_and_batches(size):
    """What Auto would take for one large operator and cannot take batches is not offered for a batch."""
    d = np.linspace(1, 2, min(size))
    R = ops.Sparse(np.stack([d, d]), np.arange(d.size), np.arange(d.size), size)
    cases = [cola.no_dispatch(R), R]
    if size[0] == size[1]:
        cases += [cola.PSD(cola.no_dispatch(R)), cola.PSD(R)]
    refusing = {"Arnoldi", "BandedEigh", "Lanczos", "LanczosSVD", "PowerIteration", "SLQ", "ShiftInvert",
                "SparseLU"}  # fmt: skip
    asked = {"eigsh": (2, "LM"), "eigs": (2, "LM"), "svds": (2, "LM"), "norm": (2,), "slogdet": (),
             "solve": (np.ones((size[1], 1)),), "apply_unary": (cola.linalg.scalar_function.EXP,),
             "geigs": (R, 2, "LM"), "geigsh": (R, 2, "LM"), "root": ()}  # fmt: skip
    cola.trace(ops.Dense(np.eye(1)))
    for A in cases:
        for question, operands in asked.items():
            for entry in REGISTRY.algorithms.get(question, []):
                if entry.cls.__name__ in refusing and entry.automatic:
                    verdict = entry.cls().applicable(question, A, *operands)
                    assert verdict is not True, (entry.cls.__name__, question, A)


@pytest.mark.parametrize("question", [cola.nullspace, cola.orth])
def test_subspaces_refuse_batches(question):
    with pytest.raises(cola.errors.ShapeError, match="batch"):
        question(np.ones((2, 3, 3)))


def _each(f, *xs):
    """f of every member of arrays whose batches broadcast, stacked."""
    lead = np.broadcast_shapes(*(x.shape[:-2] for x in xs))
    xs = [np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in xs]
    found = [f(*(x[i] for x in xs)) for i in np.ndindex(lead)]
    return np.stack(found).reshape((*lead, *np.shape(found[0])))


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_equations_and_functions(library):
    """Sylvester's equation, functions of general matrices and forms, with batches that broadcast."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")
    f, rng = get_backend(library).asarray, np.random.default_rng(0)
    A, C = rng.normal(size=(2, 4, 4)) + 4 * np.eye(4), rng.normal(size=(4, 3))
    B, P = rng.normal(size=(3, 1, 3, 3)) + 3 * np.eye(3), A @ A.mT
    D = ops.Dense(f(A))
    checks = {
        "sylvester": (cola.sylvester(f(A), f(B), f(C)), _each(sl.solve_sylvester, A, B, C)),
        "sylvester, one A": (cola.sylvester(f(A[0]), f(B), f(C)), _each(sl.solve_sylvester, A[0], B, C)),
        "lyapunov": (cola.lyapunov(f(A), f(P)), _each(sl.solve_continuous_lyapunov, A, P)),
        "sqrt": (cola.sqrt(D), _each(sqrtm, A)),
        "log": (cola.log(D), _each(sl.logm, A)),
        "pow": (cola.linalg.pow(D, 0.3), _each(lambda x: fractional_power(x, 0.3), A)),
        "pow -2": (cola.linalg.pow(D, -2), np.linalg.inv(A @ A)),
        "sqrt action": (cola.sqrt(cola.PSD(f(P))) @ f(C), _each(sqrtm, P) @ C),
        "quad_form": (
            cola.quad_form(D, f(np.ones((4, 2))), f(np.ones((3, 1, 4, 2)))),
            np.broadcast_to(A.sum((-1, -2))[:, None], (3, 2, 2)),
        ),
    }
    for name, (got, want) in checks.items():
        close(host(got), want, name, 1e-8)


@pytest.mark.parametrize("definite", [False, True])
def test_some_eigenpairs_and_triples(definite):
    rng = np.random.default_rng(1)
    M = rng.normal(size=(2, 5, 5)) + 5 * np.eye(5)
    M = M @ M.mT if definite else M
    A = cola.PSD(ops.Dense(M)) if definite else ops.Dense(M)
    U, S, V = cola.svd(A, 2)
    u, s, vh = np.linalg.svd(M)
    assert S.shape == (2, 2, 2)
    close(host(U @ S @ V.H), (u[..., :2] * s[:, None, :2]) @ vh[:, :2], "svd", 1e-10)
    ways = [{"which": "LM"}, {"which": "SM"}, {"sigma": 1.0}]
    for f in (cola.eig, cola.eigh)[: 1 + definite]:
        for way in ways:
            w, V = f(A, 2, **way)
            assert tuple(w.shape) == (2, 2)
            assert V.shape == (2, 5, 2)
            close(M @ host(V), host(V) * host(w)[:, None, :], "eigenpairs", 1e-10)
        mass = cola.PSD(ops.Dense(np.stack([np.eye(5), 2 * np.eye(5)])))
        w, V = f(A, B=mass)
        close(M @ host(V), host(mass) @ host(V) * host(w)[:, None, :], "pencil", 1e-10)


@pytest.mark.parametrize("name", TABLE)
def test_plans(name):
    """What will be done for a batch can be told without doing it."""
    A, members, _ = batched(name, get_backend("numpy"), "float64", "mixed")
    one = members[(0, 0)]
    M = host(one.to_dense())
    for question in ("solve", "slogdet", "trace", "eigvals", "svdvals", "norm-2", "exp", "lstsq"):
        probe = PROBES[question]
        if probe.suits(one, M):
            f, args = probe.public(A, probe.operands(one, M, get_backend("numpy"), "float64", 0))
            assert str(cola.explain(f, *args))
