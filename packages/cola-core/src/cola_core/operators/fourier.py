"""Fast Fourier transforms of any array library along any axes, the lengths they like, and circular
convolution.

NumPy arrays go through SciPy's transforms (imported at the first one), which keep single precision and run
over several columns at once; the other libraries through their own. All libraries get transforms of the same
lengths, so that they round alike.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..backends.base import Array, Backend, dtype_name
from ..cost import Cost
from ..errors import DTypeError
from .axes import fits

__all__ = ["convolve", "fft", "fft_cost", "good_length", "ifft", "kept", "require_fft", "rough", "spectrum"]


@lru_cache(maxsize=4096)
def good_length(n: int) -> int:
    """The smallest number of at least n whose only prime factors are 2, 3 and 5."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        odd = five
        while odd < best:
            best = min(best, odd << max(-(-n // odd) - 1, 0).bit_length())
            odd *= 3
        five *= 5
    return best


@lru_cache(maxsize=4096)
def rough(n: int) -> bool:
    """Whether n has a prime factor for which transforms of length n are slow."""
    for p in (2, 3, 5, 7, 11, 13):
        while n > 1 and n % p == 0:
            n //= p
    return n > 100


def fft_cost(length: float, real: bool, itemsize: int) -> Cost:
    """One transform of a column of ``length`` numbers of ``itemsize`` bytes."""
    steps = max(int(length), 2).bit_length()
    # every pass over the column moves it once, in cache where it fits
    traffic = 1.2 * itemsize * length * steps
    return Cost((2.5 if real else 5.0) * length * steps, traffic, 3.0 * itemsize * length, 0)


def require_fft(x: Array, name: str) -> None:
    """Refuse half precision, for which no library has transforms everywhere."""
    if "16" in dtype_name(x.dtype):
        raise DTypeError(
            f"{name}: there is no fast Fourier transform in {dtype_name(x.dtype)}; cast to single precision."
        )


def _library(be: Backend) -> tuple[Any, dict[str, Any]]:
    if be.name == "numpy":
        import scipy.fft

        return scipy.fft, {}
    return be.xp.fft, {}


def fft(be: Backend, x: Array, lengths: tuple[int, ...], last: int, real: bool = False) -> Array:
    """The transform along the axes that end at axis ``last`` (negative), zero-padded to ``lengths``.

    real: x is real; only half of the axis ``last`` is made.
    """
    lib, more = _library(be)
    one = lib.rfft if real else lib.fft
    x = one(x, n=lengths[-1], axis=last, **more)
    for i, n in enumerate(reversed(lengths[:-1]), 1):
        x = lib.fft(x, n=n, axis=last - i, **more)
    return x


def ifft(be: Backend, x: Array, lengths: tuple[int, ...], last: int, real: bool = False) -> Array:
    """The inverse of ``fft``."""
    lib, more = _library(be)
    for i, n in enumerate(reversed(lengths[:-1]), 1):
        x = lib.ifft(x, n=n, axis=last - i, **more)
    return (lib.irfft if real else lib.ifft)(x, n=lengths[-1], axis=last, **more)


def spectrum(be: Backend, g: Array, lengths: tuple[int, ...], dtype: Any, real: bool) -> Array:
    """The transform of a symbol (*batch, *lengths) in the precision of ``dtype``, ready for ``convolve``."""
    if dtype_name(g.dtype) != dtype_name(dtype):
        g = be.astype(g, dtype)
    return fft(be, g, lengths, -1, real)


def convolve(be: Backend, S: Array, X: Array, lengths: tuple[int, ...], real: bool) -> Array:
    """Circular convolution of the columns of X (*batch, *shape, k), padded to ``lengths``, with a symbol of
    spectrum S (*batch, *lengths)."""
    Y = fft(be, X, lengths, -2, real)
    if be.name == "numpy" and fits((*S.shape, 1), Y.shape):
        Y *= S[..., None]  # the transform just made is ours
    else:
        Y = S[..., None] * Y
    return ifft(be, Y, lengths, -2, real)


def kept(A: Any, key: Any, sources: tuple[Array, ...], make: Any) -> Any:
    """``make()``, kept on the operator A for the next product with it.

    Operators are immutable, the arrays of NumPy and PyTorch that they hold are not: what was made is used
    again only after comparing the arrays with copies of what they were (O(n), a few per cent of a
    transform). Nothing is kept of arrays that are traced or belong to a derivative graph.
    """
    be: Backend = A._concrete_backend()
    if be.name == "abstract" or not be.is_concrete(*sources):
        return make()
    if be.differentiating(*sources):
        return make()
    store = A.__dict__.setdefault("_kept", {})
    found = store.get(key)
    if found is not None and all(map(_same, [be] * len(sources), sources, found[0])):
        return found[1]
    made = make()
    copies = sources if be.name == "jax" else tuple(_copy(be, x) for x in sources)
    store[key] = (copies, made)
    return made


def _copy(be: Backend, x: Array) -> Array:
    return x.copy() if be.name == "numpy" else x.detach().clone()


def _same(be: Backend, x: Array, y: Array) -> bool:
    if x is y:
        return be.name == "jax"
    if be.name == "numpy":
        import numpy as np

        return np.array_equal(x, y)
    import torch

    return torch.equal(x, y)
