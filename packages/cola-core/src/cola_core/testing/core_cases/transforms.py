"""Fast transforms, circulant, Toeplitz and Hankel matrices, and convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import ops
from ...properties import PSD, SelfAdjoint
from .. import data
from ..capabilities import Capabilities, closed, only
from ..case import Case
from .build import of_arrays

normal = data.normal

FIXED = closed("there are no entries to differentiate with respect to")
REAL = Capabilities(dtypes=only("float64", "float32", reason="the entries are real"), grad=FIXED)


def _placed(name: str, make: Any, dense: Any, capabilities: Capabilities = REAL) -> Case:
    def factory(backend: Any, dtype: str, seed: int) -> Any:
        return make(dtype, backend.name)

    return Case(name, factory=factory, reference=lambda dtype, seed: dense(), capabilities=capabilities)


def _cosines(n: int, kind: str, type: int) -> Any:
    """``scipy.fft.dct`` and ``dst`` of the identity."""
    import scipy.fft

    return getattr(scipy.fft, kind)(np.eye(n), type=type, axis=0, norm="ortho")


def _cas(n: int) -> Any:
    F = np.fft.fft(np.eye(n), norm="ortho")
    return F.real - F.imag


def _hadamard() -> Any:
    H = np.array([[1.0, 1.0], [1.0, -1.0]])
    return np.kron(np.kron(H, H), H) / np.sqrt(8)


def _shifted(c: Any) -> Any:
    """The circulant matrix of a first column, by its definition."""
    return np.stack([np.roll(c, j, axis=-1) for j in range(c.shape[-1])], axis=-1)


def _dominant(n: int) -> Any:
    """Diagonally dominant columns, so that every question has a well-conditioned answer."""

    def column(dtype: str, seed: int) -> list[Any]:
        c = normal(seed, (n,), dtype) / n
        c[0] = 3
        return [c]

    return column


def _symmetric(n: int) -> Any:
    def column(dtype: str, seed: int) -> list[Any]:
        (c,) = _dominant(n)(dtype, seed)
        return [((c + np.conj(np.roll(c[::-1], 1))) / 2).astype(dtype)]

    return column


def _pair(m: int, n: int) -> Any:
    def entries(dtype: str, seed: int) -> list[Any]:
        c, r = normal(seed, (m,), dtype) / m, normal(seed + 1, (n,), dtype) / n
        c[0] = 2
        return [c, r]

    return entries


def _toeplitz(c: Any, r: Any = None) -> Any:
    import scipy.linalg

    return scipy.linalg.toeplitz(c) if r is None else scipy.linalg.toeplitz(c, r)


def _hankel(c: Any, r: Any) -> Any:
    import scipy.linalg

    return scipy.linalg.hankel(c, np.concatenate([c[-1:], r[1:]]))


def _anti(m: int, n: int) -> Any:
    """Dominant on the antidiagonal."""

    def entries(dtype: str, seed: int) -> list[Any]:
        c, r = normal(seed, (m,), dtype) / m, normal(seed + 1, (n,), dtype) / n
        c[-1] = 2
        return [c, r]

    return entries


def _convolution(f: Any, shape: tuple[int, ...], mode: str) -> Any:
    """Column j is the convolution of the j-th unit array."""
    import scipy.signal

    columns = []
    for e in np.eye(int(np.prod(shape)), dtype=f.dtype):
        e = e.reshape(shape)
        if mode != "circular":
            columns.append(scipy.signal.convolve(e, f, mode, method="direct").ravel())
            continue
        y = np.zeros_like(e)
        for at in np.ndindex(*f.shape):
            y += f[at] * np.roll(e, at, axis=tuple(range(f.ndim)))
        columns.append(y.ravel())
    return np.stack(columns, axis=-1)


def _filter(shape: tuple[int, ...], center: tuple[int, ...]) -> Any:
    def entries(dtype: str, seed: int) -> list[Any]:
        f = normal(seed, shape, dtype) / (2 * int(np.prod(shape)))
        f[center] = 2
        return [f]

    return entries


def _even_filter(dtype: str, seed: int) -> list[Any]:
    """A real, even circular filter: a self-adjoint convolution."""
    f = np.array([[2.0, 0.3, 0.3], [0.2, 0.1, 0.1], [0.2, 0.1, 0.1]])
    return [f.astype(dtype)]


def operator_cases() -> list[Case]:
    """Fast transforms, circulant, Toeplitz and Hankel matrices, and convolutions."""
    complex_only = Capabilities(dtypes=only("complex128", reason="Fourier vectors are complex"), grad=FIXED)
    out = [
        _placed(
            "fft",
            lambda t, b: ops.FFT(5, dtype=t, backend=b),
            lambda: np.fft.fft(np.eye(5), norm="ortho"),
            complex_only,
        ),
        _placed(
            "fft-inverse",
            lambda t, b: ops.FFT(7, inverse=True, dtype=t, backend=b),
            lambda: np.fft.ifft(np.eye(7), norm="ortho"),
            complex_only,
        ),
        _placed("hartley", lambda t, b: ops.Hartley(5, t, backend=b), lambda: _cas(5)),
        _placed("walsh-hadamard", lambda t, b: ops.WalshHadamard(8, t, backend=b), _hadamard),
        of_arrays("circulant", _dominant(7), ops.Circulant, _shifted),
        of_arrays("circulant-psd", _symmetric(6), lambda c: PSD(ops.Circulant(c)), _shifted),
        of_arrays(
            "circulant-batch",
            lambda t, s: [np.stack([_dominant(4)(t, s)[0], _dominant(4)(t, s + 1)[0]])],
            ops.Circulant,
            _shifted,
        ),
        of_arrays("toeplitz", _pair(6, 6), ops.Toeplitz, _toeplitz),
        of_arrays("toeplitz-tall", _pair(7, 4), ops.Toeplitz, _toeplitz),
        of_arrays("toeplitz-psd", lambda t, s: _dominant(6)(t, s), lambda c: PSD(ops.Toeplitz(c)), _toeplitz),
        of_arrays("toeplitz-recursion", _pair(70, 70), ops.Toeplitz, _toeplitz),
        of_arrays("hankel", _anti(5, 5), ops.Hankel, _hankel),
        of_arrays("hankel-wide", _anti(3, 6), ops.Hankel, _hankel),
        of_arrays(
            "convolution-same",
            _filter((2, 3), (0, 1)),
            lambda f: ops.ConvolveND(f, (3, 4), "same"),
            lambda f: _convolution(f, (3, 4), "same"),
        ),
        of_arrays(
            "convolution-full",
            _filter((40,), (0,)),
            lambda f: ops.ConvolveND(f, (30,), "full"),
            lambda f: _convolution(f, (30,), "full"),
        ),
        of_arrays(
            "convolution-valid",
            _filter((2, 2), (1, 1)),
            lambda f: ops.ConvolveND(f, (4, 3), "valid"),
            lambda f: _convolution(f, (4, 3), "valid"),
        ),
        of_arrays(
            "convolution-circular",
            _filter((2, 2), (0, 0)),
            lambda f: ops.ConvolveND(f, (3, 4), "circular"),
            lambda f: _convolution(f, (3, 4), "circular"),
        ),
        of_arrays(
            "convolution-circular-selfadjoint",
            _even_filter,
            lambda f: SelfAdjoint(ops.ConvolveND(f, (3, 3), "circular")),
            lambda f: _convolution(f, (3, 3), "circular"),
        ),
    ]
    for kind, cls in (("dct", ops.DCT), ("dst", ops.DST)):
        for type in (1, 2, 3, 4):
            n = 5 + 2 * (type % 2)
            out.append(
                _placed(
                    f"{kind}{type}",
                    lambda t, b, cls=cls, type=type, n=n: cls(n, type, t, backend=b),
                    lambda kind=kind, type=type, n=n: _cosines(n, kind, type),
                )
            )
    return out
