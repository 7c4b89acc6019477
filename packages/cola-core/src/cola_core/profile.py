"""``Profile``: how fast a machine is, so that a ``Cost`` becomes seconds.

Built-in constants stand for one modest core; ``cola-core tune`` measures this machine and stores a small JSON
file in the user's configuration folder. It is read when the first estimate is made, never at import. A file
that cannot be read is one warning, and the built-in constants serve. ``COLA_PROFILE`` names another file, or
``default`` for the built-in constants.
"""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cost import Cost

__all__ = [
    "ACCELERATOR",
    "BUILT_IN",
    "Profile",
    "location",
    "profile",
    "read_profile",
    "remove_profile",
    "set_profile",
    "using_profile",
    "write_profile",
]

FORMAT, VERSION = "cola-core machine profile", 1
VARIABLE = "COLA_PROFILE"
DTYPES = ("float32", "float64", "complex64", "complex128")
LIBRARIES = ("numpy", "torch", "jax")
LARGEST = 1e6  # bytes; a file beyond it is not ours


@dataclass(frozen=True)
class Profile:
    """Speeds of one machine, single-threaded unless it was measured otherwise.

    product, factor, eigen: flops per second of matrix products, of factorisations (LU, Cholesky, QR) and
    triangular solves, and of eigen- and singular value decompositions, by dtype. bandwidth: bytes per second.
    call: seconds an array operation costs however small it is, by array library. step: the same for one
    column inside a factorisation. memory: bytes that ``Auto()`` may use for factors and bases. sync: seconds
    the host waits to read a value of the device. link: bytes per second between devices. source: where the
    numbers come from. measured: what they were measured on.
    """

    product: Mapping[str, float]
    factor: Mapping[str, float]
    eigen: Mapping[str, float]
    bandwidth: float
    call: Mapping[str, float]
    step: float
    memory: float = 2.0**32
    source: str = "built-in"
    sync: float = 0.0
    link: float = 1e10
    measured: Mapping[str, Any] = field(default_factory=dict)

    def seconds(self, cost: Cost, dtype: str = "float64", library: str = "numpy") -> float:
        """The larger of arithmetic and traffic, plus the fixed prices of calls and steps."""
        if dtype not in DTYPES:
            dtype = "float32"
        work = cost.flops / self.product[dtype]
        if cost.factor or cost.eigen:
            work += cost.factor / self.factor[dtype] + cost.eigen / self.eigen[dtype]
        traffic = cost.bytes / self.bandwidth
        fixed = cost.calls * self.call.get(library, self.call["numpy"]) + cost.steps * self.step
        if cost.syncs or cost.moved:
            fixed += cost.syncs * self.sync + cost.moved / self.link
        return (work if work > traffic else traffic) + fixed

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as in the file."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "product": dict(self.product),
            "factor": dict(self.factor),
            "eigen": dict(self.eigen),
            "bandwidth": self.bandwidth,
            "call": dict(self.call),
            "step": self.step,
            "memory": self.memory,
            "measured": dict(self.measured),
        }

    @classmethod
    def from_dict(cls, found: Any, source: str) -> Profile:
        """Raises ValueError with what is wrong: every number must be there, positive and finite."""
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError("it is not a machine profile")
        if found.get("version") != VERSION:
            raise ValueError(f"it has version {found.get('version')!r}, this program reads {VERSION}")

        def number(value: Any, name: str) -> float:
            good = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not good or not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} is {value!r}, not a positive number")
            return float(value)

        def table(name: str, keys: tuple[str, ...]) -> dict[str, float]:
            given = found.get(name)
            if not isinstance(given, dict):
                raise ValueError(f"{name} is {given!r}, not a table")
            return {key: number(given.get(key), f"{name}[{key}]") for key in keys}

        measured = found.get("measured", {})
        return cls(
            product=table("product", DTYPES),
            factor=table("factor", DTYPES),
            eigen=table("eigen", DTYPES),
            bandwidth=number(found.get("bandwidth"), "bandwidth"),
            call=table("call", LIBRARIES),
            step=number(found.get("step"), "step"),
            memory=number(found.get("memory"), "memory"),
            source=source,
            measured=measured if isinstance(measured, dict) else {},
        )


