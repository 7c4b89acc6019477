"""Bad input: one typed error that names both sides."""

from __future__ import annotations

from typing import Any

from ...errors import BackendError, ShapeError
from ..compare import expect, raises
from ..registry import check
from ..run import installed
from .common import make, vectors


@check("operator.bad-shape", "operator", dtypes="real")
def check_bad_shape(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """A right-hand side of the wrong length is a ShapeError naming both shapes."""
    A, M = make(case, backend, dtype, seed)
    n = M.shape[-1]
    for shape in ((n + 1,), (n + 1, 2)):
        x, _ = vectors(backend, dtype, shape, seed)
        error = raises(ShapeError, f"A @ x for x of shape {shape}", lambda x=x: A @ x)
        expect(str(n + 1) in str(error), f"the message does not name the shape {shape} of x: {error}")
        expect(str(n) in str(error), f"the message does not name the {n} columns of the operator: {error}")
    raises((ShapeError, TypeError), "A @ 2.0", lambda: A @ 2.0)


@check(
    "operator.mixed-backends",
    "operator",
    dtypes="real",
    applies=lambda case: case.sample().backend is not None,
)
def check_mixed(case: Any, backend: Any, dtype: str, seed: int) -> None:
    """An array of another library is a BackendError naming both libraries, not a conversion."""
    from ...backends import get_backend

    A, M = make(case, backend, dtype, seed)
    other = "numpy" if backend.name != "numpy" else "torch" if installed("torch") else ""
    if other:
        x, _ = vectors(get_backend(other), dtype, (M.shape[-1],), seed)
    else:  # nothing else is here: a list is no array of any library
        x = [0.0] * M.shape[-1]
    error = raises(BackendError, f"{backend.name} operator @ {other or 'list'}", lambda: A @ x)
    for name in filter(None, (backend.name, other)):
        expect(name in str(error).lower(), f"the message does not name {name}: {error}")
