"""An operator and its adjoint do not keep each other alive: on a device full of matrices, nothing may wait
for the garbage collector."""

import gc
import weakref

import numpy as np
import pytest

import cola_core as cola


def operators(backend, rng):
    def dense(m=4, n=4):
        return cola.ops.Dense(backend.asarray(rng.normal(size=(m, n))))

    c, r = backend.asarray(rng.normal(size=4)), backend.asarray(rng.normal(size=4))
    return {
        "Dense": dense,
        "Toeplitz": lambda: cola.ops.Toeplitz(c, r),
        "Kronecker": lambda: cola.kron(dense(), dense()),
        "Sum": lambda: dense() + cola.ops.Diagonal(c),
        "Product": lambda: dense(4, 3) @ dense(3, 4),
        "BlockDiag": lambda: cola.block_diag(dense(), dense()),
    }


@pytest.mark.parametrize("name", ["Dense", "Toeplitz", "Kronecker", "Sum", "Product", "BlockDiag"])
def test_reference_counting_frees_an_operator_whose_adjoint_was_used(name, backend, rng):
    make = operators(backend, rng)[name]
    gc.collect()
    gc.disable()
    try:
        A = make()
        v = backend.asarray(rng.normal(size=A.shape[-1]))
        watched = [weakref.ref(A), weakref.ref(A.H), weakref.ref(A.T)]
        A.H @ v, A.H @ A, v @ A, A.H.H
        del A
        assert [w() for w in watched] == [None, None, None]
    finally:
        gc.enable()


def test_an_adjoint_outlives_its_operator(backend, rng):
    M = rng.normal(size=(4, 3))
    A = cola.ops.Dense(backend.asarray(M))
    AH = A.H
    del A
    B = cola.ops.Dense(backend.asarray(M))
    assert not (AH @ B).isa(cola.PSD)  # whose adjoint it was is gone, and is not confused with another
    np.testing.assert_allclose(backend.to_numpy((AH @ B).to_dense()), M.T @ M)


def test_torch_frees_what_a_backward_solve_makes(rng):
    torch = pytest.importorskip("torch")
    M = torch.tensor(rng.normal(size=(6, 6)) + 6 * np.eye(6)).requires_grad_()
    b = torch.tensor(rng.normal(size=6))

    def step(alg):
        cola.solve(cola.ops.Dense(M), b, alg).square().sum().backward()
        M.grad = None

    def tensors():
        return sum(type(x) is torch.Tensor for x in gc.get_objects())

    for alg in (cola.LU(), cola.GMRES(), cola.BiCGStab()):
        step(alg)
        gc.collect()
        gc.disable()
        try:
            before = tensors()
            for _ in range(3):
                step(alg)
            assert tensors() == before, alg
        finally:
            gc.enable()
