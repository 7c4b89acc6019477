"""The package's cases for `cola_core.testing`: algorithms, kernel operators, values of the LAPACK family."""

from __future__ import annotations

from typing import Any

from cola_core.testing import Capabilities, Case, closed, only

from .kernels.conformance import kernel_cases
from .lapack.conformance import lapack_case
from .sharding.conformance import sharding_cases

__all__ = ["cases"]


def cases() -> list[Case]:
    """All of them."""
    half = Capabilities(
        backends=only(
            "torch", "jax", reason="NumPy has no half-precision products: single precision, case auto"
        ),
        complex=closed("complex numbers have no half precision: single precision, case auto"),
    )
    eager = Capabilities(
        backends=only(
            "numpy", "torch", reason="JAX: case auto, whose loop it shares and which takes long to compile"
        )
    )
    return [
        _mixed_cg("auto", Capabilities()),
        _mixed_cg("bfloat16", half),
        _mixed_cg("float16", half),
        _mixed_gmres("auto"),
        # one step with factors in the working precision, which come last, is a direct solve
        _mixed_gmres("lu", {"max_iters": 0}, eager, P="lu"),
        lapack_case(),
        *_device_krylov(),
        *kernel_cases(),
        *sharding_cases(),
    ]


def _device_krylov() -> list[Case]:
    """The device-resident methods, on the CPU, where the same steps run."""
    one_by_one = closed("operators one by one, not in batches")
    double = only("float64", reason="tolerances of double precision; complex numbers in the blocks' case")
    pairs = Capabilities(batch=one_by_one, dtypes=double)
    both = only("complex128", reason="tolerances of double precision; real numbers in the other cases")
    slq: dict[str, Any] = {"samples": 2, "max_samples": 2, "tol": 1e-8}

    def case(name: str, cls: str, question: str, problem: str, condition: float, **more: Any) -> Case:
        settings = more.pop("settings", {})

        def factory(backend: Any, dtype: str, seed: int) -> Any:
            from . import krylov

            return getattr(krylov, cls)(**settings)

        return Case(
            name=name,
            kind="algorithm",
            factory=factory,
            questions=(question,),
            problem=problem,
            max_condition=condition,
            **more,
        )

    return [
        case("device-cg", "DeviceCG", "solve", "psd", 1e4),
        case("device-lanczos", "DeviceLanczos", "eigsh", "selfadjoint", 1e4, capabilities=pairs),
        case(
            "device-block-lanczos",
            "DeviceBlockLanczos",
            "eigsh",
            "selfadjoint",
            1e4,
            capabilities=Capabilities(batch=one_by_one, dtypes=both),
            settings={"block": 2, "check_every": 4},
        ),
        case(
            "device-lobpcg",
            "DeviceLOBPCG",
            "eigsh",
            "selfadjoint",
            1e4,
            capabilities=pairs,
            settings={"tol": 1e-11, "check_every": 8},
        ),
        case(
            "device-slq",
            "DeviceSLQ",
            "slogdet",
            "psd",
            1e2,
            capabilities=pairs,
            starve=slq,
            estimate=True,
        ),
    ]


def _mixed_cg(precision: str, capabilities: Capabilities) -> Case:
    def factory(backend: Any, dtype: str, seed: int) -> Any:
        from .cg import MixedPrecisionCG

        return MixedPrecisionCG(precision=precision, max_iters=4000)

    return Case(
        name=f"mixed-cg-{precision}",
        kind="algorithm",
        factory=factory,
        questions=("solve",),
        problem="psd",
        max_condition=1e4,
        capabilities=capabilities,
    )


def _mixed_gmres(
    label: str,
    starve: dict[str, Any] | None = None,
    capabilities: Capabilities | None = None,
    **settings: Any,
) -> Case:
    def factory(backend: Any, dtype: str, seed: int) -> Any:
        from .gmres_ir import MixedPrecisionGMRES

        return MixedPrecisionGMRES(**settings)

    return Case(
        name=f"mixed-gmres-{label}",
        kind="algorithm",
        factory=factory,
        questions=("solve",),
        problem="general",
        max_condition=1e4,
        starve=starve or {},
        capabilities=capabilities or Capabilities(),
    )
