"""Where methods, committed splits and published numbers lie: at the top of a clone, or inside an installed wheel."""

from __future__ import annotations

from pathlib import Path

import ltbench.shipped

TOP = Path(list(ltbench.shipped.__path__)[-1])
"""The folder that holds `methods`, `splits` and `results/published`."""

METHODS = TOP / "methods"
SPLITS = TOP / "splits"
PUBLISHED = TOP / "results" / "published"
