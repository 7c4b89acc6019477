"""The grid of derivatives: every question, on every family of operators, by every algorithm that answers it.

A cell is a smooth reduction of an answer (``cola_core.testing.smooth``), an operator case of the conformance
kit, and an algorithm; ``outcome(cell, library, dtype)`` says of each mode whether it is right, refused by
name, or wrong. Run as a program it goes through all of them:

    python grid.py torch [--match TEXT] [--share N] > outcomes.jsonl
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from refusals import REFUSED, Refusal

from cola_core.algorithms import Auto
from cola_core.backends import get_backend
from cola_core.testing.algorithm_checks.common import probes_of
from cola_core.testing.algorithm_checks.derivatives import algorithm_problem, precise
from cola_core.testing.case import Case
from cola_core.testing.core_cases import algorithm_cases, operator_cases
from cola_core.testing.derivatives import MODES, Derivatives, check_value, is_refusal
from cola_core.testing.derivatives import outcome as outcome_of
from cola_core.testing.errors import ConformanceError
from cola_core.testing.precision import precision
from cola_core.testing.smooth import SMOOTH, Smooth, smooth_named, smooth_problem

# families on which algorithms that look at products only are asked, beside a dense matrix without structure
STRUCTURES = {
    "psd": ("kronecker-psd", "nested-lowrank-diagonal", "toeplitz-psd", "blockdiag-psd"),
    "selfadjoint": ("sum-shift", "tridiagonal-selfadjoint", "scaled-kronecker"),
    "general": ("sparse", "kronecker", "product", "toeplitz"),
}

# their arrays have orthonormal columns, or belong together: there is no straight line along which they move
BOUND = {"dense-unitary"} | {
    f"projection{what}" for what in ("", "-complement", "-full", "-oblique", "-shift")
}


@dataclass(frozen=True)
class Cell:
    """smooth of an answer, on the operator of ``family``, by ``algorithm`` (None: ``Auto()``)."""

    smooth: Smooth
    family: Case | None
    algorithm: Case | None = None

    @property
    def id(self) -> str:
        by = "auto" if self.algorithm is None else self.algorithm.name.removeprefix("algorithm-")
        on = "problem" if self.family is None else self.family.name
        return f"{self.smooth.name}/{on}/{by}"

    @property
    def backends(self) -> tuple[str, ...]:
        chosen = [c.capabilities.backends.names for c in (self.family, self.algorithm) if c is not None]
        return tuple(b for b in ("torch", "jax") if all(b in names for names in chosen))

    def make(self, backend: Any, dtype: str, seed: int) -> Any:
        if self.family is not None:
            return self.family.build(backend, dtype, seed)
        return algorithm_problem(self.algorithm, backend, dtype, seed)(backend, seed)


def cells() -> list[Cell]:
    """All cells, question by question."""
    families = {c.name: c for c in operator_cases() if c.name not in BOUND}
    out = []
    for case in algorithm_cases():
        names = STRUCTURES.get(case.problem, ()) if isinstance(case.problem, str) else ()
        on = [None, *(families[name] for name in names if name in families)]
        for probe in probes_of(case):
            out += [Cell(s, f, case) for s in smooth_named(probe.name) for f in on if _unique(s, f)]
    return out + [Cell(s, f) for s in SMOOTH.values() for f in families.values() if _unique(s, f)]


def _unique(smooth: Smooth, family: Case | None) -> bool:
    """Whether the answer is one: which rows pivoting exchanges is a structured factorisation's own choice."""
    return smooth.name != "lu" or family is None or family.name.startswith("dense")


def derivatives(cell: Cell, library: str, dtype: str) -> Derivatives | None:
    """What is to be checked; None where the question does not suit the operator."""
    backend, seed = get_backend(library), (cell.family or cell.algorithm).seed  # type: ignore[union-attr]
    alg, rtol, own = Auto(), 1e-6, False
    if cell.algorithm is not None:
        alg, rtol, own = precise(cell.algorithm, backend, dtype, seed)
    with precision(library, dtype):
        found = smooth_problem(
            cell.smooth, lambda b, s: cell.make(b, dtype, s), backend, dtype, seed, alg, own
        )
    if found is None:
        return None
    chosen: Any = cell.algorithm or cell.family
    jit = chosen.capabilities.jit.is_open and library == "jax"
    return Derivatives(**found, rtol=rtol, jit=jit, what=cell.smooth.name)


