r"""Linear Gaussian state-space models: what the filters and smoothers of this package run on.

States ``x_k`` in R^s and observations ``y_k`` in R^p at times ``k = 0 .. n-1``::

    x_0     ~ N(m0, P0)                           the state at the *first* observation
    x_{k+1} = A_k x_k + w_k,   w_k ~ N(0, Q_k)    k = 0 .. n-2
    y_k     = H_k x_k + v_k,   v_k ~ N(0, R_k)    k = 0 .. n-1

Shapes.  A parameter that does not change with time is a matrix: ``A, Q, P0 (s, s)``, ``H (p, s)``, ``R (p,
p)``, ``m0 (s,)``.  One that does has a time axis in front of the matrix: ``A, Q (n-1, s, s)``, ``H (n, p,
s)``, ``R (n, p, p)``; a time axis of length 1 stands for all times.  Batches come before the time axis: ``A
(*batch, n-1 or 1, s, s)``, ``m0 (*batch, s)``, ``P0 (*batch, s, s)``, observations ``(*batch, n, p)``;
batch axes broadcast, so one model may filter many series and many models one series.

Missing observations are NaN entries of ``y``, or entries that are False in a ``mask`` of the shape of y; some
components of a vector may be missing, and the rest is conditioned on exactly.

Covariances may be singular (``Q = 0`` for a constant state).  Parameters that are NumPy arrays follow the
observations to their library and dtype; torch and JAX parameters need observations of their library.
Notation as in Särkkä & Svensson (2023), Bayesian Filtering and Smoothing, 2nd edition, chapter 6, except that
their prior is one step before the first observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import DTypeError, NonFiniteError, ShapeError

from .._struct import Struct, set_fields, struct
from ..arrays import Array, backend_for
from ..kernels.base import follow

_COVARIANCES = ("Q", "R", "P0")


@struct
class LinearGaussian(Struct):
    """A linear Gaussian state-space model (see the module docstring for the equations and shapes).

    Lists and integers become float64 arrays.  Raises ShapeError, DTypeError or NonFiniteError, naming the
    parameter, and ValueError for a covariance that is not symmetric or has a negative variance.

    >>> import numpy as np
    >>> from cola_gp import statespace as ss
    >>> walk = ss.LinearGaussian(A=[[1.0]], Q=[[0.1]], H=[[1.0]], R=[[0.5]], m0=[0.0], P0=[[10.0]])
    >>> walk.states, walk.observed
    (1, 1)
    >>> ss.kalman_filter(walk, np.array([1.0, np.nan, 1.2])).mean.shape
    (3, 1)
    """

    A: Array
    Q: Array
    H: Array
    R: Array
    m0: Array
    P0: Array

    def __init__(self, A: Any, Q: Any, H: Any, R: Any, m0: Any, P0: Any):
        given = {"A": A, "Q": Q, "H": H, "R": R, "m0": m0, "P0": P0}
        fields = {name: _checked(name, value) for name, value in given.items()}
        backends = [backend_of(x) for x in fields.values()]
        backend_of(*(x for x, b in zip(fields.values(), backends, strict=True) if b and b.name != "numpy"))
        s, p = fields["A"].shape[-1], fields["H"].shape[-2]
        wanted = {"A": (s, s), "Q": (s, s), "H": (p, s), "R": (p, p), "m0": (s,), "P0": (s, s)}
        for name, shape in wanted.items():
            got = tuple(fields[name].shape)
            if got[-len(shape) :] != shape:
                raise ShapeError(
                    f"{name} has shape {got} but its last axes must be {shape}: A of shape "
                    f"{tuple(fields['A'].shape)} means {s} states, H of shape "
                    f"{tuple(fields['H'].shape)} means {p} observed values."
                )
        for name in _COVARIANCES:
            _check_covariance(name, fields[name])
        set_fields(self, **fields)

    @property
    def states(self) -> int:
        """Dimension s of the state."""
        return int(self.A.shape[-1])

    @property
    def observed(self) -> int:
        """Number p of values observed at a time."""
        return int(self.H.shape[-2])


def _checked(name: str, value: Any) -> Array:
    backend = backend_of(value)
    if backend is None:
        try:
            value = np.asarray(value, dtype=float)
        except (TypeError, ValueError):
            raise DTypeError(
                f"{name} must be an array of numbers, not {type(value).__name__} {value!r}."
            ) from None
        backend = backend_for(value)
    if backend.is_complex(value):
        raise DTypeError(f"{name} is complex ({value.dtype}); state-space models here are real.")
    value = backend.as_value(value)
    if value.ndim < (1 if name == "m0" else 2):
        raise ShapeError(
            f"{name} must be a {'vector' if name == 'm0' else 'matrix'}, not of shape {value.shape}."
        )
    if backend.is_concrete(value) and not backend.all_finite(value):
        raise NonFiniteError(f"{name} of shape {tuple(value.shape)} holds NaN or infinite entries.")
    return value


def _check_covariance(name: str, value: Array) -> None:
    """Symmetry and signs, where values can be seen; that it is positive semidefinite shows in the filter."""
    backend = backend_for(value)
    if not backend.is_concrete(value):
        return
    value = backend.to_numpy(backend.constant(value.detach() if hasattr(value, "detach") else value))
    size = np.max(np.abs(value), axis=(-1, -2), keepdims=True, initial=0.0)
    rounding = 1e3 * np.finfo(value.dtype).eps * size
    if np.any(np.abs(value - value.swapaxes(-1, -2)) > rounding):
        raise ValueError(f"the covariance {name} is not symmetric; use ({name} + {name}.T) / 2.")
    if np.any(np.diagonal(value, axis1=-2, axis2=-1) < -rounding[..., 0]):
        raise ValueError(f"the covariance {name} has a negative variance on its diagonal.")


@dataclass(frozen=True)
class Problem:
    """A model and observations brought to one form, with the time axis first.

    ``A, Q, H, R`` are ``(T, *batch or ones, ., .)`` with ``T`` 1 or the number of times; A and Q then have n
    entries, the last of which leads to a state that nobody asks for.  ``m0, P0`` have the full batch shape.
    ``y (n, *batch, p)`` holds zeros where an observation is missing, ``mask`` is 1.0 or 0.0 like y, or None
    where everything is known to be observed.
    """

    backend: Any
    A: Array
    Q: Array
    H: Array
    R: Array
    m0: Array
    P0: Array
    y: Array
    mask: Array | None
    batch: tuple[int, ...]
    n: int

    @property
    def xp(self) -> Any:
        return self.backend.xp

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What :meth:`of` makes the problem of again, inside a function that is compiled."""
        return self.A, self.Q, self.H, self.R, self.m0, self.P0, self.y, self.mask

    @classmethod
    def of(cls, arrays: tuple[Any, ...]) -> Problem:
        A, Q, H, R, m0, P0, y, mask = arrays
        return cls(backend_for(y), A, Q, H, R, m0, P0, y, mask, tuple(m0.shape[:-1]), int(y.shape[0]))

    def everywhere(self, x: Array) -> Array:
        """``x (T, ...)`` at all n times and in all of the batch."""
        return self.xp.broadcast_to(x, (self.n, *self.batch, *x.shape[-2:]))


