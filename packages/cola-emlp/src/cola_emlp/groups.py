"""What a group is: matrices that generate it, and a way to draw random elements.

A `MatrixGroup` acts on a d-dimensional vector space V and is given by

* `lie`: Lie-algebra generators A, shape (m, d, d): the group contains every exp(tA);
* `discrete`: group elements h, shape (l, d, d): the group contains every h and its inverse.

A `PermutationGroup` is given by index arrays, never by matrices: generator p sends basis vector e_j to
e_p[j]. A `DirectProduct` of groups acts on the tensor product of their spaces; its elements are tuples.

Groups compare and hash by content (name and generator values), so two different groups that happen to share a
name are never confused, and results can be cached safely.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .errors import GroupError

Counter = Callable[[int, int], int]
"""(p, q) -> exact dimension of the invariants of V^p tensor (V*)^q."""
Sampler = Callable[[np.random.Generator], np.ndarray]


def _generator(key: int | np.random.Generator) -> np.random.Generator:
    return key if isinstance(key, np.random.Generator) else np.random.default_rng(key)


class Group:
    """Common face of all groups: `name`, `d` (dimension of V), `sample(key)`, `matrix(g)` and `*` for
    products.
    """

    name: str
    orthogonal: bool
    """True if every element is a real orthogonal matrix, so that V and its dual are the same representation.
    """

    @property
    def d(self) -> int:
        raise NotImplementedError

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def factors(self) -> tuple[Group, ...]:
        """The groups this one is a direct product of; a group that is no product is its own only factor."""
        return (self,)

    def sample(self, key: int | np.random.Generator) -> Any:
        """A random element. `key` is an integer seed or a NumPy Generator; the same seed gives the same
        element.
        """
        raise NotImplementedError

    def matrix(self, g: Any) -> np.ndarray:
        """The d x d matrix by which the element g acts on V."""
        raise NotImplementedError

    def __mul__(self, other: Group) -> DirectProduct:
        if not isinstance(other, Group):
            return NotImplemented
        return DirectProduct(self.factors + other.factors)

    @cached_property
    def _content(self) -> bytes:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._content == other._content  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._content)

    def __repr__(self) -> str:
        return self.name


def _digest(kind: str, name: str, *arrays: np.ndarray) -> bytes:
    h = hashlib.sha256(f"{kind}|{name}".encode())
    for a in arrays:
        h.update(f"|{a.shape}{a.dtype}".encode())
        h.update(np.ascontiguousarray(a).tobytes())
    return h.digest()


def _stack(name: str, what: str, matrices: Any, d: int | None) -> np.ndarray:
    """Validate generators: square matrices of one size, all entries finite. -> (count, d, d)."""
    try:
        a = np.asarray(matrices if not isinstance(matrices, Sequence) else list(matrices))
    except ValueError as e:
        raise GroupError(
            f"{name}: the {what} generators must all be square matrices of one size ({e})"
        ) from None
    if a.size == 0:
        return np.zeros((0, d or 0, d or 0))
    if a.ndim == 2:
        a = a[None]
    if a.ndim != 3 or a.shape[1] != a.shape[2]:
        raise GroupError(
            f"{name}: the {what} generators must be square matrices of one size; got an array of shape "
            f"{a.shape}. Pass a list of (d, d) matrices or an array of shape (count, d, d)."
        )
    if a.dtype.kind not in "biufc":
        raise GroupError(f"{name}: the {what} generators must be numbers; got dtype {a.dtype}")
    a = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
    if not np.isfinite(a).all():
        raise GroupError(f"{name}: a {what} generator has a NaN or infinite entry")
    return a


@dataclass(frozen=True, eq=False, repr=False)
class MatrixGroup(Group):
    """A group given by matrices; build one for your own group.

    lie, discrete: sequences of (d, d) matrices (either may be empty, then give `d`). Their scaling, order and
    redundancy do not matter. `counter` may supply exact dimensions of invariants, `sampler` a better random
    element than the default (a product of exponentials of random algebra elements and random discrete
    generators). Raises GroupError for matrices that are not square, not finite, of different sizes, or
    singular (discrete).
    """

    name: str
    lie: Any = ()
    discrete: Any = ()
    dim: int | None = None
    counter: Counter | None = field(default=None, compare=False)
    sampler: Sampler | None = field(default=None, compare=False)
    orthogonal: bool = field(init=False)

    def __post_init__(self) -> None:
        lie = _stack(self.name, "Lie-algebra", self.lie, self.dim)
        discrete = _stack(self.name, "discrete", self.discrete, self.dim)
        sizes = {a.shape[1] for a in (lie, discrete) if len(a)} | (
            {self.dim} if self.dim is not None else set()
        )
        if len(sizes) != 1:
            raise GroupError(
                f"{self.name}: generators of different sizes {sorted(sizes)}"
                if sizes
                else f"{self.name}: no generators and no dimension; give dim=d for the trivial group"
            )
        d = sizes.pop()
        if d < 1:
            raise GroupError(f"{self.name}: the dimension of V must be at least 1, got {d}")
        lie, discrete = lie.reshape(-1, d, d), discrete.reshape(-1, d, d)
        for i, h in enumerate(discrete):
            if np.linalg.matrix_rank(h) < d:
                raise GroupError(
                    f"{self.name}: discrete generator {i} is singular, so it is not a group element"
                )
        if np.iscomplexobj(lie) or np.iscomplexobj(discrete):
            lie, discrete = lie.astype(np.complex128), discrete.astype(np.complex128)
        for a in (lie, discrete):
            a.setflags(write=False)
        object.__setattr__(self, "lie", lie)
        object.__setattr__(self, "discrete", discrete)
        object.__setattr__(self, "dim", d)
        object.__setattr__(self, "orthogonal", not np.iscomplexobj(lie) and _is_orthogonal(lie, discrete))

    @property
    def d(self) -> int:
        return int(self.dim)  # type: ignore[arg-type]

    @property
    def is_complex(self) -> bool:
        return np.iscomplexobj(self.lie)

    @cached_property
    def _content(self) -> bytes:
        return _digest("matrix", self.name, self.lie, self.discrete)

    def sample(self, key: int | np.random.Generator) -> np.ndarray:
        rng = _generator(key)
        if self.sampler is not None:
            return self.sampler(rng)
        from .algebra import lie_basis
        from .expm import expm

        g = np.eye(self.d, dtype=self.lie.dtype)
        basis = lie_basis(self)
        if len(basis):
            # Two moderate exponentials: large ones of a non-compact group drown every check in rounding.
            for _ in range(2):
                g = g @ expm(np.tensordot(rng.standard_normal(len(basis)) / np.sqrt(len(basis)), basis, 1))
        if len(self.discrete):
            for i in rng.integers(0, len(self.discrete), size=rng.integers(0, 9)):
                h = self.discrete[i]
                g = g @ (h if rng.integers(2) else np.linalg.inv(h))
        return g

    def matrix(self, g: Any) -> np.ndarray:
        g = np.asarray(g)
        if g.shape != (self.d, self.d):
            raise GroupError(f"an element of {self.name} is a {self.d}x{self.d} matrix; got shape {g.shape}")
        return g


def _is_orthogonal(lie: np.ndarray, discrete: np.ndarray) -> bool:
    """Whether all generators are exactly (to rounding) antisymmetric, respectively orthogonal."""
    eye = np.eye(lie.shape[-1])
    skew = all(np.abs(a + a.T).max() <= 1e-14 * np.abs(a).max() for a in lie)
    return skew and all(np.abs(h @ h.T - eye).max() <= 1e-13 for h in discrete)


@dataclass(frozen=True, eq=False, repr=False)
class PermutationGroup(Group):
    """A group of permutations of d points. generators: integer array (count, d); elements are index arrays of
    length d.
    """

    name: str
    generators: Any = ()
    points: int | None = None
    counter: Counter | None = field(default=None, compare=False)
    sampler: Sampler | None = field(default=None, compare=False)
    orthogonal: bool = field(init=False, default=True)

    def __post_init__(self) -> None:
        try:
            g = np.asarray(self.generators)
        except ValueError as e:
            raise GroupError(f"{self.name}: generators must be permutations of one length ({e})") from None
        d = self.points if self.points is not None else (g.shape[-1] if g.ndim == 2 else 0)
        if d < 1:
            raise GroupError(
                f"{self.name}: a permutation group needs at least one point; give generators or points=d"
            )
        g = np.zeros((0, d), np.int64) if g.size == 0 else g
        if g.ndim != 2 or g.shape[1] != d or g.dtype.kind not in "iu":
            raise GroupError(
                f"{self.name}: generators must be integer index arrays of shape (count, {d}); "
                f"got shape {g.shape}, dtype {g.dtype}"
            )
        if (np.sort(g, axis=1) != np.arange(d)).any():
            raise GroupError(f"{self.name}: every generator must contain each of 0..{d - 1} exactly once")
        g = g.astype(np.int64)
        g.setflags(write=False)
        object.__setattr__(self, "generators", g)
        object.__setattr__(self, "points", d)

    @property
    def d(self) -> int:
        return int(self.points)  # type: ignore[arg-type]

    @cached_property
    def _content(self) -> bytes:
        return _digest("permutation", self.name, self.generators)

    def sample(self, key: int | np.random.Generator) -> np.ndarray:
        rng = _generator(key)
        if self.sampler is not None:
            return self.sampler(rng)
        g = np.arange(self.d)
        if len(self.generators):
            for i in rng.integers(0, len(self.generators), size=4 * self.d + rng.integers(2)):
                p = self.generators[i]
                g = (p if rng.integers(2) else np.argsort(p))[g]
        return g

    def matrix(self, g: Any) -> np.ndarray:
        g = np.asarray(g)
        if g.shape == (self.d, self.d):
            return g
        if g.shape != (self.d,) or g.dtype.kind not in "iu":
            raise GroupError(
                f"an element of {self.name} is an integer index array of length {self.d} (or a "
                f"{self.d}x{self.d} matrix); got shape {g.shape}, dtype {g.dtype}"
            )
        m = np.zeros((self.d, self.d))
        m[g, np.arange(self.d)] = 1.0
        return m


class DirectProduct(Group):
    """G1 x G2 x ...: acts on V1 tensor V2 tensor ...; an element is a tuple, one of each factor."""

    def __init__(self, factors: Sequence[Group]):
        flat: list[Group] = []
        for f in factors:
            if not isinstance(f, Group):
                raise GroupError(f"a direct product is made of groups; got {type(f).__name__}")
            flat.extend(f.factors)
        if len(set(flat)) < len(flat):
            raise GroupError(
                f"direct product {' x '.join(f.name for f in flat)}: a factor occurs twice. Factors are told "
                "apart by content, so give the second copy its own name (MatrixGroup(name=...))."
            )
        if len(flat) < 2:
            raise GroupError("a direct product needs at least two factors")
        self._factors = tuple(flat)
        self.name = "*".join(f.name for f in flat)
        self.orthogonal = all(f.orthogonal for f in flat)

    @property
    def d(self) -> int:
        return int(np.prod([f.d for f in self._factors]))

    @property
    def is_complex(self) -> bool:
        return any(f.is_complex for f in self._factors)

    @property
    def factors(self) -> tuple[Group, ...]:
        return self._factors

    @cached_property
    def _content(self) -> bytes:
        return _digest("product", self.name) + b"".join(f._content for f in self._factors)

    def sample(self, key: int | np.random.Generator) -> tuple[Any, ...]:
        rng = _generator(key)
        return tuple(f.sample(rng) for f in self._factors)

    def matrix(self, g: Any) -> np.ndarray:
        out = np.ones((1, 1))
        for f, x in zip(self._factors, g, strict=True):
            out = np.kron(out, f.matrix(x))
        return out
