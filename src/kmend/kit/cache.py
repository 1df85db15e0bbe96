"""Where downloads and prepared trees lie: ``$XDG_CACHE_HOME/kmend``."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """The cache folder (XDG Base Directory Specification); it is made by whoever first writes to it."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification says that a relative path is to be ignored.
    parent = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return parent / "kmend"
