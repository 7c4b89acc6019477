"""Representations: how a group acts on vectors, tensors, and linear maps between them.

    T(2)                    tensors with two indices, for a group to be named later
    T(2)(SO(3))             the same for SO(3): concrete, so rho, drho and bases exist
    V, Scalar               T(1), T(0)
    3*V + T(0,2), V*V, V.T  direct sums, tensor products, duals
    T(2) >> V               linear maps from T(2) to V, as the tensor product V * T(2).T: matrices of shape
                            (size of V, size of T(2)) flattened row by row
    V(S(5)) * V(O(3))       different groups: a representation of S(5) x O(3)

`rho(g)` and `drho(A)` are lazy operators of cola_core: Kronecker products, Kronecker sums and block diagonals
of the small matrices, never dense N x N. Representations are immutable and compare by content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cola_core import ops

from .errors import GroupError, RepError
from .groups import DirectProduct, Group, MatrixGroup, PermutationGroup

Word = tuple["Base", ...]
"""The letters of a tensor product: vector representations and their duals."""


class Rep:
    """Common face of all representations."""

    @cached_property
    def size(self) -> int:
        """Dimension N of the space acted on. Raises RepError while the group is unknown."""
        raise NotImplementedError

    @cached_property
    def groups(self) -> tuple[Group | None, ...]:
        """The different groups of the letters, in order of appearance; None is `to be named later`."""
        raise NotImplementedError

    @property
    def group(self) -> Group:
        """The group acting: one group, or the direct product of all that appear."""
        known = self._known()
        if not known:
            raise RepError(
                f"{self!r} has no letters, so no group of its own; call it as rep(G) or name the group"
            )
        return known[0] if len(known) == 1 else DirectProduct(known)

    def _known(self) -> tuple[Group, ...]:
        if None in self.groups:
            raise RepError(
                f"the group of {self!r} is not known yet; make it concrete by calling it with one, "
                "for example T(2)(SO(3))"
            )
        return self.groups  # type: ignore[return-value]

    def __call__(self, group: Group) -> Rep:
        """The same representation with every letter that has no group yet given this one."""
        raise NotImplementedError

    @property
    def T(self) -> Rep:
        """The dual representation, rho*(g) = rho(g)^-T. For orthogonal groups it is the representation
        itself.
        """
        raise NotImplementedError

    def rho(self, g: Any) -> Any:
        """The operator (N, N) by which a group element acts. For a product of groups g is a tuple of
        elements.
        """
        return self._rho(self._assign(g))

    def drho(self, a: Any) -> Any:
        """The operator (N, N) by which a Lie-algebra element (d, d) acts; a tuple (entries may be None) for a
        product.
        """
        return self._drho(self._assign(a, algebra=True))

    def _assign(self, g: Any, algebra: bool = False) -> dict[Group, Any]:
        if isinstance(g, Mapping):
            return dict(g)
        known = self._known()
        if not known:
            return {}
        parts = (g,) if len(known) == 1 else g
        if not isinstance(parts, tuple | list) or len(parts) != len(known):
            raise GroupError(
                f"{self!r} is a representation of {self.group}; its elements are tuples of {len(known)}"
            )
        what = zip(known, parts, strict=True)
        if not algebra:
            return {
                f: x if isinstance(f, PermutationGroup) and np.ndim(x) == 1 else f.matrix(x) for f, x in what
            }
        out: dict[Group, Any] = {}
        for f, x in what:
            if x is not None:
                if np.shape(x) != (f.d, f.d):
                    raise GroupError(
                        f"a Lie-algebra element of {f} is a {f.d}x{f.d} matrix; got shape {np.shape(x)}"
                    )
                out[f] = np.asarray(x)
        return out

    def _rho(self, env: Mapping[Group, Any]) -> Any:
        raise NotImplementedError

    def _drho(self, env: Mapping[Group, Any]) -> Any:
        raise NotImplementedError

    @cached_property
    def blocks(self) -> dict[Word, np.ndarray]:
        """The space as tensor words: word -> integer array (copies, size of word) of the coordinates each
        copy occupies.

        Tensor products of sums interleave their blocks, so coordinates are index arrays; together they are a
        permutation of range(N).
        """
        raise NotImplementedError

    def __add__(self, other: Any) -> Rep:
        return Sum.of((self, 1), (other, 1)) if isinstance(other, Rep) else NotImplemented

    def __mul__(self, other: Any) -> Rep:
        if isinstance(other, int | np.integer) and not isinstance(other, bool):
            return Sum.of((self, int(other)))
        return Tensor.of(self, other) if isinstance(other, Rep) else NotImplemented

    def __rmul__(self, other: Any) -> Rep:
        return self * other if isinstance(other, int | np.integer) else NotImplemented

    def __pow__(self, k: int) -> Rep:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
            raise RepError(f"a representation can be raised to an integer >= 0, got {k!r}")
        return Tensor.of(*[self] * int(k))

    def __rshift__(self, other: Any) -> Rep:
        return Hom(self, other) if isinstance(other, Rep) else NotImplemented

    def __lshift__(self, other: Any) -> Rep:
        return other >> self if isinstance(other, Rep) else NotImplemented


@dataclass(frozen=True, repr=False)
class Base(Rep):
    """The space V the group's matrices act on, or its dual."""

    of: Group | None = None
    dual: bool = False

    @cached_property
    def size(self) -> int:
        return self._known()[0].d

    @cached_property
    def groups(self) -> tuple[Group | None, ...]:
        return (self.of,)

    def __call__(self, group: Group) -> Rep:
        if self.of is not None:
            return self
        if not isinstance(group, Group):
            raise RepError(f"a representation is made concrete by a group; got {type(group).__name__}")
        return Tensor.of(*[Base(f, self.dual and not f.orthogonal) for f in group.factors])

    @property
    def T(self) -> Rep:
        return self if self.of is not None and self.of.orthogonal else Base(self.of, not self.dual)

    def _rho(self, env: Mapping[Group, Any]) -> Any:
        g = env.get(self._known()[0])
        if g is None:
            return ops.Identity(self.size, np.float64)
        if g.ndim == 1:
            return ops.Permutation(np.argsort(g))  # (P x)[i] = x[perm[i]], and g sends e_j to e_g[j]
        return ops.Dense(np.linalg.inv(g).T if self.dual else g)

    def _drho(self, env: Mapping[Group, Any]) -> Any:
        a = env.get(self._known()[0])
        if a is None:
            return ops.ScalarMul(0.0, self.size)
        return ops.Dense(-a.T if self.dual else a)

    @cached_property
    def blocks(self) -> dict[Word, np.ndarray]:
        return {(self,): np.arange(self.size)[None]}

    def __repr__(self) -> str:
        return "V" + (f"({self.of})" if self.of is not None else "") + (".T" if self.dual else "")


