"""Any file that holds a matrix, as an operator; the suffix decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import FileFormatError
from ..operators import Dense, LinearOperator, Sparse
from .arrays import read_array, split_member
from .atomic import PathLike
from .content import content
from .matrix_market import read_matrix_market
from .saved import load

__all__ = ["read_operator"]


def read_operator(path: PathLike, backend: str = "numpy") -> LinearOperator:
    """The matrix in a file, chosen by its suffix.

    ``.cola``: what ``save`` wrote; ``.mtx``, ``.mtx.gz``: Sparse or Dense; ``.npy``, text: Dense; ``.npz``:
    Dense, or Sparse if SciPy's ``save_npz`` wrote it. Only a ``.cola`` file and a Matrix Market header can
    declare the matrix self-adjoint; entries are never taken as a declaration. backend: where a ``.cola`` file
    is read to; the others are read as NumPy arrays.
    """
    file, member = split_member(path)
    if Path(file).suffix == ".cola":
        return load(file, backend=backend)
    if Path(file).suffix == ".mtx" or file.endswith(".mtx.gz"):
        return read_matrix_market(file)
    if Path(file).suffix == ".npz" and not member:
        found = _scipy_archive(file)
        if found is not None:
            return found
    array = read_array(path)
    if array.ndim != 2:
        raise FileFormatError(f"{path}: expected a matrix (two axes), found an array of shape {array.shape}.")
    return Dense(array)


def _scipy_archive(file: str) -> LinearOperator | None:
    """The matrix of ``scipy.sparse.save_npz``, or None if the archive is something else."""
    import io
    import zipfile

    raw = content(file)
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            names = {n.removesuffix(".npy") for n in archive.namelist()}
    except zipfile.BadZipFile:
        return None
    if not {"format", "shape", "data"} <= names:
        return None
    from scipy.sparse import load_npz

    try:
        M = load_npz(io.BytesIO(raw)).tocoo()
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise FileFormatError(f"{file} is not a matrix written by scipy.sparse.save_npz: {error}.") from None
    if M.data.dtype.kind in "fc" and not np.isfinite(M.data).all():
        raise FileFormatError(f"{file}: an entry is NaN or infinite; expected finite numbers.")
    return Sparse.from_scipy(M)
