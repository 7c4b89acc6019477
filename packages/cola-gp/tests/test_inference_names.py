"""Inference asked for by name: the same answers, and clear refusals."""

import numpy as np
import pytest

import cola_gp as gp
from cola_core.errors import NoRuleError, UnknownNameError


@pytest.fixture
def problem(rng):
    X = rng.normal(size=(20, 1))
    return gp.GP(gp.Linear(1.0) + gp.Constant(0.5), noise=0.1), gp.Data(X, np.sin(X[:, 0]))


def test_a_name_an_object_and_a_class_are_the_same(problem):
    model, data = problem
    assert gp.condition(model, data).method == gp.condition(model, data, "auto").method
    want = float(gp.condition(model, data).log_marginal_likelihood())
    for alg in ("dense", "low-rank", gp.DenseInference, gp.LowRankInference()):
        assert float(gp.condition(model, data, alg).log_marginal_likelihood()) == pytest.approx(want)
        assert float(gp.marginal_likelihood(model, data, alg)) == pytest.approx(want)
        assert gp.fit(model, data, alg=alg, max_iters=1).iterations == 1
    assert gp.Posterior(model, data, "dense").method != gp.Posterior(model, data, "low-rank").method
    assert "dense" in str(gp.explain(model, data, "dense")).lower()


def test_refusals(problem):
    model, data = problem
    with pytest.raises(UnknownNameError, match="no algorithm for condition called 'fast'; known are dense"):
        gp.condition(model, data, "fast")
    with pytest.raises(UnknownNameError, match="alg=3 is no way of inference"):
        gp.condition(model, data, 3)
    with pytest.raises(
        NoRuleError, match="LowRankInference does not apply to RBF.* the prior is .*no finite feature"
    ):
        gp.condition(gp.GP(gp.RBF(1.0)), data, "low-rank")
    with pytest.raises(NoRuleError, match="LowRankInference does not apply to RBF"):
        gp.marginal_likelihood(gp.GP(gp.RBF(1.0)), data, "low-rank")
    with pytest.raises(NoRuleError, match="KroneckerInference does not apply"):
        gp.fit(model, data, alg="kronecker")
