"""Operators of other libraries, in and out; one file per library, imported when one of its objects appears.

In: ``as_operator(x)`` (and so every question, ``A + x``, ``A @ x``) takes what is listed below. An object is
recognised by the module of its class, so that nothing is imported to find out that it is something else. What
has an exact counterpart keeps its structure; everything else is multiplied through the library's own product.

Out: ``to_scipy``, ``to_scipy_sparse``, ``to_torch_sparse``, ``to_jax_sparse``, ``to_pylops``, ``to_lineax``,
``to_linear_operator``. Arrays are shared, not copied, wherever both libraries can (DLPack).

=====================================  =============================================================
``scipy.sparse.linalg.LinearOperator``  sums, products, multiples and matrices are taken apart
``scipy.sparse``                        ``Sparse``
``torch.sparse``                        COO, CSR, CSC: ``Sparse``
``jax.experimental.sparse``             BCOO, BCSR (and COO, CSR, CSC): ``Sparse``
PyLops                                  products only; its flattened shape
lineax                                  structure and tags; trees of vectors are flattened
linear_operator (GPyTorch)              structure where there is an exact counterpart
=====================================  =============================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..compiling import read_instead

__all__ = [
    "convert",
    "library_of",
    "to_jax_sparse",
    "to_linear_operator",
    "to_lineax",
    "to_pylops",
    "to_scipy",
    "to_scipy_sparse",
    "to_torch_sparse",
]

# (module of the class begins with, name of the class or None for any) -> the file that converts
_KNOWN: tuple[tuple[str, str | None, str], ...] = (
    ("pylops", "LinearOperator", "pylops"),
    ("lineax", "AbstractLinearOperator", "lineax"),
    ("linear_operator", "LinearOperator", "linear_operator"),
    ("jax.experimental.sparse", None, "jax_sparse"),
    ("scipy.sparse.linalg", "LinearOperator", "scipy_linear_operator"),
    ("scipy.sparse", None, "scipy_sparse"),
)
_BY_TYPE: dict[type, str | None] = {}


def library_of(x: Any) -> str | None:
    """Which file here converts ``x``; None for arrays, our own operators and anything unknown."""
    found = _of_type(type(x))
    if found == "torch_sparse" and str(x.layout) == "torch.strided":
        return None
    return found


@read_instead(lambda cls: "torch_sparse" if cls.__name__ in ("Tensor", "Parameter") else None)
def _of_type(cls: type) -> str | None:
    try:
        return _BY_TYPE[cls]
    except KeyError:
        return _BY_TYPE.setdefault(cls, _library_of_type(cls))


def _library_of_type(cls: type) -> str | None:
    for base in cls.__mro__:
        if base.__module__ == "torch" and base.__name__ == "Tensor":
            return "torch_sparse"  # its layout belongs to the object, not to the class
        for module, name, file in _KNOWN:
            if (base.__module__ + ".").startswith(module + ".") and name in (None, base.__name__):
                if file == "scipy_sparse" and not hasattr(cls, "tocoo"):
                    continue
                return file
    return None


def convert(x: Any) -> Any:
    """The operator of ours that ``x`` is; None if it belongs to no library known here."""
    library = library_of(x)
    return None if library is None else _file(library).read(x)


def _file(library: str) -> Any:
    return import_module(f"{__name__}.{library}")


def to_scipy(A: Any) -> Any:
    """``A`` as a ``scipy.sparse.linalg.LinearOperator``, for ``cg``, ``eigsh``, ``svds`` and the like.

    Arrays of PyTorch and JAX are shared with NumPy on the way in and out where they are on the host.

    >>> import numpy as np, cola_core as cola
    >>> from scipy.sparse.linalg import eigsh
    >>> K = cola.kron(np.diag([1.0, 2.0, 3.0]), np.diag([1.0, 10.0, 100.0]))
    >>> [round(float(w)) for w in eigsh(cola.interop.to_scipy(K), k=2, return_eigenvectors=False)]
    [200, 300]
    """
    return _file("scipy_linear_operator").write(_own(A))


def to_scipy_sparse(A: Any) -> Any:
    """The stored entries of a ``Sparse`` (TypeError for operators that store none) as a ``csr_array``."""
    return _file("scipy_sparse").write(_own(A))


def to_torch_sparse(A: Any, layout: str = "csr") -> Any:
    """The entries of ``A`` as a sparse tensor of PyTorch. layout: "csr" or "coo"."""
    return _file("torch_sparse").write(_own(A), layout)


def to_jax_sparse(A: Any, layout: str = "bcoo") -> Any:
    """The entries of ``A`` as a sparse array of JAX. layout: "bcoo" or "bcsr"."""
    return _file("jax_sparse").write(_own(A), layout)


def to_pylops(A: Any) -> Any:
    """``A`` as a ``pylops.LinearOperator`` on NumPy arrays."""
    return _file("pylops").write(_own(A))


def to_lineax(A: Any) -> Any:
    """``A`` (of JAX arrays) as a lineax operator, with tags for what is known about it."""
    return _file("lineax").write(_own(A))


def to_linear_operator(A: Any) -> Any:
    """``A`` (of PyTorch tensors) as an operator of the ``linear_operator`` package.

    Structure is kept where there is an exact counterpart; anything else multiplies through ``A``.
    """
    return _file("linear_operator").write(_own(A))


def _own(A: Any) -> Any:
    from ..operators import as_operator

    return as_operator(A)