def prepare(model: LinearGaussian, y: Any, mask: Any = None) -> Problem:
    """Check the observations against the model; see :class:`Problem`."""
    y, mask = observations(y, mask, model.observed)
    be = backend_for(y)
    n = int(y.shape[-2])
    if n == 0:
        raise ShapeError(
            f"no observations: y has shape {tuple(y.shape)}, with no times on its last axis but one."
        )
    fields = {name: follow(getattr(model, name), y) for name in ("A", "Q", "H", "R", "m0", "P0")}
    batches = [tuple(fields[k].shape[:-3]) for k in ("A", "Q", "H", "R")]
    batches += [tuple(fields["m0"].shape[:-1]), tuple(fields["P0"].shape[:-2]), tuple(y.shape[:-2])]
    try:
        batch = tuple(int(k) for k in np.broadcast_shapes(*batches))
    except ValueError:
        raise ShapeError(
            "the batch axes of A, Q, H, R, m0, P0 and y do not broadcast: "
            + ", ".join(str(b) for b in batches)
            + " (parameters with three axes change with time; batches come before the time axis)."
        ) from None
    steps = {"A": n - 1, "Q": n - 1, "H": n, "R": n}
    timed = {name: _time_first(be, name, fields[name], length, len(batch)) for name, length in steps.items()}
    m0 = be.xp.broadcast_to(fields["m0"], (*batch, model.states))
    P0 = be.xp.broadcast_to(fields["P0"], (*batch, model.states, model.states))
    y = be.xp.moveaxis(be.xp.broadcast_to(y, (*batch, n, model.observed)), -2, 0)
    if mask is not None:
        mask = be.xp.moveaxis(be.xp.broadcast_to(mask, (*batch, n, model.observed)), -2, 0)
    return Problem(be, **timed, m0=m0, P0=P0, y=y, mask=mask, batch=batch, n=n)


