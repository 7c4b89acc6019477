"""Give back the disk space of an environment that has run, in continuous integration.

`python .ci/tidy.py FOLDER` removes the installed packages in FOLDER when the variable CI is set, and does
nothing elsewhere: people run an environment again. Six hold PyTorch; together they are above 10 GB.
"""

import os
import shutil
import sys

if os.environ.get("CI"):
    shutil.rmtree(sys.argv[1], ignore_errors=True)
