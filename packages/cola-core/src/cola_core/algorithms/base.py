"""``Algorithm``: a leaf that computes numbers; and ``Auto``, the policy that picks one.

An algorithm is a frozen dataclass of settings with one method per question it answers, named after the
question (``solve(A, b)``, ``slogdet(A)``, ...). It reports an ``Info`` through ``dispatch.record`` when its
answer is iterative or stochastic. ``applicable`` says whether ``Auto`` may take it (or why not); ``cost``
estimates from static facts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from ..backends.base import dtype_name
from ..cost import Cost
from ..dispatch.session import array_library
from ..profile import profile
from .progress import Watch, watching

__all__ = [
    "Algorithm",
    "Auto",
    "Iterative",
    "default_tol",
    "factorises",
    "question_memory",
    "refuse_batches",
    "waits",
]


@dataclass(frozen=True)
class Algorithm:
    """Base of all algorithms. kind: "exact", "iterative" or "stochastic". doubt: how many times longer than
    estimated ``Auto`` takes it to be at most, where that is less than usual for its kind. gathers: what of an
    operator that is spread over devices each of them needs a copy of: "" (products only), "entries" (the
    dense matrix) or "data" (its arrays)."""

    kind: ClassVar[str] = "exact"
    doubt: ClassVar[float | None] = None
    gathers: ClassVar[str] = ""
    rules: ClassVar[tuple[str, ...]] = ()  # pinned rules; a setting of Auto only

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        """True if ``Auto`` may choose this here, else the reason why not. Static facts only."""
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        """Estimated cost of answering ``question``."""
        raise NotImplementedError(f"{type(self).__name__} must define cost()")

    def accuracy(self, question: str, A: Any, *operands: Any) -> float:
        """The relative accuracy that can be attained here: rounding for direct methods, the tolerance for
        iterative ones (of the residual), the wanted standard error for stochastic ones."""
        eps = machine_epsilon(A.dtype)
        if self.kind == "exact":
            return eps
        tol = getattr(self, "tol", None)
        if self.kind == "stochastic":
            return max(LEAST_STOCHASTIC, float(0.01 if tol is None else tol))
        return max(eps, default_tol(A.dtype) if tol is None else float(tol))

    def __call__(self, *operands: Any, **kwargs: Any) -> Any:
        name = type(self).__name__
        raise TypeError(
            f"{name}(...) is a setting, not a function: pass it to a question, as in "
            f"solve(A, b, alg={name}()), with return_info=True for what it did."
        )

    def describe(self) -> str:
        """Settings that differ from their defaults, for plans."""
        changed = []
        for f in fields(self):
            value = getattr(self, f.name)
            plain = isinstance(value, (bool, int, float, str, tuple))
            if value is None or value is f.default or (plain and value == f.default):
                continue
            changed.append(f"{f.name}={value!r}"[:60] if plain else f"{f.name}={type(value).__name__}")
        return ", ".join(changed)


@dataclass(frozen=True)
class Iterative(Algorithm):
    """Base of everything that makes steps until a tolerance is met.

    tol: the tolerance (default by dtype). max_iters: budget of steps. pbar, or ``progress``: show a
    progress bar (tqdm). callback: called as ``callback(step, error)`` after every step (every restart of
    eigensolvers and the like); an answer that is true ends the iteration. max_seconds: budget of time,
    looked at between steps; the time to compile (JAX) is not counted. A budget that is used up, or a
    callback that stops, leaves the answer found so far, with ``Info.converged`` False unless it meets the
    tolerance. All of it works in compiled loops (under ``jax.jit``, too), where each look costs a call to
    the host.
    """

    tol: float | None = None
    max_iters: int | None = None
    pbar: bool = False
    progress: bool = field(default=False, kw_only=True)
    callback: Callable[[int, float], Any] | None = field(default=None, kw_only=True)
    max_seconds: float | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "iterative"

    def tolerance(self, dtype: Any) -> float:
        """The tolerance given, else the default of the dtype."""
        return default_tol(dtype) if self.tol is None else float(self.tol)

    def watched(
        self: Any, title: str, total: int | None, be: Any = None, *arrays: Any
    ) -> AbstractContextManager[Watch | None]:
        """A ``Watch`` for one run, None where none of the settings wants one; ``observe`` tells it the steps.

        be, arrays: the backend and what the run starts from, which tell whether it is traced or compiled.
        """
        compiled = be is not None and be.name == "jax"
        traced = compiled and not be.is_concrete(*arrays)
        show = self.pbar or self.progress
        watching_wanted = show or self.callback is not None or self.max_seconds is not None
        if watching_wanted and be is not None and be.name == "torch" and not be.is_concrete():
            raise NotImplementedError(
                f"{type(self).__name__} cannot be watched inside of torch.compile: leave out progress, "
                "callback and max_seconds, or ask outside of the compiled function."
            )
        return watching(title, total, show, self.callback, self.max_seconds, compiled, traced)


# settings of Auto that belong to whatever it chooses
PASSED_ON = (
    *("tol", "max_iters", "key", "pbar", "x0", "P", "start_vector", "bs", "rand"),
    *("callback", "max_seconds"),
)
_DEFAULTS: dict[type, Any] = {}
LEAST_STOCHASTIC = 1e-3  # beyond it the number of probes grows past any use
RISK = {"exact": 1.0, "iterative": 3.0, "stochastic": 10.0}
PREFERENCES = ("exact", "speed", "memory")


@dataclass(frozen=True)
class Auto(Algorithm):
    """Choose by cost among the registered algorithms; the default everywhere.

    tol, max_iters, key, pbar, x0, P, start_vector, bs, rand, callback, max_seconds: passed to the chosen
    algorithm where it has such a setting; ``progress`` is another word for pbar. memory: budget in bytes
    for dense factors and bases (default 4 GiB, or half of the machine's memory once ``cola-core tune`` has
    looked). accuracy: the relative accuracy wanted; algorithms that cannot attain it are left out, and it is
    the tolerance of those that have one (unless tol says otherwise). prefer: "exact" (default) weighs
    iterative and stochastic candidates as riskier than their estimate; "speed" takes estimates at face
    value; "memory" takes the candidate that holds least. advice: let the
    ``cola_choose`` hooks of plugins overrule the estimates (plugins in name order, the first that answers).
    rules: ids of rules to prefer wherever their types and guards allow ("plugin:solve/name").
    """

    tol: float | None = None
    max_iters: int | None = None
    key: Any = None
    memory: float | None = None
    prefer: str = "exact"
    advice: bool = False
    rules: tuple[str, ...] = ()  # type: ignore[misc]
    pbar: bool | None = None
    x0: Any = None
    P: Any = None
    start_vector: Any = None
    bs: int | None = None
    rand: str | None = None
    callback: Callable[[int, float], Any] | None = field(default=None, kw_only=True)
    max_seconds: float | None = field(default=None, kw_only=True)
    progress: bool | None = field(default=None, kw_only=True)
    accuracy: float | None = field(default=None, kw_only=True)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.progress is not None and self.pbar is None:
            object.__setattr__(self, "pbar", self.progress)
        if self.prefer not in PREFERENCES:
            raise ValueError(f'Auto(prefer=...) is "exact", "speed" or "memory", not {self.prefer!r}')
        for name in ("accuracy", "memory"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Auto({name}=...) must be positive, not {value!r}")
        if isinstance(self.rules, str):
            object.__setattr__(self, "rules", (self.rules,))

    @property
    def memory_budget(self) -> float:
        """Bytes that may be held beside the operands."""
        return profile().memory if self.memory is None else float(self.memory)

    def configure(self, cls: type) -> Any:
        """An instance of an algorithm class with the settings given here."""
        given = {k: v for k in PASSED_ON if (v := getattr(self, k)) is not None}
        if self.accuracy is not None and self.tol is None:
            given["tol"] = float(self.accuracy)
        if not given:
            try:
                return _DEFAULTS[cls]  # settings are immutable: one instance serves every question
            except KeyError:
                return _DEFAULTS.setdefault(cls, cls())
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        return cls(**{k: v for k, v in given.items() if k in known})

    def risk(self, kind: str) -> float:
        """Factor on the estimated time:
        an unknown condition number can make an iteration much slower than hoped."""
        return 1.0 if self.prefer == "speed" else RISK.get(kind, 3.0)

    def weight(self, candidate: Any, cost: Cost, question: str, A: Any, *operands: Any) -> float:
        """The risk of a candidate. Where the entries are at hand, a product is as dear as it can be and a
        factorisation has all it needs: an iteration is then weighed by the steps it may take, one per row."""
        factor = self.risk(candidate.kind)
        if candidate.doubt is not None:
            factor = min(factor, candidate.doubt)
        if candidate.kind == "stochastic" and self.accuracy is not None:
            factor = min(factor, RISK["iterative"])  # an error of that size has been accepted
        if question in ("eigsh", "eigs", "svds"):
            factor = min(factor, 2.0)  # the ends of a spectrum converge first
        if question == "apply_unary" and getattr(operands[0], "kind", "") == "exp":
            factor = min(factor, 2.0)  # an entire function: faster than geometrically, whatever the condition
        if candidate.kind == "iterative" and factor > 1 and question in ("solve", "lstsq"):
            if cost.matvecs and not A.dense_cost.memory:
                factor = max(factor, min(A.shape[-2:]) / cost.matvecs)
        return factor

    def attains(self, candidate: Any, question: str, args: tuple[Any, ...]) -> bool:
        """Whether a candidate reaches the wanted accuracy."""
        return self.accuracy is None or candidate.accuracy(question, *args) <= 1.0000001 * self.accuracy

    def rank(self, candidate: Any) -> tuple[Any, ...]:
        """What candidates are sorted by: best first."""
        by_name = (candidate.name, candidate.plugin)
        if self.prefer == "memory":
            return (candidate.cost.memory, candidate.seconds, *by_name)
        return (candidate.seconds, *by_name)


def factorises(algorithm: Any) -> bool:
    """Whether an algorithm (or its class) has the method ``factor(A)``, whose result solves again; a setting
    of that name is none."""
    return callable(getattr(algorithm, "factor", None))


def refuse_batches(A: Any, algorithm: str, instead: str) -> None:
    """A clear error instead of the array library's own, for algorithms that take one matrix at a time."""
    if A.batch_shape:
        raise NotImplementedError(
            f"{algorithm} does not support batches of operators: {A!r} has batch shape {A.batch_shape}. "
            f"Use {instead}, or loop over the batch."
        )


