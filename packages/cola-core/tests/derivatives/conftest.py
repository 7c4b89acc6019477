"""Makes the grid, which is also a program, importable by its name for the tests of this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
