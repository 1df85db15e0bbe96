"""What walks of layers found, kept for the next look: layers do not change, and large ones take seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kmend.kit.files import write_atomic
from kmend.linux.facts.look import Look

Walked = dict[str, tuple[str, ...]]
"""A layer's identity → its set-user-id files."""

_FORMAT = 1
_LARGEST = 64 << 20
_OWNER_ONLY = 0o600


def load(path: Path | None) -> Walked:
    """What was kept; nothing when there is none, or it cannot be used."""
    if path is None:
        return {}
    try:
        if path.stat().st_size > _LARGEST:
            return {}
        kept = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    layers = kept.get("layers") if isinstance(kept, dict) and kept.get("format") == _FORMAT else None
    if not isinstance(layers, dict):
        return {}
    return {key: tuple(paths) for key, paths in layers.items() if _are_paths(paths)}


def save(look: Look, path: Path | None, walked: Walked) -> None:
    """Keep it; what cannot be written is walked again next time, and that is noted."""
    if path is None:
        return
    try:
        write_atomic(path, json.dumps({"format": _FORMAT, "layers": walked}), mode=_OWNER_ONLY)
    except OSError as error:
        look.miss("cache", f"{path} cannot be written: {error.strerror}")


def _are_paths(paths: Any) -> bool:
    return isinstance(paths, list) and all(isinstance(one, str) for one in paths)
