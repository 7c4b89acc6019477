"""Which eigenvalues: LM, SM (magnitude), LA, SA (algebraic), LR, SR (real part), LI, SI (imaginary part),
each by its literal meaning, for general matrices too."""

from __future__ import annotations

from typing import Any

from ..errors import NotPositiveDefiniteError, UnknownNameError

__all__ = ["WHICH", "WHICH_GENERAL", "check_which", "nonnegative", "order_by", "rank_key", "singular_order"]

WHICH = ("LM", "SM", "LA", "SA", "LR", "SR")
WHICH_GENERAL = (*WHICH, "LI", "SI")


def check_which(which: str, general: bool = False) -> str:
    """The name in the form that algorithms take: LA, SA of a general operator are LR, SR, and the reverse."""
    known = WHICH_GENERAL if general else WHICH
    if which not in known:
        raise UnknownNameError(f"which={which!r}; choose from {', '.join(known)}")
    if general:
        return {"LA": "LR", "SA": "SR"}.get(which, which)
    return {"LR": "LA", "SR": "SA"}.get(which, which)


def order_by(be: Any, w: Any, k: int, which: str) -> Any:
    """Indices of the k wanted eigenvalues, most wanted first."""
    order = be.xp.argsort(rank_key(be, w, which), stable=True)
    return order[..., :k]


def rank_key(be: Any, w: Any, which: str) -> Any:
    """A real number for each eigenvalue, the smaller the more it is wanted."""
    check_which(which, general=True)
    xp = be.xp
    if which[1] == "M":
        key = xp.abs(w)
    elif which[1] == "I":
        key = xp.imag(w) if be.is_complex(w) else xp.zeros_like(w)
    else:
        key = xp.real(w) if be.is_complex(w) else w
    return -key if which[0] == "L" else key


def singular_order(r: int, k: int, which: str) -> slice:
    """The positions of the k largest ("LM") or smallest ("SM") of r descending singular values."""
    if which not in ("LM", "SM"):
        raise UnknownNameError(
            f"which={which!r}: singular values are not negative; choose LM (largest) or SM (smallest)."
        )
    return slice(0, k) if which == "LM" else slice(r - k, r)


def nonnegative(A: Any, w: Any) -> Any:
    """Eigenvalues of an operator declared PSD, without what rounding left below zero.

    More than rounding disproves the declaration, and is an error wherever values can be looked at.
    """
    be = A._concrete_backend()
    xp = be.xp
    if be.is_concrete(w) and 0 not in w.shape:
        low, top = be.number(xp.min(w)), be.number(xp.max(xp.abs(w)))
        if low < -1e3 * max(A.shape[-1], 1) * float(xp.finfo(w.dtype).eps) * top:
            raise NotPositiveDefiniteError(
                f"{A!r} is declared PSD but has the negative eigenvalue {low:.3g}. Remove the declaration, "
                "or add a multiple of the identity."
            )
    return xp.maximum(w, xp.zeros_like(w))
