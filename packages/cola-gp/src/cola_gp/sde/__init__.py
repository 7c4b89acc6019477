"""Kernels in time as stochastic differential equations: inference in O(n)."""
