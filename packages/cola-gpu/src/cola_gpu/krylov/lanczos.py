"""``DeviceLanczos`` and ``DeviceBlockLanczos``: some eigenpairs, one look of the host a restart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from cola_core.algorithms import Lanczos
from cola_core.cost import Cost

from .restart import block_restart
from .settings import check_positive, launched, on_accelerator, resident

__all__ = ["DeviceBlockLanczos", "DeviceLanczos"]

Array = Any


@dataclass(frozen=True)
class DeviceLanczos(Lanczos):
    """k eigenpairs (n, k) of a self-adjoint A by thick-restart Lanczos without a wait in any step.

    tol, max_iters, key, start_vector, pbar, callback, max_seconds: as of ``Lanczos``, of whose ``eigsh`` this
    is a variant; whatever watches looks once a restart. basis: vectors kept (default
    ``max(2 k + 1, 30)``). check_every: steps between two restarts, each of which sends the projected matrix
    to the host; by default half of those beside the k wanted vectors, and where it is given the basis has
    ``k + 2 check_every``. A space not much larger than the basis is treated as the dense matrix it is.

    Steps orthogonalise in full and twice; in PyTorch on CUDA those between two restarts are one CUDA graph.
    A batch of operators is refused (NotImplementedError). Residuals are recomputed at exit.
    """

    check_every: int | None = field(default=None, kw_only=True)

    _method: ClassVar[str] = "DeviceLanczos"
    _iterate: ClassVar[Callable[..., Any]] = staticmethod(block_restart)

    def __post_init__(self) -> None:
        if self.check_every is not None:
            check_positive(f"{type(self).__name__}(check_every=...)", self.check_every)
            if self.basis is not None:
                raise ValueError(f"{type(self).__name__}: check_every fixes the basis; give one of the two")

    @property
    def _width(self) -> int:
        return 1

    def _static(self) -> dict[str, Any]:
        return {"width": self._width}

    def _size(self, k: int) -> int:
        """Vectors in the basis: after a restart half of those beside the k wanted ones are made anew."""
        if self.basis is not None:
            return int(self.basis)
        if self.check_every is not None:
            return k + 2 * max(int(self.check_every), self._width)
        return max(2 * k + 1, 30, k + 4 * self._width)

    def _steps(self, k: int) -> int:
        """Products between two restarts."""
        return max((self._size(k) - k) // 2, 1)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        return on_accelerator(A, lambda: Lanczos.applicable(self, question, A, *operands))

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        sized = (
            replace(self, basis=self._size(operands[0]), check_every=None) if question == "eigsh" else self
        )
        found = Lanczos.cost(sized, question, A, *operands)
        return resident(found, 3 * found.matvecs / self._steps(operands[0]) + 5)

    def eigsh(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        with launched():
            return Lanczos.eigsh(replace(self, basis=self._size(k), check_every=None), A, k, which)


@dataclass(frozen=True)
class DeviceBlockLanczos(DeviceLanczos):
    """The same with products of ``block`` vectors at once (default 4): fewer, wider products, and eigenvalues
    of multiplicity up to the width are found together. The width is one where whole blocks do not fit."""

    block: int = field(default=4, kw_only=True)

    _method: ClassVar[str] = "DeviceBlockLanczos"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("DeviceBlockLanczos(block=...)", self.block)

    @property
    def _width(self) -> int:
        return int(self.block)

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        found = DeviceLanczos.applicable(self, question, A, *operands)
        if found is True and 4 * self._size(operands[0]) > A.shape[-1]:
            return "blocks of this width need a larger operator"
        return found

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        """Blocks need more products than single vectors, half as many again, of several columns at once."""
        k, b, n = operands[0], self._width, A.shape[-1]
        m = self._size(k)
        products = 1.5 * min(n, max(10 * m, int(8 * n**0.5)))
        one = A.matmat_cost(b) + Cost(4.0 * m * n * b, 4 * m * A.itemsize * n, 0, 0, 20 * b)
        total = one * (products / b)
        memory = float(A.itemsize * n * (m + 3 * b))
        return Cost(
            total.flops,
            total.bytes,
            memory,
            products,
            total.calls,
            syncs=3 * products / self._steps(k) + 5,
        )
