"""Which eigenvalues: LM, SM (magnitude), LA, SA (algebraic), LR, SR (real part), as in SciPy."""

from __future__ import annotations

from typing import Any

from ..errors import UnknownNameError

__all__ = ["WHICH", "order_by", "singular_order"]

WHICH = ("LM", "SM", "LA", "SA", "LR", "SR")


def order_by(be: Any, w: Any, k: int, which: str) -> Any:
    """Indices of the k wanted eigenvalues, most wanted first."""
    if which not in WHICH:
        raise UnknownNameError(f"which={which!r}; choose from {', '.join(WHICH)}")
    xp = be.xp
    if which[1] == "M":
        key = xp.abs(w)
    else:
        key = xp.real(w) if be.is_complex(w) else w
    order = xp.argsort(-key if which[0] == "L" else key, stable=True)
    return order[..., :k]


def singular_order(r: int, k: int, which: str) -> slice:
    """The positions of the k largest ("LM") or smallest ("SM") of r descending singular values."""
    if which not in ("LM", "SM"):
        raise UnknownNameError(
            f"which={which!r}: singular values are not negative; choose LM (largest) or SM (smallest)."
        )
    return slice(0, k) if which == "LM" else slice(r - k, r)
