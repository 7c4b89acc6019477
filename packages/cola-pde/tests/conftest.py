"""The installed backends, and a dense reference discretisation that shares no code with the package."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

COMBINATIONS = [(c, k) for c in ("cell", "vertex") for k in ("DD", "NN", "DN", "ND", "P")]


def _backend_params() -> list[Any]:
    params: list[Any] = ["numpy"]
    for name in ("torch", "jax"):
        missing = importlib.util.find_spec(name) is None
        params.append(
            pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{name} is not installed"))
        )
    return params


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend_name" in metafunc.fixturenames:
        metafunc.parametrize("backend_name", _backend_params())
    if "combination" in metafunc.fixturenames:
        metafunc.parametrize("combination", COMBINATIONS, ids="-".join)


@pytest.fixture(scope="session", autouse=True)
def _jax_double() -> None:
    if importlib.util.find_spec("jax") is not None:
        import jax

        jax.config.update("jax_enable_x64", True)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


def dense_axis(
    cells: int, h: float, centring: str, kind: str, a: Any = None
) -> tuple[np.ndarray, np.ndarray]:
    """(A, F) with ``-(a u')' = A u + F @ (g_lower, g_upper)``, by eliminating two ghosts numerically.

    a: face values at the midpoints between consecutive entries of (ghost, unknowns, ghost), default ones.
    """
    if centring == "cell" or kind == "P":
        n = cells
    else:
        n = cells + 1 - (kind[0] == "D") - (kind[1] == "D")
    a = np.ones(n + 1) if a is None else a
    # flux form on the extended vector (ghost, u_0 .. u_{n-1}, ghost)
    D = np.zeros((n, n + 2))
    for i in range(n):
        D[i, i] -= a[i]
        D[i, i + 1] += a[i] + a[i + 1]
        D[i, i + 2] -= a[i + 1]
    C, data = np.zeros((2, n + 2)), np.eye(2)
    if kind == "P":
        C[0, 0], C[0, n] = 1, -1
        C[1, n + 1], C[1, 1] = 1, -1
        data = np.zeros((2, 2))
    else:
        for row, (ghost, first, second) in enumerate([(0, 1, 2), (n + 1, n, n - 1)]):
            if centring == "cell":
                C[row, ghost] = 0.5 if kind[row] == "D" else 1 / h
                C[row, first] = 0.5 if kind[row] == "D" else -1 / h
            elif kind[row] == "D":
                C[row, ghost] = 1
            else:
                C[row, ghost] += 1 / (2 * h)
                C[row, second] -= 1 / (2 * h)
    ghosts, inner = [0, n + 1], list(range(1, n + 1))
    from_u = -np.linalg.solve(C[:, ghosts], C[:, inner])
    from_g = np.linalg.solve(C[:, ghosts], data)
    return (D[:, inner] + D[:, ghosts] @ from_u) / h**2, D[:, ghosts] @ from_g / h**2


def dense_system(
    axes: list[tuple[int, float, float, str, str]], data: dict[tuple[int, int], Any] | None = None
) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Dense (A, b, points) of the n-d negative Laplacian; axes: (cells, lower, upper, centring, kind).

    data: (axis, end) -> callable of all coordinates.
    """
    parts, points = [], []
    for cells, lower, upper, centring, kind in axes:
        h = (upper - lower) / cells
        parts.append(dense_axis(cells, h, centring, kind))
        n = parts[-1][0].shape[0]
        shift = 0.5 if centring == "cell" else float(kind != "P" and kind[0] == "D")
        points.append(lower + h * (np.arange(n) + shift))
    shape = [len(p) for p in points]
    A = np.zeros((int(np.prod(shape)),) * 2)
    b = np.zeros(shape)
    for axis, (A1, F) in enumerate(parts):
        before, after = int(np.prod(shape[:axis])), int(np.prod(shape[axis + 1 :]))
        A += np.kron(np.kron(np.eye(before), A1), np.eye(after))
        for end in (0, 1):
            g = (data or {}).get((axis, end))
            if g is None:
                continue
            for index in np.ndindex(*shape):
                x = [points[i][j] for i, j in enumerate(index)]
                x[axis] = axes[axis][1 + end]
                b[index] += F[index[axis], end] * g(*x)
    return A, b, points


@pytest.fixture(name="dense_axis", scope="session")
def _dense_axis() -> Any:
    return dense_axis


@pytest.fixture(name="dense_system", scope="session")
def _dense_system() -> Any:
    return dense_system
