"""What plugins use of the dense decompositions: ties of `eigh` as asked for, `cholesky` without an error,
rules of one's own through `Backend.derived`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import NotDifferentiableError, NotPositiveDefiniteError

LIBRARIES = ["numpy", *(name for name in ("torch", "jax") if find_spec(name))]


@pytest.fixture(params=LIBRARIES)
def be(request):
    return get_backend(request.param)


def test_tied(be):
    w = be.asarray(np.array([[0.0, 1e-9, 2e-9, 1.0], [1.0, 1.0 + 1e-15, 2.0, 3.0]]))
    found = be.to_numpy(be.tied(w))
    assert found[0].sum() == 4 and found[1].sum() == 6 and found[1, 0, 1]
    # steps are linked: the first and the third number of the first row are 2e-9 apart
    chained = be.to_numpy(be.tied(w, 1.5e-9))
    assert chained[0, 0, 2] and not chained[0, 0, 3] and chained[1].sum() == 6
    assert be.to_numpy(be.tied(w, 0.0)).sum() == 8


def test_eigh_takes_a_gap(be):
    A = be.asarray(np.diag([1.0, 1.0 + 1e-6, 2.0]))
    w, V = be.eigh(A, gap=1e-3)
    np.testing.assert_allclose(be.to_numpy(w), [1.0, 1.0 + 1e-6, 2.0])
    if be.name == "numpy":
        return

    def loss(A):
        V = be.eigh(A, gap=1e-3)[1]
        return be.xp.sum(V[0, :1] * V[1, :1])  # one vector of the two

    _, pull = be.vjp(loss, A)
    one = be.asarray(np.ones(()))
    try:
        assert np.isnan(be.to_numpy(pull(one)[0])).any()
    except NotDifferentiableError:
        pass


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_cholesky_without_an_error(be, batch, dtype):
    good = np.broadcast_to(np.diag([4.0, 9.0, 1.0]), (*batch, 3, 3)).astype(dtype)
    bad = good.copy()
    bad.reshape(-1, 3, 3)[0, 1, 1] = -1.0
    with pytest.raises(NotPositiveDefiniteError):
        be.cholesky(be.asarray(bad))
    L = be.to_numpy(be.cholesky(be.asarray(bad), check=False)).reshape(-1, 3, 3)
    assert np.isnan(np.diagonal(L[0])).any() and (np.triu(L[0], 1) == 0).all()
    np.testing.assert_array_equal(L[1:], np.broadcast_to(np.diag([2.0, 3.0, 1.0]), L[1:].shape))
    np.testing.assert_array_equal(be.to_numpy(be.cholesky(be.asarray(good), check=False)), np.sqrt(good))


def test_half_a_factor_is_not_shown_under_vmap():
    torch = pytest.importorskip("torch")
    be = get_backend("torch")
    A = torch.stack([torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, 1.0]))])
    L = torch.func.vmap(be.cholesky)(A)
    assert torch.equal(L[0], torch.eye(3)) and torch.isnan(L[1]).any()


@dataclass(frozen=True)
class Cubed:
    """``sum(A**3)`` of each matrix; none where the sum is zero (so that there is something to refuse)."""

    name: str = "cubed"
    keeps_input: bool = True
    constants: tuple[int, ...] = ()
    whole: None = None
    count: int = 1

    def compute(self, be: Any, A: Any) -> Any:
        return (be.xp.sum(be.xp.sum(A**3, axis=-1), axis=-1),)

    def broken(self, be: Any, A: Any, out: Any) -> Any:
        return be.constant(out[0]) == 0, "the derivative of cubed is refused at zero"

    def push(self, tools: Any, A: Any, out: Any, dA: Any) -> Any:
        xp = tools.be.xp
        return (xp.sum(xp.sum(3 * A**2 * dA, axis=-1), axis=-1),)

    def pull(self, tools: Any, A: Any, out: Any, g: Any) -> Any:
        return g[0][..., None, None] * 3 * A**2


def test_a_rule_of_ones_own(be):
    A = be.asarray(np.arange(1.0, 9.0).reshape(2, 2, 2))
    (y,) = be.derived(Cubed(), A)
    np.testing.assert_allclose(be.to_numpy(y), [100.0, 1196.0])
    if be.name == "numpy":
        return
    f = lambda A: be.xp.sum(be.derived(Cubed(), A)[0])  # noqa: E731
    _, pull = be.vjp(f, A)
    np.testing.assert_allclose(be.to_numpy(pull(be.asarray(np.ones(())))[0]), 3 * be.to_numpy(A) ** 2)
    twice = be.jvp(lambda A: be.jvp(f, (A,), (A,))[1], (A,), (A,))[1]
    np.testing.assert_allclose(be.to_numpy(twice), 9 * (100.0 + 1196.0))
    zero = be.asarray(np.zeros((2, 2, 2)))
    try:  # an output that is no matrix: NaN where values cannot be looked at, an error where they can
        assert np.isnan(be.to_numpy(be.jvp(f, (zero,), (zero,))[1]))
    except NotDifferentiableError as error:
        assert "refused at zero" in str(error)
