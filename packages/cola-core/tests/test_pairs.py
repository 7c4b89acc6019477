"""Every pair of operator classes through ``+``, ``@`` and ``kron``, and what comes out through questions.

No pair is ambiguous: each sum and product has one normal form, each question one rule, and both agree with
the dense matrices.
"""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from samples import SAMPLES

import cola_core as cola
from cola_core import ops
from cola_core.algorithms import Auto
from cola_core.backends import get_backend
from cola_core.dispatch import REGISTRY
from cola_core.dispatch.choose import select
from cola_core.dispatch.question import QUESTIONS
from cola_core.operators import LinearOperator
from cola_core.testing.probes import PROBES

N = 4

AUTODIFF = {"Jacobian", "Hessian", "GaussNewton", "Fisher"}  # made of derivatives, which NumPy has none of


def _pair(one, other):
    rng = np.random.default_rng(zlib.crc32(f"{one} {other}".encode()))
    return SAMPLES[one](N, rng), SAMPLES[other](N, rng)


def _classes(A):
    found = {type(A).__name__}
    for part in A._parts():
        if isinstance(part, LinearOperator):
            found |= _classes(part)
    return found


def test_every_class_has_a_sample():
    rng = np.random.default_rng(0)
    found = set().union(*(_classes(SAMPLES[name](N, rng)[0]) for name in SAMPLES))
    public = {getattr(ops, name) for name in ops.__all__}
    wanted = {c.__name__ for c in public if isinstance(c, type) and issubclass(c, LinearOperator)}
    assert wanted - {"LinearOperator"} - AUTODIFF <= found
    assert not AUTODIFF & found


def _results(one, other):
    (A, a), (B, b) = _pair(one, other)
    return {
        "+": (A + B, a + b),
        "-": (A - B, a - b),
        "@": (A @ B, a @ b),
        "@H": (A @ B.H, a @ b.conj().T),
        "kron": (cola.kron(A, B), np.kron(a, b)),
        "kronsum": (cola.kronsum(A, B), np.kron(a, np.eye(N)) + np.kron(np.eye(N), b)),
        "block_diag": (cola.block_diag(A, B), np.block([[a, 0 * a], [0 * b, b]])),
    }


def _arithmetic(where, C, c):
    scale = max(np.abs(c).max(), 1.0)
    assert C.shape == c.shape, where
    np.testing.assert_allclose(C.to_dense(), c, atol=1e-11 * scale, err_msg=where)
    x = np.linspace(-1, 1, c.shape[-1])
    np.testing.assert_allclose(C @ x, c @ x, atol=1e-10 * scale, err_msg=where)
    np.testing.assert_allclose(C.H @ x, c.conj().T @ x, atol=1e-10 * scale, err_msg=where)


def _determinant_and_trace(where, C, c):
    scale = max(np.abs(c).max(), 1.0)
    np.testing.assert_allclose(cola.trace(C), np.trace(c), atol=1e-9 * scale * len(c), err_msg=where)
    singular = np.linalg.svd(c, compute_uv=False)
    if singular[-1] > 1e-6 * singular[0]:
        np.testing.assert_allclose(cola.slogdet(C), np.linalg.slogdet(c), atol=1e-6, err_msg=where)


def _no_ambiguity(C, c):
    """A tie between rules that nothing settles raises when the rules of a tier are put in order."""
    be = get_backend("numpy")
    for probe in PROBES.values():
        tiers = REGISTRY.tiers(probe.question.name, (type(C), Auto))
        if all(len(tier) == 1 for tier in tiers) or not probe.suits(C, c):
            continue
        args = (C, *probe.operands(C, c, be, str(c.dtype), 0))
        for tier in tiers:
            select(probe.question, tier, args, Auto())


@pytest.mark.parametrize("one", SAMPLES)
def test_every_pair(one):
    for other in SAMPLES:
        for name, (C, c) in _results(one, other).items():
            where = f"{one} {name} {other}"
            _arithmetic(where, C, c)
            _determinant_and_trace(where, C, c)
            _no_ambiguity(C, c)


def test_every_question_is_swept():
    assert set(QUESTIONS) == {probe.question.name for probe in PROBES.values()}
