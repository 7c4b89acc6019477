"""``torch.func`` over questions whose operators are made inside of the function, or are its arguments: vmap,
grad, jvp, hessian and their compositions agree with eager autograd and its differences."""

import numpy as np
import pytest

import cola_core as cola

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

N = 3
Dense, Diagonal, PSD, Identity = cola.ops.Dense, cola.ops.Diagonal, cola.PSD, cola.ops.Identity
b = torch.as_tensor([0.3, -1.1, 0.7], dtype=torch.float64)


def spd(x):
    return PSD(Dense(x @ x.mT + N * torch.eye(N, dtype=x.dtype)))


def square(y):
    return (y * y).sum()


LOSSES = {
    "product": lambda x: square(Dense(x) @ b) + (b @ Dense(x).H).sum(),
    "solve": lambda x: square(cola.solve(x, b)),
    "solve, PSD": lambda x: square(cola.solve(spd(x), b)),
    "inv": lambda x: square(cola.inv(Dense(x)) @ b),
    "logdet": lambda x: cola.slogdet(Dense(x))[1],
    "logdet, PSD": lambda x: cola.logdet(spd(x)),
    "cholesky": lambda x: cola.cholesky(spd(x)).to_dense().sum(),
    "eigh": lambda x: square(cola.eigh(spd(x))[0]),
    "eigvals": lambda x: abs(cola.eigvals(Dense(x)) ** 2).sum(),
    "svdvals": lambda x: (cola.svdvals(Dense(x)) ** 3).sum(),
    "qr": lambda x: square(cola.qr(Dense(x))[1].to_dense()),
    "trace": lambda x: cola.trace(cola.kron(Dense(x), Dense(x))),
    "diag": lambda x: square(cola.diag(Dense(x) @ Dense(x))),
    "exp": lambda x: square(cola.exp(Dense(x)) @ b),
    "sqrt": lambda x: square(cola.sqrt(spd(x)) @ b),
    "lstsq": lambda x: square(cola.lstsq(x[:, :2], b)),
    "pinv": lambda x: square(cola.pinv(Dense(x[:, :2])) @ b),
    "norm": lambda x: cola.norm(Dense(x), 2),
    "kron": lambda x: square(cola.solve(cola.kron(x, Diagonal(x[0] ** 2 + 1)), torch.kron(b, b))),
    "shifted kron": lambda x: cola.logdet(PSD(cola.kron(spd(x), spd(x))) + 0.1 * Identity(N * N)),
    "low rank": lambda x: square(
        cola.solve(Diagonal(x[0] ** 2 + 9) + cola.ops.LowRank(x[:, :1], x[:, 1:2]), b)
    ),
    "CG": lambda x: square(cola.solve(spd(x), b, cola.CG(tol=1e-13))),
    "CG, many sides": lambda x: square(cola.solve(spd(A0), x[0], cola.CG(tol=1e-13))),
    "CG, preconditioned": lambda x: square(cola.solve(spd(x), b, cola.CG(tol=1e-13, P=cola.Jacobi()))),
    "GMRES": lambda x: square(cola.solve(spd(x), b, cola.GMRES(tol=1e-13))),
    "LSMR": lambda x: square(cola.lstsq(x[:, :2], b, cola.LSMR(tol=1e-13))),
    "Lanczos": lambda x: square(cola.exp(spd(x), cola.Lanczos(tol=1e-12)) @ b) * 1e-6,
    "Hutchinson": lambda x: cola.trace(Dense(x) @ Dense(x), cola.Hutchinson(key=1, bs=4, max_iters=2)),
    "SLQ": lambda x: cola.logdet(spd(x), cola.SLQ(key=1, samples=4, max_samples=4)),
}
A0 = torch.as_tensor(np.random.default_rng(8).standard_normal((N, N)))


