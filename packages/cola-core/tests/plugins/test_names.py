"""Names of algorithms as text."""

from __future__ import annotations

import numpy as np
import pytest

import cola_core as cola


@pytest.mark.parametrize("name", ["blockcg", "block-cg", "Block_CG"])
def test_hyphens_underscores_and_capitals_are_free(name):
    A = cola.no_dispatch(cola.PSD(cola.ops.Dense(np.diag([1.0, 2.0, 3.0]))))
    x, info = cola.solve(A, np.ones(3), name, return_info=True)
    assert info.method == "block CG"
    np.testing.assert_allclose(x, 1 / np.array([1.0, 2.0, 3.0]))


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(cola.errors.UnknownNameError, match="minresqlp"):
        cola.solve(np.eye(2), np.ones(2), "min-rez")
