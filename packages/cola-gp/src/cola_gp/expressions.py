"""Kernels, means and noise from text: ``"rbf + periodic(period=1) * rbf(lengthscale=90)"``.

Names, numbers, ``+``, ``*`` and keyword arguments only; the text is parsed and never evaluated.  Every
additive term of a kernel that has no variance of its own is given one, because an amplitude fixed at one is
seldom meant.  ``dims`` chooses input dimensions anywhere: ``matern32(dims=0) * rbf(dims=(1, 2))``.

=====================  ====================================================================================
kernel                 arguments beside ``dims`` and the parameters by their names
=====================  ====================================================================================
``polynomial``         ``degree``
``mixture``            ``components``: of a spectral mixture, at frequencies a fit starts from
``tasks``              ``count``, ``rank``: covariance between tasks; ``dims`` is the column of task numbers
``deep``               a kernel first, then ``hidden`` (layer sizes), ``images``, ``activation``, ``seed``
=====================  ====================================================================================

Means: ``zero``, ``constant``, ``linear``, ``tasks(count=3, dims=2)``, ``network(hidden=8)``, and sums of
them.  Noise: ``gaussian(variance=0.1)``, ``tasks(count=3, dims=2)``, and for a variance that changes with
the inputs ``linear`` (its logarithm is linear) and ``network(hidden=8)``; for observations that are not
Gaussian ``student(scale=0.1, df=4)``, ``bernoulli(link='probit')`` and ``poisson``.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.errors import UnknownNameError

from . import kernels
from .kernels import Kernel, Product, Scale, Sum
from .likelihoods import BernoulliLikelihood, PoissonLikelihood, StudentTLikelihood
from .maps import Affine, Network
from .means import ConstantMean, LinearMean, MapMean, Mean, TaskMean, ZeroMean
from .noise import GaussianNoise, HeteroscedasticNoise, Noise, TaskNoise

# -- kernels ---------------------------------------------------------------------------------------------


def _lengthscale(value: Any, d: int) -> Any:
    if value is not None:
        return value
    return 1.0 if d == 1 else np.full(d, np.sqrt(d))


def _scaled(cls: type) -> Callable[..., Kernel]:
    def make(d: int, lengthscale: Any = None, **options: Any) -> Kernel:
        return cls(lengthscale=_lengthscale(lengthscale, d), **options)

    names = [field[4:] for field in cls._child_fields]  # type: ignore[attr-defined]
    names += cls._static_fields  # type: ignore[attr-defined]
    make.__signature__ = _signature(*names)  # type: ignore[attr-defined]
    return make


def _plain(cls: type) -> Callable[..., Kernel]:
    def make(d: int, **options: Any) -> Kernel:
        return cls(**options)

    fields = (*cls._child_fields, *cls._static_fields)  # type: ignore[attr-defined]
    make.__signature__ = _signature(*(name.removeprefix("log_") for name in fields))  # type: ignore[attr-defined]
    return make


def _signature(*names: str) -> inspect.Signature:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature([inspect.Parameter(name, kind, default=None) for name in names])


def _mixture(d: int, *, components: int = 4) -> Kernel:
    """Frequencies spread over what data of unit variance may show; a fit or ``guess`` does better."""
    steps = np.arange(1, components + 1)[:, None] * np.ones(d)
    return kernels.SpectralMixture(
        np.full(components, 1.0 / components), 0.25 * steps, np.full_like(steps, 0.25)
    )


def _tasks(d: int, *, count: int = 2, rank: int = 1) -> Kernel:
    return kernels.Coregion(count, rank)


def _layers(hidden: Any) -> tuple[int, ...]:
    return (hidden,) if isinstance(hidden, int) else tuple(hidden)


def _deep(
    d: int, inner: Any, *, hidden: Any = 16, images: int = 2, activation: str = "tanh", seed: int = 0
) -> Kernel:
    network = Network.random((d, *_layers(hidden), images), seed=seed, activation=activation)
    return kernels.Deep(inner(images), network)


NAMES: dict[str, Callable[..., Kernel]] = {
    "rbf": _scaled(kernels.RBF),
    "matern12": _scaled(kernels.Matern12),
    "matern32": _scaled(kernels.Matern32),
    "matern52": _scaled(kernels.Matern52),
    "rq": _scaled(kernels.RationalQuadratic),
    "periodic": _scaled(kernels.Periodic),
    "cosine": _plain(kernels.Cosine),
    "mixture": _mixture,
    "linear": _plain(kernels.Linear),
    "polynomial": _plain(kernels.Polynomial),
    "constant": _plain(kernels.Constant),
    "white": _plain(kernels.White),
    "tasks": _tasks,
    "deep": _deep,
}
_OWN_VARIANCE = (
    kernels.Linear,
    kernels.Polynomial,
    kernels.Constant,
    kernels.White,
    kernels.SpectralMixture,
    kernels.Coregion,
    Scale,
)


def parse_kernel(text: str, d: int = 1) -> Kernel:
    """The kernel written in ``text`` for ``d`` dimensions.

    Lengthscales not given start at ``sqrt(d)``, one per dimension.  Raises UnknownNameError or ValueError.
    """
    kernel = _Reader(text, "kernel", NAMES, Kernel).read(d)
    terms = kernel.terms if isinstance(kernel, Sum) else (kernel,)
    scaled = [_with_variance(term) for term in terms]
    return scaled[0] if len(scaled) == 1 else Sum(*scaled)


def _with_variance(term: Kernel) -> Kernel:
    return term if _has_variance(term) else Scale(term, 1.0)


def _has_variance(term: Kernel) -> bool:
    if isinstance(term, kernels.ActiveDims):
        return _has_variance(term.kernel)
    if isinstance(term, Product):
        return any(_has_variance(factor) for factor in term.factors)
    return isinstance(term, _OWN_VARIANCE)


def has_values(text: str) -> bool:
    """Whether a kernel expression gives values to parameters; sizes, degrees and ``dims`` are none."""
    sizes = "dims|count|rank|degree|components|harmonics|hidden|images|seed"
    bare = re.sub(rf"\b({sizes})\s*=\s*(\([^)]*\)|\d+)|[a-z]\w*", "", text.lower())
    return re.search(r"\d", bare) is not None


# -- means and noise -------------------------------------------------------------------------------------


def _network(d: int, hidden: Any, seed: int) -> Network:
    return Network.random((d, *_layers(hidden), 1), seed=seed)


def _column(dims: Any) -> int:
    if not isinstance(dims, int) or isinstance(dims, bool):
        raise ValueError(f"dims must be the column of the task numbers, not {dims!r}.")
    return dims


MEANS: dict[str, Callable[..., Mean]] = {
    "zero": lambda d: ZeroMean(),
    "constant": lambda d, *, value=0.0: ConstantMean(value),
    "linear": lambda d, *, offset=0.0: LinearMean(np.zeros(d), offset),
    "tasks": lambda d, *, count=2, dims=0: TaskMean(count, _column(dims)),
    "network": lambda d, *, hidden=8, seed=0: MapMean(_network(d, hidden, seed)),
}
NOISES: dict[str, Callable[..., Noise]] = {
    "gaussian": lambda d, *, variance=0.1: GaussianNoise(variance),
    "tasks": lambda d, *, count=2, dims=0, variance=0.1: TaskNoise(np.full(count, variance), _column(dims)),
    "linear": lambda d, *, variance=0.1: HeteroscedasticNoise(Affine(np.zeros(d), np.log(variance))),
    "network": lambda d, *, hidden=8, variance=0.1, seed=0: HeteroscedasticNoise(
        _offset(_network(d, hidden, seed), np.log(variance))
    ),
    "student": lambda d, *, scale=0.1, df=4.0: StudentTLikelihood(scale, df),
    "bernoulli": lambda d, *, link="logit": BernoulliLikelihood(link),
    "poisson": lambda d: PoissonLikelihood(),
}


def _offset(network: Network, value: float) -> Network:
    *first, last = network.offsets
    return Network(network.weights, (*first, last + value), network.activation)


def parse_mean(text: str, d: int = 1) -> Mean:
    """The mean function written in ``text`` for ``d`` dimensions.  Raises UnknownNameError or ValueError."""
    return _Reader(text, "mean", MEANS, Mean).read(d)


def parse_noise(text: str, d: int = 1) -> Noise:
    """The noise written in ``text`` for ``d`` dimensions, or a number: the variance of Gaussian noise.

    Raises UnknownNameError or ValueError.
    """
    try:
        number = float(text)
    except ValueError:
        return _Reader(text, "noise", NOISES, Noise).read(d)
    return GaussianNoise(number)


# -- reading ---------------------------------------------------------------------------------------------


class _Reader:
    """Builds what a text says from a table of names; ``what`` is for the messages."""

    def __init__(self, text: str, what: str, names: dict[str, Callable[..., Any]], cls: type):
        self.text, self.what, self.names, self.cls = text, what, names, cls

    def read(self, d: int) -> Any:
        try:
            tree = ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError):
            example = "'rbf + linear' or '2 * rbf * periodic'" if self.what == "kernel" else "'linear'"
            raise ValueError(f"{self.text!r} is not a {self.what} expression such as {example}.") from None
        built = self.build(tree, d)
        if not isinstance(built, self.cls):
            raise ValueError(f"{self.text!r} is a number, not a {self.what}.")
        return built

    def build(self, node: ast.AST, d: int) -> Any:
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Mult)):
            return self._combine(node.op, self.build(node.left, d), self.build(node.right, d))
        number = node.value if isinstance(node, ast.Constant) else None
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return float(number)
        if isinstance(node, ast.Name):
            return self._make(node.id, [], {}, d)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            try:
                options = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
            except ValueError:
                raise ValueError(
                    f"in {self.text!r}: arguments must be numbers or tuples of numbers."
                ) from None
            if None in options or len(node.args) > (1 if node.func.id == "deep" else 0):
                raise ValueError(
                    f"in {self.text!r}: only {self.what} names with arguments written name=number are "
                    "understood."
                )
            return self._make(node.func.id, node.args, options, d)  # type: ignore[arg-type]
        raise ValueError(
            f"in {self.text!r}: only {self.what} names, numbers, +, * and name=number arguments are "
            "understood."
        )

    def _combine(self, op: ast.operator, left: Any, right: Any) -> Any:
        both = isinstance(left, self.cls) and isinstance(right, self.cls)
        try:
            if isinstance(op, ast.Mult):
                return left * right
            if both:
                return left + right
        except TypeError:
            pass
        if self.what == "kernel":
            raise ValueError(
                f"in {self.text!r}: a number can scale a kernel but not be added to one; use constant(...)."
            )
        raise ValueError(f"in {self.text!r}: this cannot be done with a {self.what}.")

    def _make(self, name: str, args: list[ast.expr], options: dict[str, Any], d: int) -> Any:
        if name not in self.names:
            raise UnknownNameError(f"unknown {self.what} {name!r}; known are {', '.join(self.names)}.")
        make = self.names[name]
        parameters = [p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY]
        allowed = [p.name for p in parameters]
        selects = self.what == "kernel"
        dims = options.pop("dims", None) if selects else None
        for option in options:
            if option not in allowed:
                known = ", ".join([*allowed, *(["dims"] if selects else [])]) or "none"
                raise UnknownNameError(f"{self.what} {name} has no parameter {option!r}; it has {known}.")
        width = d if dims is None else (1 if isinstance(dims, int) else len(dims))
        if name == "deep":
            if not args:
                raise ValueError(f"in {self.text!r}: deep needs a kernel, as in deep(rbf, hidden=16).")
            built = make(width, lambda q: self._inner(args[0], q), **options)
        else:
            built = make(width, **options)
        return built if dims is None else kernels.ActiveDims(built, dims)

    def _inner(self, node: ast.expr, d: int) -> Kernel:
        inner = self.build(node, d)
        if not isinstance(inner, Kernel):
            raise ValueError(f"in {self.text!r}: deep needs a kernel, not a number.")
        return inner
