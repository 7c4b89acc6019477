"""The machine profile: measured, stored, read when needed, and never trusted blindly."""

import json
import subprocess
import sys

import numpy as np
import pytest

import cola_core as cola
from cola_core import profile as machine
from cola_core import tuning
from cola_core.cli import main
from cola_core.cost import Cost
from cola_core.profile import BUILT_IN, Profile, location, read_profile, using_profile, write_profile


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A place for a profile of the test's own, read anew."""
    path = tmp_path / "deep" / "profile.json"
    monkeypatch.setenv("COLA_PROFILE", str(path))
    machine.set_profile(None)
    yield path
    monkeypatch.undo()
    machine.set_profile(None)


def test_seconds_add_up():
    cost = Cost(flops=2e9, bytes=1e3, factor=1e9, eigen=1e9, calls=10, steps=100)
    want = (
        2e9 / BUILT_IN.product["float64"] + 1e9 / BUILT_IN.factor["float64"] + 1e9 / BUILT_IN.eigen["float64"]
    )
    fixed = 10 * BUILT_IN.call["numpy"] + 100 * BUILT_IN.step
    assert BUILT_IN.seconds(cost) == pytest.approx(want + fixed)
    assert BUILT_IN.seconds(cost, "float32") < BUILT_IN.seconds(cost) < BUILT_IN.seconds(cost, "complex128")
    assert BUILT_IN.seconds(Cost(calls=10), library="torch") > BUILT_IN.seconds(Cost(calls=10))
    traffic = Cost(flops=1, bytes=1e9, calls=0)
    assert BUILT_IN.seconds(traffic) == pytest.approx(1e9 / BUILT_IN.bandwidth)
    assert (cost + cost).arithmetic == (2 * cost).arithmetic == 2 * cost.arithmetic
    with using_profile(BUILT_IN):
        assert cost.seconds == BUILT_IN.seconds(cost)


def test_round_trip(tmp_path):
    path = write_profile(BUILT_IN, tmp_path / "new" / "p.json")
    again = read_profile(path)
    assert again.as_dict() == BUILT_IN.as_dict() and again.source == str(path)
    assert [p.name for p in path.parent.iterdir()] == ["p.json"], "nothing temporary stays"


def _changed(**changes):
    return json.dumps(BUILT_IN.as_dict() | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"format": "someone else\'s", "version": 1}',
        _changed(version=2),
        _changed(bandwidth=0),
        _changed(bandwidth=True),
        _changed(bandwidth="fast"),
        _changed(step=float("nan")),
        _changed(product={"float64": 1e9}),
        _changed(call=None),
        "\x00" * 10,
    ],
)
def test_a_bad_file_is_one_warning(stored, text):
    stored.parent.mkdir()
    stored.write_text(text)
    with pytest.warns(UserWarning, match="built-in constants serve"):
        assert machine.profile() is BUILT_IN
    assert machine.profile() is BUILT_IN, "said once"


def test_a_stored_profile_is_used(stored):
    fast = {name: 1e3 * value for name, value in BUILT_IN.factor.items()}
    changed = BUILT_IN.as_dict() | {"factor": fast, "memory": 1e6}
    write_profile(Profile.from_dict(changed, "test"), stored)
    machine.set_profile(None)
    assert machine.profile().factor == fast
    assert cola.Auto().memory_budget == 1e6 and cola.Auto(memory=5).memory_budget == 5
    # remembered choices rest on the old estimates
    A = np.eye(600)
    with pytest.raises(cola.errors.NoRuleError, match="budget"):
        cola.solve(A, np.ones(600), cola.Auto(memory=10))
    plan = cola.explain(cola.solve, A, np.ones(600), alg=cola.Auto(memory=1e9))
    assert plan.root.by == "core:solve/lu"
    assert plan.root.estimate < 0.5 * BUILT_IN.seconds(plan.root.cost)


def test_where_it_is_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("COLA_PROFILE", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("APPDATA", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert location() == tmp_path / "cola-core" / "profile.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert location().is_absolute()
    monkeypatch.setattr(sys, "platform", "win32")
    assert location() == tmp_path / "cola-core" / "profile.json"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "Application Support" in str(location())
    monkeypatch.setenv("COLA_PROFILE", "default")
    assert location() is None


def test_nothing_is_read_at_import(tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_text("broken")
    code = (
        "import warnings; warnings.simplefilter('error')\n"
        "import cola_core, cola_core.profile as p\n"
        "assert p._CURRENT is None\n"
    )
    import os

    env = dict(os.environ, COLA_PROFILE=str(bad))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=env)


def test_tune_show_reset(stored, capsys):
    assert main(["tune", "--show"]) == 0
    assert "built-in" in capsys.readouterr().out
    assert main(["tune", "--quick"]) == 0
    out, err = capsys.readouterr()
    assert "matrix products" in out and str(stored) in out and "float64" in err
    assert main(["tune", "--show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1 and found["measured"]["numpy"] == np.__version__
    assert all(value > 0 for value in found["product"].values())
    assert not {"node", "host"} & set(found["measured"])
    assert main(["tune", "--reset"]) == 0 and not stored.exists()
    assert main(["tune", "--reset"]) == 0
    assert "no stored profile" in capsys.readouterr().out
    assert machine.profile() is BUILT_IN


def test_tune_where_it_is_switched_off(monkeypatch, capsys):
    monkeypatch.setenv("COLA_PROFILE", "default")
    assert main(["tune", "--quick"]) == 1
    assert "COLA_PROFILE" in capsys.readouterr().err


def test_what_else_a_machine_does_is_not_measured(monkeypatch):
    """Clocks of the test's own: other programs stretch a run of 1 s to 3 s, or three threads share it."""
    clock = {"perf_counter": 0.0, "process_time": 0.0}
    for name in clock:
        monkeypatch.setattr(tuning.time, name, lambda name=name: clock[name])
    monkeypatch.setattr(sys, "platform", "linux")

    def run(passed, busy):
        clock["perf_counter"] += passed
        clock["process_time"] += busy

    assert tuning._least(lambda: run(3.0, 1.0), 5.0) == 1.0
    assert tuning._least(lambda: run(1.0, 3.0), 5.0) == 1.0
    monkeypatch.setattr(sys, "platform", "win32")  # whose processor time has steps of 16 ms
    assert tuning._least(lambda: run(3.0, 1.0), 5.0) == 3.0
