"""Products in a low precision: their error, scaling against overflow, every kind of operator, tfloat32."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from cola_core import ops
from cola_core.backends import get_backend
from cola_gpu.low_operators import round_bits, round_tf32
from cola_gpu.precision import UNIT_ROUNDOFF, choose, escalation, lowered

HALF = ("bfloat16", "float16")


def operators(rng, to):
    """name -> (operator, whether any of it can be in half precision)."""
    M, N = to(rng.standard_normal((6, 6))), to(rng.standard_normal((4, 4)))
    x = np.linspace(0, 1, 6)[:, None]
    D, E = ops.Dense(M), ops.Dense(N)
    sparse = ops.Sparse(
        to(rng.standard_normal(8)), [0, 1, 2, 3, 4, 5, 5, 0], [1, 1, 0, 4, 4, 5, 2, 3], (6, 6)
    )
    toeplitz = ops.Toeplitz(to(rng.standard_normal(6)), to(rng.standard_normal(6)))
    return {
        "dense": (D, True),
        "batch": (ops.Dense(to(rng.standard_normal((2, 6, 6)))), True),
        "sparse": (sparse, True),
        "diagonal": (ops.Diagonal(to(rng.standard_normal(6))), False),
        "low rank": (ops.LowRank(to(rng.standard_normal((6, 2))), to(rng.standard_normal((6, 2)))), True),
        "product": (ops.Product(D, sparse), True),
        "sum": (ops.Sum(D, ops.Identity(6), toeplitz), True),
        "kronecker": (ops.Kronecker(E, D), True),
        "kronsum": (ops.KronSum(E, D), True),
        "blocks": (ops.BlockDiag(D, E, multiplicities=(2, 1)), True),
        "toeplitz": (toeplitz, False),
        "circulant": (ops.Circulant(to(rng.standard_normal(6))), False),
        "tridiagonal": (ops.Tridiagonal(*(to(rng.standard_normal(k)) for k in (5, 6, 5))), False),
        "scalar": (2.5 * ops.Identity(6), False),
        "kernel": (ops.Kernel(to(x), None, lambda p, q: (p - q.T) ** 2), False),
    }


@pytest.mark.parametrize("precision", [*HALF, "tfloat32", "float32"])
def test_products_of_every_operator_are_as_exact_as_the_precision(backend, rng, precision):
    if backend.name == "numpy" and precision in HALF:
        assert choose(precision, "float64", backend) == "float32"
        return
    if backend.name == "jax" and precision != "float16":
        return  # every operation compiles; the other libraries have every precision
    for name, (A, possible) in operators(rng, backend.asarray).items():
        if backend.name == "jax" and name not in ("dense", "sparse", "low rank", "kronecker", "toeplitz"):
            continue
        X = rng.standard_normal((A.shape[-1], 3))
        low, scale, actual = lowered(A, precision, backend)
        Y = low @ backend.asarray(X, dtype="float32")
        assert "float32" in str(Y.dtype), name
        assert actual == (precision if possible else "float32"), name
        M = A.to_dense()
        M = M if isinstance(M, np.ndarray) else backend.to_numpy(M)
        size = np.abs(M) @ np.abs(X) * max(1, len(M) / 4)
        error = np.abs(scale * backend.to_numpy(Y).astype(float) - M @ X)
        scale_of_columns = size.max(axis=(-1, -2), keepdims=True)
        assert (error <= 8 * UNIT_ROUNDOFF[actual] * scale_of_columns).all(), name
        if possible and precision != "float32":
            assert error.max() > UNIT_ROUNDOFF["float32"] * size.max(), f"{name}: nothing was rounded"


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e30, 1e200])
def test_nothing_overflows_or_vanishes(rng, size):
    """Entries, vectors and what is between the factors, all of which float16 cannot hold."""
    torch = pytest.importorskip("torch")
    backend = get_backend("torch")
    M = torch.tensor(rng.standard_normal((5, 5)))
    parts = {
        "dense": ops.Dense(size * M),
        "product": ops.Product(ops.Dense(size * M), ops.Dense(M / size), ops.Dense(size * M)),
        "kronecker": ops.Kronecker(ops.Dense(size * M), ops.Dense(1e3 * M)),
        "sum": ops.Sum(ops.Dense(size * M), ops.Diagonal(size * torch.ones(5, dtype=torch.float64))),
        "low rank": ops.LowRank(size**0.5 * M[:, :2], size**0.5 * M[:, 2:4]),
        "toeplitz": ops.Toeplitz(size * M[0]),
        "blocks": ops.BlockDiag(ops.Dense(size * M), ops.Dense(1e-3 * size * M)),
    }
    for name, A in parts.items():
        low, scale, _ = lowered(A, "float16", backend)
        X = torch.tensor(1e20 * rng.standard_normal((A.shape[-1], 2)), dtype=torch.float32)
        Y = (low @ X).to(torch.float64)
        exact = A.to_dense() @ X.to(torch.float64) / scale
        assert bool(torch.isfinite(Y).all()), name
        assert float((Y - exact).norm() / exact.norm()) < 0.01, name


def test_scaling_in_a_traced_program(rng):
    """There values cannot be looked at, and the powers of two are computed with the program."""
    jax = pytest.importorskip("jax")
    backend, M = get_backend("jax"), 1e7 * rng.standard_normal((5, 5))
    X = rng.standard_normal((5, 2)).astype(np.float32)

    @jax.jit
    def product(M, X):
        low, scale, _ = lowered(ops.Dense(M), "float16", backend)
        return scale * (low @ X)

    exact = M @ X
    assert np.abs(product(M, X) - exact).max() < 0.01 * np.abs(exact).max()


@pytest.mark.parametrize("precision,bits", [("bfloat16", 8), ("float16", 11), ("tfloat32", 11)])
def test_rounding_is_to_nearest(backend, rng, precision, bits):
    x = (rng.standard_normal(200) * np.exp(rng.standard_normal(200))).astype(np.float32)
    got = backend.to_numpy(round_bits(backend.asarray(x), precision, backend))
    mantissa, exponent = np.frexp(x)
    expected = np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)
    np.testing.assert_array_equal(got, expected.astype(np.float32))
    z = backend.asarray((x + 1j * x[::-1]).astype(np.complex64))
    np.testing.assert_array_equal(
        backend.to_numpy(round_bits(z, precision, backend)), expected + 1j * expected[::-1]
    )


def test_escalation_has_at_most_two_promotions():
    assert escalation("bfloat16", "float64") == ["bfloat16", "float32", "float64"]
    assert escalation("tfloat32", "float32") == ["tfloat32", "float32"]
    assert escalation("float32", "float64") == ["float32", "float64"]
    assert escalation("float64", "float64") == ["float64"]


def test_a_function_that_does_not_take_half_precision_gets_single(rng):
    torch = pytest.importorskip("torch")
    seen = []

    def f(x):
        seen.append(x.dtype)
        if x.dtype is torch.float16:
            raise RuntimeError("not implemented for 'Half'")
        return 2 * x

    A = ops.FunctionOperator(f, (4, 4), "float64", backend="torch")
    low, _, actual = lowered(A, "float16", get_backend("torch"))
    assert actual == "float32" and bool((low @ torch.ones(4, 1) == 2).all())
    assert seen == [torch.float16, torch.float32]


def test_tfloat32_touches_no_setting_that_other_threads_see(rng):
    torch = pytest.importorskip("torch")
    before = torch.backends.cuda.matmul.allow_tf32
    seen, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            seen.add(torch.backends.cuda.matmul.allow_tf32)

    thread = threading.Thread(target=watch)
    thread.start()
    low, _, _ = lowered(
        ops.Dense(torch.tensor(rng.standard_normal((40, 40)))), "tfloat32", get_backend("torch")
    )
    for _ in range(50):
        low @ torch.ones(40, 2)
    stop.set()
    thread.join()
    assert seen == {before}


def test_jax_gets_the_precision_into_the_program(rng):
    jax = pytest.importorskip("jax")
    backend = get_backend("jax")
    low, _, _ = lowered(ops.Dense(jax.numpy.asarray(rng.standard_normal((4, 4)))), "tfloat32", backend)
    X = jax.numpy.ones((4, 2), "float32")
    assert "Precision.HIGH," in str(jax.make_jaxpr(lambda X: low @ X)(X))  # what JAX calls tensorfloat32
    assert "Precision" not in str(jax.make_jaxpr(lambda X: X.T @ X)(X))
    half, _, _ = lowered(ops.Dense(jax.numpy.asarray(rng.standard_normal((4, 4)))), "bfloat16", backend)
    text = str(jax.make_jaxpr(lambda X: half @ X)(X))
    assert "preferred_element_type=float32" in text


def test_single_precision_on_jax_is_no_tensorfloat32(rng):
    """Which it is by default on the GPUs that have it."""
    jax = pytest.importorskip("jax")
    from cola_gpu import MixedPrecisionGMRES

    M = jax.numpy.asarray(rng.standard_normal((4, 4)), "float32")
    program = jax.make_jaxpr(lambda b: MixedPrecisionGMRES(max_iters=2).run(ops.Dense(M), b)[0])(M[0])
    found = str(program)
    # all but those with A in the rule for derivatives, which are JAX's own
    exact, products = found.count("Precision.HIGHEST, Precision.HIGHEST"), found.count("dot_general")
    assert exact > 10 and products - exact <= 2


TRITON = """
import torch
from cola_gpu import tf32
from cola_gpu.low_operators import round_tf32
from cola_core.backends import get_backend

