"""The loopback plugin: the core's operators as another package would have to write them.

Subclasses of the core's classes, whose rules (the core's own functions) come in through the public registrar
under this plugin's name. Whatever the core can do through its own door, a plugin can do through the same.
"""

from __future__ import annotations

import numpy as np

from cola_core import ops
from cola_core.operators import operator
from cola_core.plugins import PLUGIN_API, PluginInfo, Registrar, hookimpl
from cola_core.testing import Case, data


@operator
class LoopDense(ops.Dense):
    """A stored matrix."""


@operator
class LoopDiagonal(ops.Diagonal):
    """A diagonal."""


@operator
class LoopTriangular(ops.Triangular):
    """A triangle."""


@operator
class LoopLowRank(ops.LowRank):
    """Two thin factors."""


@operator
class LoopPermutation(ops.Permutation):
    """A permutation."""


@operator
class LoopKronecker(ops.Kronecker):
    """A Kronecker product."""


@operator
class LoopKronSum(ops.KronSum):
    """A Kronecker sum."""


@operator
class LoopBlockDiag(ops.BlockDiag):
    """Blocks."""


@operator
class LoopProduct(ops.Product):
    """A product."""


@operator
class LoopSum(ops.Sum):
    """A sum."""


CLASSES = {
    ops.Dense: LoopDense,
    ops.Diagonal: LoopDiagonal,
    ops.Triangular: LoopTriangular,
    ops.LowRank: LoopLowRank,
    ops.Permutation: LoopPermutation,
    ops.Kronecker: LoopKronecker,
    ops.KronSum: LoopKronSum,
    ops.BlockDiag: LoopBlockDiag,
    ops.Product: LoopProduct,
    ops.Sum: LoopSum,
}


class Plugin:
    """What would be the plugin's light module."""

    @staticmethod
    @hookimpl
    def cola_plugin_info():
        return PluginInfo("loopback", PLUGIN_API, "the core's rules for subclasses of its operators", "0")

    @staticmethod
    @hookimpl
    def cola_register(registrar, trigger):
        register(registrar)


def register(registrar: Registrar) -> None:
    """Every core rule on one of the classes above, again, for its subclass."""
    from cola_core.dispatch import REGISTRY

    for rules in list(REGISTRY.rules.values()):
        for rule in rules:
            mine = CLASSES.get(rule.types[0])
            if mine is None or rule.provenance.plugin != "core":
                continue
            registrar.rule(
                rule.question,
                (mine,),
                id=rule.id.removeprefix("core:"),
                when=rule.when,
                cost=rule.cost,
                precedence=rule.precedence,
                source=rule.source,
                kind=rule.kind,
            )(rule.fn)


def _psd(A):
    from cola_core import PSD

    return PSD(LoopDense(A))


def _of(name, arrays, build, dense):
    return Case(
        f"loop-{name}",
        factory=lambda backend, dtype, seed: build(*(backend.asarray(x) for x in arrays(dtype, seed))),
        reference=lambda dtype, seed: dense(*arrays(dtype, seed)),
    )


def _blocks(A, B):
    out = np.zeros((2 * len(A) + len(B),) * 2, A.dtype)
    for at, M in ((0, A), (len(A), A), (2 * len(A), B)):
        out[at : at + len(M), at : at + len(M)] = M
    return out


def _two(dtype, seed):
    return data.psd(seed, 3, dtype), data.psd(seed + 1, 2, dtype)


def cases():
    """One case per class."""
    n = 5
    return [
        _of("dense", lambda t, s: (data.general(s, n, t),), LoopDense, lambda M: M),
        _of("diagonal", lambda t, s: (2 + data.normal(s, (n,), t),), LoopDiagonal, np.diag),
        _of("lowrank", lambda t, s: (data.normal(s, (n, 2), t),), LoopLowRank, lambda U: U @ U.conj().T),
        _of("kronecker", _two, lambda A, B: LoopKronecker(_psd(A), _psd(B)), np.kron),
        _of(
            "kronsum",
            _two,
            lambda A, B: LoopKronSum(_psd(A), _psd(B)),
            lambda A, B: np.kron(A, np.eye(2, dtype=A.dtype)) + np.kron(np.eye(3, dtype=A.dtype), B),
        ),
        _of("blockdiag", _two, lambda A, B: LoopBlockDiag(_psd(A), _psd(B), multiplicities=(2, 1)), _blocks),
        _of(
            "product",
            lambda t, s: (data.general(s, n, t), data.general(s + 1, n, t)),
            lambda A, B: LoopProduct(LoopDense(A), LoopDense(B)),
            lambda A, B: A @ B,
        ),
        _of(
            "sum",
            lambda t, s: (data.normal(s, (n, 2), t), (1 + np.abs(data.normal(s + 1, (n,), t))).astype(t)),
            lambda U, d: LoopSum(LoopLowRank(U), LoopDiagonal(d)),
            lambda U, d: U @ U.conj().T + np.diag(d),
        ),
    ]
