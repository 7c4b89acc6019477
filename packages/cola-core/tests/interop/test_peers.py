"""PyLops, lineax and linear_operator, both ways; each where it is installed (tox env "all" requires them)."""

import warnings

import numpy as np
import pytest
from compare import near

import cola_core as cola
from cola_core import interop, ops
from cola_core.errors import BackendError, DTypeError, ShapeError


def spd(rng, n=4):
    a = rng.normal(size=(n, n))
    return a @ a.T + n * np.eye(n)


def needs(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


# -- PyLops --------------------------------------------------------------------------------------------------
def test_pylops(rng):
    pylops = needs("pylops")
    F = pylops.FirstDerivative((4, 3), axis=0)
    A = cola.as_operator(F)
    dense = F.todense()
    assert A.shape == (12, 12)
    near(A.to_dense(), dense, 1e-14)
    near(A.H.to_dense(), dense.T, 1e-14)
    R = pylops.Restriction(6, [0, 2, 5])
    near((ops.Dense(np.eye(3)) @ R).to_dense(), R.todense(), 1e-14)
    b = rng.normal(size=12)
    near(
        cola.solve(cola.PSD(A.H @ A + ops.Identity(12)), b),
        np.linalg.solve(dense.T @ dense + np.eye(12), b),
        1e-8,
    )


def test_to_pylops(backend, rng):
    pylops = needs("pylops")
    s, b = spd(rng), rng.normal(size=8)
    K = cola.kron(backend.asarray(s), backend.asarray(np.diag([1.0, 2.0])))
    P = interop.to_pylops(K)
    dense = np.kron(s, np.diag([1.0, 2.0]))
    assert isinstance(P, pylops.LinearOperator)
    near(P @ b, dense @ b, 1e-12)
    near(P.H @ b, dense.T @ b, 1e-12)
    near((2 * P + pylops.Identity(8)) @ b, 2 * dense @ b + b, 1e-12)
    near(P / b, np.linalg.solve(dense, b), 1e-6)
    assert cola.as_operator(P) is K
    with pytest.raises(ShapeError, match="batch"):
        interop.to_pylops(ops.Dense(np.ones((2, 3, 3))))


# -- lineax --------------------------------------------------------------------------------------------------
def lineax_operators(lx, rng):
    import jax
    import jax.numpy as jnp

    a = jnp.asarray(rng.normal(size=(3, 3)))
    c = a + 1j * a.T
    M = lx.MatrixLinearOperator
    return {
        "matrix": (M(a), ops.Dense),
        "complex": (M(c), ops.Dense),
        "lower": (M(jnp.tril(a), lx.lower_triangular_tag), ops.Triangular),
        "diagonal": (lx.DiagonalLinearOperator(a[0]), ops.Diagonal),
        "tagged_diagonal": (M(jnp.diag(a[0]), lx.diagonal_tag), ops.Diagonal),
        "identity": (lx.IdentityLinearOperator(jax.ShapeDtypeStruct((3,), a.dtype)), ops.Identity),
        "tridiagonal": (lx.TridiagonalLinearOperator(a[0], a[1, :2], a[2, :2]), cola.LinearOperator),
        "sum": (M(a) + lx.DiagonalLinearOperator(a[0]), ops.Sum),
        "product": (M(a) @ lx.DiagonalLinearOperator(a[0]), ops.Product),
        "scaled": (2 * M(c), ops.Product),
        "divided": (M(a) / 3, ops.Product),
        "negated": (-M(a), ops.Product),
        "jacobian": (lx.JacobianLinearOperator(lambda x, _: x**2 + x[::-1], a[0]), cola.LinearOperator),
        "function": (
            lx.FunctionLinearOperator(
                lambda v: {"p": 2 * v["a"], "q": v["a"][:1] + v["b"]},
                {"a": jax.ShapeDtypeStruct((2,), a.dtype), "b": jax.ShapeDtypeStruct((1,), a.dtype)},
            ),
            cola.LinearOperator,
        ),
        "pytree": (
            lx.PyTreeLinearOperator((a, a[:1]), tuple(jax.ShapeDtypeStruct((m,), a.dtype) for m in (3, 1))),
            cola.LinearOperator,
        ),
    }


NAMES = (
    "matrix", "complex", "lower", "diagonal", "tagged_diagonal", "identity", "tridiagonal", "sum", "product",
    "scaled", "divided", "negated", "jacobian", "function", "pytree",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_lineax(name, rng):
    lx = needs("lineax")
    import jax.numpy as jnp

    op, kind = lineax_operators(lx, rng)[name]
    A = cola.as_operator(op)
    dense = np.asarray(op.as_matrix())
    assert isinstance(A, kind) and A.backend.name == "jax"
    near(np.asarray(A.to_dense()), dense, 1e-12)
    near(np.asarray(A.H.to_dense()), dense.conj().T, 1e-12)
    near(np.asarray(A @ jnp.ones((3, 2))), dense @ np.ones((3, 2)), 1e-12)
    near(np.asarray(A @ jnp.ones((2, 3, 1))), dense @ np.ones((2, 3, 1)), 1e-12)


def test_tags_of_lineax_are_claims(rng):
    lx = needs("lineax")
    import jax.numpy as jnp

    s = jnp.asarray(spd(rng))
    assert cola.as_operator(lx.MatrixLinearOperator(s, lx.positive_semidefinite_tag)).isa(cola.PSD)
    assert cola.as_operator(lx.MatrixLinearOperator(s, lx.symmetric_tag)).isa(cola.SelfAdjoint)
    assert not cola.as_operator(lx.MatrixLinearOperator(s + 0j, lx.symmetric_tag)).isa(cola.SelfAdjoint)
    assert not cola.as_operator(lx.MatrixLinearOperator(s)).isa(cola.SelfAdjoint)
    tagged = lx.TaggedLinearOperator(
        lx.JacobianLinearOperator(lambda x, _: s @ x, s[0]), lx.positive_semidefinite_tag
    )
    assert cola.as_operator(tagged).isa(cola.PSD)
    b = rng.normal(size=4)
    near(np.asarray(cola.solve(tagged, jnp.asarray(b))), np.linalg.solve(np.asarray(s), b), 1e-8)


def test_to_lineax(rng):
    lx = needs("lineax")
    import jax
    import jax.numpy as jnp

    s, b = jnp.asarray(spd(rng)), jnp.asarray(rng.normal(size=4))
    A = cola.PSD(ops.Dense(s) + ops.Diagonal(b**2))
    op = interop.to_lineax(A)
    assert lx.is_positive_semidefinite(op) and lx.is_symmetric(op)
    x = lx.linear_solve(op, b, lx.CG(1e-12, 1e-12)).value
    near(np.asarray(x), np.linalg.solve(np.asarray(A.to_dense()), np.asarray(b)), 1e-8)
    lower = interop.to_lineax(ops.Triangular(s))
    near(np.asarray(lower.as_matrix()), np.tril(np.asarray(s)), 0)
    assert lx.is_lower_triangular(lower)
    back = cola.as_operator(interop.to_lineax(cola.kron(s, s)))
    near(np.asarray(back.to_dense()), np.kron(s, s), 1e-12)
    J = cola.as_operator(lx.JacobianLinearOperator(lambda x, _: jnp.sin(x), b))
    near(np.asarray(interop.to_lineax(J).as_matrix()), np.diag(np.cos(np.asarray(b))), 1e-12)

    def loss(x):
        return jnp.sum(cola.as_operator(lx.JacobianLinearOperator(lambda x, _: x**3, x)) @ jnp.ones(4))

    near(np.asarray(jax.jit(jax.grad(loss))(b)), 6 * np.asarray(b), 1e-12)
    with pytest.raises(BackendError, match="backend='jax'"):
        interop.to_lineax(np.eye(3))
    with pytest.raises(BackendError, match="moved"):
        J.to(backend="numpy")


# -- linear_operator -----------------------------------------------------------------------------------------
def theirs(rng):
    import torch
    from linear_operator import operators as lo

    t = torch.as_tensor(spd(rng))
    d = lo.DenseLinearOperator(t)
    two = lo.DenseLinearOperator(torch.stack([t, 2 * t]))
    index, weights = torch.tensor([[0, 1], [2, 3], [1, 1]]), t[:3, :2].abs()
    mask = torch.tensor([True, False, True, True])
    return {
        "dense": (d, ops.Dense),
        "diagonal": (lo.DiagLinearOperator(t[0]), ops.Diagonal),
        "constant_diagonal": (lo.ConstantDiagLinearOperator(t[0, :1], 4), ops.Diagonal),
        "identity": (lo.IdentityLinearOperator(4, dtype=t.dtype), ops.Identity),
        "triangular": (lo.TriangularLinearOperator(t.triu(), upper=True), ops.Triangular),
        "cholesky": (d.cholesky(), ops.Triangular),
        "sum": (lo.SumLinearOperator(d, lo.DiagLinearOperator(t[0])), ops.Sum),
        "added_diagonal": (d.add_diagonal(t[0]), ops.Sum),
        "kronecker": (lo.KroneckerProductLinearOperator(d, lo.DiagLinearOperator(t[0])), ops.Kronecker),
        "scaled": (3 * d, ops.Product),
        "product": (lo.MatmulLinearOperator(d, lo.DiagLinearOperator(t[0])), ops.Product),
        "low_rank": (lo.LowRankRootLinearOperator(t[:, :2]), ops.LowRank),
        "block_diagonal": (
            lo.BlockDiagLinearOperator(lo.DenseLinearOperator(torch.stack([t, 2 * t]))),
            ops.BlockDiag,
        ),
        "permutation": (lo.PermutationLinearOperator(torch.tensor([2, 0, 1])), ops.Permutation),
        "toeplitz": (lo.ToeplitzLinearOperator(t[0]), ops.Toeplitz),
        "zero": (lo.ZeroLinearOperator(3, 2, dtype=t.dtype), ops.Zero),
        "hadamard": (lo.MulLinearOperator(d, lo.RootLinearOperator(t[:, :2])), ops.HadamardProduct),
        "concatenated": (lo.CatLinearOperator(d, lo.DiagLinearOperator(t[0])), ops.Concatenated),
        "beside": (lo.CatLinearOperator(d, d, dim=1), ops.Concatenated),
        "interpolated": (lo.InterpolatedLinearOperator(d, index, weights, index, weights), ops.Interpolated),
        "interpolated_left": (lo.InterpolatedLinearOperator(d, index, weights), ops.Interpolated),
        "masked": (lo.MaskedLinearOperator(d, mask, mask), ops.Sliced),
        "masked_diagonal": (
            lo.MaskedLinearOperator(lo.DiagLinearOperator(t[0]), mask, mask.flip(0)),
            cola.LinearOperator,
        ),
        "stacked": (lo.CatLinearOperator(two, two, dim=0), cola.LinearOperator),
        "batch": (two, ops.Dense),
    }


THEIRS = (
    "dense", "diagonal", "constant_diagonal", "identity", "triangular", "cholesky", "sum", "added_diagonal",
    "kronecker", "scaled", "product", "low_rank", "block_diagonal", "permutation", "toeplitz", "zero",
    "hadamard", "concatenated", "beside", "interpolated", "interpolated_left",
    "masked", "masked_diagonal", "stacked", "batch",
)  # fmt: skip


@pytest.mark.parametrize("name", THEIRS)
def test_linear_operator(name, rng):
    needs("linear_operator")
    import torch

    op, kind = theirs(rng)[name]
    A = cola.as_operator(op)
    dense = op.to_dense().to(torch.float64)
    assert isinstance(A, kind) and A.shape == tuple(op.shape)
    near(A.to_dense().to(torch.float64).numpy(), dense.numpy(), 1e-12)
    near(A.H.to_dense().to(torch.float64).numpy(), dense.mT.numpy(), 1e-12)
    x = torch.ones(dense.shape[-1], 2, dtype=torch.float64)
    near((A @ x).numpy(), (dense @ x).numpy(), 1e-12)


@pytest.mark.filterwarnings("ignore")
def test_an_elementwise_product_is_that_of_the_roots_they_made(rng):
    needs("linear_operator")
    import torch
    from linear_operator import operators as lo

    t = torch.as_tensor(spd(rng))
    indefinite = lo.DenseLinearOperator(t - 8 * torch.eye(4))  # has no real root: theirs is of another matrix
    op = lo.MulLinearOperator(indefinite, lo.DenseLinearOperator(t))
    A = cola.as_operator(op)
    assert type(A) is ops.HadamardProduct and A.isa(cola.PSD)
    near(A.to_dense().numpy(), op.to_dense().numpy(), 1e-12)


@pytest.mark.parametrize(
    "name",
    [
        "dense",
        "diagonal",
        "identity",
        "triangular",
        "kronecker",
        "sum",
        "scaled",
        "block",
        "shift",
        "lowrank",
    ],
)
def test_to_linear_operator(name, rng):
    needs("linear_operator")
    import linear_operator
    import torch

    t = torch.as_tensor(spd(rng))
    A = {
        "dense": lambda: ops.Dense(t),
        "diagonal": lambda: ops.Diagonal(t[0]),
        "identity": lambda: ops.Identity(4, "float64", backend="torch"),
        "triangular": lambda: ops.Triangular(t),
        "kronecker": lambda: cola.kron(t, t),
        "sum": lambda: ops.Dense(t) + ops.Triangular(t),
        "scaled": lambda: 2 * ops.Dense(t),
        "block": lambda: cola.block_diag(t, t[:2, :2]),
        "shift": lambda: cola.kron(t, t) + 0.5 * ops.Identity(16),
        "lowrank": lambda: ops.LowRank(t[:, :2]),
    }[name]()
    W = interop.to_linear_operator(A)
    assert isinstance(W, linear_operator.LinearOperator) and tuple(W.shape) == A.shape
    near(W.to_dense().numpy(), A.to_dense().numpy(), 1e-12)
    near(W.mT.to_dense().numpy(), A.T.to_dense().numpy(), 1e-12)
    near(cola.as_operator(W).to_dense().numpy(), A.to_dense().numpy(), 1e-12)


def test_gradients_and_solves_through_the_wrapper(rng):
    needs("linear_operator")
    import torch

    t = torch.as_tensor(spd(rng)).requires_grad_()
    W = interop.to_linear_operator(cola.block_diag(t, 2 * ops.Dense(t)))
    b = torch.as_tensor(rng.normal(size=(8, 1)))
    dense = torch.block_diag(t, 2 * t)
    near(W.solve(b).detach().numpy(), torch.linalg.solve(dense, b).detach().numpy(), 1e-6)
    _, logdet = W.inv_quad_logdet(b, logdet=True)
    (ours,) = torch.autograd.grad(logdet, t)
    (want,) = torch.autograd.grad(torch.logdet(dense), t)
    near(ours.numpy(), want.numpy(), 1e-6)


def test_gradients_through_an_operator_without_a_counterpart(rng):
    needs("linear_operator")
    import torch
    from linear_operator import operators as lo

    t = torch.as_tensor(spd(rng)).requires_grad_()
    A = cola.as_operator(lo.SumBatchLinearOperator(lo.DenseLinearOperator(torch.stack([t, t * t]))))
    assert type(A).__name__ == "TorchLinearOperator"
    (g,) = torch.autograd.grad((A @ torch.ones(4, dtype=t.dtype)).sum(), t)
    near(g.numpy(), 1 + 2 * t.detach().numpy(), 1e-10)


def test_gradients_through_the_structure_of_theirs(rng):
    needs("linear_operator")
    import torch
    from linear_operator import operators as lo

    t = torch.as_tensor(spd(rng)).requires_grad_()
    d, x = lo.DenseLinearOperator(t), torch.ones(4, dtype=t.dtype)
    A = cola.as_operator(lo.MulLinearOperator(d, d))
    (g,) = torch.autograd.grad((A @ x).sum(), t)
    near(g.numpy(), 2 * t.detach().numpy(), 1e-10)
    w = torch.full((3, 1), 2.0, dtype=t.dtype).requires_grad_()
    index = torch.tensor([[0], [1], [1]])
    B = cola.as_operator(lo.InterpolatedLinearOperator(d, index, w, index, w))
    assert B.right_index is None
    (g,) = torch.autograd.grad(B.to_dense().sum(), w)
    W = t.detach()[[0, 1, 1]][:, [0, 1, 1]]
    near(g.numpy(), (4 * W.sum(dim=1, keepdim=True)).numpy(), 1e-10)


def test_linear_operator_needs_tensors():
    needs("linear_operator")
    with pytest.raises(BackendError, match="torch"):
        interop.to_linear_operator(np.eye(3))
    with pytest.raises(BackendError, match="tensors"):
        interop.to_linear_operator(ops.Identity(3))


def test_real_operators_of_others_times_complex_vectors(rng):
    lx = needs("lineax")
    needs("linear_operator")
    import jax.numpy as jnp
    import torch
    from linear_operator import operators as lo

    a = rng.normal(size=(3, 3))
    x = rng.normal(size=(3, 2)) + 1j * rng.normal(size=(3, 2))
    J = cola.as_operator(lx.JacobianLinearOperator(lambda v, _: jnp.asarray(a) @ v, jnp.ones(3)))
    near(J @ jnp.asarray(x), a @ x, 1e-12)
    near(J.H @ jnp.asarray(x), a.T @ x, 1e-12)
    t = torch.as_tensor(a)
    C = cola.as_operator(lo.SumBatchLinearOperator(lo.DenseLinearOperator(torch.stack([t, t]))))
    near((C @ torch.as_tensor(x)).numpy(), 2 * a @ x, 1e-12)
    near((C.H @ torch.as_tensor(x)).resolve_conj().numpy(), 2 * a.T @ x, 1e-12)
    with pytest.raises(DTypeError, match="change the dtype there"):
        J.to(dtype="float32")
    single = C.to(dtype="float32")
    near((single @ torch.ones(3)).numpy(), 2 * a.sum(axis=1), 1e-5)
