"""The Triton kernels compile to machine code of a GPU; none is needed for that.

In a process of its own: under ``TRITON_INTERPRET=1``, which other tests set, there is nothing to compile.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from cola_gpu import tf32_kernel
from cola_gpu.kernels import triton_kernels
from cola_gpu.krylov import jacobi_kernel


def compiled(kernel, integers=("n", "m", "r"), **constants):
    names = kernel.arg_names
    constants = {name: value for name, value in constants.items() if name in names}
    kinds = {name: "i32" if name in integers else "*fp32" for name in names}
    kinds |= {"pairs": "*i32"} if "pairs" in names else {}
    kinds |= {name: "constexpr" for name in constants}
    places = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=places)
    found = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
    return len(found.asm["cubin"])


settings = dict(PRECISION="ieee", HALF=False, BM=32, BN=64)
sizes = {}
for d, power in ((3, 4), (64, 64)):
    for code, columns in ((0, 1), (4, 16)):
        for kernel in (triton_kernels.product_kernel, triton_kernels.gradient_kernel):
            size = compiled(kernel, D=d, DP=power, CODE=code, BR=columns, **settings)
            sizes[kernel.__name__, d, columns] = size
# a loop over the coordinates, not one program line each: what takes seconds at D = 3 must not take minutes
assert all(sizes[name, 64, r] < 5 * sizes[name, 3, r] for name, d, r in sizes), sizes
strides = [name for name in tf32_kernel.product.arg_names if name.islower()]
sizes["tf32"] = compiled(tf32_kernel.product, strides, ROWS=64, COLUMNS=32, INNER=32)
sizes["jacobi"] = compiled(jacobi_kernel._sweeps, ("p", "h", "sweeps"), H=16, P=32)
assert all(sizes.values())
print("compiled", len(sizes))
"""


def test_kernels_compile_for_a_gpu():
    pytest.importorskip("torch")
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=900
    )
    assert run.stdout.strip() == "compiled 10", run.stderr[-3000:]
