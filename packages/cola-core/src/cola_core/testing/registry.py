"""The list of checks: stable ids, groups, and what each needs of a case.

A check is a pure function ``check(case, backend, dtype, seed) -> None`` that raises ``ConformanceError``.
Groups: required (every case), capability (unless the case closes the capability, with a reason), advisory
(reported, never fatal).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from ..plugins.info import PLUGIN_API

__all__ = ["CHECKS", "GROUPS", "Check", "all_checks", "check", "checks_of"]

GROUPS = ("required", "capability", "advisory")
CHECKS: dict[str, Check] = {}


@dataclass(frozen=True)
class Check:
    """One check. ``capability``: the field of ``Capabilities`` that can close it.

    backends: those it is about (None: the case's). dtypes: "all", "real" (the first real one), "double"
    (float64 only), "pair" (one real and one complex), "double-pair" (both in double precision).
    applies(case): a static reason to leave it out silently (False).
    """

    id: str
    kind: str
    group: str
    fn: Callable[..., None]
    capability: str = ""
    backends: tuple[str, ...] | None = None
    dtypes: str = "all"
    applies: Callable[[Any], bool] | None = None
    since: int = PLUGIN_API
    summary: str = ""

    def __call__(self, case: Any, backend: Any, dtype: str, seed: int = 0) -> None:
        self.fn(case, backend, dtype, seed)

    def select(self, dtypes: tuple[str, ...], backend: str = "", case: str = "") -> tuple[str, ...]:
        """Which of the case's dtypes this check runs with.

        Eager JAX compiles every operation for every shape and dtype: there "all" is "pair", and of a pair
        every other case takes the real dtype, the rest the complex one.
        """
        real = [d for d in dtypes if "complex" not in d]
        rich = [d for d in dtypes if "complex" in d]
        if self.dtypes == "double":
            return tuple(d for d in real if d == "float64")
        if self.dtypes == "double-pair":
            real = [d for d in real if d == "float64"]
            rich = [d for d in rich if d == "complex128"]
        if self.dtypes == "real":
            return tuple((real or rich)[:1])
        if backend != "jax":
            return tuple(dtypes) if self.dtypes == "all" else tuple(real[:1] + rich[:1])
        pair = tuple(real[:1] + rich[:1])
        if self.dtypes == "all" or len(pair) < 2:
            return pair
        turn = crc32(f"{self.id} {case}".encode()) % 2
        return pair[turn : turn + 1]


def check(
    id: str,
    kind: str,
    group: str = "required",
    *,
    capability: str = "",
    backends: tuple[str, ...] | None = None,
    dtypes: str = "all",
    applies: Callable[[Any], bool] | None = None,
    since: int = PLUGIN_API,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator: register ``fn(case, backend, dtype, seed)`` under a stable id."""
    if group not in GROUPS:
        raise ValueError(f"group is one of {GROUPS}, not {group!r}")
    if (group == "capability") != bool(capability):
        raise ValueError(f"check {id}: a capability check names its capability, others do not")

    def register(fn: Callable[..., None]) -> Callable[..., None]:
        if id in CHECKS:
            raise ValueError(f"check id {id!r} is taken")
        summary = (fn.__doc__ or "").strip().partition("\n")[0]
        CHECKS[id] = Check(id, kind, group, fn, capability, backends, dtypes, applies, since, summary)
        return fn

    return register


def all_checks() -> dict[str, Check]:
    """Every check by id."""
    from . import algorithm_checks, domain_checks, operator_checks, plugin_checks, rule_checks  # noqa: F401

    return CHECKS


def checks_of(kind: str) -> list[Check]:
    """The checks for one kind of case."""
    return [c for c in all_checks().values() if c.kind == kind]
