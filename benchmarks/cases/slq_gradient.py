"""Value and gradient of a log-determinant by stochastic Lanczos quadrature, beside matfree.

matfree differentiates the Lanczos recurrence (by its hand-written adjoint); here the gradient is the
solve identity with the probes of the value. Same kernel, steps, probes and precision; the programs' temporary
memory, as XLA plans it, is compared before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

import cola_core as cola
from cola_core import ops

from ..harness import Bench, Contender, Goal

STEPS, PROBES, LESS = 30, 10, 0.3  # LESS: of the peer's memory at most


def _slq(short: bool) -> tuple[list[Contender], Callable[[Any], None]]:
    """Squared exponential of scattered points and noise; three parameters by their logarithms."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    n = 200 if short else 2000
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(n, 2)))
    theta = jnp.log(jnp.asarray([0.2, 1.0, 0.05]))

    def kernel(t: Any, x: Any) -> tuple[Any, Any]:
        length, scale, noise = jnp.exp(t)
        squares = jnp.sum(x**2, axis=1)
        gaps = squares[:, None] + squares - 2 * x @ x.T
        return scale * jnp.exp(-0.5 * gaps / length**2), noise

    def ours(t: Any, x: Any) -> Any:
        K, noise = kernel(t, x)
        A = cola.PSD(ops.Dense(K)) + cola.PSD(noise * ops.Identity(n))
        alg = cola.SLQ(max_iters=STEPS, samples=PROBES, max_samples=PROBES)
        return cola.logdet(A, alg, on_failure="ignore")

    programs: dict[str, Any] = {"ours": jax.value_and_grad(ours)}
    if find_spec("matfree"):
        from matfree import decomp, funm, stochtrace

        probe = stochtrace.sampler_signs(jnp.ones(n), num=PROBES)
        quadrature = funm.monte_carlo_funm_sym_logdet(decomp.tridiag_sym(STEPS, custom_vjp=True))
        estimate = stochtrace.estimator_monte_carlo(quadrature, probe)

        def theirs(t: Any, x: Any) -> Any:
            K, noise = kernel(t, x)
            return estimate(lambda v, K, noise: K @ v + noise * v, jax.random.key(1), K, noise)

        programs["matfree"] = jax.value_and_grad(lambda t, x: jnp.mean(jnp.asarray(theirs(t, x))))

    def exact(t: Any, x: Any) -> Any:
        K, noise = kernel(t, x)
        return jnp.linalg.slogdet(K + noise * jnp.eye(n))[1]

    programs["exact, by hand"] = jax.value_and_grad(exact)
    compiled = {name: jax.jit(f).lower(theta, x).compile() for name, f in programs.items()}
    held = {name: c.memory_analysis().temp_size_in_bytes / 2**20 for name, c in compiled.items()}
    if "matfree" in held and not short:
        assert held["ours"] <= LESS * held["matfree"], f"temporary memory, MiB: {held}"
    value, gradient = compiled["exact, by hand"](theta, x)

    def check(answer: Any) -> None:
        found, slope = answer
        assert abs(float(found - value)) < 0.05 * max(abs(float(value)), n)
        assert np.linalg.norm(slope - gradient) < 0.2 * np.linalg.norm(gradient)

    def runner(c: Any) -> Callable[[], Any]:
        return lambda: jax.block_until_ready(c(theta, x))

    share = f", {held['ours'] / held['matfree']:.2f}x the memory of matfree" if "matfree" in held else ""
    names = {"ours": f"logdet(A, SLQ()){share}"}
    return [Contender(names.get(name, name), runner(c)) for name, c in compiled.items()], check


BENCHES = [
    Bench(
        "slq-gradient",
        f"SLQ log-determinant and its gradient, kernel of 2,000 points, {STEPS} steps, {PROBES} probes",
        _slq,
        Goal("ratio", 0.4, "matfree"),
        needs=("jax", "matfree"),
        rounds=5,
    ),
]
