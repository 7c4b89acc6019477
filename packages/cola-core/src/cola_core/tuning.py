"""Measure this machine for a ``Profile``: a few seconds of matrix products, factorisations and copies."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from .profile import BUILT_IN, DTYPES, LIBRARIES, Profile

__all__ = ["measure"]

PYTHON_AROUND = 3.0  # what a loop written in Python does around an array operation, in such operations
SHARE_OF_MEMORY = 0.5


def measure(quick: bool = False, say: Callable[[str], None] = lambda text: None) -> Profile:
    """The speeds of this machine with the number of threads that its libraries are set to use.

    quick: small matrices and few repetitions, to see that it works.
    """
    import numpy as np
    import scipy.linalg as sla

    n, budget = (64, 0.005) if quick else (512, 0.25)
    rng = np.random.default_rng(0)
    product, factor, eigen = {}, {}, {}
    for dtype in DTYPES:
        say(f"matrix products and factorisations, {dtype}")
        M = rng.standard_normal((n, n)).astype(dtype)
        S = M + M.conj().T
        product[dtype] = 2.0 * n**3 / _least(partial(np.matmul, M, M), budget)
        factor[dtype] = 2.0 * n**3 / 3 / _least(partial(sla.lu_factor, M, check_finite=False), budget)
        eigen[dtype] = 9.0 * n**3 / _least(partial(np.linalg.eigh, S), budget)
    say("memory traffic")
    x = np.ones((1 << 16) if quick else (1 << 22))
    y = x.copy()
    bandwidth = 3.0 * x.nbytes / _least(lambda: np.add(x, y, out=y), budget)
    small = rng.standard_normal((32, 32))
    one = _least(lambda: sla.lu_factor(small, check_finite=False), budget)
    step = max(one / 32 - 2 * 32**2 / 3 / factor["float64"], 0.1 * BUILT_IN.step)
    call = dict(BUILT_IN.call)
    for library in LIBRARIES:
        if find_spec(library) is not None:
            say(f"calls of {library}")
            call[library] = PYTHON_AROUND * _call(library, budget)
    return replace(
        BUILT_IN,
        product=product,
        factor=factor,
        eigen=eigen,
        bandwidth=bandwidth,
        call=call,
        step=step,
        memory=_memory(),
        source="measured",
        measured=_machine(),
    )


def _least(run: Callable[[], Any], budget: float) -> float:
    """The shortest of the runs that fit into the time: what else the machine does only ever adds.

    On a busy machine no run of some milliseconds is left alone. Then the processor time is nearer to the
    truth where it is the shorter one: with several threads it is the sum of theirs, and the clock serves.
    """
    run()
    best, start = float("inf"), time.perf_counter()
    while True:
        before, busy = time.perf_counter(), _processor()
        run()
        busy, after = _processor() - busy, time.perf_counter()
        best = min(best, after - before, busy)
        if after - start > budget:
            return max(best, 1e-9)


def _processor() -> float:
    """Processor seconds of this process, where they are counted finely enough, else those of the clock."""
    return time.perf_counter() if sys.platform == "win32" else time.process_time()


def _call(library: str, budget: float) -> float:
    """One small array operation."""
    from .backends import get_backend

    x = get_backend(library).asarray([1.0, 2.0])

    def several() -> None:
        y = x
        for _ in range(20):
            y = y + x

    return _least(several, budget) / 20


def _memory() -> float:
    """Half of the machine's memory, or the built-in budget where the system does not say."""
    try:
        return max(SHARE_OF_MEMORY * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 2.0**28)
    except (AttributeError, ValueError, OSError):
        return BUILT_IN.memory


def _machine() -> dict[str, Any]:
    """The class of the machine and versions; no name of it."""
    import numpy
    import scipy

    from . import __version__

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "cola-core": __version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
    }
