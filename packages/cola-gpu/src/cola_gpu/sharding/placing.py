"""How arrays lie on a mesh, and programs that run on the blocks of each device.

Two kinds of mesh axes are served. On automatic axes JAX's compiler decides where what is not said lies; on
explicit axes (the default of ``jax.make_mesh``) the layout is part of an array's type. ``laid`` states a
layout on both, and ``on_blocks`` runs a function of each device's blocks on both (``jax.shard_map``): mesh
axes that are not used stay automatic, or are carried over from the type of the operand. Operators of which
products run so have ``OnDevices`` among their parents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from cola_core.errors import ShapeError

__all__ = [
    "OnDevices",
    "axes_of",
    "hidden",
    "is_explicit",
    "laid",
    "on_blocks",
    "permuted",
    "pieces",
    "row_spec",
    "rows_laid",
    "shard_vector",
    "taken",
    "whole",
]


def axes_of(mesh: Any, axis: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names of the mesh axes over which rows are spread; all of them where none is named."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh must be a jax.sharding.Mesh (jax.make_mesh(...)), got {type(mesh).__name__}.")
    if axis is None:
        names = tuple(mesh.axis_names)
    else:
        names = (axis,) if isinstance(axis, str) else tuple(axis)
    unknown = [name for name in names if name not in mesh.axis_names]
    if unknown or not names or len(set(names)) < len(names):
        raise ValueError(f"axis={axis!r} does not name axes of the mesh, which has {mesh.axis_names}.")
    kinds = {kind for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if name in names}
    if len(kinds) > 1 or AxisType.Manual in kinds:
        raise ValueError(
            f"the axes {names} have the types {[k.name for k in kinds]}; rows are spread over axes that are "
            "all automatic or all explicit."
        )
    return names


def here(mesh: Any) -> Any:
    """The mesh as the program that is being traced sees it: inside of ``jax.sharding.auto_axes`` axes that
    are explicit elsewhere are automatic."""
    now = jax.sharding.get_abstract_mesh()
    same = not now.empty and now.axis_names == mesh.axis_names and AxisType.Manual not in now.axis_types
    return now if same and now.axis_types != mesh.axis_types else mesh


def is_explicit(mesh: Mesh, axes: tuple[str, ...]) -> bool:
    """Whether the layout over these axes is part of the type of an array."""
    mesh = here(mesh)
    return mesh.axis_types[mesh.axis_names.index(axes[0])] == AxisType.Explicit


def pieces(mesh: Mesh, axes: tuple[str, ...]) -> int:
    """The number of row blocks."""
    return math.prod([mesh.shape[name] for name in axes])


def row_spec(ndim: int, axes: tuple[str, ...], axis: int = -2) -> PartitionSpec:
    """The layout of an array of ``ndim`` axes that is spread along one of them."""
    names: list[Any] = [None] * ndim
    names[axis] = axes if len(axes) > 1 else axes[0]
    return PartitionSpec(*names)


def laid(x: Any, mesh: Mesh, axes: tuple[str, ...], spec: PartitionSpec) -> Any:
    """x with the layout ``spec``, also inside of compiled programs and derivatives."""
    now = here(mesh)
    sharding = NamedSharding(now, spec)
    if not isinstance(x, jax.core.Tracer) and now is mesh:
        return jax.device_put(x, sharding)
    if is_explicit(mesh, axes):
        return jax.sharding.reshard(x, sharding)
    return jax.lax.with_sharding_constraint(x, sharding)


def hidden(x: Any, mesh: Any, axes: tuple[str, ...]) -> bool:
    """Whether the layout of this array is not known to the program that is being traced."""
    return isinstance(x, jax.core.Tracer) and not is_explicit(mesh, axes)


def rows_laid(X: Any, mesh: Any, axes: tuple[str, ...]) -> Any:
    """A traced array of vectors (n,) or (..., n, k) with its rows in blocks, where automatic axes do not say;
    whole on every device where the devices do not divide n."""
    if not hidden(X, mesh, axes) or not X.ndim:
        return X
    at = 0 if X.ndim == 1 else X.ndim - 2
    even = X.shape[at] % pieces(mesh, axes) == 0
    return laid(X, mesh, axes, row_spec(X.ndim, axes, at) if even else PartitionSpec())


def others(x: Any, mesh: Mesh, axes: tuple[str, ...]) -> tuple[Any, ...]:
    """What the type of x says about mesh axes that are not ours, for each axis of x."""
    found = tuple(getattr(getattr(jax.typeof(x), "sharding", None), "spec", ()) or ())
    found += (None,) * (x.ndim - len(found))
    kept = []
    for entry in found:
        names = entry if isinstance(entry, tuple) else (entry,)
        kept.append(tuple(n for n in names if n is not None and n in mesh.axis_names and n not in axes))
    return tuple(kept)


def whole(x: Any, mesh: Mesh, axes: tuple[str, ...]) -> Any:
    """x with its rows whole on every device; its columns stay as they are."""
    names: list[Any] = [None] * x.ndim
    if is_explicit(mesh, axes):
        names[-1] = others(x, mesh, axes)[-1] or None
    elif len(axes) < len(mesh.axis_names) and isinstance(
        x, jax.core.Tracer
    ):  # arrays are put, not constrained
        names[-1] = PartitionSpec.UNCONSTRAINED
    return laid(x, mesh, axes, PartitionSpec(*names))


def taken(x: Any, index: Any, mesh: Mesh, axes: tuple[str, ...]) -> Any:
    """``x[..., index, :]``, whole on every device: some points or rows, not all."""
    if index is None:
        return whole(x, mesh, axes)
    if not is_explicit(mesh, axes):
        return x[..., index, :]
    lies = NamedSharding(mesh, PartitionSpec(*[None] * x.ndim))
    return x.at[..., index, :].get(out_sharding=lies)


def permuted(x: Any, mesh: Any, axes: tuple[str, ...], pairs: Sequence[tuple[int, int]]) -> Any:
    """Blocks (a pytree) sent from one device to another, (from, to) counted along ``axes``; zeros where
    nothing arrives. For programs on blocks.

    JAX's ``ppermute`` counts devices in the order of the mesh's axes, also where they are named in another.
    """
    ordered = tuple(name for name in mesh.axis_names if name in axes)
    counted = np.arange(pieces(mesh, axes)).reshape([mesh.shape[name] for name in ordered])
    number = np.transpose(counted, [ordered.index(name) for name in axes]).ravel().tolist()
    return jax.lax.ppermute(x, ordered, [(number[a], number[b]) for a, b in pairs])


def on_blocks(
    local: Callable[..., Any],
    mesh: Mesh,
    axes: tuple[str, ...],
    operands: Sequence[tuple[Any, PartitionSpec]],
    out: PartitionSpec,
    vectors: int | None = None,
) -> Any:
    """``local(*blocks)`` on every device, for operands with their layouts; the result lies as ``out`` says.

    Called inside of compiled programs only. vectors: which operand holds the right-hand sides (..., n, k).
    Its columns may be spread over mesh axes that are not in ``axes``; the result's columns are then spread
    alike.
    """
    arrays = [x for x, _ in operands]
    specs = [spec for _, spec in operands]
    names = frozenset(axes)
    if is_explicit(mesh, axes) and len(axes) < len(mesh.axis_names):
        names = frozenset(mesh.axis_names)
        if vectors is not None:
            columns = others(arrays[vectors], mesh, axes)[-1]
            if columns:
                specs[vectors] = _with_last(specs[vectors], arrays[vectors].ndim, columns)
                out = _with_last(out, len(out), columns)
    program = jax.shard_map(
        local, mesh=here(mesh), in_specs=tuple(specs), out_specs=out, check_vma=False, axis_names=names
    )

    if is_explicit(mesh, axes):
        arrays = [laid(x, mesh, axes, spec) for x, spec in zip(arrays, specs, strict=True)]
    return program(*arrays)


def _with_last(spec: PartitionSpec, ndim: int, columns: tuple[str, ...]) -> PartitionSpec:
    names = list(spec) + [None] * (ndim - len(spec))
    names[-1] = columns if len(columns) > 1 else columns[0]
    return PartitionSpec(*names)


class OnDevices:
    """Products given by ``_on_devices(X, adjoint)``, a program for the blocks of each device.

    The first parent of operator classes with fields ``mesh`` and ``axes``. Outside of compiled programs a
    product is compiled once for each structure and shape. With arrays of other libraries (after
    ``A.to(backend="numpy")``, or while a choice is planned) the products are those of the next parent.
    """

    def _on_devices(self: Any, X: Any, adjoint: bool) -> Any:
        """``A @ X``, or ``A.H @ X``, for X of shape (*batch', n, k)."""
        raise NotImplementedError(f"{type(self).__name__} must define _on_devices(X, adjoint)")

    def _unspread(self: Any) -> Any:
        """The operator of the core that this one was made of, with the arrays where they are."""
        raise NotImplementedError(f"{type(self).__name__} must define _unspread()")

    def _axes(self: Any) -> dict[str, int | None]:
        """For each array the axis that is spread; None: whole on every device."""
        return {}

    def _with_layout(self: Any) -> Any:
        changes = {}
        for name, axis in self._axes().items():
            x = self.__dict__[name]
            if hidden(x, self.mesh, self.axes):
                spec = PartitionSpec() if axis is None else row_spec(x.ndim, self.axes, axis)
                changes[name] = laid(x, self.mesh, self.axes, spec)
        made = self.replace(**changes) if changes else self
        return super(OnDevices, made)._with_layout()  # type: ignore[misc]

    def _rows_laid(self: Any, X: Any) -> Any:
        return rows_laid(X, self.mesh, self.axes)

    def _in_one_place(self: Any) -> Any:
        return self._unspread()._in_one_place()

    def _plainly(self: Any, X: Any, adjoint: bool) -> Any:
        """The same with arrays of any library."""
        return super()._rmatmat(X) if adjoint else super()._matmat(X)  # type: ignore[misc]

    def _matmat(self: Any, X: Any) -> Any:
        if not _on_jax(self):
            return self._plainly(X, False)
        return _product(self, X, False)

    def _matvec(self: Any, x: Any) -> Any:
        if not _on_jax(self):
            return self._plainly(x[:, None], False)[..., 0]
        return _product(self, x, False)

    def _rmatmat(self: Any, X: Any) -> Any:
        if not _on_jax(self):
            return self._plainly(X, True)
        return _product(self, X, True)


def _on_jax(A: Any) -> bool:
    return A.backend is not None and A.backend.name == "jax"


def _traced(A: Any, X: Any, adjoint: bool) -> Any:
    if X.ndim == 1:
        return A._on_devices(X[:, None], adjoint)[..., 0]
    return A._on_devices(X, adjoint)


_compiled = jax.jit(_traced, static_argnums=2)


def _product(A: Any, X: Any, adjoint: bool) -> Any:
    traced = any(isinstance(x, jax.core.Tracer) for x in (X, *jax.tree.leaves(A)))
    return (_traced if traced else _compiled)(A, X, adjoint)


def shard_vector(b: Any, mesh: Mesh, axis: str | Sequence[str] | None = None) -> Any:
    """b of shape (n,) or (*batch, n, k) in blocks of rows over the mesh, as products with ``shard(A, mesh)``
    expect and return it.

    Where the number of blocks does not divide n, b lies whole on every device (JAX cannot spread such an
    array). Costs one transfer.
    """
    axes = axes_of(mesh, axis)
    b = jnp.asarray(b)
    if b.ndim == 0:
        raise ShapeError("shard_vector needs an array of shape (n,) or (*batch, n, k), got a number.")
    at = 0 if b.ndim == 1 else b.ndim - 2
    even = b.shape[at] % pieces(mesh, axes) == 0
    spec = row_spec(b.ndim, axes, at) if even else PartitionSpec()
    return jax.device_put(b, NamedSharding(mesh, spec))
