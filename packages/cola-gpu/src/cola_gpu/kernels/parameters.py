"""``params`` of the covariance functions: names, shapes and defaults."""

from __future__ import annotations

from typing import Any, NamedTuple

from cola_core.backends import Backend
from cola_core.errors import ShapeError, UnknownNameError

__all__ = ["Parameters", "parameters"]

Array = Any


class Parameters(NamedTuple):
    """Values in the library and precision of the points: lengthscale () or (d,), the others ()."""

    lengthscale: Array
    outputscale: Array | None
    alpha: Array | None


def parameters(be: Backend, x: Array, params: Any, alpha: bool, name: str) -> Parameters:
    """What ``params`` says, each beside the points x (n, d). Numbers that are not given are one."""
    params = {} if params is None else params
    known = ("lengthscale", "outputscale", "alpha") if alpha else ("lengthscale", "outputscale")
    if not isinstance(params, dict):
        raise TypeError(
            f"{name}: params must be a dict with {', '.join(known)} (each optional), got "
            f"{type(params).__name__}."
        )
    for key in params:
        if key not in known:
            raise UnknownNameError(f"{name}: no parameter is called {key!r}; known are {', '.join(known)}.")
    d = x.shape[-1]
    found: dict[str, Any] = {}
    for key in known:
        value = params.get(key)
        if value is None:
            found[key] = be.asarray(1.0, dtype=x.dtype, device=be.device(x)) if key != "outputscale" else None
            continue
        if not hasattr(value, "shape"):
            value = be.asarray(value, dtype=x.dtype, device=be.device(x))
        shape = tuple(value.shape)
        many = key == "lengthscale" and shape == (d,)
        if shape not in ((), (1,)) and not many:
            allowed = "() or (1,)" if key != "lengthscale" else f"(), (1,) or ({d},), one for each coordinate"
            raise ShapeError(f"{name}: {key} has shape {shape}; it must be {allowed}.")
        value = be.astype(value, x.dtype) if value.dtype != x.dtype else value
        found[key] = value if many else be.xp.reshape(value, ())
    return Parameters(found["lengthscale"], found["outputscale"], found.get("alpha"))
