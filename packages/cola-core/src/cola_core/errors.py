"""Every error and warning the packages raise on purpose.

Contract: an error names the operator, both sides of a mismatch and the remedy; each class also derives from
the built-in (or NumPy) exception a user would already be catching.
"""

from __future__ import annotations

from numpy.linalg import LinAlgError

__all__ = [
    "AbstractValueError",
    "AmbiguousRuleError",
    "BackendError",
    "ColaError",
    "ConvergenceError",
    "ConvergenceWarning",
    "DTypeError",
    "DeviceError",
    "FileFormatError",
    "IllConditionedWarning",
    "MemoryBudgetError",
    "NoRuleError",
    "NonFiniteError",
    "NonSquareError",
    "NotDifferentiableError",
    "NotPositiveDefiniteError",
    "PluginLoadError",
    "PluginLoadWarning",
    "PropertyError",
    "RegistrationError",
    "ShapeError",
    "ShardedOperandError",
    "SingularMatrixError",
    "UnknownNameError",
    "UnreliableResultWarning",
]


class ColaError(Exception):
    """Base of every error raised on purpose by these packages."""


class ShapeError(ColaError, ValueError):
    """Shapes do not fit together."""


class NonSquareError(ShapeError):
    """A question about square operators was asked of a rectangular one."""


class DTypeError(ColaError, TypeError):
    """A dtype is unsupported or two dtypes do not fit together."""


class BackendError(ColaError, TypeError):
    """Arrays of different libraries (NumPy, PyTorch, JAX) met in one expression."""


class DeviceError(ColaError, ValueError):
    """Arrays of one library live on different devices."""


class NonFiniteError(ColaError, ValueError):
    """A NaN or infinity where a finite number is required."""


class PropertyError(ColaError, ValueError):
    """A declared property (PSD, Unitary, ...) cannot hold or does not hold."""


class NotDifferentiableError(ColaError, ArithmeticError):
    """A derivative was asked for where none exists (or where it is not determined by what was computed)."""


class NotPositiveDefiniteError(ColaError, LinAlgError):
    """A positive definite operator was required and the operator is not."""


class SingularMatrixError(ColaError, LinAlgError):
    """The operator has no inverse."""


class ConvergenceError(ColaError, ArithmeticError):
    """An iteration missed its tolerance and ``on_failure="raise"`` was asked for."""


class MemoryBudgetError(ColaError, MemoryError):
    """Answering would need a dense matrix larger than the memory budget."""


class ShardedOperandError(MemoryBudgetError, DeviceError):
    """An operator spread over several devices would have to be gathered onto every one of them, above the
    budget for that; the message names the algorithms that leave it where it is."""


class NoRuleError(ColaError, NotImplementedError):
    """No rule or algorithm answers this question for this operator;
    the message lists what was refused and why."""


class AbstractValueError(ColaError, TypeError):
    """A value was read while planning, where only shapes and dtypes exist."""


class UnknownNameError(ColaError, LookupError):
    """A name (algorithm, operator, plugin, file column, ...) is not known."""


class RegistrationError(ColaError, ValueError):
    """A plugin tried to register something invalid; nothing of it was registered.

    rival: the other plugin, where two contradict each other and neither is wrong by itself.
    """

    def __init__(self, message: str, rival: str = "") -> None:
        super().__init__(message)
        self.rival = rival


class AmbiguousRuleError(ColaError, LookupError):
    """Two rules apply equally well; the message names both, with plugin, file and line, and the remedies."""


class PluginLoadError(ColaError, ImportError):
    """A plugin asked for by name could not be loaded."""


class FileFormatError(ColaError, ValueError):
    """A file is missing, truncated or malformed."""


class UnreliableResultWarning(RuntimeWarning):
    """Base of warnings that say: this number may be wrong, and here is by how much."""


class ConvergenceWarning(UnreliableResultWarning):
    """An iterative or stochastic answer missed its tolerance; the message carries the numbers."""


class IllConditionedWarning(UnreliableResultWarning):
    """A direct answer has few or no correct digits; the message carries the condition estimate."""


class PluginLoadWarning(UserWarning):
    """A plugin met by chance was skipped; the message names it and how to silence or inspect it."""
