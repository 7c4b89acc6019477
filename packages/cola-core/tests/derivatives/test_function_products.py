"""f(A) b by Krylov spaces: derivatives in A's arrays and b, also where the space is invariant."""

import numpy as np
import pytest
import scipy.linalg as sl

import cola_core as cola
from cola_core.testing.derivatives import check_derivatives

N = 6
EIGENVALUES = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 5.5])


def rational(w):
    return w**3 / (3 + w**2)


def of_rational(M):
    return np.linalg.solve((3 * np.eye(len(M)) + M @ M).T, (M @ M @ M).T).T


FUNCTIONS = {
    "exp": (cola.exp, sl.expm),
    "sqrt": (cola.sqrt, sl.sqrtm),
    "log": (cola.log, sl.logm),
    "user": (lambda A, alg: cola.apply_unary(rational, A, alg), of_rational),
}


def self_adjoint(rng, w, wide=False):
    Z = rng.normal(size=(len(w), len(w))) + (1j * rng.normal(size=(len(w), len(w))) if wide else 0)
    Q, _ = np.linalg.qr(Z)
    return (Q * np.asarray(w)) @ Q.conj().T


def check(library, rng, f, alg, M, b, symmetric, modes, **options):
    function, reference = FUNCTIONS[f]
    c = rng.normal(size=b.shape) + (1j * rng.normal(size=b.shape) if np.iscomplexobj(b) else 0)

    def loss(xs):
        x, v = xs
        adjoint = x.mT.conj() if hasattr(x, "resolve_conj") else x.conj().T
        A = cola.PSD((x + adjoint) / 2) if symmetric else cola.ops.Dense(x)
        be = A._concrete_backend()
        Y = function(cola.no_dispatch(A), alg) @ v
        y = be.xp.sum(Y * be.asarray(c, dtype=Y.dtype))
        y = be.xp.real(y) if be.is_complex(y) else y
        return y + y**2

    def known(xs):
        x, v = xs
        y = np.real(np.sum((reference((x + x.conj().T) / 2 if symmetric else x) @ v) * c))
        return y + y**2

    check_derivatives(library, loss, known, [M, b], modes, **options)


ALL = ("reverse", "forward", "reverse-reverse", "forward-reverse", "vmap")


@pytest.mark.parametrize("f", ["exp", "user"])
@pytest.mark.parametrize("case", ["distinct", "eigenvector", "c I", "two values", "complex", "block"])
def test_lanczos(rng, f, case):
    pytest.importorskip("torch")
    M = self_adjoint(rng, EIGENVALUES, case == "complex")
    b = rng.normal(size=(N, 2) if case == "block" else N)
    if case == "complex":
        b = b + 1j * rng.normal(size=N)
    elif case == "eigenvector":
        b = np.linalg.eigh(M)[1][:, 2]
    elif case == "c I":
        M = 2 * np.eye(N)
    elif case == "two values":
        M = self_adjoint(rng, [1.0, 1.0, 1.0, 3.0, 3.0, 3.0])
    check("torch", rng, f, cola.Lanczos(), M, b, True, ALL)


@pytest.mark.parametrize("f", ["sqrt", "log"])
def test_lanczos_of_roots_and_logarithms(rng, f):
    pytest.importorskip("torch")
    check("torch", rng, f, cola.Lanczos(), self_adjoint(rng, EIGENVALUES), rng.normal(size=N), True, ALL)


@pytest.mark.parametrize("f", ["exp", "sqrt"])
@pytest.mark.parametrize("case", ["general", "complex", "c I"])
def test_arnoldi(rng, f, case):
    pytest.importorskip("torch")
    M = 0.3 * rng.normal(size=(N, N)) + np.diag([2.0, 3.0, 4.0, 2.5, 3.5, 5.0])
    b = rng.normal(size=N)
    if case == "complex":
        M, b = M + 0.2j * rng.normal(size=(N, N)), b + 1j * rng.normal(size=N)
    check("torch", rng, f, cola.Arnoldi(), 2 * np.eye(N) if case == "c I" else M, b, False, ALL)


@pytest.mark.parametrize("f", ["exp", "user"])
@pytest.mark.parametrize("case", ["real", "complex", "c I"])
def test_chebyshev(rng, f, case):
    pytest.importorskip("torch")
    M = 2 * np.eye(N) if case == "c I" else self_adjoint(rng, EIGENVALUES, case == "complex")
    b = rng.normal(size=N) + (1j * rng.normal(size=N) if case == "complex" else 0)
    check("torch", rng, f, cola.Chebyshev(bounds=(0.5, 6.0)), M, b, True, ALL)


@pytest.mark.parametrize("f", ["sqrt", "log"])
def test_contour(rng, f):
    pytest.importorskip("torch")
    M = 2 * np.eye(N) if f == "sqrt" else self_adjoint(rng, EIGENVALUES)
    check("torch", rng, f, cola.ContourQuadrature(tol=1e-10), M, rng.normal(size=N), True, ALL)


@pytest.mark.parametrize("alg", [cola.ExpAction(), cola.ExpAction(krylov=True)], ids=["Taylor", "Krylov"])
@pytest.mark.parametrize("case", ["real", "complex", "c I"])
def test_exponential_action(rng, alg, case):
    pytest.importorskip("torch")
    M = 0.3 * rng.normal(size=(N, N)) + np.diag([2.0, 3.0, 4.0, 2.5, 3.5, 5.0])
    b = rng.normal(size=N)
    if case == "complex":
        M, b = M + 0.2j * rng.normal(size=(N, N)), b + 1j * rng.normal(size=N)
    check("torch", rng, "exp", alg, 2 * np.eye(N) if case == "c I" else M, b, False, ALL)


