"""`cola-core gpu bench`: what a device can do, and what the plugin's algorithms make of it.

`ceilings` measures bandwidth and matrix products, `roofline` turns counts of flops and bytes into the least
time they can take there, `cases` runs the algorithms and counts, `run` puts them together. Nothing is taken
from data sheets. Importing this imports no array library.
"""

from __future__ import annotations

from .run import run
from .target import Target, choose

__all__ = ["Target", "choose", "run"]
