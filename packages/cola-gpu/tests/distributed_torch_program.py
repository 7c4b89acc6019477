"""One of the processes that ``test_distributed_torch`` starts: ``python this.py RANK SIZE PORT FOLDER``.

Every check compares with the plain program on the same numbers. Only loopback is used."""

import os
import sys
import time
from datetime import timedelta

rank, size, port = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

torch.set_num_threads(1)
dist.init_process_group("gloo", rank=rank, world_size=size, timeout=timedelta(seconds=120))

from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.tensor import DTensor, Replicate, Shard  # noqa: E402

import cola_core as cola  # noqa: E402
from cola_core.dispatch import gathering, shards  # noqa: E402
from cola_core.errors import BackendError, NoRuleError, ShardedOperandError  # noqa: E402
from cola_gpu.sharding import distribute, distribution_report  # noqa: E402

mesh = init_device_mesh("cpu", (size,), mesh_dim_names=("rows",))
begun = time.perf_counter()


def whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def same(x, y, tol=1e-9):
    assert torch.allclose(whole(x).detach(), whole(y).detach(), rtol=tol, atol=tol), (x, y)


def refused(ask, *words, error=ShardedOperandError):
    try:
        ask()
    except error as found:
        for word in words:
            assert word in str(found), (word, str(found))
        return
    raise AssertionError(f"not refused: {words}")


n = 21  # two processes do not divide it
generator = torch.Generator().manual_seed(0)
M = torch.randn(n, n, dtype=torch.float64, generator=generator)
S = M @ M.T / n + 2 * torch.eye(n, dtype=torch.float64)
U = torch.randn(n, 3, dtype=torch.float64, generator=generator)
d = torch.rand(n, dtype=torch.float64, generator=generator) + 1
b = torch.randn(n, dtype=torch.float64, generator=generator)
B = torch.randn(n, 3, dtype=torch.float64, generator=generator)
Dense, Diagonal, LowRank = cola.ops.Dense, cola.ops.Diagonal, cola.ops.LowRank

# -- products ----------------------------------------------------------------------------------------------
plain = {
    "dense": Dense(M),
    "diagonal": Diagonal(d),
    "low rank": LowRank(U),
    "two factors": LowRank(U, B),
    "sum": cola.PSD(Dense(S)) + Diagonal(d) + LowRank(U),
    "shifted": Dense(M) + 0.5 * cola.ops.Identity(n),
    "product": cola.ops.Product(Dense(M), Diagonal(d)),
    "adjoint": Dense(M).H,
}
spread = {name: distribute(A, mesh) for name, A in plain.items()}
x, X = distribute(b, mesh), distribute(B, mesh)
same(distribute(Diagonal((d + 1j * d).conj()), mesh) @ x, (d - 1j * d) * b)
for name, A in plain.items():
    C = spread[name]
    assert shards(C) == size and C.shape == A.shape, name
    for v, w in ((b, x), (B, X), (b, b)):  # a plain vector is taken for equal on all processes
        y = C @ w
        same(y, A @ v)
        assert isinstance(y, DTensor), (name, y)
    same(C.H @ x, A.H @ b)
    same(x @ C, b @ A)

A, report = distribute(plain["sum"], mesh, return_report=True)
assert not report.replicated and report == distribution_report(A)
assert sum(leaf.bytes_per_device for leaf in report.leaves) == report.bytes_per_device
total = torch.tensor(float(report.bytes_per_device))
dist.all_reduce(total)
assert float(total) == 8 * (n * n + n + 3 * n), "together the processes hold it once"
assert "Ms[0].array" in str(report) and "Shard" in str(report)

# -- algorithms made of products ---------------------------------------------------------------------------
H, P = spread["sum"], plain["sum"]
y, info = cola.solve(H, x, cola.CG(tol=1e-11), return_info=True)
same(y, torch.linalg.solve(P.to_dense(), b), 1e-8)
assert y.placements == (Shard(0),) and info.converged is True and info.residual < 1e-10
y, info = cola.solve(H, X, cola.BlockCG(tol=1e-11), return_info=True)
same(y, torch.linalg.solve(P.to_dense(), B), 1e-8)
same(cola.solve(H, x, cola.MINRES(tol=1e-11)), torch.linalg.solve(P.to_dense(), b), 1e-8)
w, V = cola.eigh(H, 3, "LM", cola.Lanczos(key=1))
reference = torch.linalg.eigvalsh(P.to_dense())
same(torch.sort(whole(w))[0], reference[-3:], 1e-8)
same(H @ whole(V.to_dense()), whole(V.to_dense()) * whole(w), 1e-6)
w, V = cola.eigh(H, 2, "LA", cola.LOBPCG(key=1))
same(torch.sort(whole(w))[0], reference[-2:], 1e-6)
slq = cola.SLQ(key=3, samples=8, tol=5e-2)
same(cola.logdet(cola.PSD(spread["sum"].Ms[0]), slq), cola.logdet(cola.PSD(Dense(S)), slq), 1e-8)
same(cola.trace(H, cola.Hutchinson(key=2, tol=0.1)), cola.trace(P, cola.Hutchinson(key=2, tol=0.1)), 1e-8)
same(cola.inv(H, cola.CG(tol=1e-11)) @ x, torch.linalg.solve(P.to_dense(), b), 1e-8)
same(cola.logdet(cola.PSD(spread["diagonal"])), torch.log(d).sum())
same(cola.solve(spread["diagonal"], x), b / d)


