"""``torch.compile(fullgraph=True)``: products, questions and bounded iterations are one program each, equal
to eager code with their gradients, compiled once. AOTAutograd traces all of it; no kernels are generated."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import cola_core as cola

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

N = 4
Dense, Diagonal, PSD = cola.ops.Dense, cola.ops.Diagonal, cola.PSD


@pytest.fixture
def arrays():
    rng = np.random.default_rng(3)
    M = rng.standard_normal((N, N))
    found = M, M @ M.T + N * np.eye(N), rng.standard_normal(N), rng.uniform(1, 2, N)
    return dict(zip("MSbd", map(torch.as_tensor, found), strict=True))


def compiled_once(f, tensors, rtol=1e-10):
    """f compiled: values and gradients are eager ones, and other values need no other program."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    program = torch.compile(f, fullgraph=True, backend="aot_eager")
    for scale in (1.0, 1.25):
        leaves = [(scale * x).detach().requires_grad_() for x in tensors]
        found, wanted = program(*leaves), f(*leaves)
        assert torch.allclose(found, wanted, rtol=rtol, atol=rtol)
        weights = torch.cos(torch.arange(wanted.numel(), dtype=wanted.dtype)).reshape(wanted.shape)
        slopes = [torch.autograd.grad((weights * y).sum(), leaves) for y in (found, wanted)]
        for x, y in zip(*slopes, strict=True):
            assert torch.allclose(x, y, rtol=10 * rtol, atol=10 * rtol)
    stats = torch._dynamo.utils.counters
    assert stats["stats"]["unique_graphs"] == 1 and not stats["graph_break"]


PRODUCTS = {
    "left and right are told apart": ("Mb", lambda M, b: Dense(M) @ b + 3 * (b @ Dense(M))),
    "matrices": ("Mb", lambda M, b: Dense(M) @ torch.outer(b, b) - torch.outer(b, b) @ Dense(M)),
    "adjoint, slice": ("Mb", lambda M, b: (Dense(M).H @ b)[:2] + Dense(M)[:2, :] @ b),
    "kron": ("Mdb", lambda M, d, b: cola.kron(Dense(M), Diagonal(d)) @ torch.outer(b, b).reshape(-1)),
    "sum": ("Mdb", lambda M, d, b: (2 * Dense(M) + Diagonal(d) - 0.5 * cola.ops.Identity(N)) @ b),
    "composed": ("Mdb", lambda M, d, b: Dense(M).__matmul__(Diagonal(d)) @ b),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name, arrays):
    letters, f = PRODUCTS[name]
    compiled_once(f, [arrays[x] for x in letters])


def test_products_of_arguments_and_of_what_is_closed_over(arrays):
    M, b, d = (arrays[x].clone().requires_grad_() for x in "Mbd")
    A = cola.kron(Dense(M), Diagonal(d)) + cola.ops.Identity(N * N)
    F = cola.ops.FunctionOperator(
        lambda x: M @ x, (N, N), M.dtype, rmatvec=lambda x: M.T @ x, backend="torch"
    )
    x = torch.outer(b, b).reshape(-1).detach()
    torch._dynamo.reset()
    as_argument = torch.compile(lambda A, x: A @ x - x @ A, fullgraph=True, backend="aot_eager")
    closed_over = torch.compile(lambda x: A @ x - x @ A, fullgraph=True, backend="aot_eager")
    function = torch.compile(lambda x: F @ x - x @ F, fullgraph=True, backend="aot_eager")
    for found, wanted in (
        (as_argument(A, x), A @ x - x @ A),
        (closed_over(x), A @ x - x @ A),
        (function(b), M @ b - M.T @ b),
    ):
        assert torch.allclose(found, wanted)
        slopes = [torch.autograd.grad((y**2).sum(), M, retain_graph=True)[0] for y in (found, wanted)]
        assert torch.allclose(*slopes)


