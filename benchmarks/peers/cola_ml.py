"""The published package `cola-ml`, timed in an environment of its own:
`python cola_ml.py TASK INPUT.npz OUTPUT.npz`.

Imports nothing of ours. Reads the matrices, writes the answer and the processor seconds of every round.
"""

import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import cola  # noqa: E402
import numpy as np  # noqa: E402


def kron_solve(A, B, b):
    K = cola.ops.Kronecker(cola.ops.Dense(A), cola.ops.Dense(B))
    return lambda: (cola.linalg.inv(K) @ b,)


def kron_solve_logdet(A, B, b):
    K = cola.ops.Kronecker(cola.PSD(cola.ops.Dense(A)), cola.PSD(cola.ops.Dense(B)))
    return lambda: (cola.linalg.inv(K) @ b, cola.linalg.logdet(K))


def _psd(M):
    """The timings of the paper's figure were made with PyTorch, cola-ml's fastest backend."""
    import torch

    return cola.PSD(cola.ops.Dense(torch.from_numpy(M)))


def _tensor(x):
    import torch

    return torch.from_numpy(x)


def kron_three(A, B, C, b):
    K = cola.ops.Kronecker(_psd(A), _psd(B), _psd(C))
    b = _tensor(b)
    return lambda: (cola.linalg.inv(K) @ b,)


def diagonal_kron(d, A, B, b):
    M = cola.ops.Product(cola.ops.Diagonal(_tensor(d)), cola.ops.Kronecker(_psd(A), _psd(B)))
    b = _tensor(b)
    return lambda: (cola.linalg.inv(M) @ b,)


def block_diagonal(A, d, B, b):
    M = cola.ops.BlockDiag(_psd(A), cola.PSD(cola.ops.Diagonal(_tensor(d))), _psd(B))
    b = _tensor(b)
    return lambda: (cola.linalg.inv(M) @ b,)


TASKS = {
    "kron-solve": kron_solve,
    "kron-solve-logdet": kron_solve_logdet,
    "kron-three": kron_three,
    "diagonal-kron": diagonal_kron,
    "block-diagonal": block_diagonal,
}


def main(task, source, target):
    run = TASKS[task](**np.load(source))
    answer = run()
    start = time.process_time()
    run()
    loops = max(1, round(5e-3 / max(time.process_time() - start, 1e-9)))
    rounds = []
    for _ in range(15):
        start = time.process_time()
        for _ in range(loops):
            run()
        rounds.append((time.process_time() - start) / loops)
    arrays = {f"answer{i}": np.asarray(part) for i, part in enumerate(answer)}
    np.savez(target, rounds=rounds, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
