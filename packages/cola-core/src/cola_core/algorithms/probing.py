"""Probing: trace and diagonal of an operator whose entries are large only near the diagonal of a graph.

Source: Tang & Saad, Numer. Linear Algebra Appl. 19 (2012) 485. Vertices of the graph are coloured so that
those within a distance differ; a product with the sum of one colour's unit vectors, with random signs, reads
off all their diagonal entries at once. What entries beyond the distance add has mean zero (Frommer, Schimmel
& Schweitzer, SIMAX 42 (2021) 1290), and its size is seen in the difference between signs, which is the
standard error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from ..backends.base import Array
from ..cost import Cost
from ..dispatch.session import record
from ..errors import ShapeError
from ..info import Info
from ..pytree import tree_leaves
from ..reasons import NONFINITE, REASONS, RUNNING
from .base import Iterative, question_memory
from .coloring import graph_colors, graph_of
from .exact import Exact
from .linear_estimate import Block, linear_estimate
from .sketch import look, next_key

__all__ = ["Probing"]

EXACT, FAR = -1, -2  # reasons of its own: by n products; the given distance or colours do not do


@dataclass(frozen=True)
class Probing(Iterative):
    """Trace and main diagonal of a sparse or banded operator, or of an inverse or another function of one.

    tol: standard error relative to the estimate (default 1e-3; norms for the diagonal). max_iters: products
    at most (default 4096). pbar: show progress. key: seed of the signs. distance: vertices this close in the
    graph have different colours; None starts at 1 and doubles it until tol is met. samples: draws of the
    signs for each colour (at least 2, whose difference gives the standard error; more where colours are few).
    colors: a colour (0, 1, ...) for each row, as a tuple, instead of those of the graph. bs: columns per
    product.

    The error falls as the entries of f(A) do with distance: exponentially for inverses of well-conditioned
    matrices. Exact for sparse matrices themselves, and by n products where the colours are too many.

    >>> import numpy as np, cola_core as cola
    >>> T = cola.ops.Tridiagonal(-np.ones(499), 4 * np.ones(500), -np.ones(499))
    >>> d, info = cola.diag(cola.inv(cola.no_dispatch(T)), 0, cola.Probing(tol=1e-8), return_info=True)
    >>> bool(np.allclose(d, np.diag(np.linalg.inv(T.to_dense())), atol=1e-8)), info.matvecs < 250
    (True, True)
    """

    tol: float = 1e-3
    max_iters: int = 4096
    key: Any = 0
    distance: int | None = None
    samples: int = 2
    colors: tuple[int, ...] | None = None
    bs: int = 128

    kind: ClassVar[str] = "stochastic"

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"Probing(samples={self.samples}): one draw of signs has no spread; give 2.")
        if self.colors is not None:
            object.__setattr__(self, "colors", tuple(int(c) for c in self.colors))

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not A.is_square:
            return "the operator is not square"
        if operands and operands[0] != 0:
            return "only the main diagonal"
        if self.colors is None and graph_of(A) is None:
            return "no sparse or banded matrix is behind the operator"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        products = float(min(n, self.max_iters, 32 * self.samples))
        work = A.matmat_cost(min(products, self.bs)) * max(products / self.bs, 1.0)
        colouring = Cost(40.0 * n * 32, 0, 0, 0, 50)  # on the host, in Python
        return Cost(
            work.flops + colouring.flops,
            work.bytes,
            question_memory(A, 4 * min(self.bs, max(n, 1))),
            products,
            work.calls + colouring.calls,
        )

    def trace(self, A: Any) -> Array:
        be = A._concrete_backend()
        return be.zeros(A.batch_shape, A.dtype, A.device) if A.shape[-1] == 0 else self._run(A, "trace")

    def diag(self, A: Any, k: int) -> Array:
        if k != 0:
            raise NotImplementedError(
                f"Probing answers the main diagonal, not k={k}; use XDiag(), Hutchinson() or Exact()."
            )
        be = A._concrete_backend()
        if A.shape[-1] == 0:
            return be.zeros((*A.batch_shape, 0), A.dtype, A.device)
        return self._run(A, "diag")

    def _coloring(self, A: Any, distance: int) -> Any:
        import numpy as np

        n = A.shape[-1]
        if self.colors is not None:
            found = np.asarray(self.colors)
            if found.shape != (n,) or found.min() < 0:
                raise ShapeError(f"Probing(colors=...) must be {n} numbers from 0, one for each row.")
            return np.unique(found, return_inverse=True)[1].reshape(-1)
        graph = graph_of(A)
        if graph is None:
            raise NotImplementedError(
                f"Probing of {A!r}: no sparse or banded matrix is behind it to take a graph from; give "
                "Probing(colors=...), or use XTrace() or XDiag()."
            )
        return graph_colors(graph, n, distance)

    def _run(self, A: Any, question: str) -> Array:
        be = A._concrete_backend()
        colorings: dict[int, Any] = {}

        def blocks(distance: int, stage: int, count: int, samples: int) -> Iterator[Block]:
            if not count:
                yield from map(partial(_summed, be, question), Exact(bs=self.bs).terms(A, 0))
                return
            for start, stop in self._chunks(count, samples):
                yield Block(
                    partial(self._signs, A, colorings[distance] % count, start, stop, samples, stage),
                    lambda Z, AZ: self._values(be, Z, AZ, samples, question)[1],
                    lambda Z, g: Z * (g[..., None, None] if question == "trace" else g[..., None]) / samples,
                )

        run = partial(self._sample, question=question, colorings=colorings)
        value, (met, code, made, error) = linear_estimate(be, A, run, blocks)
        error = be.constant(error)
        if not be.is_concrete(error):
            exact = isinstance(code, int) and code == EXACT
            self._tell(be, met, "exact" if exact else "see converged", made, error)
            return value
        met, code, made, error = bool(met), int(code), int(made), be.number(error)
        reason = REASONS.get(code, "product limit reached")
        reason = (
            "exact"
            if code == EXACT
            else "neighbours beyond the distance are too large"
            if code == FAR
            else reason
        )
        self._tell(be, met, "converged" if met and code != EXACT else reason, made, error)
        return value

    def _sample(self, A: Any, question: str, colorings: dict[int, Any]) -> Any:
        """Value; distance, stage, colours (0: the answer is exact) and draws of it; whether it meets the
        tolerance, why it ended, products made and standard error."""
        be = A._concrete_backend()
        xp = be.xp
        n = A.shape[-1]
        made = stage = 0
        distance = 1 if self.distance is None else max(int(self.distance), 0)
        found: Any = None
        with self.watched("Probing", self.max_iters, be, *tree_leaves(A)) as watch:
            while True:
                colors = colorings[distance] = self._coloring(A, distance)
                count = int(colors.max()) + 1
                draws = self._draws(count)
                if count * draws >= n and made + n <= self.max_iters:
                    exact = Exact(bs=self.bs)
                    value = exact.trace(A) if question == "trace" else exact.diag(A, 0)
                    zero = be.zeros((), be.real_dtype(A.dtype), A.device)
                    return value, (), (distance, stage, 0, 0), (True, EXACT, made + n, zero)
                limit = max((self.max_iters - made) // draws, 1)
                if count > limit:
                    if found is not None:
                        break
                    count = limit  # more neighbours share a probe: a larger variance
                found = self._probe(A, colors % count, count, draws, stage, question)
                numbers = distance, stage, count, draws
                made, stage = made + count * draws, stage + 1
                _, error, size = found
                met = xp.all(error <= self.tol * size)
                concrete = be.is_concrete(error)
                verdict = look(be, watch, made, error)
                fixed = self.distance is not None or self.colors is not None
                if not concrete or bool(met) or fixed or verdict != RUNNING or not be.all_finite(error):
                    break
                distance *= 2
        value, error, _ = found
        code = verdict
        if concrete and verdict == RUNNING:
            code = NONFINITE if not be.all_finite(error) else FAR if fixed else RUNNING
        return value, (), numbers, (met, code, made, xp.max(error))

    def _draws(self, count: int) -> int:
        """Draws of the signs for each of ``count`` colours: eight differences at least, or no spread is
        believed."""
        return max(self.samples, -(-8 // count) + 1)

    def _chunks(self, count: int, samples: int) -> Iterator[tuple[int, int]]:
        """First and last colour of the probes that are multiplied at once."""
        width = max(self.bs // samples, 1)
        return ((start, min(start + width, count)) for start in range(0, count, width))

    def _signs(self, A: Any, colors: Any, start: int, stop: int, samples: int, stage: int) -> Array:
        """Probes: draws of signs on the rows of each colour, all colours of one draw after the other."""
        be = A._concrete_backend()
        xp = be.xp
        color = be.asarray(colors, device=A.device)
        here = color[:, None] == xp.arange(start, stop, device=be.device(color))
        here = be.astype(here, A.dtype)
        draws = []
        for j in range(samples):
            key = next_key(be, self.key, (stage * samples + j) * 65_537 + start)
            draws.append(here * be.rademacher(key, (A.shape[-1], 1), A.dtype, A.device))
        return xp.concat(draws, axis=-1)  # type: ignore[no-any-return]

    def _values(self, be: Any, Z: Array, AZ: Array, samples: int, question: str) -> tuple[Array, Array]:
        """What each draw says, (..., samples, colours) sums for the trace and (..., n, samples) entries for
        the diagonal, and the means over draws, added up."""
        xp = be.xp
        products = be.conj(Z) * AZ
        products = xp.reshape(products, (*products.shape[:-1], samples, products.shape[-1] // samples))
        if question == "trace":
            values = xp.sum(products, axis=-3)
            return values, xp.sum(xp.mean(values, axis=-2), axis=-1)
        values = xp.sum(products, axis=-1)
        return values, xp.mean(values, axis=-1)

    def _probe(
        self, A: Any, colors: Any, count: int, samples: int, stage: int, question: str
    ) -> tuple[Array, Array, Array]:
        """Estimate, its standard error and size, from ``samples`` draws of signs for each colour."""
        be = A._concrete_backend()
        xp = be.xp
        total: Any = 0
        lost: Any = 0  # sum of squared deviations
        axis = -2 if question == "trace" else -1
        for start, stop in self._chunks(count, samples):
            Z = self._signs(A, colors, start, stop, samples, stage)
            values, part = self._values(be, Z, A @ Z, samples, question)
            off = values - xp.mean(values, axis=axis, keepdims=True)
            squares = xp.sum(xp.abs(off) ** 2, axis=axis) / (samples * (samples - 1))
            total = total + part
            lost = lost + xp.sum(squares, axis=-1)
        freedom = count * (samples - 1)
        lost = lost * (freedom / max(freedom - 2, 0.5))  # Student's t is wider than the normal
        size = xp.abs(total) if question == "trace" else xp.linalg.vector_norm(total, axis=-1)
        eps = float(xp.finfo(be.real_dtype(A.dtype)).eps)
        return total, xp.sqrt(lost + (8 * eps * size) ** 2), size

    def _tell(self, be: Any, met: Any, reason: str, made: int, error: Any) -> None:
        record(
            Info(
                method="Probing",
                converged=met,
                reason=reason,
                iterations=made,
                matvecs=made,
                tolerance=self.tol,
                standard_error=error,
            )
        )


def _summed(be: Any, question: str, block: Block) -> Block:
    """A block of a diagonal, or of its sum."""
    if question == "diag":
        return block

    def pull(V: Array, g: Array) -> Array:
        ones = be.xp.ones((*g.shape, V.shape[-2]), dtype=g.dtype, device=be.device(g))
        return block.pull(V, g[..., None] * ones)

    return Block(block.probes, lambda V, Y: be.xp.sum(block.value(V, Y), axis=-1), pull)