def observations(y: Any, mask: Any, p: int) -> tuple[Array, Array | None]:
    """``y (*batch, n, p)`` without NaN and its mask of ones and zeros, or None where all is observed."""
    be = backend_of(y)
    if be is None:
        try:
            y = np.asarray(y, dtype=float)
        except (TypeError, ValueError):
            raise DTypeError(f"y must be an array of numbers, not {type(y).__name__}.") from None
        be = backend_for(y)
    if be.is_complex(y):
        raise DTypeError(f"y is complex ({y.dtype}); state-space models here are real.")
    y = be.as_value(y)
    shape = tuple(y.shape)
    if y.ndim == 1 and p == 1:
        y = y[:, None]
    if y.ndim < 2 or y.shape[-1] != p:
        raise ShapeError(
            f"y has shape {shape} but the model observes {p} values at a time; give (*batch, n, {p})"
            + (" or (n,)." if p == 1 else ".")
        )
    seen = ~be.xp.isnan(y)
    if mask is not None:
        mask = be.asarray(mask)
        if tuple(mask.shape) != shape:
            raise ShapeError(f"mask has shape {tuple(mask.shape)} but y has shape {shape}.")
        seen = seen & be.xp.reshape(be.xp.astype(mask, be.xp.bool), y.shape)
    y = be.xp.where(seen, y, be.xp.zeros_like(y))
    if be.is_concrete(y, seen):
        if not be.all_finite(y):
            raise NonFiniteError("y holds infinite entries; missing observations are NaN or masked.")
        if bool(be.xp.all(seen)):
            return y, None
    return y, be.astype(seen, y.dtype)


def _time_first(be: Any, name: str, x: Array, length: int, nb: int) -> Array:
    xp = be.xp
    if x.ndim == 2:
        return xp.reshape(x, (1,) * (nb + 1) + tuple(x.shape))
    x = xp.moveaxis(x, -3, 0)
    times = int(x.shape[0])
    if times not in (1, length):
        raise ShapeError(
            f"{name} has {times} entries on its time axis (shape {tuple(x.shape)}, time first) but {length} "
            f"are needed: A and Q lead from one of the n observations to the next, H and R belong to all n."
        )
    if name in "AQ" and times == length:  # the last one leads nowhere
        x = xp.concat([x, x[-1:] if length else xp.zeros((1, *x.shape[1:]), dtype=x.dtype)], axis=0)
    batch = tuple(x.shape[1:-2])
    return xp.reshape(x, (int(x.shape[0]),) + (1,) * (nb - len(batch)) + batch + tuple(x.shape[-2:]))