torch.manual_seed(0)
for m, n, k in ((1, 1, 1), (70, 45, 3), (64, 32, 40), (5, 0, 2), (0, 3, 2)):
    A = torch.randn(n, m).T if m == 70 else torch.randn(m, n)
    X = torch.randn(n, k)
    A, X = (round_tf32(x, get_backend("torch")) for x in (A, X))
    got = tf32.matmul(A, X)
    assert got.shape == (m, k) and got.dtype == torch.float32
    assert torch.allclose(got.double(), A.double() @ X.double(), atol=1e-4), (m, n, k)
print("ok")
"""


def test_the_tensor_core_kernel_in_the_interpreter():
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.strip() == "ok", done.stderr


def test_without_triton_the_kernel_says_so(monkeypatch):
    torch = pytest.importorskip("torch")
    from cola_core.errors import BackendError
    from cola_gpu import tf32

    monkeypatch.setattr(tf32, "available", lambda: False)
    with pytest.raises(BackendError, match="triton"):
        tf32.matmul(torch.ones(2, 2), torch.ones(2, 1))


def test_rounded_entries_keep_tfloat32_only(rng):
    M = rng.standard_normal((3, 3))
    low, scale, _ = lowered(ops.Dense(M), "tfloat32", get_backend("numpy"))
    stored = low.matrix.array
    np.testing.assert_array_equal(stored, round_tf32(stored, get_backend("numpy")))
    assert stored.dtype == np.float32 and np.abs(stored * scale - M).max() <= 2.0**-11 * np.abs(M).max()


@pytest.mark.parametrize("precision", HALF)
def test_half_sums_are_accumulated_in_single_precision(backend, precision):
    """A half-precision sum of ones would end at 256 (bfloat16) or 2048 (float16)."""
    if backend.name == "numpy":
        assert choose(precision, "float64", backend) == "float32"
        return
    n = 9000
    rows = np.repeat(np.arange(2), n)
    stored = (
        ops.Dense(backend.asarray(np.ones((2, n)))),
        ops.Sparse(backend.asarray(np.ones(2 * n)), rows, np.tile(np.arange(n), 2), (2, n)),
    )
    for A in stored:
        low, scale, actual = lowered(A, precision, backend)
        Y = scale * backend.to_numpy(low @ backend.asarray(np.ones((n, 1)), dtype="float32"))
        assert actual == precision and np.abs(Y / n - 1).max() <= UNIT_ROUNDOFF[precision]
