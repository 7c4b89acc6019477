"""Files: operators as they are, Matrix Market matrices, NumPy arrays and text vectors in and out.

Contract: a file that is missing, truncated or malformed, or that holds NaN or infinity, raises one
``FileFormatError`` that names the file, the line where it is known, and what was expected. Files are written
under a temporary name and renamed, so that they appear complete or not at all.

    A = read_operator("stiffness.mtx")      # Sparse, declared SelfAdjoint if the file says symmetric or
    hermitian b = read_array("load.npy") write_array("x.npy", cola.solve(A, b))
"""

from __future__ import annotations

from .arrays import check_target, read_array, write_array, write_arrays
from .atomic import atomic_path
from .files import read_operator
from .matrix_market import read_matrix_market, write_matrix_market
from .saved import load, save

__all__ = [
    "atomic_path",
    "check_target",
    "load",
    "read_array",
    "read_matrix_market",
    "read_operator",
    "save",
    "write_array",
    "write_arrays",
    "write_matrix_market",
]
