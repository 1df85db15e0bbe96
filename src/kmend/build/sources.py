"""The two versions of a source between which an update lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kmend.linux.versions import series_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The two versions of a distribution's source; both are only read."""

    old: Path
    new: Path
    old_version: str
    new_version: str

    @property
    def series(self) -> str:
        """E.g. ``6.1``."""
        return series_of(self.old_version)
