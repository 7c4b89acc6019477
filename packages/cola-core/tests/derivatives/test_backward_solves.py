"""What solves for derivatives inherit and report: policy, tolerance, preconditioner, scale, cost, memory."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import cola_core as cola
from cola_core import ops
from cola_core.errors import ConvergenceError, ConvergenceWarning

N = 30


def spectral(seed=0, n=N, digits=3):
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]
    return (Q * np.logspace(0, digits, n)) @ Q.T, Q


def counted(A, log, what):
    """A as an operator that counts its products, forward and adjoint."""

    def forward(X):
        log.append(what)
        return A @ X

    def adjoint(X):
        log.append(f"{what}^H")
        return A.H @ X

    return ops.FunctionOperator(
        None, A.shape, A.dtype, matmat=forward, rmatmat=adjoint, backend=A.backend.name
    )


class TestReports:
    def test_a_gradient_that_misses_its_tolerance_warns_or_raises(self):
        torch = pytest.importorskip("torch")
        M, Q = spectral()
        D = torch.tensor(M, requires_grad=True)
        b, w = torch.tensor(Q[:, 0]), torch.tensor(np.random.default_rng(1).normal(size=N))

        def loss(**policy):
            return w @ cola.solve(cola.PSD(ops.Dense(D)), b, cola.CG(max_iters=3), **policy)

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = loss()  # an eigenvector: one step
            raising, silent = loss(on_failure="raise"), loss(on_failure="ignore")
            torch.autograd.grad(silent, D)
        with pytest.warns(ConvergenceWarning, match=r"gradient of solve\(.*by CG did not converge"):
            torch.autograd.grad(value, D)
        with pytest.raises(ConvergenceError, match="gradient of solve"):
            torch.autograd.grad(raising, D)

    def test_their_info_is_collected(self):
        torch = pytest.importorskip("torch")
        D = torch.tensor(spectral()[0], requires_grad=True)
        x = cola.solve(cola.PSD(ops.Dense(D)), torch.ones(N, dtype=torch.float64), cola.CG(tol=1e-6))
        with cola.infos() as found:
            x.sum().backward()
        assert [info.method for info in found] == ["gradient of CG"]
        assert found[0].converged and found[0].tolerance == 1e-6 and found[0].residual <= 1.1e-6

    def test_the_gradient_of_a_value_that_failed_is_not_called_converged(self):
        torch = pytest.importorskip("torch")
        M, Q = spectral()
        b = torch.tensor(np.random.default_rng(2).normal(size=N), requires_grad=True)
        A = cola.PSD(ops.Dense(torch.tensor(M)))
        x = cola.solve(A, b, cola.CG(max_iters=3), on_failure="ignore")
        with cola.infos() as found:
            (torch.tensor(Q[:, 0]) @ x).backward()  # this solve takes one step
        assert found[0].residual < 1e-8 and not found[0].converged
        assert "the value that is differentiated" in found[0].reason

    @pytest.mark.parametrize("jit", [False, True])
    def test_jax_tells_the_host(self, jit):
        jax = pytest.importorskip("jax")
        M, Q = spectral()
        w, b = np.random.default_rng(1).normal(size=N), jax.numpy.asarray(Q[:, 0])

        def gradient(policy, alg=cola.CG(max_iters=3)):
            def loss(D):
                return w @ cola.solve(cola.PSD(ops.Dense(D)), b, alg, on_failure=policy)

            found = jax.grad(loss)
            found = jax.jit(found) if jit else found
            out = jax.block_until_ready(found(jax.numpy.asarray(M)))
            jax.effects_barrier()
            return out

        with pytest.warns(ConvergenceWarning, match="gradient of solve"):
            gradient("warn")
        with pytest.raises(Exception, match="ConvergenceError: gradient of solve"):
            gradient("raise")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            gradient("ignore")
        with cola.infos() as found:
            gradient("warn", cola.CG())
        (info,) = [info for info in found if info.method == "gradient of CG"]
        assert info.converged and info.iterations > 3 and info.residual <= 1.1e-8


class TestInheritance:
    @pytest.mark.parametrize(
        ("alg", "used"), [(cola.CG, {"P"}), (cola.GMRES, {"P^H"}), (cola.BiCGStab, {"P^H"})]
    )
    def test_the_adjoint_preconditioner_serves_the_gradient(self, alg, used):
        torch = pytest.importorskip("torch")
        M = spectral()[0]
        D = torch.tensor(M, requires_grad=True)
        log: list[str] = []
        P = counted(ops.Dense(torch.linalg.inv(torch.tensor(M))), log, "P")
        A = cola.PSD(ops.Dense(D)) if alg is cola.CG else ops.Dense(D)
        x = cola.solve(A, torch.ones(N, dtype=torch.float64), alg(P=P))
        assert set(log) == {"P"}
        log.clear()
        with cola.infos() as found:
            x.sum().backward()
        assert set(log) == used and found[0].iterations <= 3

    def test_the_time_budget_holds_for_gradients(self):
        torch = pytest.importorskip("torch")
        M, Q = spectral(digits=8)
        D = torch.tensor(M, requires_grad=True)
        x = cola.solve(cola.PSD(ops.Dense(D)), torch.tensor(Q[:, 0]), cola.CG(max_seconds=1e-9))
        with cola.infos() as found, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (torch.tensor(np.random.default_rng(0).normal(size=N)) @ x).backward()
        assert found[0].iterations == 1 and "time budget" in found[0].reason

    def test_a_recycled_space_serves_the_gradient(self):
        torch = pytest.importorskip("torch")
        values = np.r_[np.logspace(-4, -1, 8), np.linspace(1, 2, 92)]
        d = torch.tensor(values, requires_grad=True)
        A = cola.no_dispatch(cola.PSD(ops.Diagonal(d)))
        alg = cola.DeflatedCG(recycle=cola.Recycle(8))
        rng = np.random.default_rng(0)
        with cola.infos() as found:
            for _ in range(3):
                x = cola.solve(A, torch.tensor(rng.normal(size=100)), alg)
                (torch.tensor(rng.normal(size=100)) @ x).backward()
        assert found[-1].method == "gradient of deflated CG"
        assert found[-1].iterations < found[0].iterations / 2


class TestScale:
    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize("alg", [cola.CG(), cola.GMRES(), cola.MINRES(), cola.LSMR(), cola.BiCGStab()])
    def test_the_scale_of_a_loss_does_not_matter(self, alg, dtype):
        torch = pytest.importorskip("torch")
        M = torch.tensor(spectral(n=12, digits=1)[0]).to(getattr(torch, dtype))
        b = torch.arange(1.0, 13.0, dtype=M.dtype, requires_grad=True)
        w = torch.linspace(-1, 1, 12, dtype=M.dtype)
        scales = (1e-300, 1e-150, 1e300) if dtype == "float64" else (1e-30, 1e-20, 1e36)
        A = cola.PSD(ops.Dense(M))
        (want,) = torch.autograd.grad(w @ cola.solve(A, b, alg), b)
        for scale in scales:
            x = cola.solve(A, b, alg)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                (g,) = torch.autograd.grad(x, b, w * scale)
            torch.testing.assert_close(g / scale, want, rtol=1e-4, atol=1e-4 if dtype == "float32" else 1e-7)

    @pytest.mark.parametrize("alg", [cola.CG(), cola.GMRES(), cola.LSMR(), cola.LSQR(), cola.MINRESQLP()])
    def test_zero_columns_cost_nothing(self, alg):
        torch = pytest.importorskip("torch")
        log: list[str] = []
        b = torch.ones((N, 3), dtype=torch.float64, requires_grad=True)
        A = cola.PSD(counted(ops.Dense(torch.tensor(spectral()[0])), log, "A"))
        x = cola.solve(A, b, alg)
        log.clear()
        (g,) = torch.autograd.grad(x, b, torch.zeros_like(x), retain_graph=True)
        assert log == [] and not g.any()
        one = torch.zeros_like(x)
        one[:, 1] = 1
        (g,) = torch.autograd.grad(x, b, one)
        assert log and not g[:, 0].any() and not g[:, 2].any() and torch.isfinite(g).all()

    def test_zero_and_tiny_cotangents_on_jax(self):
        jax = pytest.importorskip("jax")
        jnp = jax.numpy
        A = cola.PSD(ops.Dense(jnp.asarray(spectral(n=12, digits=1)[0])))
        pull = jax.jit(lambda g: jax.vjp(lambda b: cola.solve(A, b, cola.CG()), jnp.ones((12, 2)))[1](g)[0])
        w = jnp.stack([jnp.linspace(-1, 1, 12), jnp.zeros(12)], axis=1)
        want = pull(w)
        assert bool(jnp.all(want[:, 1] == 0))
        for scale in (1e-290, 1e290):
            np.testing.assert_allclose(np.asarray(pull(w * scale) / scale), np.asarray(want), rtol=1e-6)


class TestCost:
    def test_backward_of_cg_is_one_solve_and_one_product(self):
        """The adjoint solve with its residual check; nothing of the iteration is kept."""
        torch = pytest.importorskip("torch")
        log: list[str] = []
        M = spectral()[0]
        b = torch.ones(N, dtype=torch.float64, requires_grad=True)
        A = cola.PSD(counted(ops.Dense(torch.tensor(M)), log, "A"))
        with cola.infos() as found:
            x = cola.solve(A, b, cola.CG())
            value = len(log)
            x.square().sum().backward()
        assert value <= found[0].matvecs + 1 and len(log) - value == found[1].matvecs
        assert found[1].matvecs == found[1].iterations + 1

    def test_right_hand_sides_that_are_mapped_become_columns(self):
        torch = pytest.importorskip("torch")
        log: list[tuple[int, ...]] = []
        D = torch.tensor(spectral()[0])

        def product(X):
            log.append(tuple(X.shape))
            return D @ X

        A = cola.PSD(
            ops.FunctionOperator(
                None,
                (N, N),
                D.dtype,
                matmat=lambda X: (log.append(tuple(X.shape)), D @ X)[1],
                backend="torch",
            )
        )
        B = torch.tensor(np.random.default_rng(0).normal(size=(5, N)))
        got = torch.func.vmap(torch.func.grad(lambda b: cola.solve(A, b, cola.CG()).square().sum()))(B)
        assert (N, 5) in log and len(log) < 5 * N
        want = torch.linalg.solve(D, torch.linalg.solve(D, B.T)).T * 2
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-8)


SOLVERS = [
    *(cola.CG, cola.BlockCG, cola.DeflatedCG, cola.MINRES, cola.MINRESQLP, cola.BiCGStab, cola.IDR),
    *(cola.LSQR, cola.LSMR, cola.CGLS),
]


@pytest.mark.parametrize("alg", SOLVERS)
def test_memory_of_a_gradient_does_not_grow_with_the_steps_on_torch(alg):
    """Peak of what all tensors hold, of value and gradient, at 10 and at 1,000 (slow ones: 150) steps."""
    torch = pytest.importorskip("torch")
    from spies import Peak

    n = 2000
    d = torch.logspace(-9, 0, n, dtype=torch.float64)

    def peak(steps):
        D, b = d.clone().requires_grad_(), torch.ones(n, dtype=torch.float64, requires_grad=True)
        A = cola.PSD(cola.no_dispatch(ops.Diagonal(D)))
        settings = {"tol": 1e-300} | ({"conlim": 1e300} if alg in (cola.LSQR, cola.LSMR, cola.CGLS) else {})
        with Peak() as spy:
            x, info = cola.solve(
                A, b, alg(max_iters=steps, **settings), on_failure="ignore", return_info=True
            )
            (x**2).sum().backward()
        assert info.iterations >= 0.9 * steps and D.grad is not None
        return spy.bytes

    few, many = peak(10), peak(1000 if alg in (cola.CG, cola.MINRES, cola.LSQR) else 150)
    assert few > 0 and abs(many - few) <= 0.05 * few, (few, many)


@pytest.mark.parametrize("alg", [cola.CG, cola.LSMR])
def test_memory_of_a_compiled_gradient_does_not_grow_with_the_steps(alg):
    jax = pytest.importorskip("jax")
    M, b = jax.numpy.asarray(spectral(n=50)[0]), jax.numpy.ones(50)

    def temporary(steps):
        def loss(D, b):
            x = cola.solve(cola.PSD(ops.Dense(D)), b, alg(max_iters=steps), on_failure="ignore")
            return (x**2).sum()

        program = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(M, b).compile()
        return program.memory_analysis().temp_size_in_bytes

    few, many = temporary(10), temporary(1000)
    assert abs(many - few) <= 0.05 * few
