"""Derivatives of some eigenpairs and singular triples found by iterations, values and vectors."""

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import ConvergenceError, NotDifferentiableError
from cola_core.testing.derivatives import MODES, check_derivatives

N, K = 24, 2
BACKENDS = ("torch", "jax")


@pytest.fixture(params=BACKENDS)
def framework(request):
    pytest.importorskip(request.param)
    return request.param


def xp_of(framework):
    from cola_core.backends import get_backend

    return get_backend(framework)


def drawn(shape, kind, seed):
    rng = np.random.default_rng(seed)
    M = rng.normal(size=shape)
    return M + 1j * rng.normal(size=shape) if kind == "complex" else M


def selfadjoint(kind, seed=0, n=N):
    """A well separated spectrum, 1 ... n at random distances."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(drawn((n, n), kind, seed))[0]
    return (Q * (np.arange(1.0, n + 1) + 0.3 * rng.random(n))) @ Q.conj().T


def hermitian(M):
    return (M + M.conj().swapaxes(-1, -2)) / 2


def measured(w, V, weights):
    """A number that sees values, the space and single vectors, but no phase."""
    a, S = weights
    P = (V * w) @ V.conj().swapaxes(-1, -2)
    return (a * w).sum() + (P * S).sum().real + (abs(V) ** 4).sum()


WEIGHTS = (np.array([0.7, -1.3]), np.random.default_rng(5).normal(size=(N, N)))


def weights(framework):
    be = xp_of(framework)
    return tuple(map(be.asarray, WEIGHTS))


SELF_ADJOINT = {
    "Lanczos": (cola.Lanczos(tol=1e-11), "LA"),
    "LOBPCG": (cola.LOBPCG(tol=1e-11), "SA"),
    "Davidson": (cola.Davidson(tol=1e-11), "SA"),
    "ShiftInvert": (cola.ShiftInvert(tol=1e-11), "SM"),
}


def eigh_reference(which, n=N):
    def reference(arrays):
        w, V = np.linalg.eigh(hermitian(arrays[0]))
        at = slice(n - K, n) if which == "LA" else slice(0, K)
        return measured(w[at], V[:, at], WEIGHTS)

    return reference


EACH = [("torch", name, kind) for name in SELF_ADJOINT for kind in ("real", "complex")]
EACH += [("jax", "Lanczos", "complex"), ("jax", "LOBPCG", "real")]  # JAX compiles each mode


@pytest.mark.parametrize(("framework", "name", "kind"), EACH)
def test_self_adjoint(framework, name, kind):
    pytest.importorskip(framework)
    alg, which = SELF_ADJOINT[name]

    def loss(arrays):
        w, V = cola.eigh(cola.SelfAdjoint(ops.Dense(hermitian(arrays[0]))), K, which, alg)
        return measured(w, V.to_dense(), weights(framework))

    modes = MODES
    if framework == "jax":
        modes = ("reverse-reverse",) if kind == "complex" else ("forward",)
    check_derivatives(
        framework, loss, eigh_reference(which), [selfadjoint(kind)], modes=modes, jit=framework == "jax"
    )


# -- general operators ---------------------------------------------------------------------------------------
def general(kind, seed=1):
    """Not normal, with eigenvalues of different moduli; the largest ones of a real one are a complex pair."""
    M = np.diag(np.arange(N) / N) + 0.02 * drawn((N, N), kind, seed)
    M[:2, :2] = [[3.0, 2.0], [-2.0, 3.0]]
    M[2, 2] = 2.5
    return M.astype(complex if kind == "complex" else float)


GENERAL = {
    "KrylovSchur": (cola.KrylovSchur(tol=1e-11), 3, "LM"),
    "Arnoldi": (cola.Arnoldi(tol=1e-11), 3, "LR"),
    "ShiftInvert": (cola.ShiftInvert(tol=1e-11), 2, "SM"),
    "PowerIteration": (cola.PowerIteration(tol=1e-12), 1, "LM"),
}


def seen(w, V, S):
    """Values by symmetric functions of their real and imaginary parts, vectors by their moduli and space."""
    n = V.shape[-2]
    return (w**3).sum().real + (abs(V) ** 4).sum() + ((V @ V.conj().swapaxes(-1, -2)).real * S[:n, :n]).sum()


def general_reference(k, which):
    def reference(arrays):
        w, V = np.linalg.eig(arrays[0])
        key = {"LM": -abs(w), "LR": -w.real, "SM": abs(w)}[which]
        at = np.argsort(key)[:k]
        V = V[:, at] / np.linalg.norm(V[:, at], axis=0)
        return seen(w[at].astype(complex), V.astype(complex), WEIGHTS[1])

    return reference


@pytest.mark.parametrize(
    ("framework", "name", "kind"),
    [("torch", name, kind) for name in GENERAL for kind in ("real", "complex")]
    + [("jax", "KrylovSchur", "real")],
)
def test_general(framework, name, kind):
    pytest.importorskip(framework)
    alg, k, which = GENERAL[name]
    M = general(kind)
    if name == "ShiftInvert":
        M = np.diag(np.arange(1.0, N + 1)) + 0.1 * drawn((N, N), kind, 2)
    if name == "PowerIteration":
        M[:2, :2] = [[4.0, 1.0], [0.0, 1.0]]

    def loss(arrays):
        w, V = cola.eig(cola.no_dispatch(ops.Dense(arrays[0])), k, which, alg)
        return seen(w, V.to_dense(), weights(framework)[1])

    modes = MODES if framework == "torch" else ("forward-reverse",)
    check_derivatives(
        framework, loss, general_reference(k, which), [M], modes=modes, jit=framework == "jax", rtol=1e-5
    )


# -- pencils -------------------------------------------------------------------------------------------------
PENCILS = {"LOBPCG": (cola.LOBPCG(tol=1e-11), "SA"), "Arnoldi": (cola.Arnoldi(tol=1e-12), "LA")}


@pytest.mark.parametrize(
    ("framework", "name", "kind"),
    [("torch", name, kind) for name in PENCILS for kind in ("real", "complex")] + [("jax", "LOBPCG", "real")],
)
def test_pencils(framework, name, kind):
    pytest.importorskip(framework)
    scipy_linalg = pytest.importorskip("scipy.linalg")
    alg, which = PENCILS[name]
    A = selfadjoint(kind)
    B = np.eye(N) + 0.1 * hermitian(drawn((N, N), kind, 3)) / N**0.5
    at = slice(0, K) if which == "SA" else slice(N - K, N)

    def reference(arrays):
        w, V = scipy_linalg.eigh(hermitian(arrays[0]), hermitian(arrays[1]))
        return measured(w[at], V[:, at], WEIGHTS)

    def loss(arrays):
        A, B = (ops.Dense(hermitian(a)) for a in arrays)
        w, V = cola.eigh(cola.SelfAdjoint(A), K, which, alg, B=cola.no_dispatch(cola.PSD(B)))
        return measured(w, V.to_dense(), weights(framework))

    modes = MODES if framework == "torch" else ("reverse",)
    check_derivatives(framework, loss, reference, [A, B], modes=modes, jit=framework == "jax")


# -- singular triples ----------------------------------------------------------------------------------------
SINGULAR = {
    "LanczosSVD": cola.LanczosSVD(tol=1e-11),
    "RandomizedSVD": cola.RandomizedSVD(tol=1e-11, max_iters=200),
    "BlockKrylovSVD": cola.BlockKrylovSVD(tol=1e-11),
}


def triples_seen(U, s, V, S):
    m, n = U.shape[-2], V.shape[-2]
    low = (U * s) @ V.conj().swapaxes(-1, -2)
    return (s**3).sum() + (low * S[:m, :n]).sum().real + (abs(U) ** 4).sum() + (abs(V) ** 4).sum()


@pytest.mark.parametrize(
    ("framework", "name", "kind", "shape"),
    [
        ("torch", "LanczosSVD", "real", (20, 13)),
        ("torch", "LanczosSVD", "complex", (13, 20)),
        ("torch", "RandomizedSVD", "complex", (20, 13)),
        ("torch", "BlockKrylovSVD", "real", (13, 20)),
        ("jax", "LanczosSVD", "complex", (20, 13)),
    ],
)
def test_triples(framework, name, kind, shape):
    pytest.importorskip(framework)
    r = min(shape)
    U, V = (np.linalg.qr(drawn((n, r), kind, n))[0] for n in shape)
    M = (U * (2.0 ** -np.arange(r) * 8)) @ V.conj().T

    def reference(arrays):
        U, s, V = np.linalg.svd(arrays[0], full_matrices=False)
        return triples_seen(U[:, :K], s[:K], V[:K].conj().T, WEIGHTS[1])

    def loss(arrays):
        U, S, V = cola.svd(cola.no_dispatch(ops.Dense(arrays[0])), K, alg=SINGULAR[name])
        return triples_seen(U.to_dense(), S.diag, V.to_dense(), weights(framework)[1])

    modes = MODES if framework == "torch" else ("reverse",)
    check_derivatives(framework, loss, reference, [M], modes=modes, jit=framework == "jax")


# -- ties ----------------------------------------------------------------------------------------------------
def tied(top, seed=0, n=N):
    """A with ``top`` as its largest eigenvalues, and a direction."""
    Q = np.linalg.qr(drawn((n, n), "real", seed))[0]
    w = np.r_[np.arange(n - len(top)) / n, top]
    return (Q * w) @ Q.T, hermitian(drawn((n, n), "real", seed + 1))


def top_pairs(a, k=K, alg=None):
    w, V = cola.eigh(cola.SelfAdjoint(ops.Dense(hermitian(a))), k, "LA", alg or cola.Lanczos())
    return w, V.to_dense()


def projector_loss(V, S):
    P = V @ V.conj().swapaxes(-1, -2)
    return ((P @ S @ P) * S.swapaxes(-1, -2)).sum()


@pytest.mark.parametrize("gap", [0.0, 1e-13, 1e-6])
def test_projectors_are_exact_at_ties(framework, gap):
    A, D = tied([2.0, 2.0 + gap])

    def loss(arrays):
        return projector_loss(top_pairs(arrays[0])[1], weights(framework)[1])

    def reference(arrays):
        return projector_loss(np.linalg.eigh(hermitian(arrays[0]))[1][:, -K:], WEIGHTS[1])

    modes = MODES if framework == "torch" else ("forward-reverse",)
    if framework == "jax" and gap:
        modes = ("reverse",)
    check_derivatives(framework, loss, reference, [A], modes=modes, directions=[[D], [D.T @ D / N]])


@pytest.mark.filterwarnings("ignore::cola_core.errors.ConvergenceWarning")
def test_what_depends_on_a_basis_is_refused_by_name(framework):
    A, D = tied([2.0, 2.0])
    be = xp_of(framework)
    if framework == "torch":
        import torch

        grad = torch.func.grad
    else:
        import jax

        grad = jax.grad
    A, D = be.asarray(A), be.asarray(D)
    with pytest.raises(NotDifferentiableError, match="arbitrary"):
        grad(lambda a: (top_pairs(a)[1] ** 4).sum())(A)
    # one of the two alone: the border of the set cuts the tie
    with pytest.raises(ConvergenceError, match="outside of the found set") as found:
        _eager_gradient(framework, lambda a: projector_loss(top_pairs(a, 1)[1], weights(framework)[1]), A)
    assert "Lanczos" in str(found.value)


def _eager_gradient(framework, loss, A):
    if framework == "torch":
        import torch

        x = A.clone().requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]
    import jax

    found = jax.grad(loss)(A)
    if not bool(jax.numpy.all(jax.numpy.isfinite(found))):  # JAX compiles the solve
        raise ConvergenceError("outside of the found set: Lanczos")
    return found


def test_values_at_ties():
    torch = pytest.importorskip("torch")
    A, D = map(torch.as_tensor, tied([2.0, 2.0]))
    loss = lambda a: (top_pairs(a)[0] ** 2).sum()  # noqa: E731
    x = A.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(x), x, create_graph=True)
    w, V = top_pairs(A)
    assert torch.allclose(g, 4 * V @ V.T, atol=1e-9)  # a symmetric function: right at ties
    with pytest.raises(NotDifferentiableError, match="second derivatives"):
        torch.autograd.grad((g * D).sum(), x)
    assert torch.isnan(torch.func.jvp(torch.func.grad(loss), (A,), (D,))[1]).all()
    # of one that is simple the second derivative exists, beside a tie
    A = torch.as_tensor(tied([2.0, 2.0, 3.0])[0]).requires_grad_()
    (g,) = torch.autograd.grad(top_pairs(A, 3)[0][2], A, create_graph=True)
    (h,) = torch.autograd.grad((g * D).sum(), A)
    M = A.detach().requires_grad_()
    (g,) = torch.autograd.grad(torch.linalg.eigvalsh(hermitian(M))[-1], M, create_graph=True)
    assert torch.allclose(h, torch.autograd.grad((g * D).sum(), M)[0], atol=1e-8)


def test_phases_are_refused():
    torch = pytest.importorskip("torch")
    x = torch.as_tensor(selfadjoint("complex")).requires_grad_()
    with pytest.raises(NotDifferentiableError, match="phase"):
        torch.autograd.grad(top_pairs(x)[1].real.sum(), x)


def test_defective_operators_are_refused():
    torch = pytest.importorskip("torch")
    M = np.diag(np.arange(N) / N)
    M[:2, :2] = [[3.0, 1.0], [1e-14, 3.0]]
    x = torch.as_tensor(M).requires_grad_()
    w, _ = cola.eig(cola.no_dispatch(ops.Dense(x)), 2, "LM", cola.KrylovSchur(), on_failure="ignore")
    with pytest.raises((NotDifferentiableError, ConvergenceError)):
        torch.autograd.grad(w.real.sum() + (w**2).real.sum() + abs(w[0] - w[1]) ** 2, x)


# -- cost, memory, sizes, precision --------------------------------------------------------------------------
COUNTED = []  # columns of each product with a Counted operator


@ops.operator
class Counted(ops.LinearOperator):
    """The tridiagonal operator of d and c, whose products are counted and never form a matrix."""

    d: object
    c: object

    def _shape(self):
        return (self.d.shape[0], self.d.shape[0])

    def _matmat(self, X):
        COUNTED.append(X.shape[-1])
        xp = self._concrete_backend().xp
        rest = xp.zeros_like(X[:1])
        beside = xp.concat([X[1:], rest], axis=0) + xp.concat([rest, X[:-1]], axis=0)
        return self.d[:, None] * X + self.c * beside

    def _adjoint(self):
        return self


def test_products_and_memory_of_a_gradient():
    torch = pytest.importorskip("torch")
    n, k = 3000, 3
    d = torch.linspace(0, 1, n, dtype=torch.float64)
    d[-k:] = torch.tensor([2.0, 3.0, 4.0])
    d, c = d.requires_grad_(), torch.tensor(0.01, dtype=torch.float64, requires_grad=True)
    w, V = cola.eigh(cola.SelfAdjoint(Counted(d, c)), k, "LA", cola.Lanczos())
    COUNTED.clear()
    gd, gc = torch.autograd.grad(w.sum(), (d, c), retain_graph=True)
    assert sum(COUNTED) <= 3 * k  # values: no solve
    V = V.to_dense()
    assert torch.allclose(gd, (V.detach() ** 2).sum(-1), atol=1e-9) and gc.shape == ()
    COUNTED.clear()
    sizes = _largest_tensor(torch, lambda: torch.autograd.grad((V**4).sum(), (d, c)))
    assert sum(COUNTED) <= 60 * k and sizes <= 40 * n * k


def _largest_tensor(torch, run):
    """The number of entries of the largest tensor that an operation makes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            out = f(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple) else (out,):
                if isinstance(x, torch.Tensor):
                    self.size = max(self.size, x.numel())
            return out

    with Largest() as mode:
        run()
    return mode.size


