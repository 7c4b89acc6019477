"""What this package adds to the core's questions."""

from __future__ import annotations

from typing import Any

__all__ = ["register"]


def register(registrar: Any) -> None:
    """Mixed-precision solvers and device-resident Krylov methods; questions about stacks of equal blocks."""
    from cola_core.linalg import solve

    from .cg import MixedPrecisionCG
    from .gmres_ir import MixedPrecisionGMRES
    from .krylov import register as register_krylov
    from .sharding.stack import RULES

    registrar.include(RULES)
    # on request only: installing this package must not change which algorithm answers
    registrar.algorithm(solve, MixedPrecisionCG, name="mixed-cg", automatic=False)
    registrar.algorithm(solve, MixedPrecisionGMRES, name="mixed-gmres", automatic=False)
    register_krylov(registrar)
