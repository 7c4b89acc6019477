"""PyTorch tensors. Imported only after torch itself is, so importing torch here costs nothing extra."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import array_api_compat.torch
import torch
from torch._C._functorch import peek_interpreter_stack
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes

from ..autodiff.torch_loops import batched, being_traced, masked_loop, plain_value, unrolled_loop
from ..errors import BackendError, NotPositiveDefiniteError, SingularMatrixError
from ..pytree import tree_leaves
from .base import Array, Backend, dtype_name
from .derived import DerivedBackend

__all__ = ["BACKEND", "TorchBackend"]


xp = ModuleType("cola_core.backends.torch_backend.xp", array_api_compat.torch.__doc__)
xp.__dict__.update(
    {name: x for name, x in vars(array_api_compat.torch).items() if not name.startswith("__")},
    __array_namespace_info__=array_api_compat.torch.__array_namespace_info__,
    moveaxis=torch.movedim,  # the same function; only this one has a rule for vmap
)


class TorchBackend(DerivedBackend):
    """See ``Backend``. Randomness: a ``torch.Generator`` on the CPU seeded by the key, then moved."""

    name = "torch"
    xp = xp

    def dtype(self, dtype: Any) -> Any:
        return dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype_name(dtype))

    def asarray(self, x: Any, dtype: Any = None, device: Any = None) -> Array:
        dtype = None if dtype is None else self.dtype(dtype)
        if isinstance(x, torch.Tensor):
            return x.to(dtype=dtype, device=device) if dtype is not None or device is not None else x
        if not isinstance(x, (bool, int, float, complex, list, tuple)):
            import numpy as np

            x = np.array(x)  # a copy: numpy views of jax arrays are read-only
        if type(x) is not torch.Tensor and hasattr(x, "placements"):
            from .torch_spread import on_host

            x = on_host(x)
        if not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None:
            with torch._C._DisableFuncTorch():  # a constant, whose values can be looked at also there
                return torch.as_tensor(x, dtype=dtype, device=device)
        # with the dtype at once: by way of torch's default precision 0.1 would lose half its digits
        return torch.as_tensor(x, dtype=dtype, device=device)

    def astype(self, x: Array, dtype: Any) -> Array:
        return x.to(self.dtype(dtype))

    def to_numpy(self, x: Array) -> Any:
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            raise BackendError(
                f"the values of a tensor of shape {tuple(x.shape)} cannot be copied to the host inside of a "
                "transformation of torch.func."
            )
        if type(x) is not torch.Tensor and hasattr(x, "placements"):
            from .torch_spread import on_host

            x = on_host(x)
        if not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None:
            with torch._C._DisableFuncTorch():  # a constant beside what is transformed: leave it as it is
                return x.detach().cpu().resolve_conj().resolve_neg().numpy()
        return x.detach().cpu().resolve_conj().resolve_neg().numpy()

    def device(self, x: Array) -> Any:
        return x.device

    def device_kind(self, x: Array) -> str:
        return x.device.type  # type: ignore[no-any-return]

    def shards(self, x: Array) -> int:
        return 1 if type(x) is torch.Tensor else math.prod(self.pieces(x))

    @property
    def opens(self) -> bool:  # type: ignore[override]
        # DTensors need a process group; other parts of PyTorch import their module, too
        return "torch.distributed.tensor" in sys.modules and torch.distributed.is_initialized()

    def door(self, *operands: Any) -> Any:
        if being_traced() or not self.opens:
            return None
        from .torch_spread import products_of

        return products_of(*operands)

    def gather(self, x: Array) -> Array:
        if not hasattr(x, "placements"):
            return x
        from torch.distributed.tensor import Replicate

        return x.redistribute(placements=[Replicate()] * x.device_mesh.ndim)

    def lying_like(self, x: Array, like: Array) -> Array:
        return x.redistribute(placements=like.placements) if hasattr(like, "placements") else x

    def pieces(self, x: Array) -> tuple[int, ...]:
        out = [1] * x.ndim
        for i, placement in enumerate(getattr(x, "placements", ())):  # of a DTensor
            if placement.is_shard():
                out[placement.dim] *= x.device_mesh.size(i)
        return tuple(out)

    def is_concrete(self, *xs: Any) -> bool:
        # torch.func and torch.compile wrap tensors; reading a value there is an error or a graph break
        if being_traced():
            return False
        for x in xs:
            if isinstance(x, torch.Tensor):
                if x.is_meta or torch._C._functorch.is_functorch_wrapped_tensor(x):
                    return False
                if torch._C._functorch.is_legacy_batchedtensor(x):  # of autograd.grad(is_grads_batched=True)
                    return False
                if type(x) is not torch.Tensor and isinstance(x, FakeTensor):
                    return False
        return True

    def differentiating(self, *xs: Any) -> bool:
        if not self.is_concrete(*xs):
            return True
        recorded, dual = torch.is_grad_enabled(), forward_ad._current_level >= 0
        for x in xs:
            if isinstance(x, torch.Tensor) and (
                (recorded and x.requires_grad) or (dual and forward_ad.unpack_dual(x).tangent is not None)
            ):
                return True
        return False

    def mapped(self, *xs: Any) -> bool:
        return any(map(batched, xs))

    def is_complex(self, x: Any) -> bool:
        return (x if isinstance(x, torch.dtype) else x.dtype).is_complex

    def conj(self, x: Array) -> Array:
        if not x.is_complex():
            return x
        # a lazy conjugate is a view, and torch 2.13 loses views of nested forward derivatives (an assertion)
        return torch.conj_physical(x) if forward_ad._current_level >= 0 else x.conj()

    def number(self, x: Array) -> float:
        return float(x.detach()) if isinstance(x, torch.Tensor) else float(x)

    def constant(self, x: Array) -> Array:
        if not isinstance(x, torch.Tensor):
            return x
        if being_traced():
            return x.detach()
        if torch._C._functorch.is_functorch_wrapped_tensor(x) and not batched(x):
            x = plain_value(x)  # under torch.func.grad and jvp values can be looked at
        return x.detach()

    def matmul(self, a: Array, b: Array) -> Array:
        if a.dtype != b.dtype:
            dtype = torch.promote_types(a.dtype, b.dtype)
            a, b = a.to(dtype), b.to(dtype)
        return torch.matmul(a, b)

    def inner(self, x: Array, y: Array) -> Array:
        if x.ndim == 2 == y.ndim and x.shape[1] == 1 and x.dtype == y.dtype:  # one pass, no temporary
            return torch.vdot(x[:, 0], y[:, 0])[None]
        return super().inner(x, y)

    def axpy(self, a: Array, x: Array, y: Array) -> Array:
        if self._mine(y, x, a):
            return y.addcmul_(x, a[..., None, :])
        return super().axpy(a, x, y)

    def xpay(self, x: Array, a: Array, y: Array) -> Array:
        if self._mine(y, x, a):
            return torch.addcmul(x, y, a[..., None, :], out=y)
        return super().xpay(x, a, y)

    def matmul_add(self, y: Array, x: Array, a: Array) -> Array:
        if y.dim() == 2 and x.dim() == 2 and y.dtype == a.dtype and self._mine(y, y, x):
            return y.addmm_(x, a)
        return super().matmul_add(y, x, a)

    def add_matmul(self, x: Array, y: Array, a: Array) -> Array:
        if not self.is_concrete(x, y, a):  # under vmap one of them may have examples that the others lack
            return x + self.matmul(y, a)
        return super().add_matmul(x, y, a)

    def _mine(self, y: Array, x: Array, a: Array) -> bool:
        """Whether y can be overwritten: nothing is differentiated or traced, and nothing is converted."""
        if torch.is_grad_enabled() and (y.requires_grad or x.requires_grad or a.requires_grad):
            return False
        if forward_ad._current_level >= 0:
            return False
        if x.shape != y.shape or not x.dtype == y.dtype == a.dtype or being_traced():
            return False
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        return not (wrapped(y) or wrapped(x) or wrapped(a))

    def put(self, x: Array, index: Any, value: Array) -> Array:
        if self.differentiating(x, value) or not self.is_concrete(x, value):
            x = x.clone()
        if batched(value):  # vmap writes what has examples only into what has them
            x = x + torch.zeros_like(value).sum().to(x.dtype)
        x[index] = value
        return x

    def index_add(self, rows: Array, values: Array, m: int) -> Array:
        out = torch.zeros((*values.shape[:-2], m, values.shape[-1]), dtype=values.dtype, device=values.device)
        return out.index_add(-2, rows, values)

    def add_diagonal(self, M: Array, d: Array) -> Array:
        if self.differentiating(M) or (d.is_complex() and not M.is_complex()):
            # a scatter into a real matrix would drop imaginary parts; and the derivative in M is then
            # what comes in, where that of a scatter is three matrices
            return M + torch.diag_embed(d.expand(torch.broadcast_shapes(d.shape, M.shape[-1:])))
        moved = torch.diagonal(M, dim1=-2, dim2=-1) + d
        # a scatter would take the real part of a complex shift of a real matrix
        return torch.diagonal_scatter(M.to(moved.dtype), moved, dim1=-2, dim2=-1)

    def matrix_diag(self, d: Array) -> Array:
        return torch.diag_embed(d)

    # -- dense factorisations --------------------------------------------------------------------------------
    def plain_cholesky(self, A: Array, check: bool = True) -> Array:
        L, info = torch.linalg.cholesky_ex(A)
        if not check or not self.is_concrete(info):  # half a factor would look like a whole one
            return torch.where((info > 0)[..., None, None], torch.full_like(L, float("nan")).tril(), L)
        if bool((info > 0).any()):
            raise NotPositiveDefiniteError(
                f"Cholesky factorisation failed: the leading minor of order {int(info.max())} is not "
                "positive. The operator is not positive definite to working precision; remove the PSD "
                "declaration to take the general path, add a small multiple of the identity, or use LU()."
            )
        return L

    def solve_triangular(self, L: Array, B: Array, lower: bool = True, unit: bool = False) -> Array:
        dtype = torch.promote_types(L.dtype, B.dtype)
        L, B = L.to(dtype), B.to(dtype)
        if not unit and self.is_concrete(L):
            zero = torch.diagonal(L, dim1=-2, dim2=-1) == 0
            if bool(zero.any()):
                raise SingularMatrixError(
                    f"triangular matrix of shape {tuple(L.shape)} is singular: a diagonal entry is exactly "
                    "zero"
                )
        return torch.linalg.solve_triangular(L, B, upper=not lower, unitriangular=unit)

    def all_finite(self, x: Array) -> bool:
        if not self.is_concrete(x):
            return True
        x = x.detach()
        # a sum is finite only if all are: one pass instead of five. One that is not may have overflowed
        return bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all())

    def cholesky_inverse(self, L: Array) -> Array:
        return torch.cholesky_inverse(L)

    def lu_factor(self, A: Array) -> Any:
        lu, piv, info = torch.linalg.lu_factor_ex(A)
        if self.is_concrete(info) and bool((info > 0).any()):
            raise SingularMatrixError(
                f"matrix of shape {tuple(A.shape)} is singular: pivot {int(info.max()) - 1} of its LU "
                "factorisation is exactly zero. Regularise it (A + s*I), or use lstsq."
            )
        return lu, piv

    def lu_solve(self, factors: Any, B: Array, adjoint: bool = False) -> Array:
        lu, piv = factors
        dtype = torch.promote_types(lu.dtype, B.dtype)
        if lu.shape[:-2] != B.shape[:-2] and not self.is_concrete(lu, B):
            # PyTorch's rule for vmap pairs the axes of a batch with the wrong ones (seen in 2.13)
            batch = torch.broadcast_shapes(lu.shape[:-2], B.shape[:-2])
            lu, piv, B = (x.expand(*batch, *x.shape[x.ndim - k :]) for x, k in ((lu, 2), (piv, 1), (B, 2)))
        return torch.linalg.lu_solve(lu.to(dtype), piv, B.to(dtype), adjoint=adjoint)

    def lu_slogdet(self, factors: Any) -> tuple[Array, Array]:
        lu, piv = factors
        d = torch.diagonal(lu, dim1=-2, dim2=-1)
        steps = torch.arange(1, piv.shape[-1] + 1, device=piv.device, dtype=piv.dtype)
        parity = ((piv != steps).sum(-1) % 2).to(d.dtype)
        return (1 - 2 * parity) * torch.sgn(d).prod(-1), torch.log(torch.abs(d)).sum(-1)

    def lu_rcond(self, factors: Any, norm1: Array) -> Any:
        lu = factors[0]
        if lu.dim() != 2 or not lu.numel() or not self.is_concrete(lu) or lu.device.type != "cpu":
            return None
        from .numpy_backend import _lapack

        host = self.to_numpy(lu)
        gecon = _lapack("gecon", host)
        return gecon(host, self.number(norm1), norm="1")[0]

    def ldl_factor(self, A: Array) -> Any:
        LD, pivots, info = torch.linalg.ldl_factor_ex(A, hermitian=True)
        if info.numel() and self.is_concrete(info) and bool((info > 0).any()):
            raise SingularMatrixError(
                f"matrix of shape {tuple(A.shape)} is singular: a pivot of its LDL factorisation is exactly "
                "zero. Regularise it (A + s*I), or use lstsq."
            )
        return LD, pivots

    def ldl_solve(self, factors: Any, B: Array) -> Array:
        LD, pivots = factors
        dtype = torch.promote_types(LD.dtype, B.dtype)
        if not LD.numel() or not B.numel():
            return torch.zeros(B.shape, dtype=dtype, device=B.device)
        if B.dim() > 2:
            flat = B.movedim(-2, 0)
            X = self.ldl_solve(factors, flat.reshape(flat.shape[0], -1))
            return X.reshape(flat.shape).movedim(0, -2)
        return torch.linalg.ldl_solve(LD.to(dtype), pivots, B.to(dtype), hermitian=True)

    def plain_eigh(self, A: Array) -> tuple[Array, Array]:
        w, V = torch.linalg.eigh(A)
        return w, V

    def derived(self, rule: Any, A: Array) -> tuple[Array, ...]:
        if not A.numel() or not self.differentiating(A):
            return rule.compute(self, A)  # type: ignore[no-any-return]
        from ..autodiff.torch_dense import derive

        return derive(rule.whole or rule, A)[: rule.count]

    def plain_eig(self, A: Array) -> tuple[Array, Array]:
        w, V = torch.linalg.eig(A)
        return w, V

    def plain_svdvals(self, A: Array) -> Array:
        return torch.linalg.svdvals(A)

    def plain_lu(self, A: Array) -> tuple[Array, Array, Array]:
        P, L, U = torch.linalg.lu(A)
        if not A.numel():
            rows = torch.arange(A.shape[-2], device=A.device)
            return rows.expand(*A.shape[:-1]), L, U
        # A = P L U with P a matrix of zeros and ones: the row of each column's one
        return torch.argmax(P.real, dim=-2), L, U

    def schur(self, A: Array) -> tuple[Array, Array]:
        if not self.is_concrete(A) or (A.requires_grad and torch.is_grad_enabled()):
            from ..autodiff.dense_schur import MESSAGE

            raise NotImplementedError(MESSAGE)
        from .numpy_backend import BACKEND as host

        return tuple(self.asarray(x, device=A.device) for x in host.schur(self.to_numpy(A)))  # type: ignore[return-value]

    def plain_eigvals(self, A: Array) -> Array:
        return torch.linalg.eigvals(A)

    def plain_eigvalsh(self, A: Array) -> Array:
        return torch.linalg.eigvalsh(A)

    def expm(self, A: Array) -> Array:
        return torch.linalg.matrix_exp(A)

    def implicit_solve(
        self,
        A: Any,
        solve: Callable[[Any, Any], Any],
        b: Array,
        solve_adjoint: Any = None,
        solve_tangent: Any = None,
    ) -> tuple[Array, Any]:
        from ..autodiff.torch_hidden import refuse_hidden
        from ..autodiff.torch_implicit import implicit_solve

        refuse_hidden(A)
        return implicit_solve(A, solve, b, solve_adjoint, solve_tangent)

    def differentiable(
        self,
        run: Callable[..., tuple[tuple[Array, ...], Any]],
        tangent: Callable[..., tuple[Array, ...]],
        *inputs: Any,
        cotangent: Callable[..., tuple[Any, ...]] | None = None,
        linear: dict[int, Callable[..., Any]] | None = None,
    ) -> tuple[tuple[Array, ...], Any]:
        if torch.is_grad_enabled() or forward_ad._current_level >= 0:
            from ..autodiff.torch_hidden import refuse_hidden

            refuse_hidden(*inputs)
        if not self.differentiating(*tree_leaves(inputs)):
            return run(*inputs)
        from ..autodiff.torch_answer import differentiable

        return differentiable(run, tangent, inputs, cotangent)

    # -- functions of arrays ---------------------------------------------------------------------------------
    def jvp(self, f: Callable[..., Array], xs: tuple[Array, ...], vs: tuple[Array, ...]) -> Any:
        return torch.func.jvp(f, xs, vs)

    def vjp(self, f: Callable[..., Array], *xs: Array) -> tuple[Array, Callable[[Array], Any]]:
        # torch's cotangents are conjugated already: it pulls back with J^H
        return torch.func.vjp(f, *xs)  # type: ignore[no-any-return]

    def linearize(self, f: Callable[..., Array], *xs: Array) -> Callable[..., Array]:
        import warnings

        with warnings.catch_warnings():  # it folds constants of its own graph and warns about their names
            warnings.simplefilter("ignore", UserWarning)
            return torch.func.linearize(f, *xs)[1]  # type: ignore[no-any-return]

    def vmap(self, f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
        return torch.func.vmap(f, in_dims=in_axes, out_dims=out_axes)

    def checkpoint(self, f: Callable[..., Array]) -> Callable[..., Array]:
        from torch.utils.checkpoint import checkpoint

        def run(*args: Any) -> Array:
            tensors = torch.utils._pytree.tree_leaves(args)
            # the transformations of torch.func cannot recompute; they keep what they need. They switch hooks
            # off for everything inside of them, plain tensors too (asked last: Dynamo cannot trace that)
            concrete = torch.is_grad_enabled() and self.is_concrete(*tensors)
            if concrete and torch._C._autograd._saved_tensors_hooks_is_enabled():
                return checkpoint(f, *args, use_reentrant=False)  # type: ignore[no-any-return]
            return f(*args)

        return run

    # -- control flow and randomness -------------------------------------------------------------------------
    def while_loop(self, cond: Callable[[Any], Any], body: Callable[[Any], Any], state: Any) -> Any:
        if being_traced():
            return unrolled_loop(cond, body, state)
        going = cond(state)
        while going if not batched(going) else False:
            state = body(state)
            going = cond(state)
        return masked_loop(cond, body, state, going) if batched(going) else state

    def normal(self, key: Any, shape: tuple[int, ...], dtype: Any, device: Any = None) -> Array:
        with _untraced():
            generator = torch.Generator().manual_seed(int(key))
            found = torch.randn(shape, generator=generator, dtype=self.dtype(dtype)).to(device)
        return _constant(found)

    def rademacher(self, key: Any, shape: tuple[int, ...], dtype: Any, device: Any = None) -> Array:
        with _untraced():
            generator = torch.Generator().manual_seed(int(key))
            signs = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8)
            found = (2 * signs - 1).to(dtype=self.dtype(dtype), device=device)
        return _constant(found)


def _untraced() -> Any:
    """Within, numbers are numbers: those that a key stands for are constants of a program being traced, and
    the same for every example of ``torch.func.vmap``."""
    if being_traced():
        return _disable_current_modes()
    return temporarily_clear_interpreter_stack() if peek_interpreter_stack() is not None else nullcontext()


def _constant(x: Array) -> Array:
    return torch.ops.aten.lift_fresh(x) if being_traced() else x


BACKEND = TorchBackend()


def backend_of_class(cls: type) -> Backend | None:
    """What Dynamo reads for ``registry.backend_of_type``."""
    if issubclass(cls, torch.Tensor):
        return BACKEND
    if cls.__name__ == "ndarray":
        from .numpy_backend import BACKEND as host

        return host
    return None
