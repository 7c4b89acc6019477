"""PyTorch's DTensors in products: what keeps them spread runs, what would gather one is refused by name.

DTensor answers an operation that it cannot spread (a factorisation, an FFT, a sort, a slice of the spread
axis) by copying the operand onto every device, silently. While an operator holds DTensors, its products and
the questions asked of it run inside of ``Products``, a dispatch mode that

- takes plain tensors beside DTensors (start vectors, probes, small matrices) for equal on all devices, as
  they are when every process runs the same program with the same ``key``;
- raises ``ShardedOperandError`` with the operation's name where a spread operand would be replicated;
- makes the QR factors of a tall matrix in row blocks by TSQR: a QR of each block, and one of their stacked R
  (Demmel, Grigori, Hoemmen & Langou, SIAM J. Sci. Comput. 34 (2012) A206, sec. 2).

Vectors that an algorithm makes itself, and its basis, lie whole on every device; the operands stay spread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from threading import local
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ..autodiff.torch_loops import being_traced
from ..errors import ShardedOperandError

__all__ = ["Products", "any_spread", "door", "holds_spread", "products_of", "through_door"]

# what DTensor answers with copies; beginnings of names, and names
REFUSED_FAMILIES = (
    *("linalg_", "_linalg_", "_fft_", "fft_", "cholesky", "_cholesky", "lu_", "_lu_", "triangular_solve"),
    *(
        "geqrf",
        "ormqr",
        "orgqr",
        "unique",
        "_unique",
        "scatter",
        "index",
        "_index",
        "masked_",
        "cum",
        "log_cum",
    ),
)
REFUSED = frozenset(
    "sort argsort topk kthvalue median mode flip roll searchsorted bucketize histc gather take nonzero "
    "repeat_interleave diagonal diag_embed diagonal_scatter tril triu logcumsumexp constant_pad_nd".split()
)
_STATE = local()
ALLOWED = frozenset({"linalg_vector_norm"})


def door(*operands: Any) -> Any:
    """The context in which products of these operands (operators, tensors) are to be made; one that does
    nothing where none of them holds a DTensor, or where it is open already."""
    return products_of(*operands) or nullcontext()


def products_of(*operands: Any) -> Products | None:
    """As ``door``; None in the place of a context that does nothing."""
    if "torch.distributed.tensor" not in sys.modules or being_traced() or _STATE.__dict__.get("open"):
        return None
    return Products() if any(map(holds_spread, operands)) else None


def through_door(derivative: Callable[..., Any]) -> Callable[..., Any]:
    """A backward pass (or tangent) of an ``autograd.Function``, which runs when no question is asked.
    ``ctx.spread`` says whether a DTensor was among its inputs (``any_spread``)."""

    @wraps(derivative)
    def inside(ctx: Any, *grads: Any) -> Any:
        if not ctx.spread or being_traced() or _STATE.__dict__.get("open"):
            return derivative(ctx, *grads)
        with Products():
            return derivative(ctx, *grads)

    return inside


def any_spread(tensors: Any) -> bool:
    """Whether one of them is a DTensor."""
    return "torch.distributed.tensor" in sys.modules and any(map(_is_spread, tensors))


def holds_spread(x: Any) -> bool:
    """Whether a tensor is a DTensor, or an operator has one."""
    if not hasattr(type(x), "_child_fields"):
        return _is_spread(x)
    known = x.__dict__.get("_holds_spread")
    if known is None:
        from ..pytree import tree_leaves as leaves

        known = x.__dict__["_holds_spread"] = any(map(_is_spread, leaves(x)))
    return bool(known)


def _is_spread(x: Any) -> bool:
    return type(x) is not torch.Tensor and isinstance(x, torch.Tensor) and hasattr(x, "placements")


def on_host(x: Any) -> torch.Tensor:
    """A DTensor that is the same on every device, as a plain one; what is spread is refused."""
    if _cut(x):
        raise ShardedOperandError(_refusal("a copy to the host", x))
    found = x.detach().full_tensor()
    return found.wait() if hasattr(found, "wait") else found  # what a collective returns may be on its way


class Products(TorchDispatchMode):
    """See the module. One at a time is at work in a thread."""

    def __enter__(self) -> Any:
        _STATE.open = True
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        _STATE.open = False
        super().__exit__(*failure)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        spread = [x for x in tree_leaves((args, kwargs)) if _is_spread(x)]
        if not spread:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if not func._schema.is_mutable and all(p.is_replicate() for x in spread for p in x.placements):
            return _as_one(func, spread[0].device_mesh, args, kwargs)
        cut = [x for x in spread if _cut(x)]
        if cut:
            if name == "linalg_qr" and _tall(args):
                return _tsqr(args[0])
            if name == "index" and (at := _columns_only(args)) is not None:
                return _indexed(func, at, *args)
            if _would_gather(name, args, cut):
                raise ShardedOperandError(_refusal(name, cut[0]))
        args, kwargs = tree_map(_equal_everywhere(spread[0].device_mesh), (args, kwargs))
        out = func(*args, **kwargs)
        if func._schema.is_mutable:
            return out
        if cut:
            most = max(x.numel() for x in cut)
            for y in tree_leaves(out):
                if _is_spread(y) and y.numel() >= most > 1 and all(p.is_replicate() for p in y.placements):
                    raise ShardedOperandError(_refusal(name, cut[0]))
        lengths = {x.shape[p.dim] for x in cut for p in x.placements if p.is_shard()}
        return tree_map(lambda y: _settled(y, lengths), out)


def _settled(y: Any, lengths: set[int]) -> Any:
    """A sum of which every device has a part, added up: into rows where it is as long as what is spread, else
    onto every device, so that a number is the same one for all that branch on it."""
    if not _is_spread(y) or not any(p.is_partial() for p in y.placements):
        return y
    from torch.distributed.tensor import Replicate, Shard

    rows = y.ndim > 0 and y.shape[0] in lengths and y.device_mesh.ndim == 1
    return y.redistribute(placements=[Shard(0)] if rows else _whole(y, Replicate()))


def _whole(y: Any, replicate: Any) -> list[Any]:
    return [p if p.is_shard() else replicate for p in y.placements]


def _cut(x: Any) -> bool:
    return any(p.is_shard() and x.device_mesh.size(i) > 1 for i, p in enumerate(x.placements))


def _as_one(func: Any, mesh: Any, args: Any, kwargs: Any) -> Any:
    """Every device does the same with what is equal on all: as with plain tensors, and as complete."""

    def mine(x: Any) -> Any:
        return x._local_tensor if _is_spread(x) else x

    args, kwargs = tree_map(mine, (args, kwargs))
    return tree_map(_equal_everywhere(mesh), func(*args, **kwargs))


def _columns_only(args: Any) -> int | None:
    """The axis that one index takes entries of, where that is none that is spread; else None."""
    x, indices = args
    given = [i for i, index in enumerate(indices) if index is not None]
    if len(given) != 1 or not _is_spread(x) or indices[given[0]].ndim != 1 or _cut_any(indices[given[0]]):
        return None
    at = given[0]
    return None if any(p.is_shard(at) or p.is_partial() for p in x.placements) else at


def _indexed(func: Any, at: int, x: Any, indices: Any) -> Any:
    """Some columns of what is spread by rows, each device of its own."""
    from torch.distributed.tensor import DTensor

    index = indices[at]
    index = index._local_tensor if _is_spread(index) else index
    out = func(x._local_tensor, [None] * at + [index])
    shape = (*x.shape[:at], out.shape[at], *x.shape[at + 1 :])
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(
        out, x.device_mesh, x.placements, run_check=False, shape=torch.Size(shape), stride=stride
    )


def _cut_any(x: Any) -> bool:
    return _is_spread(x) and not all(p.is_replicate() for p in x.placements)


def _equal_everywhere(mesh: Any) -> Callable[[Any], Any]:
    """Plain tensors as DTensors of which every device has the same copy."""
    from torch.distributed.tensor import DTensor, Replicate

    def lifted(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or _is_spread(x):
            return x
        return DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False)

    return lifted


def _would_gather(name: str, args: Any, cut: list[Any]) -> bool:
    if name in ALLOWED:
        return False
    if name in REFUSED or name.startswith(REFUSED_FAMILIES):
        return True
    if name in ("slice", "select", "narrow") and args[0] is cut[0]:
        x, dim = args[0], int(args[1]) if len(args) > 1 else 0
        over = any(p.is_shard(dim % x.ndim) for p in x.placements)
        if name == "slice" and over:
            start = args[2] if len(args) > 2 and args[2] is not None else 0
            stop = args[3] if len(args) > 3 and args[3] is not None else x.shape[dim]
            return not (start == 0 and stop >= x.shape[dim] and (len(args) < 5 or args[4] == 1))
        return over
    return False


def _refusal(name: str, x: Any) -> str:
    return (
        f"{name} of a DTensor of shape {tuple(x.shape)} placed {tuple(x.placements)} over {x.device_mesh}: "
        "DTensor would copy it onto every device. Algorithms made of products leave it where it is: CG() to "
        "solve, Lanczos() and LOBPCG() for eigenpairs, SLQ() for log-determinants, Hutchinson() for traces; "
        "for a copy on every device ask for one, x.full_tensor()."
    )


# -- QR of a tall matrix in blocks of rows -------------------------------------------------------------------
def _tall(args: Any) -> bool:
    x = args[0]
    return (
        x.ndim == 2
        and x.shape[0] >= x.shape[1]
        and (len(args) < 2 or args[1] == "reduced")
        and x.device_mesh.ndim == 1
        and x.placements[0].is_shard(0)
    )


def _tsqr(x: Any) -> tuple[Any, Any]:
    from torch.distributed.tensor import DTensor, Replicate, Shard

    mesh, k = x.device_mesh, x.shape[1]
    mine = x.to_local()
    # blocks of fewer rows than columns give a shorter R: rows of zeros make them all alike
    Q1, R1 = torch.linalg.qr(torch.cat([mine, mine.new_zeros((max(k - mine.shape[0], 0), k))]))
    stacked = DTensor.from_local(R1, mesh, [Shard(0)], run_check=False).full_tensor()
    Q2, R = torch.linalg.qr(stacked)
    i = mesh.get_local_rank()
    Q = (Q1 @ Q2[i * k : (i + 1) * k])[: mine.shape[0]]
    whole = DTensor.from_local(Q, mesh, [Shard(0)], run_check=False, shape=x.shape, stride=(k, 1))
    return whole, DTensor.from_local(R, mesh, [Replicate()], run_check=False)
