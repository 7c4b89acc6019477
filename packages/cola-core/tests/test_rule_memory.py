"""No rule allocates an array of the whole n x n size: measured, on every backend.

Operators with a thousand rows are asked every question that rules answer, all the way down to small parts.
NumPy's allocations are traced for every rule; for a share of the operators PyTorch's operations are watched,
and the shapes in JAX's program read.
"""

from __future__ import annotations

import functools
import tracemalloc
import warnings
from dataclasses import replace

import numpy as np
import pytest
from large import LARGE
from zoo import installed

import cola_core as cola
from cola_core.backends import get_backend
from cola_core.dispatch import REGISTRY, explain
from cola_core.operators import LinearOperator
from cola_core.testing import data
from cola_core.testing.probes import PROBES

JAX_SHARE = 5  # one in so many programs is traced: tracing is slow, and the rules are the same
BANDED = "core:cholesky/bandedcholesky"  # an algorithm for large operators, to which a rule hands over
TORCH_SHARE = 3  # one in so many operators: the rules are NumPy's
SINGULAR = ("lowrank", "product_thin")  # without inverse and logarithm, which dense matrices say at length
ONE = replace(PROBES["eigs"], name="eigs-one", operands=lambda *a: (1, "LM"))

NO_ZERO = "the zero matrix has none: the rule raises an error, unless the size is 0"
STORED = "the operator itself is a stored square matrix"

LOST = "that two parts are one array is lost where a compiled program takes the operator apart"
STEPS_BACK = "the rule looks at values, and steps back under a trace"
UNTRACED = {
    "permutation": STEPS_BACK,
    "hankel": STEPS_BACK,
    "shared_bases": LOST,
    "shared_bases_general": LOST,
    "pencil": LOST,
}

DERIVED = "steps in where derivatives are wanted; its values are those of the rules for V diag(w) V^H"
EXEMPT = {
    "core:inv/zero": NO_ZERO,
    "core:solve/zero": NO_ZERO,
    "core:cholesky/zero": NO_ZERO,
    "core:solve/low-rank": "there is no inverse: it raises",
    "core:solve/thin-product": "there is no inverse: it raises",
    "core:eigs/triangular": STORED,
    "core:function/triangular": STORED,
    "core:nullspace/lowrank": "the answer is a stored basis of n - r vectors",
    "core:trace/cyclic": "answers only where an estimate by random probes was asked for",
    "core:trace/tied-function": DERIVED,
    "core:diag/tied-function": DERIVED,
}


@pytest.fixture(autouse=True, scope="module")
def _one_matrix():
    """The stored matrices that some questions take are made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "psd", functools.cache(data.psd))
        yield


class Shape:
    """Stands in for the dense matrix where probes ask its shape."""

    def __init__(self, A):
        self.shape, self.ndim = A.shape, len(A.shape)
        self.dtype = np.dtype(str(A.dtype).rpartition(".")[2])


def build(name, backend):
    A = LARGE[name](np.random.default_rng(7))(backend.asarray)
    return A, max(A.shape[-2:])


def asked(A, n, backend, name=""):
    """(probe, operands, rules) for the questions whose every step on a large operator is a rule's."""
    M = Shape(A)
    for probe in (*PROBES.values(), ONE):
        if name in SINGULAR and probe.name in ("log", "isqrt"):
            continue
        try:
            operands = probe.operands(A, M, backend, str(M.dtype), 0)
            question, arguments = probe.public(A, operands)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plan = explain(question, *arguments)
        except (cola.errors.ColaError, NotImplementedError):
            continue  # not a question for this operator
        large = [node for node in plan.nodes() if min(node.shape[-2:]) >= n]
        rules = {node.by for node in plan.nodes() if node.kind.startswith("rule")}
        if rules & set(EXEMPT) or any(node.note for node in large):
            continue
        if large and all(node.kind.startswith("rule") or node.by == BANDED for node in large):
            yield probe, operands, rules


def run(probe, A, operands):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = probe.question.run(A, *operands, alg=cola.Auto(), on_failure="ignore")
        if isinstance(answer, LinearOperator) and probe.name not in ("inv", "pinv"):
            # a lazy answer computes in its products
            answer @ A.xp.ones((answer.shape[-1],), dtype=answer.dtype)
        return answer


def defined(probe, A, operands):
    """Whether there is an answer: a plan sees no values, and a singular operator, say, has no logarithm."""
    try:
        run(probe, A, operands)
    except (cola.errors.ColaError, NotImplementedError):
        return False
    return True


@pytest.mark.parametrize("name", LARGE)
def test_numpy_allocates_no_square_array(name):
    be = get_backend("numpy")
    A, n = build(name, be)
    for probe, operands, _ in asked(A, n, be, name):
        if not defined(probe, A, operands):  # what is imported and cached once is not the rule's
            continue
        tracemalloc.start()
        try:
            run(probe, A, operands)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 0.5 * n * n * 8, f"{probe.name}({A!r}) held {peak / 8 / n / n:.2f} n^2 numbers"


@pytest.mark.skipif(not installed("torch"), reason="torch is not installed")
@pytest.mark.parametrize("name", list(LARGE)[::TORCH_SHARE])
def test_torch_makes_no_square_tensor(name):
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, (tuple, list)) else (out,):
                self.largest = max(self.largest, getattr(x, "numel", lambda: 0)())
            return out

    be = get_backend("torch")
    A, n = build(name, be)
    for probe, operands, _ in asked(A, n, be, name):
        if not defined(probe, A, operands):
            continue
        with Watch() as watch:
            if not defined(probe, A, operands):
                continue
        assert watch.largest < 0.5 * n * n, f"{probe.name}({A!r}) made a tensor of {watch.largest} numbers"


@pytest.mark.skipif(not installed("jax"), reason="jax is not installed")
@pytest.mark.parametrize("name", [name for name in LARGE if name not in UNTRACED])
def test_jax_programs_have_no_square_array(name):
    import jax

    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (getattr(v.aval, "size", 0) for v in equation.outvars)
            for value in equation.params.values():
                for inner in value if isinstance(value, (tuple, list)) else (value,):
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from sizes(inner)

    be = get_backend("jax")
    A, n = build(name, be)
    share = list(LARGE).index(name)
    for i, (probe, operands, _) in enumerate(asked(A, n, be, name)):
        if (i + share) % JAX_SHARE:
            continue

        def program(A, arrays, probe=probe, operands=operands):
            rest = iter(arrays)
            again = tuple(next(rest) if hasattr(x, "shape") else x for x in operands)
            return run(probe, A, again)

        try:
            traced = jax.make_jaxpr(program)(A, [x for x in operands if hasattr(x, "shape")])
        except (cola.errors.ColaError, jax.errors.JAXTypeError):
            continue  # depends on values: refused under a trace, by name
        largest = max(sizes(traced.jaxpr), default=0)
        assert largest < 0.5 * n * n, f"{probe.name}({A!r}) has an array of {largest} numbers"


def test_every_rule_is_measured():
    be = get_backend("numpy")
    seen: set[str] = set()
    for name in LARGE:
        A, n = build(name, be)
        for _, _, rules in asked(A, n, be, name):
            seen |= rules
    core = {r.id for rules in REGISTRY.rules.values() for r in rules if r.provenance.plugin == "core"}
    assert set(EXEMPT) <= core, "no such rule"
    missed = core - seen - set(EXEMPT)
    assert not missed, "add an operator to large.py on which they step in, or to EXEMPT the reason why not"
