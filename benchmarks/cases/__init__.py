"""One file per family of benches; each has a list ``BENCHES``."""

from __future__ import annotations

from ..harness import Bench

__all__ = ["all_benches"]


def all_benches() -> list[Bench]:
    """Every bench, in the order of the report."""
    from . import (
        blocks,
        dense,
        derivatives,
        device_krylov,
        eigen,
        general_solvers,
        gp_dense,
        gp_grid,
        gp_large,
        gp_time,
        importing,
        iterative,
        kernel_product,
        kronecker,
        kronsum,
        low_rank,
        lq,
        matrix_functions,
        mixed_precision,
        paper,
        peers,
        preconditioned,
        slq_gradient,
        stochastic,
        symmetric,
        toeplitz,
    )

    return [
        b
        for m in (
            importing,
            dense,
            eigen,
            kronecker,
            kronsum,
            low_rank,
            lq,
            blocks,
            paper,
            iterative,
            kernel_product,
            gp_dense,
            gp_grid,
            gp_large,
            gp_time,
            general_solvers,
            preconditioned,
            mixed_precision,
            matrix_functions,
            symmetric,
            stochastic,
            toeplitz,
            derivatives,
            device_krylov,
            slq_gradient,
            peers,
        )
        for b in m.BENCHES
    ]
