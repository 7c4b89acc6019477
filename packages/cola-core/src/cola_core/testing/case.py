"""``Case``: one thing to check, how to make it, and what it should be.

operator   factory(backend, dtype, seed) -> LinearOperator;  reference(dtype, seed) -> numpy array, computed
without it algorithm  factory(backend, dtype, seed) -> Algorithm;       questions it answers, problem it is
for rule       factory(backend, dtype, seed) -> LinearOperator on which rule ``rule`` must answer; reference
as above domain     module name and values: name -> callable(backend) -> (got, want) or (got, want, relative
tolerance)

A factory takes a ``cola_core.backends.Backend`` (``backend.asarray(x)`` turns NumPy data into its arrays), a
dtype name and a seed. Factory and reference share numbers through ``cola_core.testing.data``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from .capabilities import Capabilities

__all__ = ["KINDS", "PROBLEMS", "Case"]

KINDS = ("operator", "algorithm", "rule", "domain", "plugin")
PROBLEMS = ("general", "selfadjoint", "psd")


@dataclass(frozen=True)
class Case:
    """See the module docstring.

    expected_failures: {check id: reason}; strict, so a check that passes all the same is a failure. A key
    may be narrowed: "id@torch", "id@torch-float32". tolerance: factor on every numeric tolerance. seed: of
    all data. Algorithms: problem is one of "general", "selfadjoint", "psd", or a callable (backend, dtype,
    seed, n, condition) -> (operator, numpy array); condition is infinite where a singular one is wanted.
    starve: settings with which the algorithm cannot reach its tolerance (default ``max_iters=1``).
    max_condition bounds the conditioning grid. accuracy: allowed relative error of an answer, if not derived
    from the dtype and the condition number. estimate: the derivatives of a stochastic answer are estimates of
    the exact ones, not the derivatives of the answer itself.
    """

    name: str
    kind: str = "operator"
    factory: Callable[..., Any] | None = None
    reference: Callable[[str, int], Any] | None = None
    capabilities: Capabilities = Capabilities()
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    questions: tuple[str, ...] = ()
    problem: Any = "general"
    max_condition: float = 1e8
    starve: Mapping[str, Any] = field(default_factory=dict)
    accuracy: float | None = None
    estimate: bool = False
    rule: str = ""
    module: str = ""
    values: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    tolerance: float = 1.0
    seed: int = 0
    subject: Any = None

    def __post_init__(self) -> None:
        def need(condition: Any, text: str) -> None:
            if not condition:
                raise ValueError(f"Case({self.name!r}, kind={self.kind!r}): {text}")

        need(self.name, "a case needs a name")
        need(self.kind in KINDS, f"kind is one of {', '.join(KINDS)}")
        if self.kind in ("operator", "algorithm", "rule"):
            need(callable(self.factory), "factory(backend, dtype, seed) is required")
        if self.kind in ("operator", "rule"):
            need(callable(self.reference), "reference(dtype, seed) -> numpy array is required")
        if self.kind == "algorithm":
            need(self.questions, "name the questions it answers: questions=('solve',)")
            need(
                callable(self.problem) or self.problem in PROBLEMS,
                f"problem is one of {PROBLEMS} or a callable",
            )
        if self.kind == "rule":
            need(self.rule, "name the rule: rule='plugin:question/name'")
        if self.kind == "domain":
            need(self.module, "name the module: module='package'")
        for check, reason in self.expected_failures.items():
            need(
                isinstance(reason, str) and reason.strip(), f"the expected failure of {check} needs a reason"
            )

    def build(self, backend: Any, dtype: str, seed: int | None = None) -> Any:
        """The operator or algorithm."""
        assert self.factory is not None
        return self.factory(backend, dtype, self.seed if seed is None else seed)

    def build_for(self, dtype: str) -> Callable[[Any, int], Any]:
        """``build`` as a function of backend and seed."""
        return lambda backend, seed: self.build(backend, dtype, seed)

    def dense(self, dtype: str, seed: int | None = None) -> Any:
        """The reference matrix as a NumPy array of the case's dtype."""
        import numpy as np

        assert self.reference is not None
        return np.asarray(self.reference(dtype, self.seed if seed is None else seed)).astype(dtype)

    def replace(self, **changes: Any) -> Case:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def sample(self) -> Any:
        """One instance on the first claimed backend that is installed, to see which checks apply."""
        names = self.capabilities.backends.names
        backend = next((name for name in names if find_spec(name) is not None), names[0])
        return _sample(self.factory, backend, self.capabilities.all_dtypes[0], self.seed)


@lru_cache(maxsize=512)
def _sample(factory: Any, backend: str, dtype: str, seed: int) -> Any:
    from ..backends import get_backend
    from .precision import precision

    with precision(backend, dtype):
        return factory(get_backend(backend), dtype, seed)