def outcome(cell: Cell, library: str, dtype: str, modes: Any = MODES) -> dict[str, str] | None:
    """{mode: "right", "refused: ..." or "wrong: ..."}; None where the question does not suit the operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = derivatives(cell, library, dtype)
        if f is None:
            return None
        try:
            check_value(f)
        except ConformanceError as error:
            return dict.fromkeys(modes, f"wrong: the value: {error}")
        except Exception as error:
            if not is_refusal(error):
                raise
            return None  # the question itself is refused
        return {mode: outcome_of(f, mode) for mode in modes}


def dtypes_of(cell: Cell) -> tuple[str, ...]:
    """Real and complex, where the operator and the algorithm claim them."""
    found = [c.capabilities.all_dtypes for c in (cell.family, cell.algorithm) if c is not None]
    return tuple(d for d in ("float64", "complex128") if all(d in names for names in found))


def sampled(cell: Cell, library: str, share: int) -> list[tuple[str, tuple[str, ...]]]:
    """(dtype, modes) to run of a cell: everything if share is 1; else one cell in so many, in one dtype, and
    on JAX, which compiles each, in one mode."""
    dtypes = dtypes_of(cell)
    if share == 1 or not dtypes:
        return [(d, MODES) for d in dtypes]
    turn = crc32(f"{cell.id} {library}".encode())
    if turn % share:
        return []
    turn //= share
    modes = MODES if library == "torch" else MODES[turn // 2 % 5 : turn // 2 % 5 + 1]
    return [(dtypes[turn % len(dtypes)], modes)]


def page() -> str:
    """The table of docs/derivatives.md: what each question's algorithms are held to."""
    by: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells():
        question, _, alg = cell.id.split("/")
        if not cell.backends:
            continue
        by.setdefault(question, {}).setdefault(alg, []).append(cell)
    out = ["| answer | all modes | refused by name |", "|---|---|---|"]
    for question in sorted(by):
        whole, refused = [], []
        for alg, row in sorted(by[question].items()):
            known = [r for r in REFUSED if any(r.of(c.id) for c in row)]
            if not any(all(r.of(c.id) for c in row) for r in known):
                whole.append(alg)
            refused += [f"{alg}{_where(r, row)}: {r.why}{_modes(r)}" for r in known]
        out.append(f"| {question} | {', '.join(whole) or '-'} | {'; '.join(refused)} |")
    return "\n".join(out) + "\n"


def _where(refusal: Refusal, row: list[Cell]) -> str:
    if all(refusal.of(c.id) for c in row):
        return ""
    return " on " + ", ".join(sorted(c.id.split("/")[1] for c in row if refusal.of(c.id)))


def _modes(refusal: Refusal) -> str:
    said = [] if refusal.modes == MODES else [", ".join(refusal.modes)]
    said += [x for x in (refusal.library, refusal.dtype) if x != "*"]
    return f" ({'; '.join(said)})" if said else ""


def main(library: str, *rest: str) -> None:
    """Every cell, one line of JSON each; or the table of docs/derivatives.md."""
    if library == "--markdown":
        print(page(), end="")
        return
    if library == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    match = rest[rest.index("--match") + 1] if "--match" in rest else ""
    share = int(rest[rest.index("--share") + 1]) if "--share" in rest else 1
    for cell in cells():
        if library not in cell.backends or match not in cell.id:
            continue
        for dtype, modes in sampled(cell, library, share):
            start = time.perf_counter()
            try:
                found = outcome(cell, library, dtype, modes)
            except Exception as error:  # noqa: BLE001 - reported
                found = {"setup": f"error: {type(error).__name__}: {error}"}
            if found is not None:
                took = round(time.perf_counter() - start, 3)
                print(json.dumps([cell.id, library, dtype, took, found]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
