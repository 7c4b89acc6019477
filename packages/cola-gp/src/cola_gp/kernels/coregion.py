r"""Covariance between tasks: ``B B^T + diag(v)`` indexed by a column of task numbers.

Times a kernel of the inputs it is the intrinsic coregionalisation model (Bonilla, Chai & Williams 2008,
Multi-task Gaussian process prediction, eq. 1; Alvarez, Rosasco & Lawrence 2012, section 4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core.backends import backend_of
from cola_core.errors import ShapeError

from .._struct import set_fields, struct
from ..arrays import backend_for
from ..labels import label_numbers, one_hot
from .base import Array, Kernel, Pullback, follow, pair, points, positive, xp_of


@struct
class Coregion(Kernel):
    """``(B B^T + diag(v))[i, j]`` for points that are task numbers ``0, 1, ..., tasks - 1``.

    The points are one column, ``(n, 1)``: in a table with the task in column 3 write
    ``ActiveDims(Coregion(tasks), 3) * ActiveDims(RBF(), (0, 1, 2))``.  root: ``B (tasks, rank)``, of any
    sign; variance: ``v``, one per task, the part of a task it shares with no other.  Without ``root`` the
    columns of ``B`` start as cosines of different frequencies, because equal columns would stay equal in a
    fit.

    Raises ShapeError for more than one column and ValueError for numbers that are no tasks; where values
    cannot be looked at (in a compiled function), entries for such numbers are NaN.

    >>> import numpy as np, cola_gp as gp
    >>> tasks = gp.Coregion(root=[[1.0], [2.0]], variance=0.5)
    >>> tasks(np.array([[0.0], [1.0], [1.0]]))
    array([[1.5, 2. , 2. ],
           [2. , 4.5, 4.5],
           [2. , 4.5, 4.5]])
    """

    root: Array
    log_variance: Array

    def __init__(
        self,
        tasks: int | None = None,
        rank: int = 1,
        *,
        root: Any = None,
        variance: Any = 1.0,
        log_variance: Any = None,
    ):
        if root is None:
            if tasks is None or tasks < 1 or rank < 0:
                raise ValueError(f"Coregion needs tasks >= 1 and rank >= 0, not {tasks} and {rank}.")
            angles = np.pi * np.outer(np.arange(tasks) + 0.5, np.arange(rank)) / tasks
            root = np.cos(angles) / np.sqrt(max(rank, 1))
        elif backend_of(root) is None or backend_of(root).name == "numpy":  # type: ignore[union-attr]
            root = np.asarray(root, dtype=float)
        if root.ndim != 2 or (tasks is not None and root.shape[0] != tasks):
            raise ShapeError(f"root must be (tasks, rank), not {tuple(root.shape)}.")
        stored = positive("variance", variance, log_variance)
        if stored.ndim == 0:
            stored = _repeated(stored, root.shape[0])
        if stored.shape[0] != root.shape[0]:
            raise ShapeError(f"variance has {stored.shape[0]} values for {root.shape[0]} tasks.")
        set_fields(self, root=root, log_variance=stored)

    def label_dims(self, d: int) -> frozenset[int]:
        return frozenset({0})

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return int(self.root.shape[0])

    def covariance(self, like: Array | None = None) -> Array:
        """The matrix between tasks ``(tasks, tasks)``, of the library and dtype of ``like``."""
        like = self.root if like is None else like
        root, log_variance = follow(self.root, like), follow(self.log_variance, like)
        return backend_for(root).add_diagonal(root @ root.T, xp_of(root).exp(log_variance))

    def _numbers(self, X: Array) -> tuple[Array, Array | None]:
        """Task numbers ``(n,)`` as integers, and if values cannot be looked at which of them are tasks."""
        if points(X).shape[1] != 1:
            raise ShapeError(
                f"Coregion takes one column of task numbers, not points of shape {tuple(X.shape)}; "
                "choose the column with ActiveDims(Coregion(...), column)."
            )
        return label_numbers(X, 0, self.tasks, "Coregion")

    def evaluate(self, X1: Array, X2: Array | None = None) -> tuple[Array, Pullback]:
        xp, X1, X2 = pair(X1, X2)
        (rows, good1), (columns, good2) = self._numbers(X1), self._numbers(X2)
        value = self.covariance(X1)[rows, :][:, columns]
        if good1 is not None and good2 is not None:
            value = xp.where(good1[:, None] & good2[None, :], value, xp.nan)

        def pull(W: Array) -> tuple[Array, ...]:
            root, variance = follow(self.root, X1), xp.exp(follow(self.log_variance, X1))
            G = one_hot(rows, self.tasks, X1).T @ (W @ one_hot(columns, self.tasks, X1))
            return (G + G.T) @ root, variance * xp.linalg.diagonal(G)

        return value, pull

    def diag(self, X: Array) -> Array:
        numbers, good = self._numbers(X)
        xp = xp_of(X)
        root = follow(self.root, X)
        each = xp.sum(root * root, axis=1) + xp.exp(follow(self.log_variance, X))
        return each[numbers] if good is None else xp.where(good, each[numbers], xp.nan)

    def feature_count(self, d: int) -> int:
        return self.tasks + int(self.root.shape[1])

    def features(self, X: Array) -> tuple[Array, Pullback]:
        numbers, good = self._numbers(X)
        xp = xp_of(X)
        root, spread = follow(self.root, X), xp.exp(0.5 * follow(self.log_variance, X))
        member = one_hot(numbers, self.tasks, X)
        if good is not None:
            member = xp.where(good[:, None], member, xp.nan)
        rank = root.shape[1]

        def pull(G: Array) -> tuple[Array, ...]:
            H = member.T @ G
            return H[:, :rank], 0.5 * spread * xp.linalg.diagonal(H[:, rank:])

        return xp.concat([member @ root, member * spread], axis=1), pull


def _repeated(number: Array, count: int) -> Array:
    """A 0-d array repeated, in the library it came in."""
    return xp_of(number).stack([number] * count)