QUESTIONS = {
    "solve": ("Mb", lambda M, b: cola.solve(M, b)),
    "solve, PSD": ("Sb", lambda S, b: cola.solve(PSD(Dense(S)), b)),
    "solve, name": ("Sb", lambda S, b: cola.solve(Dense(S), b, alg=cola.LU(), on_failure="ignore")),
    "inv": ("Mb", lambda M, b: cola.inv(Dense(M)) @ b),
    "kron": ("Mdb", lambda M, d, b: cola.solve(cola.kron(M, Diagonal(d)), torch.outer(b, b).reshape(-1))),
    "logdet": (
        "Sd",
        lambda S, d: cola.logdet(PSD(cola.kron(PSD(S), PSD(Diagonal(d)))) + 0.1 * cola.ops.Identity(N * N)),
    ),
    "eigh": ("S", lambda S: cola.eigh(PSD(Dense(S)))[0]),
    "svdvals": ("M", lambda M: cola.svdvals(M)),
    "cholesky": ("S", lambda S: cola.cholesky(PSD(Dense(S))).to_dense()),
    "trace": ("M", lambda M: cola.trace(cola.kron(M, M))),
    "diag": ("M", lambda M: cola.diag(Dense(M) + Dense(M).T)),
    "exp": ("Mb", lambda M, b: cola.exp(Dense(M)) @ b),
    "sqrt": ("Sb", lambda S, b: cola.sqrt(PSD(Dense(S))) @ b),
    "lstsq": ("Mb", lambda M, b: cola.lstsq(M[:, :2], b)),
    "pinv": ("Mb", lambda M, b: cola.pinv(Dense(M)) @ b),
    "qr": ("M", lambda M: cola.qr(M)[1].to_dense()),
    "quadratic": ("Sb", lambda S, b: sum(cola.inv_quad_logdet(PSD(Dense(S)), b))),
    "info": ("Mb", lambda M, b: cola.solve(M, b, return_info=True)[0]),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions(name, arrays):
    letters, f = QUESTIONS[name]
    compiled_once(f, [arrays[x] for x in letters])


ITERATIONS = {
    "CG": lambda S, b: cola.solve(PSD(Dense(S)), b, cola.CG(max_iters=N, tol=1e-12), on_failure="ignore"),
    "CG, stopped": lambda S, b: cola.solve(S, b, cola.CG(max_iters=2), on_failure="ignore"),
    "preconditioned": lambda S, b: cola.solve(
        PSD(Dense(S)), b, cola.CG(max_iters=2, P=cola.Jacobi()), on_failure="ignore"
    ),
    "MINRES": lambda S, b: cola.solve(S, b, cola.MINRES(max_iters=2), on_failure="ignore"),
    "GMRES": lambda S, b: cola.solve(S, b, cola.GMRES(max_iters=3), on_failure="ignore"),
}


@pytest.mark.parametrize("name", ITERATIONS)
def test_iterations_with_a_budget(name, arrays):
    compiled_once(ITERATIONS[name], [arrays["S"], arrays["b"]])


def test_steps_beyond_convergence_change_nothing(arrays):
    S, b = arrays["S"], arrays["b"]
    f = lambda b: cola.solve(PSD(Dense(S)), b, cola.CG(max_iters=9, tol=1e-10))  # noqa: E731
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(f, fullgraph=True, backend="aot_eager")(b), f(b), rtol=1e-12)


def test_iterations_without_a_bound_are_refused_by_name(arrays, monkeypatch):
    from cola_core.autodiff import torch_loops

    monkeypatch.setattr(torch_loops, "MOST_STEPS", 3)
    f = lambda S, b: cola.solve(PSD(Dense(S)), b, cola.CG())  # noqa: E731
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match="max_iters"):
        torch.compile(f, fullgraph=True, backend="aot_eager")(arrays["S"], arrays["b"])


REFUSED = {
    "max_seconds": lambda S, b: cola.solve(PSD(Dense(S)), b, cola.CG(max_iters=2, max_seconds=9.0)),
    "by values": lambda S, b: cola.eigh(PSD(Dense(S)), 1, alg=cola.Lanczos())[0],
    "Schur": lambda S, b: cola.schur(Dense(S))[0].to_dense(),
    "prepare": lambda S, b: cola.prepare(cola.solve, S)(b),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_needs_values_is_refused_by_name(words, arrays):
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=words):
        torch.compile(REFUSED[words], fullgraph=True, backend="aot_eager")(arrays["S"], arrays["b"])


def test_a_prepared_system_that_is_closed_over(arrays):
    prepared = cola.prepare(cola.solve, Dense(arrays["S"]))
    torch._dynamo.reset()
    found = torch.compile(lambda b: prepared(b), fullgraph=True, backend="aot_eager")(arrays["b"])
    assert torch.allclose(found, prepared(arrays["b"]))


def test_random_probes_are_those_of_the_key(arrays):
    f = lambda S: cola.trace(Dense(S), cola.XTrace(key=2))  # noqa: E731
    torch._dynamo.reset()
    assert torch.allclose(torch.compile(f, fullgraph=True, backend="aot_eager")(arrays["S"]), f(arrays["S"]))


def test_an_operator_as_answer(arrays):
    torch._dynamo.reset()
    program = torch.compile(lambda S: cola.cholesky(PSD(Dense(S))), fullgraph=True, backend="aot_eager")
    L = program(arrays["S"])
    assert isinstance(L, cola.ops.Triangular) and L.lower
    assert torch.allclose(L @ (L.H @ arrays["b"]), arrays["S"] @ arrays["b"])


def test_the_first_question_of_a_process_may_be_inside():
    program = """
        import cola_core as cola, torch
        f = lambda M, b: cola.inv(cola.ops.Dense(M)) @ b + cola.solve(M.T, b)
        M, b = torch.eye(3) + torch.ones(3, 3).triu(), torch.ones(3)
        found = torch.compile(f, fullgraph=True, backend="aot_eager")(M, b)
        assert torch.allclose(found, f(M, b))
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], check=True)


def test_dynamo_is_not_imported_by_eager_code():
    program = """
        import sys, torch, cola_core as cola
        cola.solve(torch.eye(3), torch.ones(3))
        assert "torch._dynamo" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
