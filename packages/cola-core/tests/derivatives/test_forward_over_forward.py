"""Forward over forward mode of PyTorch through decompositions: nothing of the outer mode is lost."""

from __future__ import annotations

import numpy as np
import pytest

QUESTIONS = {
    "eigvalsh": lambda be, A: (be.eigvalsh(A) ** 3 * be.xp.arange(1, 5, dtype=A.dtype)).sum(),
    "eigh": lambda be, A: (be.eigh(A)[1] ** 4).sum(),
    "eig": lambda be, A: be.xp.real(be.eigvals(A) ** 3).sum(),
    "svd": lambda be, A: (be.svd(A)[0][:, :2] ** 4).sum(),
    "svdvals": lambda be, A: (be.svdvals(A) ** 3).sum(),
    "qr": lambda be, A: (be.qr(A)[1] ** 4).sum(),
    "lu": lambda be, A: (be.lu(A)[2] ** 3).sum(),
    "cholesky": lambda be, A: (be.cholesky(A) ** 3).sum(),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_forward_over_forward(name, rng):
    torch = pytest.importorskip("torch")
    from cola_core.backends import get_backend

    be, numbers, loss = get_backend("torch"), get_backend("numpy"), QUESTIONS[name]
    D = rng.standard_normal((4, 4))
    D = D + D.T
    A = np.diag([1.0, 2.3, 3.1, 4.5]) + 0.1 * D @ D

    def along(t):
        return float(loss(numbers, A + t * D))

    step = 1e-3
    expected = (along(step) - 2 * along(0.0) + along(-step)) / step**2
    M, T = torch.tensor(A), torch.tensor(D)

    def pushed(M):
        return torch.func.jvp(lambda M: loss(be, M), (M,), (T,))[1]

    assert float(torch.func.jvp(pushed, (M,), (T,))[1]) == pytest.approx(expected, rel=1e-4)


def test_forward_over_forward_of_some_eigenpairs(rng):
    torch = pytest.importorskip("torch")
    from cola_core import Lanczos, SelfAdjoint, eigh, ops

    D = rng.standard_normal((6, 6))
    D = D + D.T
    A = np.diag([1.0, 2.3, 3.1, 4.5, 6.0, 9.0]) + 0.02 * D @ D

    def loss(w, V):
        return (w**3).sum() + (V**4).sum()

    def along(t):
        w, V = np.linalg.eigh(A + t * D)
        return loss(w[-2:], V[:, -2:])

    def ours(t):
        M = torch.tensor(A) + t * torch.tensor(D)
        w, V = eigh(SelfAdjoint(ops.Dense(M)), 2, "LM", alg=Lanczos(tol=1e-12))
        return loss(w, V.to_dense())

    def pushed(t):
        return torch.func.jvp(ours, (t,), (torch.ones_like(t),))[1]

    t, step = torch.zeros((), dtype=torch.float64), 1e-3
    expected = (along(step) - 2 * along(0.0) + along(-step)) / step**2
    assert float(torch.func.jvp(pushed, (t,), (torch.ones_like(t),))[1]) == pytest.approx(expected, rel=1e-4)
