"""The package's cases for ``cola_core.testing``, against matrices written down directly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cola_core.testing import Capabilities, Case, closed, only

_REAL = closed("second derivatives are real operators; complex right-hand sides are accepted")
_COMPILE = closed(
    "torch.compile does not trace the cached facts of operators; compile the array function instead"
)
_VMAP = closed("a Kronecker sum moves axes, for which torch.vmap has no rule")


def cases() -> list[Case]:
    """Operators, then rules, then the domain module."""
    return operator_cases() + rule_cases() + domain_cases()


# -- references: no code shared with the operators ---------------------------------------------------------
def _difference(n: int, centring: str, kind: str) -> np.ndarray:
    """The symmetrised unit second difference, entry by entry."""
    S = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    if kind == "P":
        S[0, -1] -= 1
        S[-1, 0] -= 1
    for end, letter in zip((0, -1), kind if kind != "P" else "", strict=False):
        inner = 1 if end == 0 else -2
        if centring == "cell":
            S[end, end] += 1 if letter == "D" else -1
        elif letter == "N":
            S[end, inner] = S[inner, end] = -np.sqrt(2)
    return S


def _diffusion(n: int, kind: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links, ends and the matrix they stand for (cell-centred)."""
    rng = np.random.default_rng(seed)
    links = rng.uniform(0.5, 2.0, n if kind == "P" else n - 1)
    ends = np.array([2.5, 1.5]) if kind == "DD" else np.zeros(2)
    S = np.diag(np.r_[ends[0], np.zeros(n - 2), ends[1]])
    for i, a in enumerate(links):
        j = (i + 1) % n
        S[i, i] += a
        S[j, j] += a
        S[i, j] -= a
        S[j, i] -= a
    return links, ends, S


def _cosines(n: int, rows: float, columns: float, denominator: float, f: Callable[..., Any]) -> np.ndarray:
    k, j = np.arange(n)[:, None], np.arange(n)
    M = f(np.pi / denominator * (k + rows) * (j + columns))
    return M / np.linalg.norm(M, axis=1, keepdims=True)


_TRANSFORMS: dict[str, Callable[[int], np.ndarray]] = {
    "dct2": lambda n: _cosines(n, 0, 0.5, n, np.cos),
    "dct3": lambda n: _cosines(n, 0, 0.5, n, np.cos).T,
    "dct4": lambda n: _cosines(n, 0.5, 0.5, n, np.cos),
    "dst1": lambda n: _cosines(n, 1, 1, n + 1, np.sin),
    "dst2": lambda n: _cosines(n, 1, 0.5, n, np.sin),
    "dst3": lambda n: _cosines(n, 1, 0.5, n, np.sin).T,
    "dst4": lambda n: _cosines(n, 0.5, 0.5, n, np.sin),
    "dht": lambda n: _cosines(n, 0, 0, n / 2, lambda t: np.cos(t) + np.sin(t)),
}


