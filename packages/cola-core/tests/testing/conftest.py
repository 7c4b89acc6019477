"""Makes the loopback plugin importable by its name and registers it for the tests of this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
