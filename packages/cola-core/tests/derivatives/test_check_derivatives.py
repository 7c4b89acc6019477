"""The derivative checks on themselves: what is right passes, every way of being wrong is named."""

import numpy as np
import pytest

from cola_core.backends import get_backend
from cola_core.errors import NoRuleError
from cola_core.testing.derivatives import MODES, Derivatives, check_derivatives, is_refusal, outcome, outcomes
from cola_core.testing.differences import slope, twist
from cola_core.testing.errors import ConformanceError
from cola_core.testing.run import installed

both = pytest.mark.parametrize(
    "library",
    [
        pytest.param(name, marks=pytest.mark.skipif(not installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "jax")
    ],
)


def data(dtype="float64"):
    rng = np.random.default_rng(5)
    z = rng.standard_normal((3, 2)) + 1j * rng.standard_normal((3, 2)) * ("c" in dtype)
    return [
        (z if "c" in dtype else z.real).astype(dtype),
        rng.standard_normal(3).astype(np.dtype(dtype).type(0).real.dtype),
    ]


def cubic(xp):
    """Not holomorphic, not symmetric in its arguments, with no derivative that vanishes."""

    def loss(arrays):
        z, x = arrays
        y = (z * z.conj()).real * xp.abs(z + 2) + (1j * z**3 + z).imag if xp.iscomplexobj(z) else z**3 + z
        return (y.sum(-1) * x**2).sum() + (x**3).sum()

    return loss


def framework(library):
    if library == "torch":
        import torch

        torch.iscomplexobj = torch.is_complex
        return torch
    import jax.numpy as jnp

    return jnp


@both
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_a_right_derivative_passes_in_every_mode(library, dtype):
    xp = framework(library)
    check_derivatives(library, cubic(xp), cubic(np), data(dtype))


def test_differences_know_their_own_error():
    x, d, e = [np.array([0.3, 0.7])], [np.array([1.0, -0.5])], [np.array([0.2, 1.0])]

    def f(arrays):
        return float(np.exp(arrays[0][0]) * np.sin(arrays[0][1]))

    gradient = np.array([np.exp(0.3) * np.sin(0.7), np.exp(0.3) * np.cos(0.7)])
    hessian = np.exp(0.3) * np.array([[np.sin(0.7), np.cos(0.7)], [np.cos(0.7), -np.sin(0.7)]])
    for (got, error), want in ((slope(f, x, d), gradient @ d[0]), (twist(f, x, d, e), d[0] @ hessian @ e[0])):
        assert abs(got - want) <= 2 * error + 1e-12
        assert error < 1e-8
    assert slope(lambda a: float(abs(a[0][0] - 0.302)), x, d)[1] > 1e-3  # a kink nearby shows


def rule(library, first=1.0, second=1.0, forward=1.0, conjugate=True):
    """sum |z|^3 x by hand: with derivatives that are wrong by the given factors."""
    if library == "torch":
        return torch_rule(first, second, conjugate)
    return jax_rule(first, second, conjugate)


def torch_rule(first, second, conjugate):
    import torch

    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(z):
            return (z.abs() ** 3).sum()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, g):
            (z,) = ctx.saved_tensors
            z = z if second else z.detach()
            return g * first * 3 * z.abs() * (z if conjugate else z.conj())

    return Cube.apply


def jax_rule(first, second, conjugate):
    import jax
    import jax.numpy as jnp

    @jax.custom_vjp
    def cube(z):
        return jnp.sum(jnp.abs(z) ** 3)

    def backward(z, g):
        z = z if second else jax.lax.stop_gradient(z)
        return (g * first * 3 * jnp.abs(z) * (z.conj() if conjugate else z),)

    cube.defvjp(lambda z: (cube(z), z), backward)
    return cube


@both
@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        (dict(), set()),
        (dict(first=1.01), {"reverse", "reverse-reverse"}),
        (dict(first=0.0), {"reverse", "reverse-reverse"}),
        (dict(first=float("nan")), {"reverse", "reverse-reverse"}),
        (dict(second=0.0), {"reverse-reverse"}),
        (dict(conjugate=False), {"reverse", "reverse-reverse"}),
    ],
    ids=["right", "one per cent", "zero", "nan", "second zero", "conjugate"],
)
def test_a_wrong_reverse_rule_is_found(library, fault, wrong):
    z = data("complex128")[:1]
    found = outcomes(
        library,
        lambda a: rule(library, **fault)(a[0]),
        lambda a: (np.abs(a[0]) ** 3).sum(),
        z,
        modes=("reverse", "reverse-reverse"),
    )
    assert {mode for mode, said in found.items() if said != "right"} == wrong
    assert all(said.startswith("wrong: ") and "got" in said for said in found.values() if said != "right")


@both
def test_a_wrong_array_is_named(library):
    xp = framework(library)
    stop = (lambda x: x.detach()) if library == "torch" else __import__("jax").lax.stop_gradient
    a = [np.arange(1.0, 4.0), np.arange(2.0, 5.0)]
    with pytest.raises(ConformanceError, match=r"array 0: .*; array 1: 0 for"):
        check_derivatives(
            library, lambda a: xp.sum(a[0] ** 2 * stop(a[1])), lambda a: (a[0] ** 2 * a[1]).sum(), a
        )


@both
def test_a_refusal_is_told_from_a_wrong_answer(library):
    xp = framework(library)
    x = [np.arange(1.0, 4.0)]

    def reference(a):
        return (a[0] ** 3).sum()

    def refusing(a):
        if type(a[0]) is not type(get_backend(library).asarray(x[0])) or getattr(
            a[0], "requires_grad", False
        ):
            raise NoRuleError("cube of this has no derivative: use another algorithm")
        return xp.sum(a[0] ** 3)

    found = outcomes(library, refusing, reference, x)
    assert set(found) == set(MODES)
    assert found["reverse"].startswith("refused: NoRuleError: cube")
    with pytest.raises(NoRuleError):
        check_derivatives(library, refusing, reference, x, modes=["reverse"])

    def broken(a):
        if type(a[0]) is not type(get_backend(library).asarray(x[0])) or getattr(
            a[0], "requires_grad", False
        ):
            raise TypeError("an accident")
        return xp.sum(a[0] ** 3)

    assert (
        "fails: TypeError: an accident"
        in outcomes(library, broken, reference, x, modes=["reverse"])["reverse"]
    )
    assert not is_refusal(NotImplementedError()) and is_refusal(NotImplementedError("says why"))


@both
def test_a_wrong_value_or_reference_is_an_error_of_the_test(library):
    xp = framework(library)
    x = [np.arange(1.0, 4.0)]
    with pytest.raises(ConformanceError, match="got 14"):
        check_derivatives(library, lambda a: xp.sum(a[0] ** 2), lambda a: (a[0] ** 3).sum(), x)
    with pytest.raises(ConformanceError, match="scalar"):
        check_derivatives(library, lambda a: a[0] ** 2, lambda a: (a[0] ** 2).sum(), x)


@both
def test_a_refusal_of_the_framework_itself_is_none(library):
    """It names a function inside, and no remedy."""
    xp = framework(library)

    def loss(a):  # forward mode of one library, vectors that are not orthogonal of the other
        M = a[0] + a[0].mT
        return xp.linalg.ldl_factor(M)[0].sum() if library == "torch" else xp.linalg.eig(M)[1].real.sum()

    f = Derivatives(library, loss, lambda a: 0.0, [np.diag([1.0, 2.0]) + 0.1])
    assert "fails: NotImplementedError" in outcome(f, "forward")
