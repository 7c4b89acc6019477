"""What runs the programs of several processes: another port where one is taken, no process that is left."""

import os
import time

import pytest

PROGRAM = """
import os, sys, time
rank, size, port, folder, what = sys.argv[1:]
with open(os.path.join(folder, f"{rank}-{port}"), "w") as file:
    file.write(str(os.getpid()))
if what == "taken" and rank == "0" and len([n for n in os.listdir(folder) if n[0] == "0"]) < 3:
    sys.exit("bind: Address already in use")
if what == "fails" and rank == "1":
    sys.exit("no such thing")
if what in ("late", "fails"):
    time.sleep(600)
print("x" * 10**6, port)
"""


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("what", "tries", "words"),
    [("plain", 1, ""), ("taken", 3, ""), ("fails", 1, "no such thing"), ("late", 1, "did not end")],
)
def test_programs_run_together(run_together, tmp_path, what, tries, words):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    folder = tmp_path / "runs"
    folder.mkdir()

    def ask():
        return run_together(str(program), 2, str(folder), what, seconds=3.0 if what == "late" else 60.0)

    if words:
        with pytest.raises(AssertionError, match=words):
            ask()
    else:
        told = ask()
        assert len(told) == 2 and told[0] == told[1] and len(told[0]) > 10**6
    time.sleep(0.05)
    runs = list(folder.iterdir())
    ports = {run.name.partition("-")[2] for run in runs}
    assert len(ports) == tries or what == "late"
    assert not any(alive(int(run.read_text())) for run in runs)
