"""The package's cases for `cola_core.testing`: mixed-precision CG and GMRES, values of the LAPACK family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.testing import Capabilities, Case, closed, data, only

from .kernels.conformance import kernel_cases

__all__ = ["cases"]


def cases() -> list[Case]:
    """The algorithm in single and half precision, then the domain module."""
    half = Capabilities(
        backends=only(
            "torch", "jax", reason="NumPy has no half-precision products: single precision, case auto"
        ),
        complex=closed("complex numbers have no half precision: single precision, case auto"),
    )
    return [
        _mixed_cg("auto", Capabilities()),
        _mixed_cg("bfloat16", half),
        _mixed_cg("float16", half),
        _mixed_gmres("auto"),
        # one step with factors in the working precision, which come last, is a direct solve
        _mixed_gmres("lu", {"max_iters": 0}, P="lu"),
        _lapack(),
        *_device_krylov(),
        *kernel_cases(),
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


def _mixed_gmres(label: str, starve: dict[str, Any] | None = None, **settings: Any) -> Case:
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
    )


def _lapack() -> Case:
    return Case(
        name="lapack",
        kind="domain",
        module="cola_gpu.lapack",
        values={
            "lq-is-transposed-qr": _lq,
            "lq-adjoint": _adjoint("gelqf"),
            "cholesky-adjoint": _adjoint("potrf"),
            "eigen-adjoint": _adjoint("syevd"),
            "projector-through-a-tie": _tie,
        },
        capabilities=Capabilities(complex=closed("the family is real, as in its source")),
    )


def _lq(backend: Any) -> tuple[Any, Any]:
    from .lapack import gelqf

    A = data.normal(0, (3, 4, 7))
    R = np.linalg.qr(np.swapaxes(A, -1, -2))[1]
    R = R * np.sign(np.diagonal(R, axis1=-2, axis2=-1))[..., :, None]
    return gelqf(backend.asarray(A)).L, np.swapaxes(R, -1, -2)


def _adjoint(name: str) -> Callable[[Any], tuple[Any, Any, float]]:
    def value(backend: Any) -> tuple[Any, Any, float]:
        from . import lapack

        forward, backward = getattr(lapack, name), getattr(lapack, f"{name}_backward")
        A = data.normal(1, (3, 5)) if name == "gelqf" else data.psd(1, 4)
        direction = data.normal(2, A.shape)
        direction = direction if name == "gelqf" else direction + direction.T

        def outputs(M: np.ndarray) -> tuple[np.ndarray, ...]:
            out = forward(M)
            return tuple(out) if isinstance(out, tuple) else (out,)

        bars = [data.normal(3 + i, x.shape) for i, x in enumerate(outputs(A))]
        step = 1e-6
        pairs = zip(outputs(A + step * direction), outputs(A - step * direction), bars, strict=True)
        slope = sum(float(((up - down) * bar).sum()) for up, down, bar in pairs) / (2 * step)
        arguments = [backend.asarray(x) for x in (*outputs(A), *bars)]
        Abar = backward(*arguments)
        return backend.xp.sum(Abar * backend.asarray(direction)), np.asarray(slope), 1e-6

    return value


def _tie(backend: Any) -> tuple[Any, Any]:
    from .lapack import syevd, syevd_backward

    # P projects onto the eigenvectors of the double eigenvalue 1 of diag(1, 1, 3); dP in the direction D has
    # D_13 / (1 - 3) and D_23 / (1 - 3) between the third coordinate and the others, and zeros elsewhere
    A, C = np.diag([1.0, 1.0, 3.0]), np.arange(9.0).reshape(3, 3)
    U, lam = syevd(backend.asarray(A))
    bottom = backend.asarray(np.diag([1.0, 1.0, 0.0]))
    C = C + C.T
    Ubar = 2 * backend.xp.matmul(bottom, backend.xp.matmul(U, backend.asarray(C)))
    Abar = syevd_backward(U, lam, Ubar, backend.xp.zeros_like(lam))
    expected = np.zeros((3, 3))
    expected[:2, 2] = expected[2, :2] = C[:2, 2] / (1.0 - 3.0)
    return Abar, expected