@dataclass(frozen=True, repr=False)
class Tensor(Rep):
    """Tensor product; the last factor's index runs fastest. Without factors: the scalar representation, of
    size 1.
    """

    factors: tuple[Rep, ...] = ()

    @staticmethod
    def of(*reps: Rep) -> Rep:
        if len(reps) == 1 and isinstance(reps[0], Rep):
            return reps[0]
        flat: list[Rep] = []
        for r in reps:
            if not isinstance(r, Rep):
                raise RepError(f"a tensor product is made of representations; got {type(r).__name__}")
            r = r.tensor if isinstance(r, Hom) else r
            flat.extend(r.factors if isinstance(r, Tensor) else (r,))
        return flat[0] if len(flat) == 1 else Tensor(tuple(flat))

    @cached_property
    def size(self) -> int:
        out = 1
        for f in self.factors:
            out *= f.size
        return out

    @cached_property
    def groups(self) -> tuple[Group | None, ...]:
        return tuple(dict.fromkeys(g for f in self.factors for g in f.groups))

    def __call__(self, group: Group) -> Rep:
        return Tensor.of(*[f(group) for f in self.factors])

    @property
    def T(self) -> Rep:
        return Tensor(tuple(f.T for f in self.factors))

    def _rho(self, env: Mapping[Group, Any]) -> Any:
        parts = [f._rho(env) for f in self.factors]
        return _one_or(ops.Kronecker, parts, lambda: ops.Identity(1, np.float64))

    def _drho(self, env: Mapping[Group, Any]) -> Any:
        parts = [f._drho(env) for f in self.factors]
        return _one_or(ops.KronSum, parts, lambda: ops.ScalarMul(0.0, 1))

    @cached_property
    def blocks(self) -> dict[Word, np.ndarray]:
        out: dict[Word, np.ndarray] = {(): np.zeros((1, 1), np.int64)}
        for f in self.factors:
            new: dict[Word, list[np.ndarray]] = {}
            for wa, ia in out.items():
                for wb, ib in f.blocks.items():
                    index = ia[:, None, :, None] * f.size + ib[None, :, None, :]
                    new.setdefault(wa + wb, []).append(index.reshape(len(ia) * len(ib), -1))
            out = {w: np.concatenate(parts) for w, parts in new.items()}
        return out

    def __repr__(self) -> str:
        p = sum(f == Base() for f in self.factors)
        q = sum(f == Base(dual=True) for f in self.factors)
        if self == T(p, q):
            return "Scalar" if p + q == 0 else f"T({p},{q})" if q else f"T({p})"
        out, i = [], 0
        while i < len(self.factors):
            j = i
            while j < len(self.factors) and self.factors[j] == self.factors[i]:
                j += 1
            one = f"({self.factors[i]!r})" if isinstance(self.factors[i], Sum) else repr(self.factors[i])
            out.append(one if j == i + 1 else f"{one}**{j - i}")
            i = j
        return "*".join(out)


