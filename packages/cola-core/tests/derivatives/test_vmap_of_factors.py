"""``torch.func.vmap`` of solves by factors: every example by its own, batches beside it included."""

import pytest

from cola_core import PSD, algorithms, ops, solve

torch = pytest.importorskip("torch")


def matrices(*shape):
    made = torch.Generator().manual_seed(4)
    M = torch.randn(*shape, generator=made, dtype=torch.float64)
    return M @ M.mT + 2 * torch.eye(shape[-1], dtype=torch.float64)


@pytest.mark.parametrize("alg", [algorithms.LU(), algorithms.Cholesky(), algorithms.GMRES(tol=1e-12)])
@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0)])
def test_one_matrix_per_example_and_a_batch_of_right_hand_sides(alg, dims):
    Ts, bs = matrices(2, 3, 3), matrices(2, 4, 3, 3)
    args = [x if d == 0 else x[0] for x, d in zip((Ts, bs), dims, strict=True)]

    def f(T, b):
        return solve(PSD(ops.Dense(T)), b, alg)

    got = torch.func.vmap(f, in_dims=dims)(*args)
    want = [f(*(x if d is None else x[i] for x, d in zip(args, dims, strict=True))) for i in range(2)]
    torch.testing.assert_close(got, torch.stack(want), rtol=1e-8, atol=1e-10)


def test_a_kronecker_sum_is_solved_example_by_example():
    As, Bs = matrices(2, 2, 2), matrices(2, 3, 3)
    b = matrices(6, 6)[:, 0]

    def loss(A, B):
        return (solve(ops.KronSum(PSD(ops.Dense(A)), PSD(ops.Dense(B))), b) ** 2).sum()

    grads, values = torch.func.vmap(torch.func.grad_and_value(loss, (0, 1)))(As, Bs)
    for i in range(2):
        A, B = (x[i].clone().requires_grad_(True) for x in (As, Bs))
        torch.testing.assert_close(values[i], loss(A, B).detach())
        want = torch.autograd.grad(loss(A, B), (A, B))
        for g, w in zip(grads, want, strict=True):
            torch.testing.assert_close(g[i] + g[i].mT, w + w.mT)
