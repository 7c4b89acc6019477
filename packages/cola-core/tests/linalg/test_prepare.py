"""``prepare``: what sequences of systems share, and that nothing stale passes for fresh."""

import numpy as np
import pytest
from compare import near
from problems import poisson, spectrum, with_spectrum

import cola_core as cola
from cola_core.backends import get_backend
from cola_core.errors import BackendError, DTypeError, NonSquareError, ShapeError, UnknownNameError


class Counted:
    """A product with a matrix that counts its columns."""

    def __init__(self, M):
        self.M, self.columns = M, 0

    def operator(self, *properties):
        def matmat(X):
            self.columns += X.shape[-1]
            return self.M @ X

        A = cola.ops.LinearOperator(np.float64, self.M.shape, matmat)
        for declare in properties:
            A = declare(A)
        return A


def _general(n=30, seed=0):
    return np.random.default_rng(seed).standard_normal((n, n)) + 0.3 * n**0.5 * np.eye(n)


def test_a_dense_operator_is_factored_once(library, monkeypatch):
    be = get_backend(library)
    made = []
    real = type(be).lu_factor
    monkeypatch.setattr(type(be), "lu_factor", lambda self, M: made.append(1) or real(self, M))
    M = _general()
    cache = cola.prepare(cola.solve, be.asarray(M))
    rng = np.random.default_rng(1)
    for _ in range(3):
        b = rng.standard_normal(30)
        near(cache(be.asarray(b)), np.linalg.solve(M, b), 1e-10)
    assert len(made) == 1 and cache.factorizations == 1 and cache.solves == 3
    near(cache.logdet(), np.linalg.slogdet(M)[1], 1e-10)
    near(cache.slogdet()[0], np.linalg.slogdet(M)[0], 1e-10)
    assert len(made) == 1
    cache.update(be.asarray(2 * M))
    near(cache(be.asarray(b)), np.linalg.solve(2 * M, b), 1e-10)
    assert len(made) == 2 and cache.factorizations == 2


def test_structure_keeps_the_factorisation_of_its_parts(monkeypatch):
    be = get_backend("numpy")
    made = []
    real = type(be).lu_factor
    monkeypatch.setattr(type(be), "lu_factor", lambda self, M: made.append(M.shape) or real(self, M))
    B, C = _general(5, 1), _general(6, 2)
    cache = cola.prepare(cola.solve, cola.kron(cola.ops.Dense(B), cola.ops.Dense(C)))
    for seed in range(3):
        b = np.random.default_rng(seed).standard_normal((30, 2))
        x, info = cache(b, return_info=True)
        near(x, np.linalg.solve(np.kron(B, C), b), 1e-10)
        assert info.residual < 1e-12
    assert sorted(made) == [(5, 5), (6, 6)]


def test_a_preconditioner_is_built_once_per_operator():
    M = with_spectrum(spectrum("decaying", 60, 1e4))
    built = []

    def jacobi(A):
        built.append(A)
        return cola.PSD(cola.ops.Diagonal(1 / np.diagonal(M)))

    A = Counted(M).operator(cola.PSD)
    cache = cola.prepare(cola.solve, A, cola.CG(P=jacobi, tol=1e-8))
    for seed in range(3):
        b = np.random.default_rng(seed).standard_normal(60)
        x = cache(b)
        assert np.linalg.norm(b - M @ x) <= 1.2e-8 * np.linalg.norm(b)
    assert len(built) == 1
    A2 = Counted(2 * M).operator(cola.PSD)
    cache.update(A2, keep=("preconditioner", "space"))
    assert cache.stale == {"preconditioner"}
    x = cache(b)
    assert len(built) == 1 and np.linalg.norm(b - 2 * M @ x) <= 1.2e-8 * np.linalg.norm(b)
    cache.refresh()
    assert cache.stale == frozenset()
    cache(b)
    assert len(built) == 2 and built[1] is A2


