"""Training steps leave nothing behind: operators, lazy inverses and prepared systems that outlive a step keep
neither its graph nor its tensors, and copies of operators are leaves of their own."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

import cola_core as cola
from cola_core.pytree import tree_leaves

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")

N, STEPS = 6, 200


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    W = torch.as_tensor(rng.standard_normal((N, N))).requires_grad_()
    return W, torch.as_tensor(rng.standard_normal(N))


def spd(W):
    return cola.PSD(cola.ops.Dense(W @ W.T + N * torch.eye(N, dtype=W.dtype)))


class Saved:
    """A tensor that a graph keeps for its backward pass; graphs themselves cannot be seen from Python."""

    def __init__(self, tensor):
        self.tensor = tensor


def live_bytes():
    gc.collect()
    return sum(x.numel() * x.element_size() for x in gc.get_objects() if type(x) is torch.Tensor)


def losses(W, b):
    outer = cola.ops.Dense(W) + 4 * N * cola.ops.Identity(N)  # made once: its caches outlive every step
    inverse, prepared = cola.inv(outer), cola.prepare(cola.solve, outer)
    return {
        "CG": lambda: cola.solve(spd(W), b, cola.CG()).sum(),
        "Cholesky": lambda: cola.logdet(spd(W)),
        "SLQ": lambda: cola.logdet(spd(W), cola.SLQ(key=1, samples=2, max_samples=2, max_iters=3)),
        "inv": lambda: (cola.inv(spd(W)) @ b).sum(),
        "kept inverse": lambda: (inverse @ b).sum(),
        "prepared": lambda: prepared(b).sum(),
        "products": lambda: (outer @ b).sum() + (outer.H @ b).sum() + (outer.T @ b).sum(),
        "kept operator": lambda: cola.slogdet(outer)[1] + cola.solve(outer, b).sum(),
        "exp": lambda: (cola.exp(outer / 50) @ b).sum(),
        "eigh": lambda: cola.eigh(spd(W))[0].sum(),
    }


@pytest.mark.parametrize("name", losses(torch.eye(N), torch.ones(N)))
def test_memory_is_flat(name, parts):
    W, b = parts
    loss = losses(W, b)[name]

    kept = weakref.WeakSet()

    def pack(tensor):
        found = Saved(tensor)
        kept.add(found)
        return found

    def step():
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda found: found.tensor):
            value = loss()
        (g,) = torch.autograd.grad(value, W)
        with torch.no_grad():
            W.add_(g, alpha=-1e-6)

    for _ in range(3):
        step()
    before = live_bytes()
    for _ in range(STEPS if name in ("CG", "Cholesky", "SLQ") else 10):
        step()
    assert live_bytes() == before and not kept


def test_changed_parameters_are_seen(parts):
    """What an operator keeps is not what its parameters were a step ago."""
    W, b = parts
    for name, loss in losses(W, b).items():
        loss()
        with torch.no_grad():
            W.mul_(1.5)
        fresh = losses(W, b)[name]()
        assert torch.allclose(loss(), fresh), name


def test_copies_and_pickles(parts):
    W, b = parts
    A = cola.PSD(cola.ops.Dense(W)) + cola.ops.Diagonal(b)
    cola.solve(A, b, cola.GMRES()).sum().backward()  # caches are filled
    for made in (copy.deepcopy(A), pickle.loads(pickle.dumps(A)), copy.deepcopy(cola.inv(A))):
        leaves = tree_leaves(made)
        assert [x.requires_grad for x in leaves] == [x.requires_grad for x in tree_leaves(A)]
        assert all(x.is_leaf for x in leaves)
        assert not {id(x) for x in tree_leaves(made)} & {id(x) for x in tree_leaves(A)}
    inside = spd(W)  # entries with a history: torch itself refuses to copy those
    with pytest.raises(RuntimeError, match="graph leaves"):
        copy.deepcopy(inside)
    detached = pickle.loads(pickle.dumps(inside))
    assert all(x.is_leaf for x in tree_leaves(detached))
