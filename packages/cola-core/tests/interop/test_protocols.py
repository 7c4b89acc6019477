"""Arrays of every library on either side of every sign; functions of other libraries refuse clearly."""

import numpy as np
import pytest
from compare import near

import cola_core as cola
from cola_core import ops


def operands(backend, rng):
    a, x = rng.normal(size=(4, 4)), rng.normal(size=(4, 4))
    return a, x, backend.asarray(a.astype("float32")), backend.asarray(x.astype("float32"))


SIGNS = {
    "A@x": lambda A, x: A @ x,
    "x@A": lambda A, x: x @ A,
    "A+x": lambda A, x: A + x,
    "x+A": lambda A, x: x + A,
    "A-x": lambda A, x: A - x,
    "x-A": lambda A, x: x - A,
    "c*A": lambda A, x: x[0, 0] * A,
    "A*c": lambda A, x: A * x[0, 0],
    "A/c": lambda A, x: A / x[0, 0],
}


@pytest.mark.parametrize("sign", SIGNS)
def test_signs(backend, rng, sign):
    a, x, fa, fx = operands(backend, rng)
    out = SIGNS[sign](ops.Dense(fa), fx)
    assert isinstance(out, cola.LinearOperator) == ("@" not in sign)
    out = out.to_dense() if isinstance(out, cola.LinearOperator) else out
    near(backend.to_numpy(out), SIGNS[sign](a, x), 1e-5)


def test_functions_behind_the_signs(rng):
    a, x = rng.normal(size=(3, 3)), rng.normal(size=(3, 3))
    A = ops.Dense(a)
    near(np.matmul(x, A), x @ a, 1e-14)
    near(np.matmul(A, x), a @ x, 1e-14)
    near(np.add(x, A).to_dense(), x + a, 1e-14)
    near(np.subtract(x, A).to_dense(), x - a, 1e-14)
    near(np.negative(A).to_dense(), -a, 1e-14)
    near((np.float64(2) * A).to_dense(), 2 * a, 1e-14)
    near((A * np.float64(2)).to_dense(), 2 * a, 1e-14)
    assert np.shape(A) == (3, 3) and np.ndim(A) == 2 and np.size(A) == 9 and not np.iscomplexobj(A)
    assert (x == A) is False and (A == A) is True


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda A, x: np.asarray(A), "to_dense"),
        (lambda A, x: np.array([A, A]), "to_dense"),
        (lambda A, x: np.exp(A), r"cola_core\.exp"),
        (lambda A, x: np.abs(A), "to_dense"),
        (lambda A, x: np.maximum(A, x), "to_dense"),
        (lambda A, x: np.add.reduce(A), "to_dense"),
        (lambda A, x: np.dot(x, A), "x @ A"),
        (lambda A, x: np.einsum("ij,jk", x, A), "x @ A"),
        (lambda A, x: np.sum(A), "to_dense"),
        (lambda A, x: np.trace(A), r"cola_core\.trace"),
        (lambda A, x: np.kron(A, x), r"cola_core\.kron"),
        (lambda A, x: np.linalg.solve(A, x), r"cola_core\.solve"),
        (lambda A, x: np.linalg.slogdet(A), r"cola_core\.slogdet"),
        (lambda A, x: np.linalg.eigh(A), r"cola_core\.eigh"),
        (lambda A, x: np.transpose(A), r"A\.T"),
        (lambda A, x: np.add(x, A, out=x), "x = x"),
        (lambda A, x: x.__iadd__(A), "x = x"),
        (lambda A, x: x * A, "@"),
        (lambda A, x: A * x, "@"),
        (lambda A, x: A / x, "@"),
        (lambda A, x: x / A, "inv"),
        (lambda A, x: x**A, "combined"),
        (lambda A, x: 1 + A, "I_like"),
    ],
)
def test_numpy_refuses_with_the_replacement(call, says):
    with pytest.raises(TypeError, match=says):
        call(ops.Dense(np.eye(3)), np.ones((3, 3)))


def test_a_replacement_that_is_named_exists():
    from cola_core.operators import protocols

    for name in {*protocols._INSTEAD, *protocols._ENTRYWISE}:
        text = protocols._refusal("numpy", name, "A")
        assert (
            "to_dense" in text or protocols._exists(text.partition("write ")[2]) or "write cola" not in text
        )


@pytest.mark.parametrize("library", ["torch"], indirect=False)
def test_torch_functions(library):
    torch = pytest.importorskip("torch")
    a, x = torch.eye(3) * 2, torch.ones(3, 3)
    A = ops.Dense(a)
    assert torch.equal(torch.matmul(x, A), x @ a) and torch.equal(torch.matmul(A, x), a @ x)
    assert torch.equal(torch.add(x, A).to_dense(), x + a)
    assert torch.equal(torch.sub(x, A).to_dense(), x - a)
    for call, says in (
        (lambda: torch.exp(A), r"cola_core\.exp"),
        (lambda: torch.linalg.solve(A, x), r"cola_core\.solve"),
        (lambda: torch.mm(x, A), "x @ A"),
        (lambda: torch.sum(A), "to_dense"),
        (lambda: x * A, "@"),
        (lambda: torch.as_tensor(A), "sequence|array"),
    ):
        with pytest.raises(TypeError, match=says):
            call()
    product = torch.compile(lambda A, x: x @ A, fullgraph=True, backend="eager")
    assert torch.equal(product(A, x), x @ a)


def test_jax_functions():
    jnp = pytest.importorskip("jax.numpy")
    A = ops.Dense(jnp.eye(3))
    for call in (jnp.exp, jnp.asarray, jnp.linalg.det):
        with pytest.raises(TypeError, match="Dense"):
            call(A)


def test_scipy_takes_an_operator_as_it_is(rng):
    from scipy.sparse.linalg import aslinearoperator, cg, eigsh, gmres, lsqr, svds

    a, b = rng.normal(size=(6, 3)), rng.normal(size=6)
    S = a @ a.T + np.eye(6)
    A = ops.LowRank(a) + ops.Identity(6)
    near(cg(A, b, rtol=1e-12)[0], np.linalg.solve(S, b), 1e-8)
    near(gmres(aslinearoperator(A), b, rtol=1e-12)[0], np.linalg.solve(S, b), 1e-8)
    near(np.sort(eigsh(A, k=2, which="LA")[0]), np.linalg.eigvalsh(S)[-2:], 1e-8)
    T = ops.Dense(a) @ ops.Dense(rng.normal(size=(3, 3)))
    near(lsqr(T, b, atol=1e-14, btol=1e-14)[0], np.linalg.lstsq(T.to_dense(), b)[0], 1e-6)
    near(np.sort(svds(T, k=2)[1]), np.linalg.svd(T.to_dense())[1][1::-1], 1e-8)
