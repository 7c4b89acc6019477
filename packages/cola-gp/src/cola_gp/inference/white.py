"""White noise inside a kernel, beside Gaussian noise of one variance: ``k + v I + s I`` is ``k + (v + s) I``.

Written as a term of the kernel it would hide the structure of ``k``, which no longer is a product over the
axes of a grid or of finite rank.  :func:`without_white` moves it into the noise, and brings derivatives back
to the parameters of the model as it was written: with ``t = v + s``, ``dL/dlog v = (v / t) dL/dlog t``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cola_core.dispatch import ask
from cola_core.operators import LinearOperator
from cola_core.plugins import RuleBook

from .._struct import leaves
from ..arrays import Array, backend_for
from ..covariance import CovarianceOperator
from ..kernels import Kernel, Scale, Sum, White
from ..kernels.base import follow
from ..noise import GaussianNoise
from .base import Conditioned, observed_like
from .questions import CONDITION, Problem

RULES = RuleBook()


def _is_white(kernel: Kernel) -> bool:
    while isinstance(kernel, Scale):
        kernel = kernel.kernel
    return isinstance(kernel, White)


def split_white(kernel: Kernel) -> tuple[Kernel | None, list[Kernel]]:
    """The kernel without its white terms (None if nothing else is left), and those terms."""
    if not isinstance(kernel, Sum):
        return (None, [kernel]) if _is_white(kernel) else (kernel, [])
    white = [term for term in kernel.terms if _is_white(term)]
    rest = [term for term in kernel.terms if not _is_white(term)]
    if not white or not rest:
        return (None, white) if white else (kernel, [])
    return (rest[0] if len(rest) == 1 else Sum(*rest)), white


def hides_white(model: Any) -> bool | str:
    """Whether white noise can be moved out of the kernel, or why not."""
    rest, white = split_white(model.kernel)
    if not white:
        return "the kernel has no white term"
    if rest is None:
        return "the kernel is nothing but white noise"
    if not isinstance(model.noise, GaussianNoise):
        return f"{type(model.noise).__name__} is not one common noise variance"
    return True


def without_white(model: Any, like: Array) -> tuple[Any, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """The same model of the observations with its white noise in the noise, and the map of that model's leaf
    gradients to those of ``model``.  like: an array of the library and dtype of the data."""
    rest, white = split_white(model.kernel)
    xp = backend_for(like).xp
    # a variance may be scaled, and every factor is stored by its logarithm
    logs = [sum(follow(leaf, like) for leaf in leaves(term)) for term in white]
    own = follow(model.noise.log_variance, like)
    largest = own
    for log in logs:
        largest = xp.maximum(largest, log)
    total = largest + xp.log(sum((xp.exp(log - largest) for log in logs), xp.exp(own - largest)))
    moved = type(model)(rest, model.mean, GaussianNoise(log_variance=total))

    def rejoin(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        feed = iter(gradients[: len(leaves(rest))])
        *between, of_total = gradients[len(leaves(rest)) :]
        out: list[Any] = []
        shares = iter([xp.exp(log - total) * of_total for log in logs])
        for term in model.kernel.terms:
            if _is_white(term):
                share = next(shares)
                out.extend(share for _ in leaves(term))
            else:
                out.extend(next(feed) for _ in leaves(term))
        return (*out, *between, xp.exp(own - total) * of_total)

    return moved, rejoin


def _applies(K: Any, noise: Any, problem: Problem, *, alg: Any) -> bool | str:
    if problem.pull is not None:
        return "the prior has been brought into its form"
    return hides_white(problem.model)


@RULES.rule(
    CONDITION,
    (CovarianceOperator, LinearOperator),
    id="condition/white",
    source="k + v I + s I = k + (v + s) I",
    when=_applies,
    precedence=1,
)
def condition_white(K: Any, noise: Any, problem: Problem, *, alg: Any) -> Any:
    """White noise of the kernel is moved into the noise, so that what is left shows its structure."""
    like = observed_like(problem.data)
    model, rejoin = without_white(problem.model, like)
    rest: Any = split_white(K.kernel)[0]  # not None, as the guard has seen
    operands = (CovarianceOperator(rest, K.X1), model.noise.operator(like, problem.data.X))
    found = ask(CONDITION, (*operands, Problem(model, problem.data)), alg)
    if isinstance(found, Conditioned):
        found.rejoin = rejoin
    return found
