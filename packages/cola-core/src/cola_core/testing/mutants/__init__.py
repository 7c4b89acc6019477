"""Deliberately wrong operators, algorithms, rules, modules and plugins:
one for every check, which must reject it.

``MUTANTS[check id](folder)`` is a ``Mutant``; ``folder`` is an empty directory for those that need files.
"""

from __future__ import annotations

from .algorithms import ALGORITHMS
from .common import Mutant, rejects
from .operators import OPERATORS
from .plugins import PLUGINS
from .rules import RULES

__all__ = ["MUTANTS", "Mutant", "rejects"]

MUTANTS = {**OPERATORS, **ALGORITHMS, **RULES, **PLUGINS}