def _widths(double: float, single: float, double_complex: float, single_complex: float) -> dict[str, float]:
    return {
        "float64": double,
        "float32": single,
        "complex128": double_complex,
        "complex64": single_complex,
    }


# one core of a server CPU of a few years ago: the ratios are measured, the level is modest
BUILT_IN = Profile(
    product=_widths(4e10, 8e10, 1.1e10, 2.2e10),
    factor=_widths(1.8e10, 3.0e10, 7e9, 1.2e10),
    eigen=_widths(2.4e10, 2.4e10, 4.4e9, 4.4e9),
    bandwidth=1.4e10,
    call={"numpy": 2e-6, "torch": 5e-6, "jax": 8e-6},
    step=3e-7,
)

# a data-centre GPU, modestly: half of what its maker states for products, a fraction of it for
# factorisations, the price of launching a kernel for a call and of a round trip for a wait
ACCELERATOR = Profile(
    product=_widths(1.5e13, 3e13, 5e12, 1e13),
    factor=_widths(2e12, 5e12, 8e11, 2e12),
    eigen=_widths(3e11, 6e11, 1e11, 2e11),
    bandwidth=1.5e12,
    call={"numpy": 1e-5, "torch": 1e-5, "jax": 1e-5},
    step=1e-6,
    memory=2.0**34,
    source="built-in, accelerator",
    sync=3e-5,
    link=1e11,
)

_CURRENT: Profile | None = None


def profile(kind: str = "cpu") -> Profile:
    """The profile in use: the user's own where one was stored, else the built-in constants.

    kind: of the device, as ``cola_core.dispatch.device_kind`` names it; all but the CPU have the built-in
    constants of an accelerator.
    """
    global _CURRENT
    if kind != "cpu":
        return ACCELERATOR
    if _CURRENT is None:
        _CURRENT = _load()
    return _CURRENT


def set_profile(new: Profile | None) -> None:
    """Use another profile from here on; None reads the user's again when it is next needed."""
    global _CURRENT
    _CURRENT = new
    from .dispatch.registry import REGISTRY

    REGISTRY.generation += 1  # remembered choices rest on the old estimates


@contextmanager
def using_profile(new: Profile) -> Iterator[Profile]:
    """Within, estimates are made with this profile. For all threads: it is a property of the machine."""
    before = _CURRENT
    set_profile(new)
    try:
        yield new
    finally:
        set_profile(before)


def location() -> Path | None:
    """Where the user's profile is kept, or None where ``COLA_PROFILE=default`` switches it off."""
    named = os.environ.get(VARIABLE, "")
    if named:
        return None if named == "default" else Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("APPDATA", "")
        folder = Path(base) if base else Path.home() / "AppData" / "Roaming"
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Application Support"
    else:
        base = os.environ.get("XDG_CONFIG_HOME", "")  # relative paths are to be ignored, says the standard
        folder = Path(base) if os.path.isabs(base) else Path.home() / ".config"
    return folder / "cola-core" / "profile.json"


def _load() -> Profile:
    try:
        path = location()
        if path is None or not path.is_file():
            return BUILT_IN
        return read_profile(path)
    except (OSError, RuntimeError, ValueError) as error:
        warnings.warn(
            f"the machine profile cannot be used ({error}); the built-in constants serve. "
            "`cola-core tune` measures it anew, `cola-core tune --reset` removes it.",
            stacklevel=3,
        )
        return BUILT_IN


def read_profile(path: str | os.PathLike[str]) -> Profile:
    """The profile in a file; ValueError or OSError where it is none."""
    path = Path(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path}: it is too large to be a machine profile")
    try:
        return Profile.from_dict(json.loads(path.read_text(encoding="utf-8")), str(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def write_profile(new: Profile, path: str | os.PathLike[str]) -> Path:
    """Store a profile: the file appears complete or not at all."""
    from .io.atomic import atomic_path

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        temporary.write_text(json.dumps(new.as_dict(), indent=1) + "\n", encoding="utf-8")
    return target


def remove_profile(path: str | os.PathLike[str]) -> bool:
    """Remove a stored profile; False where there was none."""
    try:
        os.remove(path)
    except FileNotFoundError:
        return False
    return True
