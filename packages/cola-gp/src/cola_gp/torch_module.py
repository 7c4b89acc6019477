"""``GPModule``: a model whose leaves are the parameters of a ``torch.nn.Module``.

The tree of the model becomes a tree of modules, so that names in ``state_dict`` are those of the model's
leaves (``parts.kernel.kernel.log_lengthscale``; with an underscore behind a name that modules use
themselves) and optimizers, schedulers, ``requires_grad_``, ``to`` and
checkpoints of torch work as for any module.  Positive parameters are stored by their logarithm, so every
value is allowed.  Data inside of the model, such as the variances of ``FixedNoise``, become buffers.
"""

from __future__ import annotations

from typing import Any

import torch

from cola_core.algorithms import Auto

from ._struct import Struct, rebuild
from .arrays import backend_for
from .data import Data
from .likelihood import marginal_likelihood
from .model import GP
from .posterior import Posterior


class _Node(torch.nn.Module):
    """One struct or tuple of the tree; it can put itself together again."""

    def __init__(self, tree: Any, dtype: torch.dtype, trainable: bool):
        super().__init__()
        # In a tuple, so that torch does not take a struct full of arrays for something of its own.
        self._template = (tree,)
        self._dtype = dtype
        names = tree._child_fields if isinstance(tree, Struct) else [str(i) for i in range(len(tree))]
        # A field may have the name of something that modules have already, such as ``parameters``.
        self._fields = tuple(name + "_" if hasattr(torch.nn.Module, name) else name for name in names)
        for i, (field, name) in enumerate(zip(names, self._fields, strict=True)):
            child = getattr(tree, field) if isinstance(tree, Struct) else tree[i]
            ours = trainable and not (isinstance(tree, Struct) and field in tree._data_fields)
            if isinstance(child, (Struct, tuple)):
                self.add_module(name, _Node(child, dtype, ours))
                continue
            backend = backend_for(child)
            value = torch.as_tensor(backend.to_numpy(child).copy() if backend.name != "torch" else child)
            value = value.detach().clone()
            floating = value.is_floating_point()
            value = value.to(dtype) if floating else value
            if ours and floating:
                self.register_parameter(name, torch.nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def tree(self) -> Any:
        children = []
        for name in self._fields:
            child = getattr(self, name)
            children.append(child.tree() if isinstance(child, _Node) else child)
        (template,) = self._template
        return rebuild(template, tuple(children)) if isinstance(template, Struct) else tuple(children)


class GPModule(torch.nn.Module):
    """The parameters of a Gaussian process model as those of a torch module.

    ``module(X, y)`` is the log marginal likelihood, a 0-d tensor that can be differentiated;
    ``module.model()`` the model with the present parameters; ``module.posterior(X, y)`` a
    :class:`~cola_gp.posterior.Posterior` of it.  dtype: of the parameters (default: torch's); tensors of
    the data must have it too.

    >>> import torch, cola_gp as gp
    >>> from cola_gp.torch_module import GPModule
    >>> X = torch.linspace(0, 6, 30, dtype=torch.float64)[:, None]
    >>> module = GPModule(gp.GP(1.0 * gp.RBF(1.0), noise=0.1), dtype=torch.float64)
    >>> optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     loss = -module(X, torch.sin(X[:, 0]))
    ...     loss.backward()
    ...     optimizer.step()
    >>> bool(module(X, torch.sin(X[:, 0])) > 0)
    True
    """

    def __init__(self, model: GP, *, dtype: torch.dtype | None = None, alg: Any = Auto()):
        super().__init__()
        if not isinstance(model, GP):
            raise TypeError(f"GPModule needs a GP, not {type(model).__name__}.")
        self.parts = _Node(model, dtype or torch.get_default_dtype(), True)
        self.alg = alg

    def model(self) -> GP:
        """The model; its leaves are the parameters themselves, connected to the graph."""
        return self.parts.tree()  # type: ignore[no-any-return]

    def forward(self, X: Any, y: torch.Tensor) -> torch.Tensor:
        """Log marginal likelihood of targets ``y (n,)`` at inputs ``X`` (``(n, d)``, ``(n,)`` or a Grid)."""
        return marginal_likelihood(self.model(), Data(X, y), self.alg)

    def posterior(self, X: Any, y: torch.Tensor) -> Posterior:
        """Predictions from these data; differentiable unless inside of ``torch.no_grad()``."""
        return Posterior(self.model(), Data(X, y), self.alg)

    def extra_repr(self) -> str:
        with torch.no_grad():
            return repr(self.model())
