"""The operator as a value: flattened, pickled, copied, moved, priced;
and never densified behind the user's back."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np

from ...operators import flatten, unflatten
from ..compare import close, expect, host
from ..registry import check
from ..trees import operators_in, spy
from .common import make, name_of, rounding, vectors


def _same(what: str, B: Any, A: Any, M: Any, x: Any, tol: float) -> None:
    expect(type(B) is type(A), f"{what} is a {type(B).__name__}, was {type(A).__name__}")
    expect(B.shape == A.shape, f"{what} has shape {B.shape}, was {A.shape}")
    expect(
        name_of(B.dtype) == name_of(A.dtype), f"{what} has dtype {name_of(B.dtype)}, was {name_of(A.dtype)}"
    )
    expect(
        B.properties == A.properties, f"{what} has properties {set(B.properties)}, was {set(A.properties)}"
    )
    close(B @ x, host(A @ x), f"the product of {what}", tol)


@check("operator.flatten", "operator", dtypes="pair")
def check_flatten(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Taking the operator apart as a pytree and rebuilding it gives the same operator;
    metadata are hashable."""
    A, M = make(case, backend, dtype, seed)
    x, _ = vectors(backend, dtype, (M.shape[-1],), seed)
    children, metadata = flatten(A)
    hash(metadata)
    _same("the rebuilt operator", unflatten(type(A), metadata, children), A, M, x, rounding(case, dtype, M))
    if backend.name == "jax":
        import jax

        found, tree = jax.tree_util.tree_flatten(A)
        expect(tree == jax.tree_util.tree_structure(A), "the JAX tree structure differs between two looks")
        _same(
            "the operator rebuilt by JAX",
            jax.tree_util.tree_unflatten(tree, found),
            A,
            M,
            x,
            rounding(case, dtype, M),
        )
    if backend.name == "torch":
        from torch.utils import _pytree

        found, tree = _pytree.tree_flatten(A)
        _same(
            "the operator rebuilt by torch",
            _pytree.tree_unflatten(found, tree),
            A,
            M,
            x,
            rounding(case, dtype, M),
        )


@check("operator.pickle", "operator", "capability", capability="pickle", dtypes="real")
def check_pickle(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """Pickling keeps the operator, also after a product has filled its caches."""
    A, M = make(case, backend, dtype, seed)
    x, _ = vectors(backend, dtype, (M.shape[-1],), seed)
    A @ x
    _same("the unpickled operator", pickle.loads(pickle.dumps(A)), A, M, x, rounding(case, dtype, M))


@check("operator.deepcopy", "operator", dtypes="real")
def check_deepcopy(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``copy.deepcopy`` and ``replace()`` keep the operator; fields cannot be assigned."""
    A, M = make(case, backend, dtype, seed)
    x, _ = vectors(backend, dtype, (M.shape[-1],), seed)
    _same("the deep copy", copy.deepcopy(A), A, M, x, rounding(case, dtype, M))
    _same("A.replace()", A.replace(), A, M, x, rounding(case, dtype, M))
    name = (*A._child_fields, *A._static_fields)[0]
    try:
        setattr(A, name, None)
    except (AttributeError, TypeError):
        return
    expect(False, f"the field {name} can be assigned: operators are immutable")


@check("operator.moving", "operator", "capability", capability="moving", dtypes="real")
def check_moving(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``A.to(dtype=)`` and ``A.to(backend="numpy")`` give the same matrix there."""
    from ...backends import get_backend

    A, M = make(case, backend, dtype, seed)
    B = A.to(dtype="float32")
    single = "complex64" if "complex" in dtype else "float32"  # entries that are complex stay so
    expect(name_of(B.dtype) == single, f"A.to(dtype='float32') has dtype {name_of(B.dtype)}")
    close(B, M, "A.to(dtype='float32')", rounding(case, single, M))
    C = A.to(backend="numpy")
    expect(C.backend in (None, get_backend("numpy")), f"A.to(backend='numpy') holds {C.backend} arrays")
    _, x0 = vectors(backend, dtype, (M.shape[-1],), seed)
    scale = float(np.abs(M).max() * np.abs(x0).max()) if M.size else 1.0
    close(C @ x0, M @ x0, "A.to(backend='numpy') @ x", rounding(case, dtype, M), scale)


@check("operator.cost", "operator", dtypes="real")
def check_cost(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """The cost of a product is finite and not negative."""
    A, _ = make(case, backend, dtype, seed)
    cost = A.matvec_cost
    for name in ("flops", "bytes", "memory", "matvecs", "calls", "seconds"):
        value = getattr(cost, name)
        expect(math.isfinite(value) and value >= 0, f"matvec_cost.{name} is {value}")


@check("operator.repr", "operator", "advisory", dtypes="real")
def check_repr(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """``repr`` is one short line that names the class."""
    A, _ = make(case, backend, dtype, seed)
    text = repr(A)
    expect(type(A).__name__ in text, f"repr {text!r} does not name {type(A).__name__}")
    expect("\n" not in text and len(text) < 400, f"repr is not one short line: {text[:200]!r}")


@check("operator.matrix-free", "operator", "capability", capability="matrix_free", dtypes="real")
def check_matrix_free(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """No product forms the matrix:
    ``to_dense`` of the operator or of a part is never called, nor A times an identity."""
    A, M = make(case, backend, dtype, seed)
    X, _ = vectors(backend, dtype, (M.shape[-1], 2), seed)
    Y, _ = vectors(backend, dtype, (M.shape[-2], 2), seed)
    classes = {type(B) for B in operators_in(A)}
    heard: list[str] = []

    def note(self: Any, args: tuple[Any, ...]) -> None:
        heard.append(type(self).__name__)

    def wide(self: Any, args: tuple[Any, ...]) -> None:
        if self is A and args[0].shape[-1] > 2:
            heard.append(f"{type(self).__name__} times {args[0].shape[-1]} columns")

    with spy(classes, "to_dense", note), spy(classes, "_to_dense", note), spy({type(A)}, "_matmat", wide):
        A @ X
        A @ X[:, 0]
        if case.capabilities.adjoint.is_open:
            A.H @ Y
    expect(not heard, f"a product formed the matrix of {', '.join(sorted(set(heard)))}")