def test_past_solutions_are_where_the_next_iteration_starts():
    S = poisson(30, 30)
    counted = Counted(S)
    cache = cola.prepare(cola.solve, counted.operator(cola.PSD), cola.CG(tol=1e-8))
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((900, 3))
    _, first = cache(smooth[:, 0], return_info=True)
    cache(smooth[:, 1:])
    b = smooth @ np.array([1.0, -2.0, 0.5])
    x, again = cache(b, return_info=True)
    assert again.iterations <= first.iterations // 5
    assert again.residual <= 1.2e-8
    assert np.linalg.norm(b - S @ x) <= 1.2e-8 * np.linalg.norm(b)


def test_a_sequence_of_nearby_systems_costs_less_than_each_alone():
    M = with_spectrum(spectrum("decaying", 200, 1e5), seed=3)
    b = np.random.default_rng(5).standard_normal(200)
    alg = cola.CG(tol=1e-8, max_iters=5000)
    shifts = 1e-3 * (1 + 0.05 * np.arange(6))
    cache, together = None, 0
    alone = 0
    for s in shifts:
        counted = Counted(M + s * np.eye(200))
        A = counted.operator(cola.PSD)
        if cache is None:
            cache = cola.prepare(cola.solve, A, alg)
        else:
            cache.update(A)
        x, info = cache(b, return_info=True)
        together += counted.columns
        assert info.converged and np.linalg.norm(b - counted.M @ x) <= 1.2e-8 * np.linalg.norm(b)
        single = Counted(counted.M)
        cola.solve(single.operator(cola.PSD), b, alg)
        alone += single.columns
    assert together < 0.8 * alone


@pytest.mark.parametrize("definite", [True, False])
def test_an_old_factorisation_is_a_preconditioner_and_says_so(definite):
    n = 80
    M = with_spectrum(spectrum("decaying", n, 1e6), seed=1) if definite else _general(n)
    declare = cola.PSD if definite else (lambda A: A)
    change = with_spectrum(1e-9 * np.ones(n)) + 1e-10 * with_spectrum(spectrum("flat", n), seed=2)
    cache = cola.prepare(cola.solve, declare(cola.ops.Dense(M)))
    b = np.random.default_rng(0).standard_normal(n)
    cache(b)
    new = M + change
    cache.update(declare(cola.ops.Dense(new)), keep="factorization")
    assert cache.stale == {"preconditioner"} and "stale preconditioner" in repr(cache)
    x, info = cache(b, return_info=True)
    assert info.converged and info.iterations <= 5 and ("CG" if definite else "GMRES") in info.method
    assert np.linalg.norm(b - new @ x) <= 1.2e-8 * np.linalg.norm(b)
    cache.refresh()
    x, info = cache(b, return_info=True)
    assert info.iterations is None
    assert np.linalg.norm(b - new @ x) <= 1e-10 * np.linalg.norm(b)


def test_a_stale_preconditioner_that_is_far_off_is_reported_not_believed():
    M = with_spectrum(spectrum("flat", 40))
    cache = cola.prepare(cola.solve, cola.PSD(cola.ops.Dense(M)), cola.Auto(max_iters=3))
    b = np.random.default_rng(0).standard_normal(40)
    cache(b)
    far = with_spectrum(spectrum("decaying", 40, 1e8), seed=7)
    cache.update(cola.PSD(cola.ops.Dense(far)), keep="factorization")
    with pytest.warns(cola.ConvergenceWarning, match="iteration limit"):
        cache(b)


def test_least_squares_keep_their_factorisation(library):
    be = get_backend(library)
    M = np.random.default_rng(0).standard_normal((20, 7))
    cache = cola.prepare(cola.lstsq, be.asarray(M))
    for seed in range(2):
        b = np.random.default_rng(seed).standard_normal((20, 2))
        near(cache(be.asarray(b)), np.linalg.lstsq(M, b, rcond=None)[0], 1e-10)
    assert cache.factorizations == 1


