"""Livepatches as the kernel shows them (Documentation/ABI/testing/sysfs-kernel-livepatch)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kmend.kit.errors import MachineError

PREFIX = "kmend_"
_FOLDER = "sys/kernel/livepatch"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLivepatch:
    """One livepatch that is loaded now."""

    name: str
    enabled: bool
    in_transition: bool

    @property
    def number(self) -> int | None:
        """The number at the end of the name of one of kmend's, e.g. 3 in ``kmend_3``; None for all others."""
        tail = self.name.removeprefix(PREFIX)
        return int(tail) if self.ours and tail.isdigit() else None

    @property
    def ours(self) -> bool:
        """Whether kmend made it."""
        return self.name.startswith(PREFIX)


def loaded_livepatches(root: Path = Path("/")) -> tuple[LoadedLivepatch, ...]:
    """Every livepatch that the kernel knows now, by name.

    Raises:
        MachineError: This kernel cannot be live-patched.
    """
    folder = root / _FOLDER
    if not folder.is_dir():
        raise MachineError(
            "This kernel cannot be live-patched: /sys/kernel/livepatch is missing.",
            hint="It needs CONFIG_LIVEPATCH=y and a mounted /sys.",
        )
    return tuple(found for path in sorted(folder.iterdir()) if (found := livepatch_named(path.name, root)))


def livepatch_named(name: str, root: Path = Path("/")) -> LoadedLivepatch | None:
    """One livepatch, or None when it is not loaded (any more): it may go while it is being read."""
    folder = root / _FOLDER / name
    try:
        return LoadedLivepatch(
            name=name,
            enabled=_flag(folder / "enabled"),
            in_transition=_flag(folder / "transition"),
        )
    except OSError:
        return None


def disable(name: str, root: Path = Path("/")) -> None:
    """Ask the kernel to take a livepatch out; it is out when the livepatch has gone from sysfs.

    Raises:
        MachineError: The kernel refuses.
    """
    try:
        (root / _FOLDER / name / "enabled").write_text("0")
    except FileNotFoundError:
        return
    except OSError as error:
        raise MachineError(f"The kernel does not disable {name}: {error.strerror}.") from None


def replaced_functions(root: Path = Path("/")) -> frozenset[tuple[str, str]]:
    """Object (a module, or ``vmlinux``) and name of what livepatches in the kernel replace, whoever made them."""
    places = (root / _FOLDER).glob("*/*/*,*")
    return frozenset((place.parent.name, place.name.partition(",")[0]) for place in places)


def _flag(path: Path) -> bool:
    return path.read_text().strip() == "1"
