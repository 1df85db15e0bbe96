"""Which version is newer, as the container projects count."""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION = re.compile(
    r"v?(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?(?:[-~.+]?(alpha|beta|rc)[.\-]?(\d{1,9})?)?", re.IGNORECASE | re.ASCII
)
_PHASES = {"alpha": 0, "beta": 1, "rc": 2}
_FINAL = 3

Upstream = tuple[int, int, int, int, int]
"""Major, minor, patch, phase (a release candidate comes before its release), number of the candidate."""


def upstream(version: str) -> Upstream | None:
    """What a version string says of the upstream version: ``5:24.0.7-1~ubuntu`` and ``v24.0.7`` are both 24.0.7.

    None when no version can be seen in it.
    """
    found = _VERSION.search(version.rpartition(":")[2] if re.match(r"\d+:", version) else version)
    if not found:
        return None
    phase = _PHASES[found[4].lower()] if found[4] else _FINAL
    return int(found[1]), int(found[2]), int(found[3] or 0), phase, int(found[5] or 0)


def is_fixed(version: Upstream, fixed: Sequence[str]) -> bool:
    """Whether a version has a fix that came out in these versions, one per maintained series.

    It has when it is in the series of one of them and not older, or newer than all of them.
    """
    known = [one for text in fixed if (one := upstream(text))]
    if any(version[:2] == one[:2] and version >= one for one in known):
        return True
    return bool(known) and version >= max(known)