def test_a_batch_of_operators():
    M = np.stack([_general(6, s) for s in range(3)])
    cache = cola.prepare(cola.solve, cola.ops.Dense(M))
    b = np.random.default_rng(0).standard_normal((3, 6, 2))
    for _ in range(2):
        near(cache(b), np.linalg.solve(M, b), 1e-10)


def test_a_gradient_goes_through():
    torch = pytest.importorskip("torch")
    M = torch.tensor(_general(8), requires_grad=True)
    b = torch.ones(8, dtype=torch.float64)
    cache = cola.prepare(cola.solve, cola.ops.Dense(M))
    (found,) = torch.autograd.grad(cache(b).sum(), M)
    (wanted,) = torch.autograd.grad(torch.linalg.solve(M, b).sum(), M)
    assert torch.allclose(found, wanted)


def test_a_traced_call_keeps_nothing():
    jax = pytest.importorskip("jax")
    M = jax.numpy.asarray(_general(8))
    cache = cola.prepare(cola.solve, cola.ops.Dense(M))
    f = jax.jit(lambda b: cache(b))
    near(f(jax.numpy.ones(8)), np.linalg.solve(np.asarray(M), np.ones(8)), 1e-10)
    assert "nothing kept" in repr(cache)


def test_what_does_not_fit_is_refused():
    A = cola.ops.Dense(_general(8))
    cache = cola.prepare(cola.solve, A)
    cache(np.ones(8))
    with pytest.raises(ShapeError, match="8x8"):
        cache.update(_general(9))
    with pytest.raises(DTypeError, match="float32"):
        cache.update(cola.ops.Dense(_general(8).astype(np.float32)))
    with pytest.raises(UnknownNameError, match="everything"):
        cache.update(A, keep="everything")
    with pytest.raises(ShapeError):
        cache(np.ones(9))
    with pytest.raises(NonSquareError):
        cola.prepare(cola.solve, np.ones((3, 4)))
    with pytest.raises(NotImplementedError, match="eigh"):
        cola.prepare(cola.eigh, A)
    with pytest.raises(ValueError, match="negative"):
        cola.prepare(cola.solve, A, space=-1)
    near(cache(np.ones(8)), np.linalg.solve(_general(8), np.ones(8)), 1e-10)  # and nothing was lost
    torch = pytest.importorskip("torch")
    with pytest.raises(BackendError, match="torch"):
        cache.update(cola.ops.Dense(torch.as_tensor(_general(8))))


@pytest.mark.parametrize("n", [0, 1])
def test_the_smallest_sizes(n):
    cache = cola.prepare(cola.solve, cola.PSD(cola.ops.Dense(3 * np.eye(n))), cola.CG())
    for _ in range(2):
        near(cache(np.ones((n, 2))), np.ones((n, 2)) / 3, 1e-10)


def test_recycled_directions_shorten_a_sequence_of_nearby_systems(rng):
    values = np.r_[np.logspace(-4, -1, 8), np.linspace(1, 2, 142)]
    steps = {}
    for recycle in (0, 8):
        A = cola.no_dispatch(cola.PSD(cola.ops.Diagonal(values)))
        cache = cola.prepare(cola.solve, A, cola.CG(), space=0, recycle=recycle)
        made = []
        for k in range(4):
            b = np.random.default_rng(k).standard_normal(150)
            x, info = cache(b, return_info=True)
            assert info.converged and np.allclose(cache.A @ x, b, atol=1e-6)
            made.append(info.iterations)
            cache.update(cola.no_dispatch(cola.PSD(cola.ops.Diagonal(values * (1 + 1e-6 * k)))))
        steps[recycle] = made
    assert max(steps[8][1:]) < min(steps[0]) / 2
    cache.update(cache.A, keep=())
    assert cache(b, return_info=True)[1].iterations > max(steps[8][1:])
