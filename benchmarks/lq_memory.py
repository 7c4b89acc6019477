"""`python -m benchmarks.lq_memory [ROWS COLUMNS]`: what LQ and its gradient hold, in units of the matrix.

The peak of the resident set of a process of its own above its inputs (the matrix, the cotangents of both
factors), after a small problem that makes the libraries allocate what they keep. Linux only.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["CONTENDERS", "main"]


def _overwriting(A: Any, Qbar: Any, Lbar: Any) -> Any:
    from cola_gpu import lapack

    Q, L = lapack.gelqf(A, overwrite=True)
    return lapack.gelqf_backward(Q, L, Qbar, Lbar, overwrite=True)


def _explicit(A: Any, Qbar: Any, Lbar: Any) -> Any:
    from cola_gpu import lapack

    Q, L = lapack.gelqf(A)
    return lapack.gelqf_backward(Q, L, Qbar, Lbar)


def _recorded(A: Any, Qbar: Any, Lbar: Any) -> Any:
    import torch

    from cola_gpu import lapack

    A.requires_grad_()
    Q, L = lapack.gelqf(A)
    return torch.autograd.grad((Q, L), A, (Qbar, Lbar))[0]


def _autograd(A: Any, Qbar: Any, Lbar: Any) -> Any:
    import torch

    A.requires_grad_()
    Qt, R = torch.linalg.qr(A.mT)
    return torch.autograd.grad((Qt, R), A, (Qbar.mT, Lbar.mT))[0]


def _jax(ours: bool) -> Callable[..., Any]:
    import jax

    from cola_gpu import lapack

    def factors(A: Any) -> Any:
        if ours:
            return tuple(lapack.gelqf(A))
        Qt, R = jax.numpy.linalg.qr(A.mT)
        return Qt.mT, R.mT

    def both(A: Any, Qbar: Any, Lbar: Any) -> Any:
        out, pull = jax.vjp(factors, A)
        return out, pull((Qbar, Lbar))[0]

    return jax.jit(both)


CONTENDERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "gelqf(overwrite=True), gelqf_backward(overwrite=True), PyTorch": ("torch", _overwriting),
    "the same, NumPy": ("numpy", _overwriting),
    "gelqf, gelqf_backward, PyTorch": ("torch", _explicit),
    "gelqf and autograd, PyTorch": ("torch", _recorded),
    "autograd of torch.linalg.qr": ("torch", _autograd),
    "jit of gelqf and its pullback, JAX": ("jax", lambda *xs: _jax(True)(*xs)),
    "jit of jnp.linalg.qr and its pullback": ("jax", lambda *xs: _jax(False)(*xs)),
}


def _status(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def _inputs(library: str, m: int, n: int) -> list[Any]:
    import numpy as np

    out = []
    for shape in ((m, n), (m, n), (m, m)):
        if library == "torch":
            import torch

            out.append(torch.empty(shape, dtype=torch.float64).normal_())
            continue
        x = np.empty(shape)
        for row in x:  # no temporary matrix
            row[:] = np.random.default_rng(len(out)).standard_normal(shape[1])
        x[:, : shape[0]] += np.eye(shape[0])
        if library == "jax":
            import jax

            jax.config.update("jax_enable_x64", True)
            x = jax.block_until_ready(jax.numpy.array(x))
        out.append(x)
    return out


def _measure(name: str, m: int, n: int) -> float:
    library, run = CONTENDERS[name]
    if library == "torch":
        import torch

        torch.set_num_threads(1)
    run(*_inputs(library, 60, 100))
    arrays = _inputs(library, m, n)
    if library == "jax":
        import jax

        compiled = _jax(name.startswith("jit of gelqf")).lower(*arrays).compile()
        run = lambda *xs: jax.block_until_ready(compiled(*xs))  # noqa: E731
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak starts from here
    before = _status("VmRSS")
    kept = run(*arrays)
    peak = _status("VmHWM")
    del kept
    return (peak - before) / (8 * m * n)


def main(argv: list[str] | None = None) -> int:
    """Every contender in a process of its own."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["--one"]:
        print(_measure(argv[1], int(argv[2]), int(argv[3])))
        return 0
    shape = argv or ["1000", "8000"]
    print(f"| {shape[0]} x {shape[1]}, float64 | peak above the inputs, in units of A |\n|---|---|")
    for name in CONTENDERS:
        command = [sys.executable, "-m", "benchmarks.lq_memory", "--one", name, *shape]
        done = subprocess.run(command, capture_output=True, text=True)
        value = f"{float(done.stdout):.2f}" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
        print(f"| {name} | {value} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
