"""Some eigenpairs of a large operator without structure, from products alone: ARPACK's implicitly restarted
Arnoldi and Lanczos methods (Lehoucq, Sorensen & Yang 1998), through SciPy; on the other libraries the
equivalent ``KrylovSchur``, on A's own device.

One start vector meets one vector of each eigenspace only, so what was found is deflated and looked beside
until nothing wanted remains. Residuals are recomputed at exit.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..autodiff.eigenpairs import selfadjoint_pairs
from ..backends.base import Array, dtype_name
from ..cost import Cost
from ..dispatch.session import array_library, record
from ..errors import ConvergenceError, NonFiniteError, NoRuleError, ShapeError
from ..info import Info
from ..pytree import tree_leaves
from ..reasons import CONVERGED
from .base import question_memory, refuse_batches, waits
from .eigenpairs import PairIteration, report_pairs
from .krylov_function import krylov_times
from .krylov_schur import KrylovSchur
from .spectrum import order_by

__all__ = ["Arnoldi", "HostProduct", "refuse_transformations"]

DENSE_FUNCTION = 5000  # up to this size functions of general matrices are computed densely unless asked


@dataclass(frozen=True)
class Arnoldi(PairIteration):
    """k eigenpairs of a general operator (k at most a quarter of n; more are found densely).

    start_vector: (n,) to use instead of a random one. max_iters: products in all (default
    ``max(100 basis, 3000)``). tol: relative accuracy of each eigenvalue (default 1e-10 in double, 1e-5 in
    single). key: seed. basis: vectors kept (default ``max(2 k + 1, 30)``). ARPACK tells nothing while it
    runs: with a callback or max_seconds ``KrylovSchur`` runs in its place, and after it where it gave up,
    for as many products again. Of a generalised problem fewer than k pairs are a ConvergenceError.

    Also ``f(A)`` by its products (``krylov_function``): tol relative to the answer (default 1e-10, 50 units
    of roundoff in single), max_iters steps (default 1000), basis vectors kept a column, beyond which the
    method restarts (default what fits 1 GiB). This does compile, and has derivatives.
    """

    start_vector: Any = None
    max_iters: int | None = None
    tol: float | None = None
    pbar: bool = False
    key: Any = 0
    basis: int | None = None

    def applicable(self, question: str, A: Any, *operands: Any) -> bool | str:
        if A.batch_shape:
            return "batches of operators are not supported"
        if question == "apply_unary":
            return True if A.shape[-1] > DENSE_FUNCTION else "a dense method is affordable, and exact"
        k, n = next(x for x in operands if isinstance(x, int)), A.shape[-1]
        if 4 * k >= n or n < 20:
            return f"{k} of {n} eigenpairs is a large part of the spectrum"
        return True

    def cost(self, question: str, A: Any, *operands: Any) -> Cost:
        n = A.shape[-1]
        if question == "apply_unary":
            steps = min(n, 60)
            each = A.matvec_cost + Cost(
                4 * steps * n, 2 * steps * A.itemsize * n, 0, 0, 10, syncs=waits(A, 2)
            )
            small = Cost(60.0 * steps**3, 8.0 * 60 * steps**2, 0, 0, 60)
            work = each * steps + small
            return Cost(
                work.flops, work.bytes, question_memory(A, steps + 4), steps, work.calls, syncs=work.syncs
            )
        m = self._basis(next(x for x in operands if isinstance(x, int)), n)
        steps = 20 * m
        one = A.matvec_cost + Cost(8 * m * n, 4 * m * A.itemsize * n, 0, 0, 20, syncs=waits(A, 3))
        total = one * steps
        return Cost(
            total.flops, total.bytes, question_memory(A, 2 * m + 4), steps, total.calls, syncs=total.syncs
        )

    def apply_unary(self, A: Any, f: Any) -> Any:
        """f(A) by products: Krylov spaces of general operators, whose values need not stay on the host."""
        from ..linalg.lazy_function import FunctionAction

        refuse_batches(A, f"Arnoldi {f.name}", "a dense method")
        return FunctionAction(A, f, self, declared=f.properties(A))

    def function_times(self, A: Any, f: Any, X: Array) -> Array:
        """``f(A) X``; ``basis`` bounds the vectors kept, beyond which the method restarts."""
        return krylov_times(self, A, f, X, hermitian=False)

    def _basis(self, k: int, n: int) -> int:
        return min(n, max(2 * k + 1, 30) if self.basis is None else max(int(self.basis), k + 3))

    def eigs(self, A: Any, k: int, which: str) -> tuple[Array, Any]:
        import numpy as np

        from ..operators import Dense
        from .eigh import Eig

        refuse_batches(A, "Arnoldi", "Eig()")
        n = A.shape[-1]
        if k >= n - 2:
            return Eig().eigs(A, k, which)
        settings: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        if array_library(A) != "numpy" or self._asked_to_tell():
            return KrylovSchur(**settings).pairs(A, k, which, "Arnoldi (Krylov-Schur)")
        refuse_transformations("Arnoldi", "Eig()", A)
        be = A._concrete_backend()
        product = HostProduct(A, complex_vectors=which[1] == "I", pbar=self.pbar or self.progress)
        import scipy.sparse.linalg as spl

        try:
            w, X = self._several(product, k, which)
        except (ConvergenceError, spl.ArpackError):  # or the start vector lies in the null space
            product.close()
            return KrylovSchur(**settings).pairs(A, k, which, "Arnoldi (Krylov-Schur)", product.count)
        host = _numpy()
        order = order_by(host, w, k, which)
        w, X = w[order], X[:, order]
        X = X / np.linalg.norm(X, axis=0)
        dtype = "complex64" if dtype_name(A.dtype) in ("float32", "complex64") else "complex128"
        residuals = np.linalg.norm(product.block(X) - X * w, axis=0).astype(product.real)
        product.close()
        # left eigenvectors of the matrix projected to what was found are the rows of X's pseudoinverse
        condition = np.linalg.norm(np.linalg.pinv(X), axis=1).astype(product.real)
        scale = np.asarray(product.scale, product.real)
        tol, count = self._tol(product.real), product.count
        report_pairs(host, A, "Arnoldi (ARPACK)", residuals, scale, tol, count, count, CONVERGED, condition)
        return (
            be.asarray(w, dtype=dtype, device=A.device),
            Dense(be.asarray(np.ascontiguousarray(X), dtype=dtype, device=A.device)),
        )

    def geigsh(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        """k pairs of ``A v = w B v`` for self-adjoint A and definite B, ``V^H B V = I``."""
        import numpy as np

        from ..operators import Dense

        refuse_batches(A, "Arnoldi", "Eigh()")
        if self._asked_to_tell():
            raise NotImplementedError(
                "Arnoldi(callback=..., max_seconds=...) of a generalised problem: ARPACK tells nothing while "
                "it runs; use LOBPCG()."
            )
        be, n = A._concrete_backend(), A.shape[-1]
        if k >= n - 1:
            from .eigh import Eigh

            return Eigh().geigsh(A, B, k, which)
        real = HostProduct(A).real
        tol = self._tol(real)

        def run(A: Any, B: Any) -> Any:
            return self._pencil(A, B, k, which)

        method = "Lanczos in the B inner product (ARPACK)"
        w, X, (residual, count) = selfadjoint_pairs(be, A, run, tol, "Arnoldi", B=B)
        residual, count = float(residual), int(count)
        good = residual <= max(10 * tol, 100 * float(np.finfo(real).eps) * n**0.5)
        record(
            Info(
                method=method,
                converged=good,
                reason="converged" if good else "the residuals are larger than the tolerance",
                iterations=count,
                matvecs=count,
                residual=residual,
                tolerance=tol,
            )
        )
        return w, Dense(X)

    def _pencil(self, A: Any, B: Any, k: int, which: str) -> Any:
        """``geigsh`` on the host: w, X, the residual and the products made."""
        import numpy as np
        import scipy.sparse.linalg as spl

        from ..dispatch.choose import ask
        from ..linalg.inverse import INV
        from .base import Auto

        refuse_transformations("Arnoldi", "Eigh()", A, B)
        be = A._concrete_backend()
        a, b = HostProduct(A, pbar=self.pbar or self.progress), HostProduct(B)
        settings: dict[str, Any] = self._settings(a, k)
        if which == "SM":
            inverse = HostProduct(ask(INV, (A,), Auto()))
            settings |= {"sigma": 0.0, "OPinv": inverse.operator(), "which": "LM"}
        else:
            settings |= {"Minv": HostProduct(ask(INV, (B,), Auto())).operator(), "which": which}
        try:
            w, X = spl.eigsh(a.operator(), k, M=b.operator(), **settings)
        except spl.ArpackNoConvergence as error:
            raise _missed(A, k, error) from None
        gap = a.block(X) - b.block(X) * w
        scale = max(a.scale, float(np.abs(w).max()) * b.scale)
        residual = float((np.linalg.norm(gap, axis=0) / np.linalg.norm(X, axis=0)).max()) / scale
        a.close()
        dtype = dtype_name(be.xp.result_type(A.dtype, B.dtype))
        return (
            be.asarray(w, dtype=be.real_dtype(dtype), device=A.device),
            be.asarray(np.ascontiguousarray(X), dtype=dtype, device=A.device),
            (residual, a.count),
        )

    def geigs(self, A: Any, B: Any, k: int, which: str) -> tuple[Array, Any]:
        """k pairs of ``A v = w B v`` for a B that can be solved with: those of ``B^-1 A``."""
        from ..dispatch.choose import ask
        from ..linalg.inverse import INV
        from ..operators import matmul
        from .base import Auto

        if which == "SM":  # the largest of A^-1 B, turned round
            mu, V = self.eigs(matmul(ask(INV, (A,), Auto()), B), k, "LM")
            return 1 / mu, V
        return self.eigs(matmul(ask(INV, (B,), Auto()), A), k, which)

    def _asked_to_tell(self) -> bool:
        return self.callback is not None or self.max_seconds is not None

    def _tol(self, real: Any) -> float:
        import numpy as np

        return max(1e-10, 100 * float(np.finfo(real).eps)) if self.tol is None else float(self.tol)

    def _settings(self, product: HostProduct, k: int) -> dict[str, Any]:
        import numpy as np

        n = product.n
        m = self._basis(k, n)
        limit = max(100 * m, 3000) if self.max_iters is None else int(self.max_iters)
        if self.start_vector is None:
            v = product.be.to_numpy(product.be.normal(self.key, (n,), product.A.dtype, product.A.device))
        else:
            v = np.asarray(product.be.to_numpy(product.be.asarray(self.start_vector)))
            if v.shape != (n,) or not np.linalg.norm(v) > 0:
                raise ShapeError(
                    f"Arnoldi(start_vector=...) must be a non-zero vector of shape ({n},), not {v.shape}."
                )
        return {
            "ncv": m,
            "maxiter": max(limit // max(m - k, 1), 1),
            "tol": self._tol(product.real),
            "v0": v.astype(product.dtype),
        }

    def _several(self, product: HostProduct, k: int, which: str) -> tuple[Any, Any]:
        """k pairs, and whatever more wanted ones were hidden behind copies of them."""
        import numpy as np
        import scipy.sparse.linalg as spl

        host = _numpy()
        settings = self._settings(product, k)
        try:
            w, X = spl.eigs(product.operator(), k, which=which, **settings)
        except spl.ArpackNoConvergence as error:
            raise _missed(product.A, k, error) from None
        for attempt in range(k):
            Q = np.linalg.qr(X)[0]
            away = {"LR": -1.0, "SR": 1.0, "LI": -1.0j, "SI": 1.0j}.get(which, 0.0) * 2 * product.scale
            beside = _Deflated(product, Q, away)
            v = product.be.normal(attempt + 7919, (product.n,), product.A.dtype, product.A.device)
            more = {
                **settings,
                "v0": product.be.to_numpy(v).astype(beside.dtype),
                "ncv": self._basis(1, product.n),
            }
            try:
                mu, Y = spl.eigs(beside.operator(), 1, which=which, **more)
            except spl.ArpackNoConvergence:
                break
            both = np.concatenate([w, mu])
            ranked = list(order_by(host, both, k, which))
            last = w[order_by(host, w, k, which)[-1]]
            if k not in ranked or abs(mu[0] - last) <= 10 * settings["tol"] * product.scale:
                break
            basis = np.linalg.qr(np.concatenate([Q, Y], axis=1))[0]
            theta, S = np.linalg.eig(basis.conj().T @ product.block(basis))
            best = order_by(host, theta, k, which)
            w, X = theta[best], basis @ S[:, best]
        return w, X


class HostProduct:
    """Products of an operator with NumPy vectors, counted; ``scale`` is the largest stretch met."""

    def __init__(self, A: Any, complex_vectors: bool = False, pbar: bool = False) -> None:
        import numpy as np

        from .progress import ProgressBar

        self.A, self.be, self.n = A, A._concrete_backend(), A.shape[-1]
        name = dtype_name(A.dtype)
        self.mine = name if name in ("float32", "float64", "complex64", "complex128") else "float32"
        self.dtype = np.result_type(self.mine, np.complex64 if complex_vectors else np.float32)
        self.real = np.zeros(0, self.dtype).real.dtype
        self.count, self.scale = 0, 1e-300
        self.bar = ProgressBar("Arnoldi") if pbar else None

    def close(self) -> None:
        """End the progress bar, if there is one."""
        if self.bar is not None:
            self.bar.close()

    def block(self, X: Any) -> Any:
        """``A @ X`` for a NumPy array of columns."""
        import numpy as np

        if X.dtype.kind == "c" and "complex" not in self.mine:
            Y = self._product(np.concatenate([X.real, X.imag], axis=1))
            Y = Y[:, : X.shape[1]] + 1j * Y[:, X.shape[1] :]
        else:
            Y = self._product(X)
        if not np.all(np.isfinite(Y)):
            raise NonFiniteError(
                f"a product with {self.A!r} gave NaN or infinity after {self.count} products."
            )
        sizes = np.linalg.norm(X, axis=0)
        self.scale = max(
            self.scale, float((np.linalg.norm(Y, axis=0)[sizes > 0] / sizes[sizes > 0]).max(initial=0))
        )
        return Y

    def _product(self, X: Any) -> Any:
        import numpy as np

        self.count += X.shape[1]
        if self.bar is not None:
            self.bar(self.count, None)
        given = self.be.asarray(np.ascontiguousarray(X), dtype=self.A.dtype, device=self.A.device)
        return np.asarray(self.be.to_numpy(self.A @ given)).astype(
            np.result_type(self.mine, X.dtype), copy=False
        )

    def operator(self) -> Any:
        """The same for SciPy."""
        from scipy.sparse.linalg import LinearOperator

        return LinearOperator(
            (self.n, self.n), matvec=lambda x: self.block(x.reshape(-1, 1))[:, 0], dtype=self.dtype
        )


class _Deflated:
    """``P A P + s Q Q^H`` with ``P = I - Q Q^H``: found eigenvalues moved to s, the others kept."""

    def __init__(self, product: HostProduct, Q: Any, s: complex) -> None:
        import numpy as np

        self.product, self.Q, self.s = product, Q, s
        self.dtype = np.result_type(product.dtype, Q.dtype, np.complex64 if s.imag else np.float32)

    def operator(self) -> Any:
        from scipy.sparse.linalg import LinearOperator

        def matvec(x: Any) -> Any:
            c = self.Q.conj().T @ x.reshape(-1, 1)
            y = self.product.block(x.reshape(-1, 1) - self.Q @ c)
            y = y - self.Q @ (self.Q.conj().T @ y) + self.s * (self.Q @ c)
            return y[:, 0]

        n = self.product.n
        return LinearOperator((n, n), matvec=matvec, dtype=self.dtype)


def _numpy() -> Any:
    from ..backends import get_backend

    return get_backend("numpy")


def _missed(A: Any, k: int, error: Any) -> ConvergenceError:
    return ConvergenceError(
        f"Arnoldi found {len(error.eigenvalues)} of {k} eigenpairs of {A!r} within its products. Give more "
        "max_iters, a larger basis, a looser tol, or sigma= near the wanted eigenvalues."
    )


def refuse_transformations(name: str, instead: str, *operators: Any) -> None:
    """Refuse compiled code and derivatives by name, for methods that read values on the host."""
    leaves = tree_leaves(operators)
    be = operators[0]._concrete_backend()
    if not be.is_concrete(*leaves):
        raise NoRuleError(
            f"{name} eigenpairs of {operators[0]!r} cannot be traced: the number of products depends on "
            f"values. Use alg={instead} under a transformation."
        )
    if any(getattr(x, "requires_grad", False) for x in leaves):
        raise NotImplementedError(
            f"{name} eigenpairs of {operators[0]!r} have no derivatives; use alg={instead}, or detach it."
        )
