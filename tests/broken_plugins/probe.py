"""Run in a fresh interpreter:
use the core, then print as JSON what became of the plugins given as arguments."""

import json
import sys
import warnings

import numpy as np

import cola_core as cola
from cola_core.dispatch import REGISTRY
from cola_core.errors import ColaError
from cola_core.plugins import MANAGER


def answers() -> bool:
    """Whether the core still solves: structured, dense and composed."""
    A, b = np.array([[3.0, 1.0], [1.0, 2.0]]), np.arange(4.0)
    K = cola.kron(A, A)
    right = np.allclose(K @ cola.solve(K, b), b) and np.allclose(A @ cola.solve(A, b[:2]), b[:2])
    return bool(right and np.isclose(cola.logdet(cola.PSD(A)), np.log(5)))


def by_name(name: str) -> dict:
    try:
        MANAGER.load(name, "name", explicit=True)
    except ColaError as error:
        cause = error.__cause__
        return {
            "error": type(error).__name__,
            "message": str(error),
            "cause": None if cause is None else type(cause).__name__,
        }
    return {"error": None}


def main(names: list[str]) -> dict:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raised = None
        try:
            right = answers() and answers()
        except ColaError as error:
            right, raised = False, f"{type(error).__name__}: {error}"
    states = {
        name: {"state": record.state, "reason": record.reason, "traceback": record.error is not None}
        for name, record in MANAGER.records.items()
    }
    rules = [r.id for found in REGISTRY.rules.values() for r in found if r.provenance.plugin in names]
    algorithms = [
        e.id for found in REGISTRY.algorithms.values() for e in found if e.provenance.plugin in names
    ]
    return {
        "answers": right,
        "raised": raised,
        "warnings": [f"{w.category.__name__}: {w.message}" for w in caught],
        "states": states,
        "registered": sorted(rules + algorithms),
        "by_name": {name: by_name(name) for name in names},
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
