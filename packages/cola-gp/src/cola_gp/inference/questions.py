"""The two questions of inference, answered by rules and algorithms on the covariance operator.

* :func:`represent` asks for the covariance of the latent function, a lazy
  :class:`~cola_gp.covariance.CovarianceOperator`, in the form that its structure allows: a Kronecker product
  for a grid, a low-rank product for a kernel of finite rank, a stored matrix, itself.  It is answered by
  rules whose guards look at the kernel and the inputs; among those that hold the cheapest is taken, where
  the cost is that of the inference that follows.
* :func:`condition` asks for a :class:`~cola_gp.inference.base.Conditioned`: one factorisation that serves
  likelihood, gradient and prediction.  It is answered by algorithms (:class:`Inference`) that say by the
  classes of the two operators, prior and noise, whether they apply.

Both are questions of the core's dispatch, so any plugin may add a rule or an algorithm, and ``explain`` shows
the plan with every refusal and its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from cola_core.algorithms import Algorithm, Auto
from cola_core.dispatch import Question, ask, explain
from cola_core.errors import NoRuleError, UnknownNameError
from cola_core.operators import LinearOperator
from cola_core.plugins import MANAGER, RuleBook

from ..covariance import CovarianceOperator
from ..data import Data
from ..model import check_problem
from .base import Conditioned, observed_like

RULES = RuleBook()


class Representation(NamedTuple):
    """A covariance in the form of its structure.

    operator: the same matrix, exactly or to the accuracy that the kernel itself states.  pull: maps the
    derivative of a number with respect to the operator (a *cotangent*, whose form belongs to the operator's
    class and is documented where that class is conditioned) to its derivatives with respect to the kernel's
    leaves, in leaf order.  bound: whether the likelihood that follows is not that of the operator but a bound
    of the exact one (inducing points), so that only :func:`condition` knows it.
    """

    operator: LinearOperator
    pull: Callable[[Any], tuple[Any, ...]]
    bound: bool = False


@dataclass(frozen=True, eq=False)
class Problem:
    """What an answer to :func:`condition` needs beside the two operators.

    model, data: what is conditioned on what; data is None where a covariance alone is asked for.  pull: see
    :class:`Representation`; None before the prior has been represented.
    """

    model: Any
    data: Any
    pull: Any = None

    def static_facts(self) -> tuple[Any, ...]:
        """What a choice of an algorithm rests on: remembered, as the arrays that ``pull`` holds are not."""
        return (Problem, self.model, self.data)


@dataclass(frozen=True)
class Inference(Algorithm):
    """Base of the algorithms that answer :func:`condition`.

    prior: the class of prior operators it is for.  represents: the id of the rule that brings a covariance
    into that form, which is pinned where the algorithm is asked for by name.  gaussian: whether it is for
    Gaussian noise or for other likelihoods.  Subclasses define
    ``condition(prior, noise, problem)``, ``cost``, and ``refuses`` for further conditions.
    """

    prior: ClassVar[type] = LinearOperator
    gaussian: ClassVar[bool] = True
    represents: ClassVar[str] = ""

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if not isinstance(A, self.prior):
            return f"the prior is a {type(A).__name__}, not a {self.prior.__name__}"
        noise = operands[1].model.noise
        if noise.gaussian is not self.gaussian:
            return f"{type(noise).__name__} is {'' if noise.gaussian else 'not '}Gaussian"
        return self.refuses(A, *operands) or True

    def condition(self, prior: Any, noise: Any, problem: Problem) -> Conditioned:
        """The prior ``(n, n)`` plus noise, factorised once for likelihood, gradient and prediction.

        prior, noise: operators; problem: model and data, with ``pull`` of the prior's representation.
        """
        raise NotImplementedError(f"{type(self).__name__}.condition")

    def refuses(self, prior: Any, noise: Any, problem: Problem) -> str:
        """Why it cannot be used for a prior of the right class; empty if it can."""
        return ""


def memory_budget(alg: Any) -> float:
    """Bytes that may be held: those of ``Auto(memory=...)``, else the core's default."""
    return (alg if isinstance(alg, Auto) else Auto()).memory_budget


def as_inference(alg: Any) -> Any:
    """How to do inference: ``Auto()``, an :class:`Inference`, its class, or its name such as "dense"."""
    if isinstance(alg, Algorithm):
        return alg
    if isinstance(alg, type) and issubclass(alg, Algorithm):
        return alg()
    if alg == "auto":
        return Auto()
    if not isinstance(alg, str):
        raise UnknownNameError(
            f"alg={alg!r} is no way of inference: pass an object such as DenseInference(), or a name such as "
            "'dense'."
        )
    MANAGER.load("gp", "always", explicit=True)  # names are known once the plugin has registered them
    return MANAGER.algorithm(CONDITION.name, alg)()


