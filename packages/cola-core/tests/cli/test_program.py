"""The program around the commands: start-up, help, version, warnings, interrupts, tables."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import cola_core
from cola_core.cli.output import json_text, table


def test_version_help_and_no_arguments(cola):
    assert cola("--version").out.strip() == f"cola-core {cola_core.__version__}"
    for argv in ((), ("--help",)):
        r = cola(*argv)
        assert r.status == 0 and "explain" in r.out and "exit status" in r.out
    assert "--accept-unreliable" in cola("solve", "--help").out


@pytest.mark.parametrize(
    "argv", [("frobnicate",), ("solve",), ("solve", "a.mtx"), ("eigs", "a.mtx", "-k", "x"), ("--nonsense",)]
)
def test_wrong_usage_is_status_2(cola, argv):
    r = cola(*argv)
    assert r.status == 2 and "usage:" in r.err


def test_the_module_runs_and_imports_little(program):
    """No heavy library is imported before a question needs it, and no plugin."""
    assert program("--version").out.startswith("cola-core ")
    code = (
        "import sys; from cola_core.cli import main; main(['--help']); "
        "heavy = {'torch', 'jax', 'scipy.sparse.linalg', 'scipy.linalg', 'matplotlib', 'rich', "
        "'pytest'} & set(sys.modules); "
        "plugins = {m for m in sys.modules if m in ('cola_gp', 'cola_pde', 'cola_emlp', 'cola_gpu')}; "
        "sys.exit(str(heavy | plugins) if heavy | plugins else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_debug_shows_the_traceback(program):
    r = program("--debug", "info", "none.mtx")
    assert r.status != 0 and "Traceback" in r.err and "FileFormatError" in r.err
    assert "Traceback" in program("info", "none.mtx", "--debug").err


def test_an_unexpected_error_is_one_line_too(cola, laplacian, monkeypatch):
    import cola_core.linalg

    def broken(*args, **kwargs):
        raise ZeroDivisionError("inside\nof something")

    monkeypatch.setattr(cola_core.linalg, "solve", broken)
    cola("solve", "a.mtx", "--rhs", "b.npy").one_line("ZeroDivisionError: inside of something", "--debug")
    with pytest.raises(ZeroDivisionError):
        cola("solve", "a.mtx", "--rhs", "b.npy", "--debug")


def test_a_reader_that_leaves_is_no_error(tmp_path):
    command = f"{sys.executable} -m cola_core rules | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_no_file(tmp_path, number, status):
    """Stopped while the answer is being written."""
    np.save(tmp_path / "a.npy", np.eye(2))
    np.save(tmp_path / "b.npy", np.ones(2))
    code = (
        # a test run started in the background ignores interrupts, and its children would too
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time, numpy as np\n"
        "def slow(*a, **k):\n"
        "    print('writing', flush=True); time.sleep(60)\n"
        "import cola_core.io.arrays\n"
        "from cola_core.cli import main\n"
        "import threading\n"
        "cola_core.io.arrays.np.save = slow\n"
        "sys.exit(main(['solve', 'a.npy', '--rhs', 'b.npy', '--out', 'x.npy', '-q']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npy", "b.npy"]


def test_tables_are_plain_unless_on_a_terminal(capsys, monkeypatch):
    rows = [("a[bold]", 1), ("b", 22)]
    table(("name", "n"), rows, right=(1,))
    assert capsys.readouterr().out == "name      n\na[bold]   1\nb        22\n"
    monkeypatch.setattr("cola_core.cli.output._terminal", lambda: True)
    table(("name", "n"), rows, right=(1,))
    assert "a[bold]" in capsys.readouterr().out
    table(("nothing",), [])


def test_json_is_strict():
    text = json_text(
        {"nan": float("nan"), "c": 1 + 2j, "a": np.array([1.0, np.inf]), "d": np.dtype("f8"), "n": None}
    )
    assert "NaN" not in text and '"im": 2.0' in text and "null" in text
