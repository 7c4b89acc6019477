"""Answers in JAX that are linear in some of their inputs, with stated derivative and stated transposes.

The formula of a derivative may itself ask a question about the tangent (``df = T(A, dA)``). JAX transposes
such a formula for reverse mode and differentiates it for second order, and a ``custom_jvp`` inside of it
would be forgotten on the way. So this is a primitive of its own: it is evaluated by ``run``, differentiated
by ``tangent``, transposed in input i by ``linear[i]``, and batched by ``vmap`` of all of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..pytree import tree_leaves
from .jax_answer import _inputs, _take_apart, _Tangents

__all__ = ["form"]


def form(
    run: Callable[..., tuple[tuple[Any, ...], Any]],
    tangent: Callable[..., tuple[Any, ...]],
    inputs: tuple[Any, ...],
    linear: dict[int, Callable[..., Any]],
) -> tuple[Any, ...]:
    """``run(*inputs)[0]``, a tuple of arrays, see above. linear: for each input in which the answer is
    linear, ``gradient(g, inputs)``: that of ``Re <g, answer>`` in it, a tree like the input (the conjugate of
    JAX's convention)."""
    parts = [_take_apart(x) for x in inputs]
    flat = [jnp.asarray(x) for arrays, _ in parts for x in arrays]
    return tuple(_form_p.bind(*flat, form=_Form(run, tangent, linear, parts)))


class _Form:
    """One such answer, on flat lists of arrays."""

    def __init__(self, run: Any, tangent: Any, linear: Any, parts: Any) -> None:
        self.answer, self.tangent, self.linear, self.parts = run, tangent, linear, parts

    def nested(self, flat: Any) -> list[list[Any]]:
        supply = iter(flat)
        return [[next(supply) for _ in arrays] for arrays, _ in self.parts]

    def places(self) -> list[int]:
        """Which input each array belongs to."""
        return [i for i, (arrays, _) in enumerate(self.parts) for _ in arrays]

    def run(self, *flat: Any) -> list[Any]:
        return list(self.answer(*_inputs(self.parts, self.nested(flat)))[0])

    def jvp(self, flat: Any, tangents: Any) -> list[Any]:
        """tangents: None for those that are zero."""
        outputs = _form_p.bind(*flat, form=self)
        still = [
            jax.custom_derivatives.SymbolicZero(jax.core.ShapedArray(x.shape, x.dtype)) if t is None else t
            for x, t in zip(flat, tangents, strict=True)
        ]
        known = self.nested(flat)
        d = _Tangents(self.parts, known, self.nested(still))
        found = self.tangent(d, _inputs(self.parts, known), tuple(outputs))
        return [jnp.asarray(t, y.dtype) for t, y in zip(found, outputs, strict=True)]

    def transposed(self, place: int, g: list[Any], flat: Any) -> list[Any]:
        """Cotangents of the arrays of input ``place``; flat: zeros stand for these."""
        inputs = _inputs(self.parts, self.nested(flat))
        found = self.linear[place](tuple(map(jnp.conj, g)), inputs)
        return [jnp.conj(x) for x in tree_leaves(found)]


class _Batched(_Form):
    def __init__(self, inner: _Form, axes: tuple[Any, ...]) -> None:
        self.inner, self.axes = inner, axes

    def run(self, *flat: Any) -> list[Any]:
        return jax.vmap(self.inner.run, in_axes=self.axes)(*flat)  # type: ignore[no-any-return]

    def jvp(self, flat: Any, tangents: Any) -> list[Any]:
        axes = list(self.axes)
        moved = [None if t is None else a for t, a in zip(tangents, axes, strict=True)]
        return jax.vmap(self.inner.jvp, in_axes=(axes, moved))(list(flat), list(tangents))  # type: ignore[no-any-return]

    def transposed(self, place: int, g: list[Any], flat: Any) -> list[Any]:
        found = jax.vmap(lambda g, flat: self.inner.transposed(place, g, flat), in_axes=(0, list(self.axes)))(
            list(g), list(flat)
        )
        own = [a for a, p in zip(self.axes, self.places(), strict=True) if p == place]
        return [x if a == 0 else jnp.sum(x, axis=0) for x, a in zip(found, own, strict=True)]

    def places(self) -> list[int]:
        return self.inner.places()


_form_p = Primitive("cola_form")
_form_p.multiple_results = True


@_form_p.def_impl
def _impl(*flat: Any, form: _Form) -> Any:
    return form.run(*flat)


@_form_p.def_abstract_eval
def _abstract(*avals: Any, form: _Form) -> Any:
    shapes = jax.eval_shape(form.run, *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
    return [jax.core.ShapedArray(s.shape, s.dtype) for s in shapes]


def _jvp(primals: Any, tangents: Any, *, form: _Form) -> Any:
    outputs = _form_p.bind(*primals, form=form)
    moved = [None if isinstance(t, ad.Zero) or t.dtype == jax.dtypes.float0 else t for t in tangents]
    return outputs, form.jvp(list(primals), moved)


def _transpose(cotangents: Any, *flat: Any, form: _Form) -> Any:
    unknown = [ad.is_undefined_primal(x) for x in flat]
    zeros = [jnp.zeros(x.aval.shape, x.aval.dtype) if u else x for x, u in zip(flat, unknown, strict=True)]
    g = [jnp.zeros(c.aval.shape, c.aval.dtype) if isinstance(c, ad.Zero) else c for c in cotangents]
    owners = form.places()
    (place,) = {p for p, u in zip(owners, unknown, strict=True) if u}
    found = form.transposed(place, g, zeros)
    supply = iter(found)
    by_array = [next(supply) if p == place else None for p in owners]
    return [x if u else None for x, u in zip(by_array, unknown, strict=True)]


def _batch(flat: Any, dims: Any, *, form: _Form) -> Any:
    moved = [jnp.moveaxis(x, d, 0) if isinstance(d, int) else x for x, d in zip(flat, dims, strict=True)]
    axes = tuple(0 if isinstance(d, int) else None for d in dims)
    outputs = _form_p.bind(*moved, form=_Batched(form, axes))
    return outputs, [0] * len(outputs)


ad.primitive_jvps[_form_p] = _jvp
ad.primitive_transposes[_form_p] = _transpose
batching.primitive_batchers[_form_p] = _batch
mlir.register_lowering(_form_p, mlir.lower_fun(lambda *flat, form: form.run(*flat), multiple_results=True))