# -- derivatives lie like what they belong to --------------------------------------------------------------
def losses(S, d, b, make):
    A = cola.PSD(Dense(make(S))) + Diagonal(make(d))
    return cola.logdet(A, slq) + (cola.solve(A, make(b), cola.CG(tol=1e-12)) ** 2).sum()


leaves = [t.clone().requires_grad_() for t in (S, d, b)]
expected = torch.autograd.grad(losses(*leaves, lambda t: t), leaves)
placed = [distribute(t, mesh).requires_grad_() for t in (S, d, b)]
found = torch.autograd.grad(whole(losses(*placed, lambda t: t)), placed)
for g, e in zip(found, expected, strict=True):
    assert isinstance(g, DTensor)
    same(g, e, 1e-7)
through = torch.autograd.grad(whole(losses(*leaves, lambda t: distribute(t, mesh))), leaves)
for g, e in zip(through, expected, strict=True):
    same(g, e, 1e-7)

# -- what would be copied is refused -----------------------------------------------------------------------
G, T = spread["dense"], cola.PSD(distribute(Dense(S), mesh))
for name, ask in {
    "Cholesky": lambda: cola.solve(T, x, cola.Cholesky()),
    "LU": lambda: cola.solve(G, x, cola.LU()),
    "Eigh": lambda: cola.eigh(T, alg="eigh"),
    "SVD": lambda: cola.svd(G, alg="svd"),
    "QR": lambda: cola.qr(G, alg="qr"),
    "Eig": lambda: cola.eigvals(G, alg="eig"),
}.items():
    refused(ask, name, "CG()", "(21, 21)", "2 devices")
refused(lambda: cola.qr(G), "would gather", "2 devices", error=NoRuleError)
assert "CG" in cola.solve(T, x, return_info=True)[1].method, "Auto takes products"
with gathering(2**20):  # a copy that was asked for
    y, info = cola.solve(T, x, cola.Cholesky(), return_info=True)
same(y, torch.linalg.solve(S, b))
assert info.gathered == 8 * n * n and y.placements == (Shard(0),)
column = distribute(torch.cat([b[:1], d[1:]]), mesh)
refused(lambda: cola.ops.Toeplitz(column) @ x, "DTensor")
refused(lambda: cola.ops.Circulant(column) @ x, "fft", "DTensor")
for A, word in (
    (cola.ops.Toeplitz(b), "Toeplitz"),
    (cola.kron(Dense(M), Dense(M)), "Kronecker"),
    (cola.ops.BlockDiag(Dense(M), Dense(M)), "BlockDiag"),
):
    refused(lambda A=A: distribute(A, mesh), word, "DTensor", error=NotImplementedError)
refused(lambda: distribute(Dense(M.numpy()), mesh), "numpy", error=BackendError)
from cola_core.backends.torch_spread import Products  # noqa: E402

for name, ask in {
    "sort": lambda: torch.sort(x),
    "slice": lambda: x[:3],
    "select": lambda: X[2],
    "_fft": lambda: torch.fft.fft(x),
    "linalg_cholesky": lambda: torch.linalg.cholesky(T.array),
    "linalg_eigh": lambda: torch.linalg.eigh(T.array),
    "flip": lambda: torch.flip(x, (0,)),
    "cumsum": lambda: torch.cumsum(x, 0),
    "index": lambda: x[torch.tensor([0, 2])],
    "kron": lambda: torch.kron(T.array, T.array),
}.items():
    with Products():
        refused(
            ask, "" if name == "kron" else name, error=Exception if name == "kron" else ShardedOperandError
        )
with Products():
    Q, R = torch.linalg.qr(X)
    assert Q.placements == (Shard(0),) and R.placements == (Replicate(),)
    same(X[:, :2], B[:, :2])
same(whole(Q) @ whole(R), B)
same(whole(Q).T @ whole(Q), torch.eye(3, dtype=torch.float64))
plan = cola.explain(cola.solve, T, x, alg=cola.CG()).as_dict()
assert plan["sent_per_product"] == 8 * n * (size - 1) / size, plan["sent_per_product"]

dist.barrier()
dist.destroy_process_group()
print(f"done {time.perf_counter() - begun:.1f}", flush=True)
os._exit(0)  # threads of gloo that are still ending would now and then abort an orderly exit