@pytest.mark.parametrize("question", ["eigmax", "eigmin", "norm"])
def test_one_value_costs_no_solve(question):
    torch = pytest.importorskip("torch")
    n = 200
    d = torch.linspace(1, 2, n, dtype=torch.float64)
    d[-1], d[0] = 4.0, 0.3
    c = torch.tensor(0.05, dtype=torch.float64)

    def value(d, c):
        A = cola.SelfAdjoint(Counted(d, c))
        if question == "norm":
            return cola.norm(A, 2, cola.LanczosSVD())
        return getattr(cola, question)(A, cola.Lanczos())

    def reference(arrays):
        d, c = arrays
        w = np.linalg.eigvalsh(np.diag(d) + c * (np.eye(n, k=1) + np.eye(n, k=-1)))
        return w[0] if question == "eigmin" else w[-1]

    check_derivatives("torch", lambda a: value(*a), reference, [d.numpy(), c.numpy()])
    d.requires_grad_()
    y = value(d, c)
    COUNTED.clear()
    y.backward()
    assert sum(COUNTED) <= 6
    COUNTED.clear()
    forward = torch.func.jvp(lambda d: value(d, c), (d.detach(),), (torch.ones_like(d),))[1]
    assert abs(float(forward) - 1) < 1e-9


@pytest.mark.parametrize("n", [1, 2, 5])
def test_all_pairs_of_small_operators(n):
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(selfadjoint("real", n=n)).requires_grad_()
    w, V = top_pairs(A, n)
    (got,) = torch.autograd.grad((w**2).sum() + (V**4).sum(), A)
    w, V = torch.linalg.eigh(hermitian(A))
    (want,) = torch.autograd.grad((w**2).sum() + (V**4).sum(), A)
    assert torch.allclose(got, want, atol=1e-9)
    U, S, V = cola.svd(cola.no_dispatch(ops.Dense(A)), n, alg=cola.LanczosSVD())
    (got,) = torch.autograd.grad((U.to_dense() @ V.to_dense().T).sum() + S.diag.sum(), A)
    U, s, V = torch.linalg.svd(A)
    (want,) = torch.autograd.grad((U @ V).sum() + s.sum(), A)
    assert torch.allclose(got, want, atol=1e-7)