@dataclass(frozen=True, repr=False)
class Sum(Rep):
    """Direct sum of representations with multiplicities, in the order written."""

    parts: tuple[tuple[Rep, int], ...]

    @staticmethod
    def of(*parts: tuple[Rep, int]) -> Rep:
        flat: list[tuple[Rep, int]] = []
        for rep, times in parts:
            if not isinstance(rep, Rep):
                raise RepError(f"a direct sum is made of representations; got {type(rep).__name__}")
            if times < 1:
                raise RepError(f"a representation can be repeated 1 or more times, got {times}")
            for r, m in rep.parts if isinstance(rep, Sum) and times == 1 else ((rep, times),):
                if flat and flat[-1][0] == r:
                    flat[-1] = (r, flat[-1][1] + m)
                else:
                    flat.append((r, m))
        return flat[0][0] if len(flat) == 1 and flat[0][1] == 1 else Sum(tuple(flat))

    @cached_property
    def size(self) -> int:
        return sum(r.size * m for r, m in self.parts)

    @cached_property
    def groups(self) -> tuple[Group | None, ...]:
        return tuple(dict.fromkeys(g for r, _ in self.parts for g in r.groups))

    def __call__(self, group: Group) -> Rep:
        return Sum.of(*[(r(group), m) for r, m in self.parts])

    @property
    def T(self) -> Rep:
        return Sum.of(*[(r.T, m) for r, m in self.parts])

    def _rho(self, env: Mapping[Group, Any]) -> Any:
        return ops.BlockDiag(
            *[r._rho(env) for r, _ in self.parts], multiplicities=tuple(m for _, m in self.parts)
        )

    def _drho(self, env: Mapping[Group, Any]) -> Any:
        return ops.BlockDiag(
            *[r._drho(env) for r, _ in self.parts], multiplicities=tuple(m for _, m in self.parts)
        )

    @cached_property
    def blocks(self) -> dict[Word, np.ndarray]:
        out: dict[Word, list[np.ndarray]] = {}
        offset = 0
        for r, m in self.parts:
            starts = offset + r.size * np.arange(m)
            for w, index in r.blocks.items():
                out.setdefault(w, []).append(
                    (starts[:, None, None] + index[None]).reshape(m * len(index), -1)
                )
            offset += r.size * m
        return {w: np.concatenate(parts) for w, parts in out.items()}

    def __repr__(self) -> str:
        return " + ".join(
            repr(r) if m == 1 else f"{m}*({r!r})" if isinstance(r, Sum) else f"{m}*{r!r}"
            for r, m in self.parts
        )


