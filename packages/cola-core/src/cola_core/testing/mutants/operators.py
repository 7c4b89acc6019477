"""Operators that are wrong in exactly one way. Each is a stored matrix otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ... import linalg, ops
from ...cost import Cost
from ...operators import LinearOperator, operator
from ...properties import PSD, SelfAdjoint
from .. import data
from ..case import Case
from ..probes import PROBES
from .common import Mutant, registered
from .derivatives import products, stopped

__all__ = ["OPERATORS"]


@operator
class Stored(LinearOperator):
    """A correct operator without structural rules; mutants change one method."""

    array: Any

    def _shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    def _matmat(self, X: Any) -> Any:
        return self._concrete_backend().matmul(self.array, X)

    def _rmatmat(self, X: Any) -> Any:
        be = self._concrete_backend()
        return be.matmul(be.adjoint(self.array), X)

    def _to_dense(self) -> Any:
        return self.array


def _good(self: Any, X: Any) -> Any:
    return self._concrete_backend().matmul(self.array, X)


def _wide(self: Any, X: Any) -> Any:
    be = self._concrete_backend()
    wide = "complex128" if be.is_complex(X) else "float64"
    return be.astype(_good(self, X), wide)


def _reversed(self: Any, X: Any) -> Any:
    Y = _good(self, X)
    return Y if X.shape[-1] < 2 else self.xp.concat([Y[..., 1:], Y[..., :1]], axis=-1)


def _first_of_batch(self: Any, X: Any) -> Any:
    Y = _good(self, X)
    return Y if X.ndim == 2 else Y * 0 + Y[:1]


def _narrow(self: Any, X: Any) -> Any:
    be = self._concrete_backend()
    return (
        be.astype(be.xp.real(_good(self, X)), self.dtype)
        if be.is_complex(X) and not self._is_complex()
        else _good(self, X)
    )


def _destroy(self: Any, X: Any) -> Any:
    Y = _good(self, X)
    X *= 2
    return Y


def _densify(self: Any, X: Any) -> Any:
    return self._concrete_backend().matmul(self.to_dense(), X)


def _look(self: Any, X: Any) -> Any:
    return _good(self, X) if float(self.xp.sum(self.xp.abs(X))) >= 0 else X


def _no_adjoint_gradient(self: Any, X: Any) -> Any:
    be = self._concrete_backend()
    return be.matmul(be.adjoint(stopped(be.name, self.array)), X)


def _lazy_factor(self: Any, X: Any) -> Any:
    return self.__dict__.get("factor", 2.0) * _good(self, X)


def _set_factor(self: Any) -> None:
    object.__setattr__(self, "factor", 1.0)  # not a field: lost whenever the operator is rebuilt


def _silent_conversion(self: Any, X: Any) -> Any:
    return LinearOperator._apply(self, self._concrete_backend().asarray(np.asarray(X, dtype="float64")))


def _blunt(self: Any, X: Any) -> Any:
    raise ValueError("bad input")


def _keep(self: Any, device: Any = None, dtype: Any = None, backend: Any = None) -> Any:
    return self


def _no_conjugate(self: Any, other: Any) -> Any:
    return other.conj() @ self.array


def _wrong_sum(self: Any, other: Any) -> Any:
    return ops.Dense(self.array)


def _shifted_index(self: Any, index: Any) -> Any:
    return (
        ops.Dense(self.array[::-1])[index]
        if self.backend.name == "numpy"
        else LinearOperator.__getitem__(self, index)
    )


def _transposed(self: Any) -> Any:
    return ops.Dense(self.array.mT if hasattr(self.array, "mT") else self.array.swapaxes(-1, -2))


METHODS: dict[str, dict[str, Any]] = {
    "operator.facts": {"_matmat": _wide},
    "operator.dense": {"_to_dense": lambda self: 1.01 * self.array},
    "operator.matvec": {"_matvec": lambda self, x: 1.01 * _good(self, x)},
    "operator.matmat": {"_matmat": _reversed},
    "operator.left-product": {"__rmatmul__": _no_conjugate},
    "operator.linear": {"_matmat": lambda self, X: _good(self, X) + 1},
    "operator.batch": {"_matmat": _first_of_batch},
    "operator.promotion": {"_matmat": _narrow},
    "operator.pure": {"_matmat": _destroy},
    "operator.adjoint": {"_adjoint": _transposed},
    "operator.transpose": {"_transpose": lambda self: self.H},
    "operator.algebra": {"_plus": _wrong_sum},
    "operator.indexing": {"__getitem__": _shifted_index},
    "operator.properties": {"_properties": lambda self: frozenset({PSD})},
    "operator.false-claims": {"properties": property(lambda self: frozenset())},
    "operator.bad-shape": {"_apply": _blunt},
    "operator.mixed-backends": {"_apply": _silent_conversion},
    "operator.flatten": {"_check": _set_factor, "_matmat": _lazy_factor},
    "operator.pickle": {"_check": _set_factor, "_matmat": _lazy_factor},
    "operator.deepcopy": {"_check": _set_factor, "_matmat": _lazy_factor},
    "operator.moving": {"to": _keep},
    "operator.cost": {"_matvec_cost": lambda self: Cost(flops=-1.0)},
    "operator.repr": {"_short": lambda self: "an operator\nof mine"},
    "operator.matrix-free": {"_matmat": _densify},
    "operator.jit": {"_matmat": _look},
    "operator.vmap": {"_matmat": _look},
    "operator.grad": {"_matmat": lambda self, X: products(self).no_conjugate(self.array, X)},
    "operator.grad-forward": {"_matmat": lambda self, X: products(self).wrong_forward(self.array, X)},
    "operator.grad-adjoint": {"_rmatmat": _no_adjoint_gradient},
    "operator.grad-second": {"_matmat": lambda self, X: products(self).zero_second(self.array, X)},
    "operator.torch-compile": {"_matmat": _look},
}

_made: dict[str, type] = {}


def mutant_class(check: str) -> type:
    """The class that is wrong where ``check`` looks (made once: pytree registration is for ever)."""
    if check not in _made:
        name = "Mutant" + "".join(part.capitalize() for part in check.replace(".", "-").split("-"))
        body = {**METHODS[check], "__module__": __name__, "__qualname__": name}
        _made[check] = globals()[name] = operator(type(name, (Stored,), body))
    return _made[check]


def _matrix(dtype: str, seed: int) -> Any:
    return data.general(seed, 5, dtype)


def _definite(dtype: str, seed: int) -> Any:
    return data.psd(seed, 5, dtype)


def _of_method(check: str, folder: Path) -> Mutant:
    cls = mutant_class(check)
    return Mutant(
        Case(
            "mutant",
            factory=lambda backend, dtype, seed: cls(backend.asarray(_matrix(dtype, seed))),
            reference=_matrix,
        )
    )


def _of_question(folder: Path) -> Mutant:
    """Five per cent too large: every answer is off."""

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return PSD(ops.Dense(backend.asarray(1.05 * _definite(dtype, seed))))

    return Mutant(Case("mutant", factory=factory, reference=_definite))


def _of_sign(folder: Path) -> Mutant:
    """Of the opposite sign: a positive factor would change no sign."""

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return SelfAdjoint(ops.Dense(backend.asarray(-_definite(dtype, seed))))

    return Mutant(Case("mutant", factory=factory, reference=_definite))


@operator
class Ruled(ops.Dense):
    """A stored matrix with a rule of its own for one question."""


def _one_draw(A: Any, key: Any, shape: tuple[int, ...], *, alg: Any) -> Any:
    return linalg.SAMPLE.run(ops.Dense(A.array, declared=frozenset({PSD})), key, (), alg=alg)


def _of_sample(folder: Path) -> Mutant:
    """One draw, however many are asked for; their distribution is a matter of the root."""

    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return PSD(Ruled(backend.asarray(_definite(dtype, seed))))

    return Mutant(
        Case("mutant", factory=factory, reference=_definite),
        lambda: registered((linalg.SAMPLE, (Ruled,), _one_draw)),
    )


def _densifying_rule(A: Any, b: Any, *, alg: Any) -> Any:
    return linalg.SOLVE.run(ops.Dense(A.to_dense()), b, alg=alg)


def _two_faced_rule(A: Any, b: Any, *, alg: Any) -> Any:
    return NotImplemented if A.backend.name != "abstract" else b


def _of_rule(rule: Callable[..., Any], folder: Path) -> Mutant:
    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return Ruled(backend.asarray(_matrix(dtype, seed)))

    case = Case("mutant", factory=factory, reference=_matrix, questions=("solve",))
    return Mutant(case, lambda: registered((linalg.SOLVE, (Ruled,), rule)))


OPERATORS: dict[str, Callable[[Path], Mutant]] = {
    **{check: partial(_of_method, check) for check in METHODS},
    **{f"question.{name}": _of_question for name, probe in PROBES.items() if probe.everywhere},
    "question.sign": _of_sign,
    "question.sample": _of_sample,
    "operator.plan-matches-run": partial(_of_rule, _two_faced_rule),
    "operator.solve-without-dense": partial(_of_rule, _densifying_rule),
}