def test_single_precision():
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(selfadjoint("real"), dtype=torch.float32).requires_grad_()
    loss = lambda w, V: (w * torch.arange(1.0, K + 1)).sum() + (V**4).sum()  # noqa: E731
    (got,) = torch.autograd.grad(loss(*top_pairs(A)), A)
    M = A.detach().double().requires_grad_()
    w, V = torch.linalg.eigh(hermitian(M))
    (want,) = torch.autograd.grad(loss(w[-K:].float(), V[:, -K:]), M)
    assert got.dtype == torch.float32 and torch.allclose(got.double(), want, atol=2e-4)


def test_the_scale_of_a_loss_does_not_matter():
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(selfadjoint("real")).requires_grad_()
    (one,) = torch.autograd.grad((top_pairs(A)[1] ** 4).sum(), A)
    for c in (1e-200, 1e200):
        (scaled,) = torch.autograd.grad(c * (top_pairs(A)[1] ** 4).sum(), A)
        assert torch.allclose(scaled / c, one, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("hermitian", [True, False])
def test_the_equation_beside_the_found_vectors(hermitian):
    from cola_core.autodiff.complement import Complement, Manner, solve_complement
    from cola_core.backends import get_backend

    be = get_backend("numpy")
    n, k = 9, 2
    A = selfadjoint("complex", n=n) if hermitian else general("complex")[:n, :n]
    w, X = np.linalg.eigh(A) if hermitian else np.linalg.eig(A)
    X, L = X[:, :k], np.diag(w[:k]).astype(complex)
    G = X @ np.linalg.inv(X.conj().T @ X)
    K = Complement(ops.Dense(A), None, X, G, L, np.asarray(2.0), hermitian)
    dense, adjoint = K @ np.eye(n * k, dtype=complex), K.H @ np.eye(n * k, dtype=complex)
    np.testing.assert_allclose(adjoint, dense.conj().T, atol=1e-12)
    R = drawn((n, k), "complex", 4)
    Z = solve_complement(be, K, R, Manner(1e-12, "test"))
    np.testing.assert_allclose(Z.reshape(-1), np.linalg.solve(dense, R.reshape(-1)), atol=1e-9)
    R = R - G @ (X.conj().T @ R)
    Z = solve_complement(be, K, R, Manner(1e-12, "test"))
    P = np.eye(n) - X @ G.conj().T
    np.testing.assert_allclose(P.conj().T @ (A @ Z - Z @ L), R, atol=1e-9)
    np.testing.assert_allclose(G.conj().T @ Z, 0, atol=1e-10)


def test_solves_of_derivatives_report_themselves():
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(selfadjoint("real")).requires_grad_()
    w, V = top_pairs(A)
    with cola.infos() as found:
        torch.autograd.grad(w.sum(), A, retain_graph=True)
        assert not found
        torch.autograd.grad((V**4).sum(), A)
    (info,) = found
    assert info.method == "gradient of Lanczos (MINRES)" and info.converged
    assert info.residual <= info.tolerance * 10 and 0 < info.matvecs <= 100 * K


def test_solves_of_derivatives_are_preconditioned():
    torch = pytest.importorskip("torch")
    n, steps = 300, {}
    for name, alg in (("P", cola.LOBPCG(P=cola.inv, tol=1e-9)), ("inverse", cola.ShiftInvert())):
        d = (2 + torch.linspace(0, 1e-4, n, dtype=torch.float64)).requires_grad_()
        off = -torch.ones(n - 1, dtype=torch.float64)
        T = cola.PSD(ops.Tridiagonal(off, d, off))
        _, V = cola.eigh(cola.no_dispatch(T), 2, "SM", alg)
        with cola.infos() as found:
            (got,) = torch.autograd.grad((V.to_dense() ** 4).sum(), d)
        steps[name] = next(int(i.iterations) for i in found if "MINRES" in i.method)
        x = d.detach().requires_grad_()
        V = torch.linalg.eigh(torch.diag(x) + torch.diag(off, 1) + torch.diag(off, -1))[1][:, :2]
        (want,) = torch.autograd.grad((V**4).sum(), x)
        assert torch.allclose(got, want, rtol=1e-5, atol=1e-5 * float(abs(want).max()))
    assert max(steps.values()) <= 30  # MINRES alone takes hundreds


def test_a_set_that_all_but_cuts_a_tie_is_refused():
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(tied([2.0, 2.0 + 1e-11])[0]).requires_grad_()
    _, V = top_pairs(A, 1, cola.Lanczos(tol=1e-10))
    with pytest.raises(ConvergenceError, match="outside of the found set"):
        torch.autograd.grad(projector_loss(V, weights("torch")[1]), A)


def test_singular_values_that_are_zero():
    torch = pytest.importorskip("torch")
    M = torch.as_tensor(drawn((N, 2), "real", 0) @ drawn((2, 12), "real", 1))
    norms = lambda a: cola.svd(cola.no_dispatch(ops.Dense(a)), 3, alg=cola.LanczosSVD())[1].diag  # noqa: E731
    A = M.clone().requires_grad_()
    s = norms(A)
    (got,) = torch.autograd.grad(s[:2].sum(), A, retain_graph=True)
    U, _, Vh = torch.linalg.svd(M)
    assert torch.allclose(got, U[:, :2] @ Vh[:2], atol=1e-8)
    (got,) = torch.autograd.grad((s**2).sum(), A, retain_graph=True)
    assert torch.allclose(got, 2 * M, atol=1e-8)
    with pytest.raises(NotDifferentiableError, match="zero"):
        torch.autograd.grad(s.sum(), A)


def test_leaves_of_structured_operators():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    a, b = (torch.as_tensor(hermitian(rng.normal(size=(n, n)))).requires_grad_() for n in (6, 5))
    d = torch.as_tensor(rng.random(30)).requires_grad_()

    def gradients(dense):
        A = cola.kron(ops.Dense(hermitian(a)), ops.Dense(hermitian(b))) + ops.Diagonal(d)
        if dense:
            w, V = torch.linalg.eigh(A.to_dense())
            w, V = w[-K:], V[:, -K:]
        else:
            w, V = cola.eigh(cola.no_dispatch(cola.SelfAdjoint(A)), K, "LA", cola.Lanczos())
            V = V.to_dense()
        return torch.autograd.grad((w**2).sum() + (V**4).sum(), (a, b, d))

    for got, want, x in zip(gradients(False), gradients(True), (a, b, d), strict=True):
        assert got.shape == x.shape and torch.allclose(got, want, atol=1e-7)


def test_complex_reverse_over_forward():
    torch = pytest.importorskip("torch")
    A, D = (torch.as_tensor(x) for x in (selfadjoint("complex"), hermitian(drawn((N, N), "complex", 8))))
    loss = lambda a: (lambda w, V: (w**2).sum() + (abs(V) ** 4).sum())(*top_pairs(a))  # noqa: E731
    one = torch.func.grad(lambda a: torch.func.jvp(loss, (a,), (D,))[1])(A)
    other = torch.func.jvp(torch.func.grad(loss), (A,), (D,))[1]
    assert torch.allclose(one, other, atol=1e-8) and float(abs(one).max()) > 1e-3
