"""Where the suite keeps what can be made anew."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return the suite's cache: the folder LTBENCH_CACHE, by default below the user's cache folder."""
    given = os.environ.get("LTBENCH_CACHE")
    return Path(given) if given else platformdirs.user_cache_path("ltbench")
