"""A mesh over two processes with two devices each: start-up, arrays of which each process has its blocks, a
solve, a log-determinant, files; equal to one process."""

import numpy as np
import pytest

pytest.importorskip("jax")


def test_two_processes(run_together, tmp_path):
    from jax._src.lib import xla_client

    if not hasattr(xla_client._xla, "make_gloo_tcp_collectives"):
        pytest.skip("this jaxlib is built without gloo")
    told = run_together("distributed_jax_program.py", 2, str(tmp_path), "Auto,Explicit")
    rng = np.random.default_rng(0)
    M = rng.standard_normal((16, 16))
    S, b = M @ M.T / 16 + 2 * np.eye(16), rng.standard_normal(16)
    for text in told:
        said, *numbers = text.strip().splitlines()[-1].split()  # gloo has something to say before
        assert said == "done" and np.allclose([float(v) for v in numbers], np.linalg.solve(S, b), rtol=1e-8)
    assert len(list(tmp_path.glob("answer-*"))) == 4
