"""A mutant, and whether a check rejects it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from ..case import Case
from ..errors import ConformanceError
from ..precision import precision
from ..registry import Check
from ..run import installed

__all__ = ["Mutant", "registered", "rejects"]


@dataclass(frozen=True)
class Mutant:
    """A case that is wrong, and what must be in force while it is checked."""

    case: Case
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


@contextmanager
def registered(*rules: tuple[Any, tuple[type, ...], Callable[..., Any]], cost: Any = None) -> Iterator[None]:
    """Within the block these rules (question, types, function) exist;
    afterwards the registry is as before."""
    from ...dispatch.registry import REGISTRY
    from ...plugins.manager import MANAGER
    from ...plugins.registrar import Registrar

    MANAGER.load("core", "always", explicit=True)
    saved = REGISTRY.rules, REGISTRY.algorithms, REGISTRY._tiers
    registrar = Registrar("mutant", "0")
    for i, (question, types, fn) in enumerate(rules):
        registrar.rule(question, types, id=f"{question.name}/mutant{i}", source="none", precedence=5)(fn)
    try:
        registrar.commit()
        yield
    finally:
        REGISTRY.rules, REGISTRY.algorithms, REGISTRY._tiers = saved


def rejects(check: Check, mutant: Mutant) -> str | None:
    """The message with which the check rejects the mutant; None if it passes;
    MissingBackend if it cannot run here."""
    from ...backends import get_backend
    from ..errors import MissingBackend

    case = mutant.case
    plain = case.kind in ("domain", "plugin") and check.backends is None
    names = check.backends or case.capabilities.backends.names
    here = [""] if plain else [b for b in names if installed(b) and b in case.capabilities.backends.names][:1]
    if not here:
        raise MissingBackend(f"none of {', '.join(names)} is installed")
    name = here[0]
    dtypes = [""] if plain else list(check.select(case.capabilities.all_dtypes, ""))
    with mutant.around():
        for dtype in dtypes:
            try:
                with precision(name, dtype), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    check.fn(case, get_backend(name) if name else None, dtype, case.seed)
            except ConformanceError as error:
                return str(error)
    return None
