"""Triton kernels: products with a covariance matrix, and gradients. No entry of it leaves the registers.

Points come transposed and scaled, (D, n) in float32, so that a coordinate of neighbouring points is one load;
squared distances are sums of squared differences. A program owns ``BM`` rows and walks over all columns,
``BN`` at a time. Imported only where Triton is there; under ``TRITON_INTERPRET=1`` the same code runs on the
CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["gradient_kernel", "product_kernel"]


@triton.jit
def _distances(at, bt, n, m, rows, cols, rmask, cmask, D: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """u (BM, BN), kept below where the Matern functions would multiply infinity by zero."""
    u = tl.zeros([BM, BN], dtype=tl.float32)
    # eight written out at a time: written out in full, the program takes minutes to compile at D = 64
    for k in tl.range(0, D, loop_unroll_factor=8):
        a = tl.load(at + k * n + rows, mask=rmask, other=0.0)
        b = tl.load(bt + k * m + cols, mask=cmask, other=0.0)
        gap = a[:, None] - b[None, :]
        u = tl.fma(gap, gap, u)  # said, as compilers differ in whether they fuse
    # comparisons keep what is not a number; minimum() would not
    return tl.where(u > 1e30, 1e30, u)


@triton.jit
def _log1p(u):
    # Kahan: the rounding error of 1 + u cancels in the quotient
    w = 1.0 + u
    far = w - 1.0
    return tl.where(far == 0.0, u, tl.log(w) * (u / tl.where(far == 0.0, 1.0, far)))


@triton.jit
def _value(u, alpha, CODE: tl.constexpr):
    """F(u), numbered as in ``profiles``."""
    if CODE == 0:
        f = tl.exp(-u)
    elif CODE == 1:
        f = tl.exp(-tl.sqrt(u))
    elif CODE == 2:
        t = tl.sqrt(u)
        f = (1.0 + t) * tl.exp(-t)
    elif CODE == 3:
        t = tl.sqrt(u)
        f = (1.0 + t + u / 3.0) * tl.exp(-t)
    else:
        f = tl.exp(-alpha * _log1p(u))
    return f


@triton.jit
def _slope(u, f, alpha, CODE: tl.constexpr):
    """F'(u), zero for Matern 1/2 at zero."""
    if CODE == 0:
        s = -f
    elif CODE == 1:
        t = tl.sqrt(u)
        s = tl.where(t > 0.0, -0.5 * f / tl.where(t > 0.0, t, 1.0), 0.0)
    elif CODE == 2:
        s = -0.5 * tl.exp(-tl.sqrt(u))
    elif CODE == 3:
        t = tl.sqrt(u)
        s = (-1.0 / 6.0) * (1.0 + t) * tl.exp(-t)
    else:
        s = -alpha * f / (1.0 + u)
    return s


@triton.jit
def product_kernel(
    at,
    bt,
    v,
    out,
    alphas,
    n,
    m,
    r,
    D: tl.constexpr,
    CODE: tl.constexpr,
    BR: tl.constexpr,
    PRECISION: tl.constexpr,
    HALF: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """``out = F(u) v`` for v (m, r), ``BR`` columns in each program: one (a sum), or 16 and more (a product
    of blocks; HALF: in the precision of v, with float32 sums)."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    rmask = rows < n
    alpha = tl.load(alphas)
    ks = tl.program_id(1) * BR + tl.arange(0, BR)
    kmask = ks < r
    acc = tl.zeros([BM, BR], dtype=tl.float32)
    for start in range(0, m, BN):
        cols = start + tl.arange(0, BN)
        cmask = cols < m
        u = _distances(at, bt, n, m, rows, cols, rmask, cmask, D, BM, BN)
        f = _value(u, alpha, CODE)
        w = tl.load(v + cols[:, None] * r + ks[None, :], mask=cmask[:, None] & kmask[None, :], other=0.0)
        if BR == 1:
            w = tl.reshape(w, [BN]).to(tl.float32)
            acc += tl.sum(f * w[None, :], axis=1)[:, None]
        elif HALF:
            acc += tl.dot(f.to(w.dtype), w)
        else:
            acc += tl.dot(f, w.to(tl.float32), input_precision=PRECISION)
    tl.store(out + rows[:, None] * r + ks[None, :], acc, mask=rmask[:, None] & kmask[None, :])


@triton.jit
def gradient_kernel(
    at,
    bt,
    g,
    v,
    abar,
    totals,
    slopes,
    alphas,
    n,
    m,
    r,
    D: tl.constexpr,
    DP: tl.constexpr,
    CODE: tl.constexpr,
    BR: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Of ``sum(g * (F(u) v))``: the gradient in the points at as abar (n, D), and for every row its value and
    its derivative in alpha at fixed distance. DP: D or more, a power of two."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    rmask = rows < n
    alpha = tl.load(alphas)
    places = tl.arange(0, DP)
    acc = tl.zeros([BM, DP], dtype=tl.float32)
    total = tl.zeros([BM], dtype=tl.float32)
    slope = tl.zeros([BM], dtype=tl.float32)
    for start in range(0, m, BN):
        cols = start + tl.arange(0, BN)
        cmask = cols < m
        weights = tl.zeros([BM, BN], dtype=tl.float32)
        for first in range(0, r, BR):
            ks = first + tl.arange(0, BR)
            kmask = ks < r
            x = tl.load(g + rows[:, None] * r + ks[None, :], mask=rmask[:, None] & kmask[None, :], other=0.0)
            y = tl.load(v + cols[:, None] * r + ks[None, :], mask=cmask[:, None] & kmask[None, :], other=0.0)
            x = x.to(tl.float32)
            y = y.to(tl.float32)
            if BR == 1:
                weights += x * tl.reshape(y, [1, BN])
            else:
                weights += tl.dot(x, tl.trans(y), input_precision="ieee")
        u = _distances(at, bt, n, m, rows, cols, rmask, cmask, D, BM, BN)
        f = _value(u, alpha, CODE)
        total += tl.sum(weights * f, axis=1)
        if CODE == 4:
            slope += tl.sum(weights * f * (u / (1.0 + u) - _log1p(u)), axis=1)
        s = 2.0 * weights * _slope(u, f, alpha, CODE)
        for k in tl.range(0, D, loop_unroll_factor=8):
            a = tl.load(at + k * n + rows, mask=rmask, other=0.0)
            b = tl.load(bt + k * m + cols, mask=cmask, other=0.0)
            part = tl.sum(s * (a[:, None] - b[None, :]), axis=1)
            acc += tl.where(places[None, :] == k, part[:, None], 0.0)
    tl.store(abar + rows[:, None] * D + places[None, :], acc, mask=rmask[:, None] & (places[None, :] < D))
    tl.store(totals + rows, total, mask=rmask)
    tl.store(slopes + rows, slope, mask=rmask)
