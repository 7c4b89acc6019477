"""Derivatives held against differences of an independent reference: every mode, real and complex.

    check_derivatives("torch", loss, reference, arrays)  # raises ConformanceError if one is wrong
    outcomes("jax", loss, reference, arrays)  # {mode: "right", "refused: ..." or "wrong: ..."}

``loss(list of the framework's arrays)`` is a real scalar of that framework, ``reference(list of NumPy
arrays in double precision)`` the same number, computed without it. Modes: "reverse", "forward",
"reverse-reverse" (a graph of the gradient), "forward-reverse" (as ``jax.hessian``) and "vmap" (value and
gradient of a batch).
Directions are random, complex ones for complex arrays, so that conjugates count; both frameworks' Wirtinger
conventions are known here (``derivative_modes``).

A derivative is right or refused by name. NotImplementedError and ColaError leave ``check_derivatives`` as
themselves; NaN, zero, a wrong number, a wrong shape and any other error are ConformanceError.
"""

from __future__ import annotations

import linecache
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ColaError
from .compare import expect, host
from .derivative_modes import Loss, Modes, modes_of
from .differences import moved, slope, slopes, twist
from .errors import ConformanceError
from .precision import precision

__all__ = [
    "FIRST",
    "MODES",
    "SECOND",
    "Derivatives",
    "check_derivatives",
    "check_forward",
    "check_forward_reverse",
    "check_reverse",
    "check_reverse_reverse",
    "check_vmap",
    "demand",
    "is_refusal",
    "outcome",
    "outcomes",
]

FIRST = ("reverse", "forward")
SECOND = ("reverse-reverse", "forward-reverse")
MODES = (*FIRST, *SECOND, "vmap")

_RTOL = {"float64": (1e-6, 1e-5), "float32": (3e-3, 3e-2)}