def test_several_times(rng):
    torch = pytest.importorskip("torch")
    M = rng.normal(size=(N, N))
    b = rng.normal(size=N)
    x = torch.tensor(M, requires_grad=True)
    Y = cola.expm_multiply(x, torch.as_tensor(b), t=[0.5, 2.0, -1.0])
    (g,) = torch.autograd.grad(Y.sum(), x)
    y = torch.tensor(M, requires_grad=True)
    Z = sum(torch.linalg.matrix_exp(t * y) @ torch.as_tensor(b) for t in (0.5, 2.0, -1.0))
    (h,) = torch.autograd.grad(Z.sum(), y)
    assert torch.allclose(g, h, rtol=1e-9)


def test_the_scale_of_a_loss_changes_nothing(rng):
    torch = pytest.importorskip("torch")
    M, b = torch.as_tensor(self_adjoint(rng, EIGENVALUES)), torch.as_tensor(rng.normal(size=N))
    for alg in (cola.Lanczos(), cola.Chebyshev(bounds=(0.5, 6.0))):
        found = []
        for scale in (1.0, 1e-200, 1e150):
            x = M.clone().requires_grad_()
            y = (cola.exp(cola.no_dispatch(cola.SelfAdjoint(x)), alg) @ b).sum()
            (g,) = torch.autograd.grad(y * scale, x)
            found.append(g / scale)
        assert torch.allclose(found[0], found[1], rtol=1e-9) and torch.allclose(found[0], found[2], rtol=1e-9)


@pytest.mark.parametrize("case", ["distinct", "c I"])
def test_jax(rng, case):
    pytest.importorskip("jax")
    M = 2 * np.eye(N) if case == "c I" else self_adjoint(rng, EIGENVALUES)
    modes = ("reverse", "reverse-reverse") if case == "c I" else ("reverse",)
    check("jax", rng, "exp", cola.Lanczos(), M, rng.normal(size=N), True, modes, jit=case != "c I")


def test_the_gradient_of_a_structured_operator_has_its_structure_and_counts(rng):
    """Products with A only: about as many as for the value, and none recorded."""
    torch = pytest.importorskip("torch")
    n = 400
    d = torch.linspace(1.0, 3.0, n, dtype=torch.float64, requires_grad=True)
    products = []

    def times(V):
        products.append(1)
        return d.detach() * V

    A = cola.SelfAdjoint(cola.ops.FunctionOperator(times, (n, n), backend="torch"))
    b = torch.as_tensor(rng.normal(size=n)).requires_grad_()
    y = cola.exp(A, cola.Lanczos()) @ b
    value = len(products)
    assert torch.allclose(y, d.exp() * b, rtol=1e-7)
    # arrays hidden in a function are not A's: only b's gradient is known
    (g,) = torch.autograd.grad(y.sum(), b)
    assert torch.allclose(g, d.exp(), rtol=1e-7) and len(products) <= 3 * value + 10

    D = cola.no_dispatch(cola.SelfAdjoint(cola.ops.Diagonal(d)))
    (g,) = torch.autograd.grad((cola.log(D, cola.Lanczos()) @ b).sum(), d)
    assert g.shape == (n,) and torch.allclose(g, b / d, rtol=1e-7)


def test_memory_does_not_grow_with_a_graph(rng):
    """What the graph of a product keeps: A's arrays, b and the answer, whatever the number of steps."""
    torch = pytest.importorskip("torch")
    n = 300
    kept = []
    for top in (2.0, 2000.0):
        d = torch.linspace(1.0, top, n, dtype=torch.float64, requires_grad=True)
        b = torch.as_tensor(rng.normal(size=n))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t
        ):
            y = cola.sqrt(cola.no_dispatch(cola.PSD(cola.ops.Diagonal(d))), cola.Lanczos()) @ b
        kept.append(sum(sizes))
        (g,) = torch.autograd.grad(y.sum(), d)
        assert torch.allclose(g, b / (2 * d.sqrt()), atol=1e-6 * float(b.abs().max()))
    assert kept[0] == kept[1] <= 8 * n


def test_single_precision(rng):
    torch = pytest.importorskip("torch")
    M, b = self_adjoint(rng, np.linspace(0.1, 10, 40)), rng.normal(size=40)
    found = {}
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor(M, dtype=dtype, requires_grad=True)
        A = cola.no_dispatch(cola.PSD((x + x.mT) / 2))
        (cola.sqrt(A, cola.Lanczos()) @ torch.tensor(b, dtype=dtype)).square().sum().backward()
        found[dtype] = x.grad.double()
    gap = torch.linalg.norm(found[torch.float32] - found[torch.float64])
    assert gap < 1e-4 * torch.linalg.norm(found[torch.float64])


def test_zero_vectors_and_small_sizes(rng):
    torch = pytest.importorskip("torch")
    x = torch.eye(1, dtype=torch.float64).requires_grad_()
    b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    y = cola.exp(cola.no_dispatch(cola.SelfAdjoint(x)), cola.Lanczos()) @ b
    gx, gb = torch.autograd.grad(y.sum(), (x, b))
    assert gx.item() == 0 and np.isclose(gb.item(), np.e)
