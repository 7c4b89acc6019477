"""Question x operator family x algorithm: each derivative is right, or refused by name and listed as such.

One test per question and algorithm, over the families in turn: of PyTorch one cell in sixteen, of JAX one in
600 in one mode (it compiles each). ``COLA_GRID=all`` runs everything (PyTorch some ten minutes, JAX
hours), ``COLA_GRID=40`` one cell in forty.

``refusals.REFUSED`` is strict: a derivative that is refused and not listed fails, and so does one that is
listed and right.
"""

import os

import pytest
from grid import cells, outcome, sampled
from refusals import DEFECTS, REFUSED, reason

from cola_core.testing.run import installed

SHARES = {"torch": 16, "jax": 600}


def share(library):
    asked = os.environ.get("COLA_GRID", "")
    return 1 if asked == "all" else int(asked) if asked else SHARES[library]


def rows():
    found = {}
    for library in ("torch", "jax"):
        for cell in cells():
            if library not in cell.backends:
                continue
            for dtype, modes in sampled(cell, library, share(library)):
                question, _, by = cell.id.split("/")
                found.setdefault((question, by, library), []).append((cell, dtype, modes))
    for (question, by, library), row in found.items():
        missing = pytest.mark.skipif(not installed(library), reason=f"{library} is not installed")
        yield pytest.param(library, row, id=f"{question}-{by}-{library}", marks=missing)


@pytest.mark.parametrize(("backend", "row"), list(rows()))
def test_derivatives(backend, row):
    unexpected = []
    for cell, dtype, modes in row:
        for mode, said in (outcome(cell, backend, dtype, modes) or {}).items():
            if any(d.covers(cell.id, backend, dtype, mode) for d in DEFECTS):
                assert "RuntimeError" in said, f"{cell.id} {mode}: {said}: no defect any more"
                continue
            listed = reason(cell.id, backend, dtype, mode)
            if said.startswith("refused" if listed else "right"):
                continue
            unexpected.append(
                f"{cell.id} {dtype} {mode}: {said}" + (f" (listed: {listed})" if listed else "")
            )
    assert not unexpected, "\n" + "\n".join(unexpected)


def test_every_refusal_is_of_some_cell():
    everything = {(c.id, b, d) for c in cells() for b in c.backends for d in ("float64", "complex128")}
    for refusal in (*REFUSED, *DEFECTS):
        assert refusal.why.strip()
        assert any(refusal.covers(i, b, d, m) for i, b, d in everything for m in refusal.modes), refusal