# -- operators ---------------------------------------------------------------------------------------------
def _laplacian(n: int, centring: str, kind: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def factory(backend: Any, dtype: str, seed: int) -> Any:
        from .ops import Laplacian1D

        return Laplacian1D(backend.asarray(2.5, dtype=dtype), n, kind, centring)

    return factory, lambda dtype, seed: 2.5 * _difference(n, centring, kind)


def _grid(backend: Any, dtype: str, seed: int) -> Any:
    from cola_core.ops import KronSum

    from .ops import Laplacian1D

    scale = backend.asarray(1.5, dtype=dtype)
    return KronSum(Laplacian1D(scale, 3, "DD", "vertex"), Laplacian1D(scale, 4, "P", "cell"))


def _grid_reference(dtype: str, seed: int) -> np.ndarray:
    A, B = 1.5 * _difference(3, "vertex", "DD"), 1.5 * _difference(4, "cell", "P")
    return np.kron(A, np.eye(4)) + np.kron(np.eye(3), B)


def operator_cases() -> list[Case]:
    """`Laplacian1D` for all kinds and centrings, `Diffusion1D`, `Transform`, and a Kronecker sum of them."""
    real = Capabilities(complex=_REAL, torch_compile=_COMPILE)
    out = []
    for centring in ("cell", "vertex"):
        for kind in ("DD", "NN", "DN", "ND", "P"):
            factory, reference = _laplacian(6, centring, kind)
            name = f"laplacian1d-{centring}-{kind.lower()}"
            out.append(Case(name, factory=factory, reference=reference, capabilities=real))
    for kind in ("DD", "P"):

        def diffusion(backend: Any, dtype: str, seed: int, kind: str = kind) -> Any:
            from .ops import Diffusion1D

            links, ends, _ = _diffusion(5, kind, seed)
            return Diffusion1D(backend.asarray(links, dtype=dtype), backend.asarray(ends, dtype=dtype), kind)

        def dense(dtype: str, seed: int, kind: str = kind) -> np.ndarray:
            return _diffusion(5, kind, seed)[2]

        out.append(Case(f"diffusion1d-{kind.lower()}", factory=diffusion, reference=dense, capabilities=real))
    for name, matrix in _TRANSFORMS.items():

        def transform(backend: Any, dtype: str, seed: int, name: str = name) -> Any:
            from .ops import Transform

            return Transform(backend.asarray(0.0, dtype=dtype), name, 5)

        def matrix_of(dtype: str, seed: int, matrix: Callable[[int], np.ndarray] = matrix) -> np.ndarray:
            return matrix(5)

        plain = Capabilities(torch_compile=_COMPILE)
        out.append(Case(f"transform-{name}", factory=transform, reference=matrix_of, capabilities=plain))
    grid = Capabilities(complex=_REAL, torch_compile=_COMPILE, vmap=_VMAP)
    out.append(Case("laplacian-grid", factory=_grid, reference=_grid_reference, capabilities=grid))
    return out


def rule_cases() -> list[Case]:
    """Each rule on a matrix with a trivial null space, where its question has an answer."""
    factory, reference = _laplacian(6, "cell", "DN")
    return [
        Case(
            f"rule-{name}",
            kind="rule",
            factory=factory,
            reference=reference,
            rule=f"pde:{name}/laplacian1d",
            capabilities=Capabilities(complex=_REAL),
        )
        for name in ("eigh", "eigsh", "solve", "slogdet", "function", "trace", "diag")
    ]


def domain_cases() -> list[Case]:
    """Values of `poisson`, `heat` and `eigenmodes` that are known in closed form."""
    return [
        Case(
            "cola-pde",
            kind="domain",
            module="cola_pde",
            values={"poisson-parabola": _parabola, "heat-decay": _decay, "eigenmodes-square": _square},
            capabilities=Capabilities(
                backends=only("numpy", "torch", "jax", reason="the array libraries of the core"),
                complex=_REAL,
            ),
        )
    ]


def _parabola(backend: Any) -> tuple[Any, Any]:
    """-u'' = 2 with u = 0 at both ends: the scheme is exact, u = x (1 - x)."""
    from .elliptic import poisson
    from .grid import Axis, Grid

    x = np.arange(1, 8) / 8
    return poisson(Grid(Axis(8, centring="vertex")), backend.asarray(np.full(7, 2.0))).u, x * (1 - x)


def _decay(backend: Any) -> tuple[Any, Any]:
    """The lowest mode of the square decays with the discrete eigenvalue."""
    from .grid import Grid
    from .heating import heat

    n, t = 8, 0.05
    x = (np.arange(n) + 0.5) / n
    mode = np.sin(np.pi * x)[:, None] * np.sin(np.pi * x)
    rate = 2 * (2 * n * np.sin(np.pi / (2 * n))) ** 2
    return heat(Grid.box((n, n)), backend.asarray(mode), t).u, np.exp(-rate * t) * mode


def _square(backend: Any) -> tuple[Any, Any]:
    """Lowest eigenvalues of the five-point Laplacian on the unit square: sums of 4 n^2 sin^2(k pi / 2n)."""
    from .grid import Grid
    from .modes import eigenmodes

    n = 16
    one = 4 * n**2 * np.sin(np.pi * np.arange(1, n) / (2 * n)) ** 2
    exact = np.sort(np.add.outer(one, one).ravel())[:6]
    return eigenmodes(Grid.box((n, n), centring="vertex"), 6, backend=backend.name).values, exact
