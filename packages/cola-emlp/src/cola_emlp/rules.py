"""Rules of this package: a projector's eigenvalues are 0 and 1, so questions about it have exact answers.

`solve`, `logdet` and functions of `P + s I`, and eigenvectors of Kronecker products with projectors, follow
from the core's rules and the eigendecomposition given here.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cola_core import ops
from cola_core.errors import SingularMatrixError
from cola_core.linalg import APPLY_UNARY, EIGSH, diag, eigh, slogdet, solve, trace
from cola_core.properties import PSD, SelfAdjoint, Stiefel

from .ops import EquivariantProjector, OrbitProjector, orbit_frame, range_frame, row_norms_squared

HALMOS = "Halmos, Finite-Dimensional Vector Spaces, sections 41 and 75"
SCHREIBER = "Schreiber and Parlett, SIAM J. Numer. Anal. 25 (1988) 189"
HOUSEHOLDER = "Householder, J. ACM 5 (1958) 339"


def register(registrar: Any) -> None:
    """Register everything; called by the plugin hook."""
    for name, cls in (("orbit", OrbitProjector), ("equivariant", EquivariantProjector)):
        rules: tuple[tuple[Any, Any, Any], ...] = (
            (trace, trace_projector, None),
            (slogdet, slogdet_projector, None),
            (solve, solve_projector, None),
            (APPLY_UNARY, function_of_projector, None),
            (diag, diag_projector, main_diagonal),
            (EIGSH, range_of_projector, wants_range),
        )
        for question, rule, when in rules:
            label = getattr(question, "question", question).name
            registrar.rule(question, (cls,), id=f"{label}/{name}-projector", when=when, source=HALMOS)(rule)
    registrar.rule(eigh, (OrbitProjector,), id="eigh/orbit-projector", source=HOUSEHOLDER)(eigh_orbits)
    registrar.rule(
        eigh, (EquivariantProjector,), id="eigh/equivariant-projector", when=small_enough, source=SCHREIBER
    )(eigh_range)


def trace_projector(P: Any, *, alg: Any) -> Any:
    """The rank."""
    return P._concrete_backend().xp.ones((), dtype=P.dtype) * float(P.rank)


def slogdet_projector(P: Any, *, alg: Any) -> Any:
    """0 unless P is the identity."""
    be = P._concrete_backend()
    one = be.xp.ones((), dtype=P.dtype)
    zero = be.zeros((), be.real_dtype(P.dtype))
    return (one, zero) if P.rank == P.shape[-1] else (one * 0.0, zero - float("inf"))


def solve_projector(P: Any, b: Any, *, alg: Any) -> Any:
    """P x = b has one solution only if P is the identity."""
    if P.rank < P.shape[-1]:
        raise SingularMatrixError(
            f"solve({P!r}, b): a projector of rank {P.rank} < {P.shape[-1]} is singular. P @ b is the "
            "nearest vector of its range, and a least-squares solution."
        )
    return b


def function_of_projector(P: Any, f: Any, *, alg: Any) -> Any:
    """f(P) = f(0) (1 - P) + f(1) P. Where f(0) is infinite the answer does not exist."""
    be = P._concrete_backend()
    xp = be.xp
    values = xp.asarray(np.array([0.0, 1.0]), dtype=be.real_dtype(P.dtype))
    if P.rank == P.shape[-1]:  # the identity: f need not have a value at zero
        return ops.ScalarMul(f.on(be, values[1:])[0], P.shape[-1], declared=f.properties(P))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = f.on(be, values)
    if be.is_concrete(values) and not bool(xp.isfinite(values[0])):
        raise SingularMatrixError(
            f"{f.name}({P!r}): {f.name} is not finite at the eigenvalue 0 of a projector of rank {P.rank} < "
            f"{P.shape[-1]}. Shift it first: P + s * I."
        )
    n = P.shape[-1]
    out = ops.ScalarMul(values[0], n) + ops.ScalarMul(values[1] - values[0], n) @ P
    keep = f.properties(P) & {PSD, SelfAdjoint}
    return out.replace(declared=out.declared | keep) if keep else out


def main_diagonal(P: Any, k: int, *, alg: Any) -> bool | str:
    """Guard: only the main diagonal of a projector is known in closed form."""
    return True if k == 0 else f"closed form for the main diagonal only, not k={k}"


def diag_projector(P: Any, k: int, *, alg: Any) -> Any:
    """Squared norms of the rows of Q."""
    be = P._concrete_backend()
    return be.astype(row_norms_squared(P.Q), P.dtype)


def wants_range(P: Any, k: int, which: str, *, alg: Any) -> bool | str:
    """Guard: the wanted eigenvalues are all 1."""
    if which not in ("LA", "LM"):
        return f"which={which!r} asks for the null space"
    return True if k <= P.rank else f"k={k} exceeds the rank {P.rank}"


def range_of_projector(P: Any, k: int, which: str, *, alg: Any) -> Any:
    """Columns of Q, all of eigenvalue 1."""
    be = P._concrete_backend()
    w = be.xp.ones((k,), dtype=be.real_dtype(P.dtype))
    return w, ops.Sliced(P.Q, None, be.xp.arange(k), False, declared=frozenset({Stiefel}))


def eigh_orbits(P: OrbitProjector, *, alg: Any) -> Any:
    """One reflection per orbit diagonalises the projector. O(N log N)."""
    return orbit_frame(P)


def small_enough(P: Any, *, alg: Any) -> bool | str:
    """Guard: r columns of length N and an r x r factorisation are affordable; batches have no common rank."""
    n, r = P.shape[-1], P.rank
    if P.batch_shape:
        return "batches of projectors are not supported"
    need = 4.0 * n * r * P.itemsize
    return True if need <= 2.0**31 else f"needs {need / 2**30:.1f} GiB for the basis"


def eigh_range(P: EquivariantProjector, *, alg: Any) -> Any:
    """A block reflector extends the basis of the range to one of the whole space. O(N r^2)."""
    return range_frame(P)
