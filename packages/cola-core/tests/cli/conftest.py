"""Running the command line, in this process and as a program; and small problems in files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from cola_core.cli import main
from cola_core.io import write_matrix_market
from cola_core.ops import Sparse
from cola_core.properties import SelfAdjoint


class Result:
    """Exit status and both streams."""

    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    @property
    def lines(self):
        return self.err.splitlines()

    def one_line(self, *words, status=1):
        """A failure as the contract has it: this status, one line on stderr, no traceback, with these
        words."""
        assert self.status == status, (self.status, self.out, self.err)
        assert len(self.lines) == 1, self.err
        assert self.lines[0].startswith("cola-core: ")
        assert "Traceback" not in self.err + self.out
        for word in words:
            assert word in self.lines[0], (word, self.lines[0])


@pytest.fixture
def cola(capsys, monkeypatch, tmp_path):
    """``cola("solve", ...)`` in this process, in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        capsys.readouterr()
        status = main([str(a) for a in argv])
        out, err = capsys.readouterr()
        return Result(status, out, err)

    return run


@pytest.fixture
def program(tmp_path):
    """``program("solve", ...)`` as a process of its own; ``path`` holds further packages."""

    def run(*argv, path=None, **environment):
        env = {k: v for k, v in os.environ.items() if not k.startswith("COLA_")}
        env |= {"COLA_PROFILE": "default"} | environment
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [path and str(path), env.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, "-m", "cola_core", *map(str, argv)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=env | {"PYTHONIOENCODING": "utf-8"},
            cwd=tmp_path,
            timeout=120,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def laplacian(tmp_path):
    """The 2-d Laplacian on 12 x 10 points as a symmetric file a.mtx, with right-hand side b.npy; returns the
    matrix."""
    one = [
        sp.diags_array([2 * np.ones(k), -np.ones(k - 1), -np.ones(k - 1)], offsets=[0, 1, -1])
        for k in (12, 10)
    ]
    M = (sp.kron(one[0], sp.eye_array(10)) + sp.kron(sp.eye_array(12), one[1])).tocsr()
    write_matrix_market(tmp_path / "a.mtx", SelfAdjoint(Sparse.from_scipy(M)))
    np.save(tmp_path / "b.npy", np.linspace(-1, 1, 120))
    return M


@pytest.fixture
def plugin(tmp_path):
    """Make an installed-looking distribution: a folder to put on PYTHONPATH."""

    def make(name, modules, groups, version="1.0"):
        site = tmp_path / "site"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        text = "".join(
            f"[cola_core.{group}]\n" + "".join(f"{line}\n" for line in lines)
            for group, lines in groups.items()
        )
        (info / "entry_points.txt").write_text(text)
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
        return Path(site)

    return make
