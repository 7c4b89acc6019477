"""The same question, six structures, six ways to answer it.

`marginal_likelihood` of scattered points, a grid, equally spaced points on a line, a kernel of finite rank,
a Matern kernel in time and 50,000 points in eight dimensions.  `explain` names the form that the covariance
takes, what then answers, and why nothing cheaper or more exact was taken; of as many points as can be
written down, the answer is that of the textbook formula.
"""

import math

import numpy as np
import pytest

import cola_gp as gp

DRAW = np.random.default_rng(0)
PLANE = 1.5 * gp.RBF([0.7, 1.1])
WIDE = 1.0 * gp.Matern52([2.0] * 8)


def plane(n):
    return DRAW.normal(size=(n, 2))


# kernel, inputs of the size that the structure is for, few inputs, form, what conditions it, reasons
CASES = {
    "cholesky": (
        PLANE,
        plane(1000),
        plane(30),
        "dense",
        "dense",
        ["not low-rank: the kernel has no finite feature map"],
    ),
    "kronecker": (
        PLANE,
        gp.Grid(np.linspace(0, 1, 200), np.sort(DRAW.uniform(size=200))),
        gp.Grid(np.linspace(0, 1, 6), np.sort(DRAW.uniform(size=5))),
        "kronecker",
        "kronecker",
        ["not dense: needs", "not toeplitz: the grid has 2 axes"],
    ),
    "toeplitz": (
        1.5 * gp.RBF(0.7),
        gp.Grid(gp.Regular(0.0, 0.1, 3000)),
        gp.Grid(gp.Regular(0.0, 0.1, 20)),
        "toeplitz",
        "toeplitz",
        ["not dense: costs more", "not state-space: RBF is not the covariance of a state of finite size"],
    ),
    "woodbury": (
        gp.Linear([0.5, 2.0]) + gp.Constant(0.3),
        plane(3000),
        plane(30),
        "low-rank",
        "low-rank",
        ["not dense: costs more", "not kronecker: the inputs are not a Grid"],
    ),
    "kalman": (
        1.5 * gp.Matern32(0.7),
        DRAW.uniform(0, 100, (3000, 1)),
        DRAW.uniform(0, 5, (30, 1)),
        "state-space",
        "state-space",
        ["not dense: costs more", "not toeplitz: the inputs are not a Grid"],
    ),
    "iterative": (
        WIDE,
        DRAW.normal(size=(50_000, 8)),
        DRAW.normal(size=(60, 8)),
        "lazy",
        "iterative",
        [
            "not dense: needs 74.5 GiB for the 50000x50000 covariance",
            "not state-space: the inputs have 8 dimensions",
        ],
    ),
}


def formula(model, data):
    """Rasmussen & Williams (2006), eq. 2.30."""
    X = data.X.points() if isinstance(data.X, gp.Grid) else data.X
    K = model.kernel(X) + 0.1 * np.eye(len(data.y))
    return -0.5 * (
        data.y @ np.linalg.solve(K, data.y) + np.linalg.slogdet(K)[1] + len(data.y) * math.log(2 * math.pi)
    )


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_same_question_is_answered_by_structure_and_says_why(name):
    kernel, large, small, form, method, reasons = CASES[name]
    model = gp.GP(kernel, noise=0.1)

    plan = gp.explain(model, large)
    assert [node.by for node in plan.root.children] == [f"gp:represent/{form}", f"gp:condition/{method}"]
    text = str(plan).replace("gp:represent/", "").replace("gp:condition/", "")
    for reason in reasons:
        assert reason in text, reason

    n = len(small) if isinstance(small, np.ndarray) else math.prod(small.sizes)
    data = gp.Data(small, np.sin(np.arange(float(n))))
    wanted = formula(model, data)
    given = gp.condition(model, data, method)  # where points are few the dense form may be cheaper
    values = [gp.marginal_likelihood(model, data), given.log_marginal_likelihood()]
    if name == "iterative":
        assert given.info.converged and values.pop() == pytest.approx(wanted, rel=1e-3)
    else:
        values.append(gp.marginal_likelihood(model, data, method))
        values.append(gp.value_and_gradient(model, data, method)[0])
    np.testing.assert_allclose([float(v) for v in values], wanted, rtol=1e-9)