@dataclass(frozen=True, repr=False)
class Hom(Rep):
    """Linear maps from source to target: the tensor product target * source.T, and the matrices' shape."""

    source: Rep
    target: Rep

    @cached_property
    def tensor(self) -> Rep:
        return Tensor.of(self.target, self.source.T)

    @property
    def map_shape(self) -> tuple[int, int]:
        """Shape of the matrices: (size of target, size of source)."""
        return self.target.size, self.source.size

    @cached_property
    def size(self) -> int:
        return self.target.size * self.source.size

    @cached_property
    def groups(self) -> tuple[Group | None, ...]:
        return self.tensor.groups

    def __call__(self, group: Group) -> Rep:
        return Hom(self.source(group), self.target(group))

    @property
    def T(self) -> Rep:
        return self.tensor.T

    def _rho(self, env: Mapping[Group, Any]) -> Any:
        return self.tensor._rho(env)

    def _drho(self, env: Mapping[Group, Any]) -> Any:
        return self.tensor._drho(env)

    @cached_property
    def blocks(self) -> dict[Word, np.ndarray]:
        return self.tensor.blocks

    def __repr__(self) -> str:
        return " >> ".join(
            f"({r!r})" if isinstance(r, Sum | Hom) else repr(r) for r in (self.source, self.target)
        )


def _one_or(kind: Any, parts: list[Any], empty: Any) -> Any:
    return empty() if not parts else parts[0] if len(parts) == 1 else kind(*parts)


V = Base()
Vector = V
Scalar = Tensor()


def T(p: int, q: int = 0) -> Rep:
    """Tensors with p upper and q lower indices: V^p tensor (V*)^q, of size d^(p+q)."""
    for k in (p, q):
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 0:
            raise RepError(f"T(p, q) needs integers >= 0, got T({p!r}, {q!r})")
    return Tensor.of(*[V] * int(p), *[Base(dual=True)] * int(q))


def canonical(word: Word, groups: tuple[Group, ...]) -> tuple[Word, tuple[int, ...]]:
    """Letters sorted by group and duality, and the axis order that does it: sorted[i] = word[order[i]]."""
    order = sorted(range(len(word)), key=lambda i: (groups.index(word[i].of), word[i].dual))  # type: ignore[arg-type]
    return tuple(word[i] for i in order), tuple(order)


def generators(group: Group) -> tuple[list[Any], list[Any]]:
    """(Lie-algebra basis, discrete generators) as arguments of drho and rho; for products one factor moves at
    a time.
    """
    if isinstance(group, MatrixGroup):
        from .algebra import lie_basis

        return list(lie_basis(group)), list(group.discrete)
    if isinstance(group, PermutationGroup):
        return [], list(group.generators)
    factors, lie, discrete = group.factors, [], []
    for i, f in enumerate(factors):
        still = [np.arange(h.d) if isinstance(h, PermutationGroup) else np.eye(h.d) for h in factors]
        a, h = generators(f)
        lie += [tuple(x if j == i else None for j in range(len(factors))) for x in a]
        discrete += [tuple(x if j == i else still[j] for j in range(len(factors))) for x in h]
    return lie, discrete
