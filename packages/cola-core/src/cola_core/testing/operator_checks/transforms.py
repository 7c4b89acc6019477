"""Under transformations: jit and vmap, and ``torch.compile`` without graph breaks."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compare import close, expect, host, survives
from ..registry import check
from ..trees import inexact_leaves, with_inexact
from .common import make, rounding, vectors


@check("operator.jit", "operator", "capability", capability="jit", backends=("jax",), dtypes="real")
def check_jit(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``jax.jit`` of a product, with the operator as an argument,
    equals the eager product and traces once."""
    import jax

    A, M = make(case, backend, dtype, seed)
    x, x0 = vectors(backend, dtype, (M.shape[-1],), seed)
    traces = []

    @jax.jit
    def product(A: Any, x: Any) -> Any:
        traces.append(1)
        return A @ x

    scale = float(np.abs(M).max() * np.abs(x0).max()) if M.size else 1.0
    close(survives("jax.jit", lambda: product(A, x)), M @ x0, "jit(A @ x)", rounding(case, dtype, M), scale)
    product(with_inexact(A, [2 * leaf for leaf in inexact_leaves(A)]), x)
    expect(len(traces) == 1, f"an operator of the same structure was traced again ({len(traces)} traces)")


@check("operator.vmap", "operator", "capability", capability="vmap", backends=("jax", "torch"), dtypes="real")
def check_vmap(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``vmap`` over right-hand sides, and (JAX) over the operator's arrays, equals a loop."""
    A, M = make(case, backend, dtype, seed)
    X, X0 = vectors(backend, dtype, (3, M.shape[-1]), seed)
    scale = float(np.abs(M).max() * np.abs(X0).max()) if M.size else 1.0
    want = np.moveaxis(M @ X0.T, -1, 0)
    if backend.name == "torch":
        import torch

        got = survives("torch.func.vmap", lambda: torch.func.vmap(lambda x: A @ x)(X))
        close(got, want, "vmap over x", rounding(case, dtype, M), scale)
        return
    import jax
    import jax.numpy as jnp

    got = survives("jax.vmap", lambda: jax.vmap(lambda x: A @ x)(X))
    close(got, want, "vmap over x", rounding(case, dtype, M), scale)
    arrays = inexact_leaves(A)
    if arrays:
        stacked = [jnp.stack([leaf, 1.5 * leaf]) for leaf in arrays]
        got = jax.vmap(lambda new: with_inexact(A, new) @ X[0])(stacked)
        for i, c in enumerate((1.0, 1.5)):
            one = with_inexact(A, [c * leaf for leaf in arrays]) @ X[0]
            close(got[i], host(one), f"vmap over the operator, element {i}", rounding(case, dtype, M, 100))


@check(
    "operator.torch-compile",
    "operator",
    "capability",
    capability="torch_compile",
    backends=("torch",),
    dtypes="real",
)
def check_torch_compile(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``torch.compile(fullgraph=True)`` of a product has no graph break and equals the eager product.

    The product is written as a call, ``A.__matmul__(X)``: the compiler (torch 2.13) puts every infix
    operator that has a tensor on one side straight into its graph and never looks for a method of the other
    side.
    """
    import torch

    A, M = make(case, backend, dtype, seed)
    X, X0 = vectors(backend, dtype, (M.shape[-1], 2), seed)
    torch._dynamo.reset()
    compiled = torch.compile(A.__matmul__, backend="eager", fullgraph=True)
    got = survives("torch.compile(fullgraph=True)", lambda: compiled(X))
    scale = float(np.abs(M).max() * np.abs(X0).max()) if M.size else 1.0
    close(got, M @ X0, "the compiled product", rounding(case, dtype, M), scale)
