"""Kernels made of kernels: sums, products, scalings, active dimensions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cola_core.errors import ShapeError

from .._struct import leaves, set_fields, static, struct
from .base import Array, Kernel, Pullback, follow, points, positive, xp_of
from .simple import Ones


def _split(values: tuple[Any, ...], kernels: Iterable[Kernel]) -> list[tuple[Any, ...]]:
    """Cut a flat tuple of leaf gradients into one tuple per kernel."""
    pieces, start = [], 0
    for kernel in kernels:
        stop = start + len(leaves(kernel))
        pieces.append(values[start:stop])
        start = stop
    return pieces


def _check_kernels(owner: str, kernels: tuple[Any, ...]) -> None:
    if not kernels:
        raise ValueError(f"{owner} needs at least one kernel.")
    for kernel in kernels:
        if not isinstance(kernel, Kernel):
            raise TypeError(f"{owner} is made of kernels; got {type(kernel).__name__}.")
        if kernel.outermost:
            name = type(kernel).__name__
            raise TypeError(
                f"{owner} cannot hold {name}, which goes around the whole kernel of a model: write "
                f"{name}(a + b, points) and not {name}(a, points) + b."
            )


def _added(parts: list[tuple[Array, Pullback]]) -> tuple[Array, Pullback]:
    total = parts[0][0]
    for value, _ in parts[1:]:
        total = total + value
    pulls = [pull for _, pull in parts]
    return total, lambda W: tuple(g for pull in pulls for g in pull(W))


def _multiplied(parts: list[tuple[Array, Pullback]]) -> tuple[Array, Pullback]:
    total = parts[0][0]
    for value, _ in parts[1:]:
        total = total * value

    def pull(W: Array) -> tuple[Array, ...]:
        # The product of the *other* factors is formed and never divided out: a factor may be zero.
        out: list[Array] = []
        for i, (_, back) in enumerate(parts):
            weight = W
            for j, (value, _) in enumerate(parts):
                if j != i:
                    weight = weight * value
            out.extend(back(weight))
        return tuple(out)

    return total, pull


@struct
class Sum(Kernel):
    """``k_1 + k_2 + ...``; written ``k1 + k2``: a sum of independent functions.

    At least one kernel (ValueError, TypeError for what is none).  Of finite rank or finite state where all
    terms are; costs as much as its terms.
    """

    terms: tuple[Kernel, ...]

    def __init__(self, *kernels: Kernel, terms: tuple[Kernel, ...] = ()):
        terms = tuple(kernels) or tuple(terms)
        _check_kernels("Sum", terms)
        set_fields(self, terms=terms)

    @property
    def stationary(self) -> bool:
        return all(kernel.stationary for kernel in self.terms)

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        return _added([kernel.evaluate(X1, X2) for kernel in self.terms])

    def _profile_at(self, lags: Array, white: bool) -> tuple[Array, Pullback]:
        return _added([kernel.profile(lags, white=white) for kernel in self.terms])

    def diag(self, X: Array) -> Array:
        return sum(kernel.diag(X) for kernel in self.terms)

    def cross_diag(self, X: Array) -> Array:
        return sum(kernel.cross_diag(X) for kernel in self.terms)

    def feature_count(self, d: int) -> int | None:
        counts = [kernel.feature_count(d) for kernel in self.terms]
        return None if any(c is None for c in counts) else sum(counts)  # type: ignore[arg-type]

    def features(self, X: Array) -> tuple[Array, Pullback] | None:
        parts = [kernel.features(X) for kernel in self.terms]
        if any(part is None for part in parts):
            return None
        blocks = [part[0] for part in parts]  # type: ignore[index]

        def pull(G: Array) -> tuple[Array, ...]:
            out: list[Array] = []
            start = 0
            for U, back in parts:  # type: ignore[misc]
                out.extend(back(G[:, start : start + U.shape[1]]))
                start += U.shape[1]
            return tuple(out)

        return xp_of(X).concat(blocks, axis=1), pull


@struct
class Product(Kernel):
    """``k_1 * k_2 * ...``; written ``k1 * k2``.

    At least one kernel (ValueError, TypeError for what is none).  Ranks and states multiply; a product of
    kernels of different axes is a Kronecker product on a :class:`~cola_gp.Grid`.
    """

    factors: tuple[Kernel, ...]

    def __init__(self, *kernels: Kernel, factors: tuple[Kernel, ...] = ()):
        factors = tuple(kernels) or tuple(factors)
        _check_kernels("Product", factors)
        set_fields(self, factors=factors)

    @property
    def stationary(self) -> bool:
        return all(kernel.stationary for kernel in self.factors)

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        return _multiplied([kernel.evaluate(X1, X2) for kernel in self.factors])

    def _profile_at(self, lags: Array, white: bool) -> tuple[Array, Pullback]:
        return _multiplied([kernel.profile(lags, white=white) for kernel in self.factors])

    def diag(self, X: Array) -> Array:
        total = self.factors[0].diag(X)
        for kernel in self.factors[1:]:
            total = total * kernel.diag(X)
        return total

    def cross_diag(self, X: Array) -> Array:
        total = self.factors[0].cross_diag(X)
        for kernel in self.factors[1:]:
            total = total * kernel.cross_diag(X)
        return total

    def feature_count(self, d: int) -> int | None:
        total = 1
        for kernel in self.factors:
            count = kernel.feature_count(d)
            if count is None:
                return None
            total *= count
        return total

    def features(self, X: Array) -> tuple[Array, Pullback] | None:
        parts = [kernel.features(X) for kernel in self.factors]
        if any(part is None for part in parts):
            return None
        xp = xp_of(X)
        n = X.shape[0]

        def rowwise(A: Array, B: Array) -> Array:
            return xp.reshape(A[:, :, None] * B[:, None, :], (n, A.shape[1] * B.shape[1]))

        first = xp.ones_like(X[:, :1])
        before = [first]  # before[i]: row-wise product of the factors left of i
        for U, _ in parts:  # type: ignore[misc]
            before.append(rowwise(before[-1], U))
        after = [first]  # after[-1 - i]: of the factors right of i
        for U, _ in reversed(parts):  # type: ignore[misc]
            after.append(rowwise(U, after[-1]))

        def pull(G: Array) -> tuple[Array, ...]:
            out: list[Array] = []
            for i, (U, back) in enumerate(parts):  # type: ignore[misc]
                left, right = before[i], after[len(parts) - 1 - i]
                cube = xp.reshape(G, (n, left.shape[1], U.shape[1], right.shape[1]))
                weighted = cube * left[:, :, None, None] * right[:, None, None, :]
                out.extend(back(xp.sum(weighted, axis=(1, 3))))
            return tuple(out)

        return before[-1], pull

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...] | None:
        parts = [kernel.axis_factors(widths) for kernel in self.factors]
        if any(part is None for part in parts):
            return None
        return tuple(Product(*(part[j] for part in parts)) for j in range(len(widths)))  # type: ignore[index]

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        axes = range(len(widths))
        own = [kernel.axis_factors(widths) for kernel in self.factors]
        cut = [_split(parts[j], [factors[j] for factors in own]) for j in axes]  # type: ignore[index]
        out: list[Array] = []
        for i, kernel in enumerate(self.factors):
            out.extend(kernel.join_axis_gradients(tuple(cut[j][i] for j in axes), widths))
        return tuple(out)


@struct
class Scale(Kernel):
    """``variance * k``; written ``2.0 * k``, where the number is the initial value of a parameter.

    variance: one positive number.  Keeps every structure of ``k``.
    """

    kernel: Kernel
    log_variance: Array

    def __init__(self, kernel: Kernel, variance: Any = 1.0, *, log_variance: Any = None):
        _check_kernels("Scale", (kernel,))
        set_fields(self, kernel=kernel, log_variance=positive("variance", variance, log_variance))

    def _variance(self, X: Array) -> Array:
        return xp_of(X).exp(follow(self.log_variance, points(X)))

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        return self._scaled(X1, self.kernel.evaluate(X1, X2))

    def _scaled(self, X: Array, part: tuple[Array, Pullback]) -> tuple[Array, Pullback]:
        variance = self._variance(X)
        inner, back = part
        value = variance * inner
        return value, lambda W: (*back(variance * W), xp_of(X).sum(W * value))

    @property
    def stationary(self) -> bool:
        return self.kernel.stationary

    def _profile_at(self, lags: Array, white: bool) -> tuple[Array, Pullback]:
        return self._scaled(lags, self.kernel.profile(lags, white=white))

    def diag(self, X: Array) -> Array:
        return self._variance(X) * self.kernel.diag(X)

    def cross_diag(self, X: Array) -> Array:
        return self._variance(X) * self.kernel.cross_diag(X)

    def feature_count(self, d: int) -> int | None:
        return self.kernel.feature_count(d)

    def features(self, X: Array) -> tuple[Array, Pullback] | None:
        part = self.kernel.features(X)
        if part is None:
            return None
        xp = xp_of(X)
        root = xp.exp(0.5 * follow(self.log_variance, X))
        inner, back = part
        U = root * inner
        return U, lambda G: (*back(root * G), 0.5 * xp.sum(G * U))

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...] | None:
        parts = self.kernel.axis_factors(widths)
        if parts is None:
            return None
        return (Scale(parts[0], log_variance=self.log_variance), *parts[1:])

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        *first, scale = parts[0]
        return (*self.kernel.join_axis_gradients((tuple(first), *parts[1:]), widths), scale)


@struct
class ActiveDims(Kernel):
    """``kernel`` applied to the input dimensions ``dims`` only.

    dims: one number or several, distinct and counted from zero (ValueError); points with too few dimensions
    are a ShapeError.
    """

    kernel: Kernel
    dims: tuple[int, ...] = static()

    def __init__(self, kernel: Kernel, dims: int | Iterable[int]):
        _check_kernels("ActiveDims", (kernel,))
        chosen = tuple(dims) if isinstance(dims, Iterable) else (dims,)
        if not chosen or len(set(chosen)) != len(chosen) or any(int(i) != i or i < 0 for i in chosen):
            raise ValueError(f"dims must be distinct non-negative integers, not {dims!r}.")
        set_fields(self, kernel=kernel, dims=tuple(int(i) for i in chosen))

    def label_dims(self, d: int) -> frozenset[int]:
        return frozenset(self.dims[i] for i in self.kernel.label_dims(len(self.dims)))

    def _select(self, X: Array) -> Array:
        points(X)
        if max(self.dims) >= X.shape[1]:
            raise ShapeError(
                f"ActiveDims uses dimension {max(self.dims)} but the points have {X.shape[1]} dimensions."
            )
        return xp_of(X).stack([X[:, i] for i in self.dims], axis=1)

    @property
    def stationary(self) -> bool:
        return self.kernel.stationary

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        return self.kernel.evaluate(self._select(X1), None if X2 is None else self._select(X2))

    def _profile_at(self, lags: Array, white: bool) -> tuple[Array, Pullback]:
        return self.kernel.profile(self._select(lags), white=white)

    def diag(self, X: Array) -> Array:
        return self.kernel.diag(self._select(X))

    def cross_diag(self, X: Array) -> Array:
        return self.kernel.cross_diag(self._select(X))

    def feature_count(self, d: int) -> int | None:
        return self.kernel.feature_count(len(self.dims))

    def features(self, X: Array) -> tuple[Array, Pullback] | None:
        return self.kernel.features(self._select(X))

    def _axis_factors(self, widths: tuple[int, ...]) -> tuple[Kernel, ...] | None:
        runs = self._runs(widths)
        if runs is None:
            return None
        if len(runs) == 1:
            axis, local = runs[0]
            whole = local == tuple(range(widths[axis]))
            place = {axis: self.kernel if whole else ActiveDims(self.kernel, local)}
        else:
            inner = self.kernel.axis_factors(tuple(len(local) for _, local in runs))
            if inner is None:
                return None
            place = {
                axis: part if local == tuple(range(widths[axis])) else ActiveDims(part, local)
                for (axis, local), part in zip(runs, inner, strict=True)
            }
        return tuple(place.get(j, Ones()) for j in range(len(widths)))

    def _runs(self, widths: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]] | None:
        """The chosen dimensions by axis, as ``(axis, dimensions within it)`` in the order they are chosen.

        None if a dimension does not exist, or if the dimensions of an axis are not listed next to each other.
        """
        owner = [axis for axis, width in enumerate(widths) for _ in range(width)]
        if max(self.dims) >= len(owner):
            return None
        runs: list[tuple[int, tuple[int, ...]]] = []
        for dim in self.dims:
            axis = owner[dim]
            local = dim - sum(widths[:axis])
            if runs and runs[-1][0] == axis:
                runs[-1] = (axis, (*runs[-1][1], local))
            else:
                runs.append((axis, (local,)))
        return runs if len({axis for axis, _ in runs}) == len(runs) else None

    def _join_axis_gradients(
        self, parts: tuple[tuple[Array, ...], ...], widths: tuple[int, ...]
    ) -> tuple[Array, ...]:
        runs = self._runs(widths) or []
        chosen = tuple(parts[axis] for axis, _ in runs)
        return self.kernel.join_axis_gradients(chosen, tuple(len(local) for _, local in runs))