def gradient(f, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(f(x), x)[0]


@pytest.mark.parametrize("name", LOSSES)
def test_transformations(name):
    f, func = LOSSES[name], torch.func
    rng = np.random.default_rng(4)
    xs = torch.as_tensor(rng.standard_normal((2, N, N)))
    v = torch.as_tensor(rng.standard_normal((N, N)))
    values, slopes = (torch.stack([g(x) for x in xs]) for g in (f, lambda x: gradient(f, x)))
    x, slope = xs[0], slopes[0]
    h = 1e-5
    curvature = (gradient(f, x + h * v) - gradient(f, x - h * v)) / (2 * h)
    found = {
        "grad": (func.grad(f)(x), slope),
        "vmap": (func.vmap(f)(xs), values),
        "vmap(grad)": (func.vmap(func.grad(f))(xs), slopes),
        "grad(vmap)": (func.grad(lambda xs: func.vmap(f)(xs).sum())(xs), slopes),
        "jvp": (func.jvp(f, (x,), (v,))[1], (slope * v).sum()),
        "jacfwd": (func.jacfwd(f)(x), slope),
        "jacrev": (func.jacrev(f)(x), slope),
        "hessian": ((func.hessian(f)(x) * v).sum((-1, -2)), curvature),
    }
    for mode, (got, wanted) in found.items():
        tol = 1e-3 if name == "SLQ" else 1e-5 if mode == "hessian" else 1e-8  # SLQ's derivative solves
        assert torch.allclose(got, wanted, rtol=tol, atol=tol * float(1 + wanted.abs().max())), mode


def test_operators_as_arguments():
    """A gradient is an operator of the same structure; vmap maps over the arrays of one."""
    rng = np.random.default_rng(6)
    x, d = torch.as_tensor(rng.standard_normal((N, N))), torch.as_tensor(rng.uniform(1, 2, N))
    A = cola.kron(Dense(x), Diagonal(d))
    f = lambda A: cola.slogdet(A)[1]  # noqa: E731
    G = torch.func.grad(f)(A)
    assert isinstance(G, cola.ops.Kronecker) and isinstance(G.Ms[1], Diagonal)
    assert torch.allclose(G.Ms[0].array, N * torch.linalg.inv(x).T)
    assert torch.allclose(G.Ms[1].diag, N / d)
    many = Dense(torch.stack([x, 2 * x]))
    found = torch.func.vmap(lambda A, b: cola.solve(A, b))(many, torch.stack([b, b]))
    assert torch.allclose(found[1], torch.linalg.solve(2 * x, b))


def test_absent_children_are_structure():
    x = torch.as_tensor(np.random.default_rng(1).standard_normal((2, N, 1)))
    one = cola.ops.LowRank(x[0], x[1])
    f = lambda A: cola.trace(A)  # noqa: E731
    assert torch.allclose(torch.func.vmap(f)(cola.ops.LowRank(x, x)), (x * x).sum((-1, -2)))
    assert torch.allclose(torch.func.grad(f)(one).U, x[1])


def test_each_example_stops_by_itself():
    """Systems that need very different numbers of steps, solved in one vmap."""
    d = torch.as_tensor([[1.0, 1.0, 1.0], [1.0, 50.0, 2000.0]], dtype=torch.float64)
    f = lambda d: cola.solve(PSD(Diagonal(d)), b, cola.CG(tol=1e-12))  # noqa: E731
    g = lambda d: cola.solve(cola.no_dispatch(PSD(Diagonal(d))), b, cola.CG(tol=1e-12))  # noqa: E731
    for each in (f, g):
        assert torch.allclose(torch.func.vmap(each)(d), b / d, rtol=1e-9)


def test_while_loop_under_vmap():
    from cola_core.backends import get_backend

    be = get_backend("torch")

    def halvings(x):
        return be.while_loop(lambda s: s[1] > 1.0, lambda s: (s[0] + 1, s[1] / 2), (torch.zeros(()), x))[0]

    x = torch.as_tensor([0.5, 9.0, 3.0])
    assert torch.func.vmap(halvings)(x).tolist() == [0.0, 4.0, 2.0]
    assert torch.func.vmap(torch.func.vmap(halvings))(x[None]).tolist() == [[0.0, 4.0, 2.0]]


def test_what_depends_on_values_is_refused_by_name():
    x = torch.as_tensor(np.random.default_rng(1).standard_normal((2, N, N)))
    f = lambda x: cola.schur(Dense(x))[0].to_dense()  # noqa: E731
    with pytest.raises(NotImplementedError, match="Schur"):
        torch.func.vmap(f)(x)


def test_missed_tolerances_are_told_under_grad():
    x = torch.diag(torch.as_tensor([1.0, 10.0, 100.0], dtype=torch.float64))
    f = lambda x: cola.solve(PSD(Dense(x)), b, cola.CG(max_iters=1)).sum()  # noqa: E731
    with pytest.warns(cola.ConvergenceWarning):
        torch.func.grad(f)(x)


def test_inference_mode_no_grad_and_leaves_without_gradient():
    x, y = (a.clone() for a in torch.as_tensor(np.random.default_rng(2).standard_normal((2, N, N))))
    with torch.inference_mode():
        inside = cola.solve(spd(x), b, cola.CG())
        assert not inside.requires_grad and inside.is_inference()
    x.requires_grad_()
    with torch.no_grad():
        assert not cola.solve(spd(x), b, cola.CG()).requires_grad
        with torch.enable_grad():
            found = cola.solve(spd(x) + Dense(y), b, cola.GMRES(tol=1e-12))
    assert found.requires_grad
    found.sum().backward()
    assert x.grad is not None and y.grad is None
    with torch.autograd.set_grad_enabled(False), torch.autograd.set_grad_enabled(True):
        assert cola.logdet(spd(x)).requires_grad


def test_checkpoint_and_anomaly_mode():
    from torch.utils.checkpoint import checkpoint

    x = torch.as_tensor(np.random.default_rng(5).standard_normal((N, N)))
    for name in ("solve, PSD", "logdet, PSD", "CG", "exp", "SLQ"):
        f = LOSSES[name]
        leaf = x.clone().requires_grad_()
        with torch.autograd.set_detect_anomaly(True):
            checkpoint(f, leaf, use_reentrant=False).backward()
        assert torch.allclose(leaf.grad, gradient(f, x)), name
