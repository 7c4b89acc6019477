"""How a question finds its answer: rules by type, guard, specificity, precedence and cost;
then algorithms by cost.

``Question`` is a generic function of linear algebra; ``Rule`` an identity that takes it apart on a
composition; ``Registry`` holds both and changes only through committed registrations; ``explain`` shows the
plan before it runs.
"""

from __future__ import annotations

from ..migration import callable_module
from .choose import Candidate, ask
from .explain import explain
from .gathering import gathering
from .placement import device_kind, shards
from .plan import Plan, PlanNode
from .question import Question, question_of, reporting
from .registry import REGISTRY, AlgorithmEntry, Registry
from .rule import Provenance, Rule
from .session import Session, array_library, infos, record, session

__all__ = [
    "REGISTRY",
    "AlgorithmEntry",
    "Candidate",
    "Plan",
    "PlanNode",
    "Provenance",
    "Question",
    "Registry",
    "Rule",
    "Session",
    "array_library",
    "ask",
    "device_kind",
    "explain",
    "gathering",
    "infos",
    "question_of",
    "reporting",
    "record",
    "session",
    "shards",
]

callable_module(__name__)
