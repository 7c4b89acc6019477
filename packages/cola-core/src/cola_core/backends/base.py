"""The interface of a backend: an array-API namespace ``xp`` plus the little the standard lacks.

Conventions shared by all: matrices are the last two axes and everything before them is batch; random
functions take an explicit ``key`` (an int seed; JAX keys too on JAX); ``is_concrete`` is False for tracers,
and checks of values run only on concrete arrays, so that every routine also traces.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..compiling import read_instead
from ..errors import BackendError

__all__ = ["Array", "Backend", "dtype_name", "refuse_graph"]

Array = Any  # an array of any backend


_NAMES: dict[Any, str] = {}


@read_instead(lambda dtype: _dtype_name(dtype))
def dtype_name(dtype: Any) -> str:
    """The array-API name of a dtype of any library (``"float64"``)."""
    try:
        return _NAMES[dtype]
    except KeyError:
        return _NAMES.setdefault(dtype, _dtype_name(dtype))


def _dtype_name(dtype: Any) -> str:
    name = getattr(dtype, "name", None)
    if isinstance(name, str):
        return name
    if isinstance(dtype, type):
        return dtype.__name__
    return str(dtype).rpartition(".")[2]


def refuse_graph(x: Any, target: str) -> None:
    """BackendError where a tensor that requires gradients would become an array of another library: its
    derivative would be lost without a word."""
    if getattr(x, "requires_grad", False):
        import torch

        if torch.is_grad_enabled():
            raise BackendError(
                f"a tensor of shape {tuple(x.shape)} that requires gradients would become an array of "
                f"{target}, which knows nothing of them. Keep everything in PyTorch "
                "(A.to(backend='torch')), or say that no derivative is wanted: x.detach()."
            )


class Backend:
    """Array operations of one library. Subclasses fill in what differs;
    see the module docstring for conventions."""

    name: str = "abstract"
    xp: Any
    opens: bool = False  # whether ``door`` may have something to open
    default_float: str = "float64"

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    # -- arrays ----------------------------------------------------------------------------------------------
    def dtype(self, dtype: Any) -> Any:
        """This library's dtype of the same name."""
        return getattr(self.xp, dtype_name(dtype))

    def asarray(self, x: Any, dtype: Any = None, device: Any = None) -> Array:
        """Convert to this library's array; ``dtype`` may be another library's dtype or a name."""
        dtype = None if dtype is None else self.dtype(dtype)
        return self.xp.asarray(x, dtype=dtype, device=device)

    def as_value(self, x: Any) -> Array:
        """An array usable as matrix entries: integers and booleans become the default float."""
        x = self.asarray(x)
        if not self.xp.isdtype(x.dtype, ("real floating", "complex floating")):
            x = self.xp.astype(x, self.dtype(self.default_float))
        return x

    def astype(self, x: Array, dtype: Any) -> Array:
        return self.xp.astype(x, self.dtype(dtype), copy=False)

    def to_numpy(self, x: Array) -> Any:
        raise NotImplementedError(f"backend {self.name} does not provide to_numpy")

    def device(self, x: Array) -> Any:
        return None

    def device_kind(self, x: Array) -> str:
        """``"cpu"``, ``"cuda"``, ``"tpu"``, ``"mps"``, ...: the kind of device that holds x."""
        return "cpu"

    def shards(self, x: Array) -> int:
        """How many different parts x is cut into over devices; 1 for an array that is whole everywhere."""
        return 1

    def pieces(self, x: Array) -> tuple[int, ...]:
        """Into how many pieces each axis of x is cut over devices."""
        return (1,) * len(x.shape)

    def door(self, *operands: Any) -> Any:
        """A context in which products of these operands (operators, arrays) have to be made, or None."""
        return None

    def gather(self, x: Array) -> Array:
        """x whole on every device that holds a part of it."""
        return x

    def collectives(self, fn: Callable[..., Any], *args: Any) -> dict[str, dict[str, int]] | None:
        """What the compiled ``fn(*args)`` sends between devices, by kind; None where nothing is compiled."""
        return None

    def lying_like(self, x: Array, like: Array) -> Array:
        """x spread over devices as an array of the same shape is."""
        return x

    def is_concrete(self, *xs: Any) -> bool:
        return True

    def mapped(self, *xs: Any) -> bool:
        """Whether ``torch.func.vmap``, whose examples cannot be seen outside of it, is at work on these."""
        return False

    def is_complex(self, x: Any) -> bool:
        """Whether an array, operator or dtype of this library is complex."""
        return "complex" in dtype_name(getattr(x, "dtype", x))

    def real_dtype(self, dtype: Any) -> Any:
        """The real dtype of the same precision."""
        return self.dtype({"complex64": "float32", "complex128": "float64"}.get(dtype_name(dtype), dtype))

    def conj(self, x: Array) -> Array:
        return self.xp.conj(x) if self.is_complex(x) else x

    def adjoint(self, x: Array) -> Array:
        """Conjugate transpose of the last two axes."""
        return self.conj(x.mT)

    def matmul(self, a: Array, b: Array) -> Array:
        return self.xp.matmul(a, b)

    def eye(self, n: int, dtype: Any, device: Any = None) -> Array:
        return self.xp.eye(n, dtype=self.dtype(dtype), device=device)

    def zeros(self, shape: Any, dtype: Any, device: Any = None) -> Array:
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=device)

    def number(self, x: Array) -> float:
        """A concrete 0-d array as a Python float, without touching any derivative graph."""
        return float(x)

    def differentiating(self, *xs: Any) -> bool:
        """Whether a derivative of what is computed from these arrays may be wanted (also where values cannot
        be looked at: it cannot be known there)."""
        return False

    def constant(self, x: Array) -> Array:
        """x as a number that nothing is differentiated through (a norm that only steers an algorithm)."""
        return x

    def all_finite(self, x: Array) -> bool:
        """True unless ``x`` is concrete and holds a NaN or infinity."""
        return not self.is_concrete(x) or bool(self.xp.all(self.xp.isfinite(x)))

    def inner(self, x: Array, y: Array) -> Array:
        """Column inner products ``sum(conj(x) * y, axis=-2)`` (this form shards where ``vdot`` does not)."""
        return self.xp.sum(self.conj(x) * y, axis=-2)

    def norm(self, x: Array) -> Array:
        """Column 2-norms."""
        return self.xp.linalg.vector_norm(x, axis=-2)

    def frobenius(self, x: Array, axis: Any = -1) -> Array:
        """2-norms along one axis or two, without underflow or overflow of the squares."""
        xp = self.xp
        with np.errstate(over="ignore", under="ignore"):
            out = xp.linalg.vector_norm(x, axis=axis)
            if 0 in x.shape or self.name == "abstract":
                return out
            if self.is_concrete(out):
                limits = xp.finfo(out.dtype)
                low = float(limits.smallest_normal) ** 0.5 / float(limits.eps)
                if bool(xp.all((out > low) & (out < float(limits.max) ** 0.5))):
                    return out
            sizes = xp.abs(x)  # real: a complex quotient forms squares of its own
            top = xp.max(sizes, axis=axis, keepdims=True)
            top = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
            scaled = xp.linalg.vector_norm(sizes / top, axis=axis)
            return scaled * xp.reshape(top, scaled.shape)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """``xp.reshape``; on JAX blocks that lie on different devices stay there where they can."""
        return self.xp.reshape(x, shape)

    def parted(self, x: Array, m: int) -> tuple[Array, Array]:
        """The first m rows and the others; on JAX also of rows that explicit axes spread."""
        return x[..., :m, :], x[..., m:, :]

    def norm1(self, x: Array) -> Any:
        """The 1-norm of a matrix, the largest sum of a column."""
        return self.xp.max(self.xp.sum(self.xp.abs(x), axis=-2), axis=-1)

    def axpy(self, a: Array, x: Array, y: Array) -> Array:
        """``y + a * x`` with one number per column; y may be overwritten."""
        return y + a[..., None, :] * x

    def xpay(self, x: Array, a: Array, y: Array) -> Array:
        """``x + a * y`` with one number per column; y may be overwritten."""
        return x + a[..., None, :] * y

    def matmul_add(self, y: Array, x: Array, a: Array) -> Array:
        """``y + x @ a``; y may be overwritten."""
        return y + self.matmul(x, a)

    def add_matmul(self, x: Array, y: Array, a: Array) -> Array:
        """``x + y @ a`` with square a; y may be overwritten."""
        out = self.matmul(y, a)
        out += x
        return out

    def gram(self, x: Array, y: Array) -> Array:
        """``x^H y`` of tall matrices, all inner products of their columns."""
        return self.matmul(self.adjoint(x), y)

    def put(self, x: Array, index: Any, value: Array) -> Array:
        """``x`` with ``x[index] = value``; the argument may be reused."""
        x[index] = value
        return x

    def index_add(self, rows: Array, values: Array, m: int) -> Array:
        """Sum ``values`` (..., n, k) into ``m`` rows: ``out[..., rows[i], :] += values[..., i, :]``."""
        raise NotImplementedError(f"backend {self.name} does not provide index_add")

    def diagonal(self, x: Array, k: int = 0) -> Array:
        """The k-th diagonal of the last two axes."""
        return self.xp.linalg.diagonal(x, offset=k)

    def matrix_diag(self, d: Array) -> Array:
        """Batch of diagonal matrices from (..., n)."""
        n = d.shape[-1]
        return d[..., :, None] * self.eye(n, d.dtype, self.device(d))

    def add_diagonal(self, M: Array, d: Array) -> Array:
        """``M`` with d, a number or (n,), added to its diagonal."""
        n = M.shape[-1]
        return M + self.matrix_diag(self.xp.broadcast_to(d, (n,)))

    # -- functions of arrays ---------------------------------------------------------------------------------
    def result_like(self, f: Callable[..., Any], *xs: Any) -> Any:
        """What ``f(*xs)`` looks like (shapes and dtypes); JAX finds out without computing it."""
        return f(*xs)

    def jvp(self, f: Callable[..., Array], xs: tuple[Array, ...], vs: tuple[Array, ...]) -> Any:
        """``(f(*xs), J vs)`` for the derivative J of an array-valued f at xs."""
        raise BackendError(self._no_derivatives("jvp"))

    def vjp(self, f: Callable[..., Array], *xs: Array) -> tuple[Array, Callable[[Array], Any]]:
        """``(f(*xs), pull)`` with ``pull(u) = J^H u`` as a tuple, one array for each of xs."""
        raise BackendError(self._no_derivatives("vjp"))

    def linearize(self, f: Callable[..., Array], *xs: Array) -> Callable[..., Array]:
        """``push(*vs) = J vs`` with f's intermediate results at xs kept."""
        raise BackendError(self._no_derivatives("linearize"))

    def _no_derivatives(self, what: str) -> str:
        return (
            f"{self.name} does not differentiate functions ({what}). Use arrays of PyTorch or JAX "
            "(torch.as_tensor(x), jax.numpy.asarray(x)) and write the function with their operations, or "
            "give the products yourself: ops.FunctionOperator(matvec, shape, rmatvec=...)."
        )

    def vmap(self, f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
        """f over one axis of its arguments; where the library has no such thing, one call for each."""
        raise BackendError(
            f"{self.name} does not vectorise functions; call them one by one, or use PyTorch or JAX."
        )

    def checkpoint(self, f: Callable[..., Array]) -> Callable[..., Array]:
        """f, whose intermediate results are computed again for the derivative instead of being kept."""
        return f

    def blockwise(
        self,
        f: Callable[[Any, Any], Array],
        rows: tuple[Array, ...],
        columns: tuple[Array, ...],
        sizes: tuple[int, int],
    ) -> Array:
        """Row blocks of ``sum_j f(rows[i], columns[j])``, one pair of blocks in memory at a time.

        Blocks are taken along axis -2 of every array, of at most ``sizes`` rows. f must be linear in its
        columns in the sense that rows of zeros in ``columns[-1]`` contribute nothing.
        """
        f = self.checkpoint(f)
        m, n = rows[0].shape[-2], columns[0].shape[-2]
        out = []
        for i in range(0, max(m, 1), sizes[0]):
            top = tuple(x[..., i : i + sizes[0], :] for x in rows)
            total = None
            for j in range(0, max(n, 1), sizes[1]):
                part = f(top, tuple(x[..., j : j + sizes[1], :] for x in columns))
                total = part if total is None else total + part
            out.append(total)
        return out[0] if len(out) == 1 else self.xp.concat(out, axis=-2)

    def derived(self, rule: Any, A: Array) -> tuple[Array, ...]:
        """``rule.compute(self, A)``, outputs of a dense decomposition, with the derivatives that the rule
        states where the library differentiates: every mode and order, batches, ``vmap``, compiled code.

        rule: hashable, with the attributes and methods of ``autodiff.dense_rule.DenseRule``: ``name``,
        ``keeps_input`` (whether its formulas want A), ``constants``, ``whole``, ``count`` (of outputs),
        ``compute(be, A)``, ``broken(be, A, out)``, the tangents ``push(tools, A, out, dA)`` and the adjoint
        ``pull(tools, A, out, cotangents)``, in operations of ``tools.be`` that are differentiated again.
        docs/derivatives.md has an example.
        """
        return rule.compute(self, A)  # type: ignore[no-any-return]

    # -- dense factorisations --------------------------------------------------------------------------------
    def cholesky(self, A: Array, check: bool = True) -> Array:
        """Lower Cholesky factor of (..., n, n), reading the lower triangle; the upper half of the result is
        zero. Of a matrix that is not positive definite NaN, after an error if values can be seen and
        ``check``."""
        raise NotImplementedError(f"backend {self.name} does not provide cholesky")

    def cholesky_solve(self, L: Array, B: Array) -> Array:
        """``(L L^H)^{-1} B``."""
        Y = self.solve_triangular(L, B, lower=True)
        return self.solve_triangular(self.adjoint(L), Y, lower=False)

    def cholesky_inverse(self, L: Array) -> Array:
        """``(L L^H)^{-1}``."""
        eye = self.eye(L.shape[-1], L.dtype, self.device(L))
        return self.cholesky_solve(L, self.xp.broadcast_to(eye, L.shape))

    def solve_triangular(self, L: Array, B: Array, lower: bool = True, unit: bool = False) -> Array:
        raise NotImplementedError(f"backend {self.name} does not provide solve_triangular")

    def lu_factor(self, A: Array) -> Any:
        """Pivoted LU as an opaque pair for ``lu_solve`` and ``lu_slogdet``."""
        raise NotImplementedError(f"backend {self.name} does not provide lu_factor")

    def lu_solve(self, factors: Any, B: Array, adjoint: bool = False) -> Array:
        raise NotImplementedError(f"backend {self.name} does not provide lu_solve")

    def lu_slogdet(self, factors: Any) -> tuple[Array, Array]:
        raise NotImplementedError(f"backend {self.name} does not provide lu_slogdet")

    def lu_rcond(self, factors: Any, norm1: Array) -> Any:
        """Reciprocal 1-norm condition estimate, or None where it is not available (tracing)."""
        return None

    def ldl_factor(self, A: Array) -> Any:
        """``L D L^H`` with symmetric pivoting of (n, n), reading the lower triangle, as a pair: L below and D
        on and just below the diagonal, and LAPACK's pivots (negative for blocks of two rows)."""
        raise NotImplementedError(f"backend {self.name} has no LDL factorisation; use LU().")

    def ldl_solve(self, factors: Any, B: Array) -> Array:
        raise NotImplementedError(f"backend {self.name} has no LDL factorisation; use LU().")

    def ldl_rcond(self, factors: Any, norm1: Array) -> Any:
        """As ``lu_rcond``."""
        return None

    def eigh(self, A: Array, gap: float | None = None) -> tuple[Array, Array]:
        """``w, V`` with ``A = V diag(w) V^H``, w ascending; the lower triangle is read.

        gap: for the derivative, eigenvalues this close count as equal (default: see ``tied``).
        """
        w, V = self.xp.linalg.eigh(A)
        return w, V

    def tied(self, w: Array, gap: float | None = None) -> Array:
        """Which of sorted real numbers (..., n) count as equal in derivatives of eigenvectors, (..., n, n):
        those linked by steps of at most ``gap``, by default ``max(64, n)`` units of rounding of the
        largest."""
        from ..autodiff.quotients import groups, tie_limit

        return groups(self, w, tie_limit(self, w, w.shape[-1], gap))

    def eig(self, A: Array) -> tuple[Array, Array]:
        raise NotImplementedError(f"backend {self.name} does not provide eig")

    def svd(self, A: Array, full: bool = False) -> tuple[Array, Array, Array]:
        """``U, s, V`` with ``A = U diag(s) V^H``, s descending; full: U and V square."""
        U, s, Vh = self.xp.linalg.svd(A, full_matrices=full)
        return U, s, self.adjoint(Vh)

    def svdvals(self, A: Array) -> Array:
        return self.xp.linalg.svdvals(A)

    def qr(self, A: Array) -> tuple[Array, Array]:
        """Reduced ``Q, R``; the signs of R's diagonal are the library's."""
        Q, R = self.xp.linalg.qr(A)
        return Q, R

    def lq(self, A: Array) -> tuple[Array, Array]:
        """Reduced ``L, Q`` with ``A = L Q``, from the QR factors of ``A^H``."""
        Q, R = self.qr(self.adjoint(A))
        return self.adjoint(R), self.adjoint(Q)

    def lu(self, A: Array) -> tuple[Array, Array, Array]:
        """``rows, L, U`` with ``A[rows] = L U`` by partial pivoting, for (..., m, n) of any rank."""
        raise NotImplementedError(f"backend {self.name} does not provide lu")

    def schur(self, A: Array) -> tuple[Array, Array]:
        """``T, Z`` with ``A = Z T Z^H``; T has 2 x 2 blocks on its diagonal where A is real."""
        raise NotImplementedError(f"backend {self.name} does not provide schur")

    def eigvals(self, A: Array) -> Array:
        """Eigenvalues of a general matrix, complex."""
        return self.eig(A)[0]

    def eigvalsh(self, A: Array) -> Array:
        """Eigenvalues of a self-adjoint matrix, ascending; the lower triangle is read."""
        return self.xp.linalg.eigvalsh(A)

    def expm(self, A: Array) -> Array:
        raise NotImplementedError(f"backend {self.name} does not provide expm")

    # -- control flow and randomness -------------------------------------------------------------------------
    def while_loop(self, cond: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        """``while cond(state): state = body(state)``; under JAX a ``lax.while_loop``."""
        while cond(state):
            state = body(state)
        return state

    def report(self, listener: Callable[..., None], *values: Any) -> None:
        """Tell a listener on the host the values of the moment, from inside a loop that may be compiled."""
        listener(*values)

    def ask(self, listener: Callable[..., int], *values: Any) -> Any:
        """A listener's answer, a whole number, to the values of the moment;
        an array where the loop is compiled."""
        return int(listener(*values))

    def jit(self, fn: Callable[..., Any], static: tuple[str, ...] = ()) -> Callable[..., Any]:
        """``fn``, compiled once per structure of its arguments where the library compiles (JAX).

        fn: a module-level function of operators and arrays; static: names of arguments that are not data.
        """
        return fn

    def automatic(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """``fn`` of operators and arrays (by position), for a program that is traced already: on JAX without
        the mesh axes that are part of the types of arrays, of which ``jit`` relieves programs of its own."""
        return fn

    def implicit_solve(
        self,
        A: Any,
        solve: Callable[[Any, Any], Any],
        b: Array,
        solve_adjoint: Any = None,
        solve_tangent: Any = None,
    ) -> tuple[Array, Any]:
        """``solve(A, b) -> (x, aux)`` with the derivative of the implicit function,
        where the library differentiates: by ``solve_adjoint(A.H, g)`` in reverse mode, and in forward mode by
        ``solve_tangent(A, t)`` (PyTorch; in JAX the value's ``solve`` serves). Default: ``solve``."""
        return solve(A, b)

    def differentiable(
        self,
        run: Callable[..., tuple[tuple[Array, ...], Any]],
        tangent: Callable[..., tuple[Array, ...]],
        *inputs: Any,
        cotangent: Callable[..., tuple[Any, ...]] | None = None,
        linear: dict[int, Callable[..., Any]] | None = None,
    ) -> tuple[tuple[Array, ...], Any]:
        """``run(*inputs) -> (outputs, aux)``, arrays and whatever else, whose derivative is
        ``tangent(d, inputs, outputs)`` instead of that of the steps of ``run``; see ``autodiff.tangents``.

        cotangent: the transpose of that, for PyTorch, where autograd would not find it as cheaply:
        ``cotangent(grads, inputs, outputs)`` gives for each input None, an array, or (operators) a list of
        pairs (U, V), meaning the gradient of ``Re <U, A V>``, or a tuple of one gradient (or None) an array.
        linear: given where a derivative's formula asks this question about a tangent, for JAX, which then has
        to transpose it: for each such input ``gradient(grads, inputs)``, that of ``Re <grads, outputs>`` in
        it, a tree like the input. There is no aux then.
        """
        return run(*inputs)

    def normal(self, key: Any, shape: tuple[int, ...], dtype: Any, device: Any = None) -> Array:
        """Standard normal numbers; complex ones have unit variance."""
        raise NotImplementedError(f"backend {self.name} does not provide normal")

    def rademacher(self, key: Any, shape: tuple[int, ...], dtype: Any, device: Any = None) -> Array:
        """Random signs."""
        raise NotImplementedError(f"backend {self.name} does not provide rademacher")
