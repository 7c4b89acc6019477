"""What an operator, algorithm or module claims to do. A claim withdrawn needs a reason.

``Capabilities()`` claims everything. Each field is open (claimed, therefore checked) or ``closed("reason")``
(reported with its reason, not checked). ``backends`` and ``dtypes`` are all or ``only(..., reason="...")``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["OPEN", "Capabilities", "Capability", "Selection", "closed", "only"]


@dataclass(frozen=True)
class Capability:
    """Open if ``reason`` is empty; otherwise closed for that reason."""

    reason: str = ""

    @property
    def is_open(self) -> bool:
        return not self.reason


OPEN = Capability()


def closed(reason: str) -> Capability:
    """A capability that is not claimed. The reason is shown with every result; an empty one is an error."""
    if not isinstance(reason, str) or not reason.strip():
        raise ValueError("a closed capability needs a reason")
    return Capability(reason.strip())


@dataclass(frozen=True)
class Selection:
    """Names that are supported; ``reason`` says why not all."""

    names: tuple[str, ...]
    reason: str = ""


def only(*names: str, reason: str) -> Selection:
    """Some of the backends or dtypes, with the reason why not all."""
    if not names:
        raise ValueError("only() needs at least one name")
    if not reason.strip():
        raise ValueError("a restricted capability needs a reason")
    return Selection(names, reason.strip())


@dataclass(frozen=True)
class Capabilities:
    """Claims of one case. Fields of other kinds of cases are ignored.

    Operators: backends, dtypes, complex (complex dtypes), adjoint, batch (batches of right-hand sides),
    matrix_free (no product forms the matrix), promotion (other dtypes on the right), jit, vmap, grad (first
    derivatives in the arrays and in the right-hand side, reverse and forward), grad2 (second ones),
    torch_compile, pickle, algebra, indexing, moving (``.to``), questions, fallback (a question without
    structural rules gives the same answer), explain (plans match runs).
    Algorithms: batch (batches of operators), multiple (several right-hand sides), zero (zero right-hand
    side), scale (unchanged by a change of units), singular (a singular operator is never a silent success),
    nonfinite (NaN is refused), starved (reports a missed tolerance), grad, grad2, jit, deterministic.
    Rules: grad, grad2.
    """

    backends: Selection = Selection(("numpy", "torch", "jax"))
    dtypes: Selection = Selection(("float64", "float32", "complex128"))
    complex: Capability = OPEN
    adjoint: Capability = OPEN
    batch: Capability = OPEN
    matrix_free: Capability = OPEN
    promotion: Capability = OPEN
    jit: Capability = OPEN
    vmap: Capability = OPEN
    grad: Capability = OPEN
    grad2: Capability = OPEN
    torch_compile: Capability = OPEN
    pickle: Capability = OPEN
    algebra: Capability = OPEN
    indexing: Capability = OPEN
    moving: Capability = OPEN
    questions: Capability = OPEN
    fallback: Capability = OPEN
    explain: Capability = OPEN
    multiple: Capability = OPEN
    zero: Capability = OPEN
    scale: Capability = OPEN
    singular: Capability = OPEN
    nonfinite: Capability = OPEN
    starved: Capability = OPEN
    deterministic: Capability = OPEN

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            expected = Selection if f.name in ("backends", "dtypes") else Capability
            if not isinstance(value, expected):
                how = "only(..., reason=...)" if expected is Selection else 'OPEN or closed("reason")'
                raise TypeError(f"Capabilities({f.name}={value!r}): write {how}")

    @property
    def all_dtypes(self) -> tuple[str, ...]:
        """The claimed dtypes, without complex ones if those are closed."""
        names = self.dtypes.names
        return names if self.complex.is_open else tuple(n for n in names if "complex" not in n)

    def why_closed(self, name: str) -> str:
        """The reason a capability is closed, or an empty string."""
        return "" if not name else getattr(self, name).reason