def default_tol(dtype: Any) -> float:
    """Default relative tolerance of iterative methods:
    1e-8 in double, 1e-5 in single, 1e-2 in half precision."""
    return {"float64": 1e-8, "complex128": 1e-8, "float32": 1e-5, "complex64": 1e-5}.get(
        dtype_name(dtype), 1e-2
    )


def machine_epsilon(dtype: Any) -> float:
    """The unit roundoff times two of a dtype, by its name."""
    return {"float64": 2.2e-16, "complex128": 2.2e-16, "float32": 1.2e-7, "complex64": 1.2e-7}.get(
        dtype_name(dtype), 1e-3
    )


def typical_steps(n: int, tol: float | None = None, dtype: Any = "float64") -> float:
    """Steps of a Krylov solver with the condition number unknown: those of a Laplacian on a plane mesh of n
    points, ``2.5 sqrt(n)`` to 1e-8, in proportion to the digits asked for; at most n."""
    tol = default_tol(dtype) if tol is None else min(max(float(tol), 1e-16), 0.1)
    return min(float(n), (20.0 + 2.5 * n**0.5) * math.log10(tol) / -8.0)


def waits(A: Any, each: float) -> float:
    """How often the host waits for the device in one step (priced on accelerators only): ``each`` times where
    a loop of Python's looks at values, once where the loop is compiled (JAX), for its condition."""
    return 1.0 if array_library(A) == "jax" else each


def question_memory(A: Any, columns: int) -> float:
    """Bytes of ``columns`` vectors as long as A's longer side, over the batch."""
    batch = 1
    for s in A.batch_shape:
        batch *= s
    return float(A.itemsize * batch * max(A.shape[-2:]) * columns)
