"""``save`` and ``load`` of estimators whose state is numbers and arrays; nothing is executed on reading.

The file holds everything that the constructor was given and the fit has found, as :mod:`cola_gp.storage`
writes it.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from cola_core.errors import FileFormatError

from .. import storage
from .base import check_is_fitted

T = TypeVar("T", bound="Saved")


class Saved:
    """Mixin of estimators that can be constructed without arguments."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted estimator to one file; read it with :meth:`load`."""
        check_is_fitted(self)
        storage.save(path, {"state": dict(vars(self))}, {"estimator": type(self).__name__})

    @classmethod
    def load(cls: type[T], path: str | os.PathLike[str]) -> T:
        """The fitted estimator of a file written by :meth:`save`.  Raises FileFormatError."""
        parts, meta = storage.load(path)
        name, state = meta.get("estimator"), parts.get("state")
        if name != cls.__name__ or not isinstance(state, dict):
            raise FileFormatError(f"{os.fspath(path)} holds a {name or 'model'}, not a {cls.__name__}.")
        made: Any = cls()
        for key, value in state.items():
            # An attribute that the class defines, such as a method, is not state.
            if not key.isidentifier() or key.startswith("__") or hasattr(cls, key):
                raise FileFormatError(f"{os.fspath(path)}: {key!r} is no attribute of a {cls.__name__}.")
            setattr(made, key, value)
        return made  # type: ignore[no-any-return]