def form_of(alg: Any) -> Any:
    """How to choose the form of the prior for an answer by ``alg``: the one an :class:`Inference` is for."""
    if isinstance(alg, Auto):
        return alg
    form = getattr(alg, "represents", "")
    return Auto(rules=(form,) if form else ())


def _represented(A: Any, problem: Any) -> Any:
    return Representation(A, lambda cotangent: ())


def _conditioned(prior: Any, noise: Any, problem: Any) -> Any:
    return Conditioned()


REPRESENT = Question(
    "represent",
    abstract=_represented,
    doc="the form that the structure allows",
    home="cola_gp",
    prospective=True,
)
CONDITION = Question(
    "condition", abstract=_conditioned, operators=2, doc="a Gaussian process given data", home="cola_gp"
)


def represent(K: CovarianceOperator, problem: Problem | None = None, alg: Any = Auto()) -> Representation:
    """The symmetric covariance ``K (n, n)`` in the form that its structure allows.

    problem: what the form is wanted for; a rule may look at the noise and at which values are missing, and
    stand back where its form would not serve.

    >>> import numpy as np, cola_gp as gp
    >>> grid = gp.Grid(np.linspace(0, 1, 4), np.linspace(0, 1, 3))
    >>> type(gp.represent(gp.CovarianceOperator(gp.RBF(), grid)).operator).__name__
    'Kronecker'
    """
    return REPRESENT.run(K, problem, alg=alg)  # type: ignore[no-any-return]


def condition(model: Any, data: Data, alg: Any = Auto(), *, on_failure: str = "warn") -> Conditioned:
    """``model`` given ``data``: factorised once for likelihood, gradient and prediction.

    alg: ``Auto()``, where ``Auto(memory=...)`` is the budget in bytes, or an :class:`Inference` such as
    ``DenseInference()`` or its name, "dense", which then also decides the form of the prior.  on_failure:
    what an answer that did not converge does beside saying so in ``info``: "warn", "raise" a
    ConvergenceError, or "ignore".  Raises NotPositiveDefiniteError where the covariance is not one,
    NoRuleError where the algorithm asked for does not apply.
    """
    check_problem(model, data)
    K = CovarianceOperator(model.kernel, data.X)
    alg = as_inference(alg)
    noise = model.noise.operator(observed_like(data), data.X)
    return CONDITION.run(  # type: ignore[no-any-return]
        K, noise, Problem(model, data), alg=alg, on_failure=on_failure
    )


represent.question = REPRESENT  # type: ignore[attr-defined]
condition.question = CONDITION  # type: ignore[attr-defined]


def _not_yet(K: Any, noise: Any, problem: Problem, *, alg: Any) -> bool | str:
    return True if problem.pull is None else "the prior has been brought into its form"


def insist(alg: Any, K: Any, operands: tuple[Any, Any, Problem]) -> None:
    """Raise NoRuleError where ``alg``, asked for by name, is not for the prior, noise and problem; it would
    be run on whatever form of the covariance ``K`` was found.
    """
    if not isinstance(alg, Inference):
        return
    answer = alg.applicable(CONDITION.name, *operands)
    if answer is True:
        return
    problem = Problem(operands[2].model, operands[2].data)
    plan = explain(REPRESENT, K, problem, alg=form_of(alg), candidates=True)
    why = "".join(f" ({reason})" for name, reason, _ in plan.root.rejected if name == alg.represents)
    raise NoRuleError(
        f"{type(alg).__name__} does not apply to {problem.model.kernel!r} at {K.shape[0]} points: "
        f"{answer}{why}. Leave the choice open (alg='auto'); cola_gp.explain(model, data) says what applies."
    )


@RULES.rule(
    CONDITION,
    (CovarianceOperator, LinearOperator),
    id="condition/represent",
    source="the posterior depends on the covariance and not on how it is written",
    when=_not_yet,
)
def condition_represent(K: Any, noise: Any, problem: Problem, *, alg: Any) -> Any:
    """The prior in the form its structure allows, then the algorithm for that form."""
    found = ask(REPRESENT, (K, problem), form_of(alg))
    operands = (found.operator, noise, Problem(problem.model, problem.data, found.pull))
    insist(alg, K, operands)
    return ask(CONDITION, operands, alg)
