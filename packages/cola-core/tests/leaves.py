"""The floating leaves of an operator as a list of arrays, and the operator made from such a list again."""

from __future__ import annotations

import numpy as np

import cola_core as cola
from cola_core.backends import backend_of_type
from cola_core.backends.base import dtype_name
from cola_core.pytree import map_leaves, tree_leaves


def floating(x):
    be = backend_of_type(type(x))
    return be is not None and any(kind in dtype_name(x.dtype) for kind in ("float", "complex"))


def taken_apart(A):
    """(arrays, rebuilt): one array for each floating leaf, also where one array stands in two places."""
    arrays = [x for x in tree_leaves(A) if floating(x)]

    def rebuilt(new):
        supply = iter(new)
        return map_leaves(lambda x: next(supply) if floating(x) else x, A)

    return arrays, rebuilt


def directions(A, rng):
    """A random direction for each array of ``taken_apart``, along which claims of matrices stay true."""
    made = []

    def visit(tree):
        if isinstance(tree, tuple):
            for part in tree:
                visit(part)
        elif floating(tree):
            made.append(random(tree))
        elif isinstance(tree, cola.ops.Dense) and tree.isa(cola.SelfAdjoint):
            d = random(tree.array)
            made.append((d + np.conj(np.swapaxes(d, -1, -2))) / 2)
        elif hasattr(type(tree), "_child_fields"):
            for name in tree._child_fields:
                visit(getattr(tree, name))

    def random(x):
        d = rng.normal(size=x.shape) + (1j * rng.normal(size=x.shape) if np.iscomplexobj(x) else 0)
        return d * np.sqrt(np.mean(np.abs(x) ** 2)) if x.size else d

    visit(A)
    return made


def on_numpy(build, dtype):
    """The same operator on NumPy in double precision: (arrays, rebuilt)."""
    wide = "complex128" if "complex" in dtype else "float64"
    return taken_apart(build(lambda x: np.asarray(x).astype(wide)))
