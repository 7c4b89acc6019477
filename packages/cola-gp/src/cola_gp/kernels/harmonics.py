"""How many cosines a Periodic kernel is made of, found from its lengthscale and kept as a fact of the kernel.

The number decides how large the kernel's state in time is.  It depends on a value, which plans and compiled
functions do not have; a covariance operator therefore writes it into its kernel while it has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._struct import Struct, rebuild
from ..arrays import backend_for
from .stationary import Periodic

TAIL = 1e-15  # share of the variance that may be left out
MOST_HARMONICS = 64


def harmonics_needed(lengthscale: float) -> int:
    """How many cosines beside the constant carry all but 1e-15 of the variance of a Periodic kernel.

    Shorter lengthscales need more.  Raises ValueError above ``MOST_HARMONICS``.

    >>> from cola_gp.sde import harmonics_needed
    >>> [harmonics_needed(l) for l in (2.0, 1.0, 0.5, 0.2)]
    [9, 13, 21, 43]
    """
    from scipy.special import ive

    z = float(lengthscale) ** -2
    for count in range(MOST_HARMONICS + 1):
        # the terms beyond this one fall faster than a geometric series of the ratio of these two
        last, following = ive(count, z), ive(count + 1, z)
        if following <= 0 or (following < last and 2 * following / (1 - following / last) < TAIL):
            return count
    raise ValueError(f"Periodic with 1 / lengthscale^2 = {z:.3g} needs over {MOST_HARMONICS} harmonics")


def known_harmonics(kernel: Periodic) -> int | None:
    """:func:`harmonics_needed` where the lengthscale is one number and has a value, else None."""
    lengthscale = kernel.log_lengthscale
    be = backend_for(lengthscale)
    if be.name == "abstract" or not be.is_concrete(lengthscale) or int(np.prod(lengthscale.shape)) != 1:
        return None
    return harmonics_needed(float(np.exp(np.reshape(be.to_numpy(lengthscale), ()))))


def counted(kernel: Any) -> Any:
    """The kernel with ``harmonics`` of its periodic parts as their lengthscales ask for; ``MOST_HARMONICS +
    1`` stands for more than that."""
    if isinstance(kernel, Periodic):
        try:
            needed = known_harmonics(kernel)
        except ValueError:
            needed = MOST_HARMONICS + 1
        return kernel if needed is None else kernel.replace(harmonics=max(1, needed))
    if isinstance(kernel, tuple):
        parts = tuple(counted(part) for part in kernel)
        return parts if any(a is not b for a, b in zip(parts, kernel, strict=True)) else kernel
    if not isinstance(kernel, Struct):
        return kernel
    parts = tuple(getattr(kernel, name) for name in kernel._child_fields)
    found = counted(parts)
    return kernel if found is parts else rebuild(kernel, found)


__all__ = ["MOST_HARMONICS", "counted", "harmonics_needed", "known_harmonics"]
