"""Give back the disk space of an environment that has run, in continuous integration.

`python .ci/tidy.py FOLDER` removes the installed packages of the environment in FOLDER when CI is
set, and tox's record of it, so that another run makes it anew. It does nothing elsewhere: people run an
environment again. Six hold PyTorch; together they are above 10 GB.
"""

import os
import shutil
import sys
from pathlib import Path

if os.environ.get("CI"):
    folder = Path(sys.argv[1])
    (folder / ".tox-info.json").unlink(missing_ok=True)
    shutil.rmtree(folder / "lib", ignore_errors=True)