@dataclass
class Derivatives:
    """One function whose derivatives are checked, and what they should be (computed once, when needed).

    backend: "torch" or "jax" (or a Backend). arrays: NumPy arrays; a single-precision one is given to the
    framework as it is and to the reference in double precision. directions: two lists like ``arrays`` along
    which it is differentiated (default: random ones of each array's size); give your own where arrays may
    only move together, e.g. a matrix declared self-adjoint. rtol, rtol2: relative errors allowed in first and
    second derivatives. size: of what the loss is made of, where it may itself
    cancel to nothing. jit: JAX compiles each derivative as a whole.
    """

    backend: Any
    loss: Loss
    reference: Callable[[list[Any]], Any]
    arrays: Sequence[Any]
    directions: Sequence[Sequence[Any]] | None = None
    seed: int = 0
    rtol: float | None = None
    rtol2: float | None = None
    size: float = 0.0
    jit: bool = False
    what: str = "the loss"
    _known: dict[str, Any] = field(default_factory=dict, repr=False)
    _precision: str = field(default="float64", init=False, repr=False)

    def __post_init__(self) -> None:
        self.backend = getattr(self.backend, "name", self.backend)
        self.arrays = [np.asarray(a) for a in self.arrays]
        expect(bool(self.arrays), "no arrays to differentiate in")
        single = all(a.dtype.name in ("float32", "complex64") for a in self.arrays)
        self._precision = "float32" if single else "float64"
        first, second = _RTOL[self._precision]
        self.rtol = first if self.rtol is None else self.rtol
        self.rtol2 = max(second, min(10 * self.rtol, 0.5)) if self.rtol2 is None else self.rtol2
        rng = np.random.default_rng(self.seed + 77)
        given = self.directions or [[_direction(rng, a) for a in self.arrays] for _ in range(2)]
        self.directions = [
            [np.asarray(d, a.dtype) for d, a in zip(e, self.arrays, strict=True)] for e in given
        ]

    # -- the framework's side
    @property
    def modes(self) -> Modes:
        return modes_of(self.backend, self.jit)

    def put(self, arrays: Sequence[Any]) -> list[Any]:
        """The framework's arrays."""
        from ..backends import get_backend

        return [get_backend(self.backend).asarray(np.array(a)) for a in arrays]

    def ask(self, what: str, call: Callable[[], Any]) -> Any:
        """The framework's answer; a refusal by name passes, any other error is a failure."""
        try:
            with precision(self.backend, self._precision), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return call()
        except Exception as error:
            if is_refusal(error):
                raise
            first = (str(error).strip().splitlines() or [""])[0]
            raise ConformanceError(f"{what} of {self.what} fails: {type(error).__name__}: {first}") from error

    # -- the reference's side
    def value(self, arrays: Sequence[Any]) -> float:
        """The reference as a float."""
        return float(np.real(self.reference(list(arrays))))

    @property
    def wide(self) -> list[Any]:
        return [_wide(a) for a in self.arrays]

    def slope(self, i: int, x: Sequence[Any] | None = None) -> tuple[float, float]:
        """The derivative along direction i, and its error."""
        if x is not None:
            return slope(self.value, x, [_wide(d) for d in self._along(i)])
        return self._once(
            f"slope{i}", lambda: slope(self.value, self.wide, [_wide(d) for d in self._along(i)])
        )

    def twist(self, i: int, j: int) -> tuple[float, float]:
        """The second derivative along directions i and j, and its error."""
        d, e = ([_wide(x) for x in self._along(k)] for k in (i, j))
        return self._once(f"twist{i}{j}", lambda: twist(self.value, self.wide, d, e))

    def _along(self, i: int) -> Sequence[Any]:
        assert self.directions is not None
        return self.directions[i]

    def _once(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def scale(self, order: int) -> float:
        """How large derivatives of this order are: what relative errors are relative to."""
        found = [self.slope(0), self.slope(1)] if order == 1 else [self.twist(0, 0), self.twist(0, 1)]
        size = abs(self._once("value", lambda: self.value(self.wide)))
        return max(*(abs(v) for v, _ in found), 1e-2 * size, 1e-3 * self.size, 1e-300)

    def compare(self, what: str, got: float, want: tuple[float, float], order: int = 1) -> None:
        """Fail unless a number equals the differences."""
        rtol = (self.rtol if order == 1 else self.rtol2) or 0.0
        bound = rtol * self.scale(order) + 4 * want[1]
        label = f"{what} of {self.what}"
        expect(
            want[1] <= max(1e-2, 3 * rtol) * self.scale(order),
            f"{label}: the reference is not smooth enough to say ({want[0]:.6g} give or take {want[1]:.2g})",
        )
        expect(math.isfinite(got), f"{label}: got {got}, expected {want[0]:.8g}")
        expect(
            abs(got - want[0]) <= bound,
            f"{label}: got {got:.8g}, expected {want[0]:.8g} "
            f"(off by {abs(got - want[0]):.3g}, allowed {bound:.3g})",
        )

    def gradient_of(self, what: str, arrays: Sequence[Any]) -> list[Any]:
        """A gradient as NumPy arrays, of the shapes and dtypes of the arrays it belongs to."""
        found = [host(_plain(g)) for g in arrays]
        expect(len(found) == len(self.arrays), f"{what} of {self.what}: {len(found)} arrays")
        for i, (g, a) in enumerate(zip(found, self.arrays, strict=True)):
            expect(
                g.shape == a.shape and g.dtype.kind == a.dtype.kind,
                f"{what} of {self.what}: array {i} has a gradient of shape {g.shape} and dtype {g.dtype}, "
                f"expected {a.shape} and {a.dtype}",
            )
        return found


def _direction(rng: Any, a: Any) -> Any:
    """Random, of the size of the array."""
    d = rng.standard_normal(a.shape)
    if a.dtype.kind == "c":
        d = (d + 1j * rng.standard_normal(a.shape)) / np.sqrt(2)
    size = float(np.sqrt(np.mean(np.abs(a) ** 2))) if a.size else 1.0
    return (size or 1.0) * d


def _wide(a: Any) -> Any:
    return np.asarray(a, np.complex128 if np.asarray(a).dtype.kind == "c" else np.float64)


def _plain(g: Any) -> Any:
    """Torch: without a graph, and no lazy conjugate or zero."""
    return g.detach().resolve_conj().clone() if hasattr(g, "resolve_conj") else g


def check_value(f: Derivatives) -> None:
    """The loss is what the reference says."""
    got = f.ask("the value", lambda: f.loss(f.put(f.arrays)))
    got, want = host(_plain(got)), f._once("value", lambda: f.value(f.wide))
    expect(got.shape == (), f"{f.what} has shape {got.shape}, expected a scalar")
    expect(got.dtype.kind == "f", f"{f.what} has dtype {got.dtype}, expected a real scalar")
    bound = (f.rtol or 0.0) * max(abs(want), f.scale(1))
    expect(abs(float(got) - want) <= bound, f"{f.what}: got {float(got):.8g}, expected {want:.8g}")


def check_reverse(f: Derivatives) -> None:
    """Reverse mode: the gradient, along both directions; a failure says which array is wrong."""
    found = f.ask("the gradient", lambda: f.modes.gradient(f.loss, f.put(f.arrays)))
    g = f.gradient_of("the gradient", found)
    try:
        for i in range(2):
            f.compare("the gradient", f.modes.pair(g, f._along(i)), f.slope(i))
    except ConformanceError as error:
        if len(g) > 1:
            want = slopes(f.value, f.wide, [_wide(d) for d in f._along(0)])
            each = [f.modes.pair([x], [d]) for x, d in zip(g, f._along(0), strict=True)]
            each_other = enumerate(zip(each, want, strict=True))
            parts = "; ".join(f"array {i}: {x:.6g} for {w:.6g}" for i, (x, w) in each_other)
            raise ConformanceError(f"{error} [{parts}]") from error
        raise


def check_forward(f: Derivatives) -> None:
    """Forward mode: the directional derivative, and the value beside it."""
    _, got = f.ask("forward mode", lambda: f.modes.forward(f.loss, f.put(f.arrays), f.put(f._along(0))))
    f.compare("forward mode", float(host(_plain(got))), f.slope(0))


def check_reverse_reverse(f: Derivatives) -> None:
    """Second order by reverse mode twice."""
    what = "reverse over reverse"
    found = f.ask(what, lambda: f.modes.reverse_reverse(f.loss, f.put(f.arrays), f.put(f._along(0))))
    f.compare(what, f.modes.pair(f.gradient_of(what, found), f._along(1)), f.twist(0, 1), 2)


def check_forward_reverse(f: Derivatives) -> None:
    """Second order by forward over reverse mode."""
    what = "forward over reverse"
    found = f.ask(what, lambda: f.modes.forward_reverse(f.loss, f.put(f.arrays), f.put(f._along(0))))
    f.compare(what, f.modes.pair(f.gradient_of(what, found), f._along(1)), f.twist(0, 1), 2)


def check_vmap(f: Derivatives) -> None:
    """``vmap`` of value and gradient over two sets of arrays gives what each alone gives."""
    points = [list(f.arrays), moved(f.arrays, (0.02, f._along(1)))]
    points = [[np.asarray(x, a.dtype) for x, a in zip(p, f.arrays, strict=True)] for p in points]
    stacked = [np.stack(pair) for pair in zip(*points, strict=True)]
    values, gradients = f.ask("vmap", lambda: f.modes.vmapped(f.loss, f.put(stacked)))
    values = host(_plain(values))
    expect(values.shape == (2,), f"vmap of {f.what} has shape {values.shape}, expected (2,)")
    for i, point in enumerate(points):
        wide = [_wide(a) for a in point]
        want, bound = f.value(wide), (f.rtol or 0.0) * f.scale(1)
        expect(
            abs(values[i] - want) <= bound + (f.rtol or 0.0) * abs(want),
            f"vmap, value {i}: {values[i]}, expected {want}",
        )
        g = f.gradient_of("the gradient under vmap", [x[i] for x in gradients])
        f.compare(f"the gradient under vmap, element {i},", f.modes.pair(g, f._along(0)), f.slope(0, wide))


CHECKS: dict[str, Callable[[Derivatives], None]] = {
    "reverse": check_reverse,
    "forward": check_forward,
    "reverse-reverse": check_reverse_reverse,
    "forward-reverse": check_forward_reverse,
    "vmap": check_vmap,
}


def check_derivatives(
    backend: Any,
    loss: Loss,
    reference: Callable[[list[Any]], Any],
    arrays: Sequence[Any],
    modes: Iterable[str] = MODES,
    **options: Any,
) -> None:
    """The value and every mode asked for are right; see ``Derivatives`` for the options.

    Raises ConformanceError with what, got and wanted; a refusal by name (NotImplementedError, ColaError) is
    raised as itself.
    """
    f = Derivatives(backend, loss, reference, arrays, **options)
    check_value(f)
    for mode in modes:
        CHECKS[mode](f)


def demand(f: Derivatives, modes: Iterable[str]) -> None:
    """``check_derivatives`` of what must have one: a refusal is a failure, which says what to declare."""
    try:
        check_value(f)
        for mode in modes:
            CHECKS[mode](f)
    except ConformanceError:
        raise
    except Exception as error:
        if not is_refusal(error):
            raise
        raise ConformanceError(
            f"the derivative of {f.what} is refused ({type(error).__name__}: {error}); if that is intended, "
            'close the capability: Capabilities(grad=closed("reason")), or grad2 for second derivatives'
        ) from error


def is_refusal(error: BaseException) -> bool:
    """Whether an error says on purpose that something is not offered: a ColaError, or a NotImplementedError
    that a ``raise`` outside of torch and JAX made. Theirs name an internal function, and no remedy."""
    if not str(error).strip() or isinstance(error, ColaError):
        return isinstance(error, ColaError)
    if not isinstance(error, NotImplementedError):
        return False
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return True
    code = last.tb_frame.f_code
    line = linecache.getline(code.co_filename, last.tb_lineno).strip()
    library = str(last.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
    return line.startswith("raise") and library not in ("torch", "jax", "jaxlib", "functorch")


def outcome(f: Derivatives, mode: str) -> str:
    """ "right", "refused: ..." or "wrong: ..." of one mode."""
    try:
        CHECKS[mode](f)
    except ConformanceError as error:
        return f"wrong: {error}"
    except Exception as error:  # noqa: BLE001 - told apart here
        if not is_refusal(error):
            return f"wrong: {type(error).__name__}: {error}"
        return f"refused: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return "right"


def outcomes(
    backend: Any,
    loss: Loss,
    reference: Callable[[list[Any]], Any],
    arrays: Sequence[Any],
    modes: Iterable[str] = MODES,
    **options: Any,
) -> dict[str, str]:
    """The outcome of every mode; raises ConformanceError if the value itself is wrong."""
    f = Derivatives(backend, loss, reference, arrays, **options)
    check_value(f)
    return {mode: outcome(f, mode) for mode in modes}
