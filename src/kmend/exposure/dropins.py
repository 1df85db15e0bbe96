"""Mitigations as files: a drop-in in modprobe.d or sysctl.d for each CVE, which says itself what it is for.

The line ``# kmend: {…}`` holds the record, so that nothing else has to be kept and a copy of /etc is complete.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kmend.exposure.mitigations import STOPS_LIVEPATCHING, block_of, sysctl_of
from kmend.kit.errors import InputError
from kmend.kit.files import sync_folder, write_atomic, write_problem
from kmend.kit.printable import printable
from kmend.model import wire
from kmend.model.exposure import CveExposure, Exposure, Verdict
from kmend.model.facts import Facts
from kmend.model.fix import CVE_ID

MODPROBE = "etc/modprobe.d/kmend-{cve}.conf"
SYSCTL = "etc/sysctl.d/99-kmend-{cve}.conf"
_MARK = "# kmend: "
_LARGEST = 64 << 10
_OPEN = frozenset((Verdict.OPEN, Verdict.UNKNOWN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mitigation:
    """What was switched off for a CVE."""

    cve: str
    title: str
    file: str
    """Below the root of the host."""
    blocks: tuple[str, ...] = ()
    """Modules."""
    sysctl: str = ""
    value: str = ""
    was: str = ""
    """Value before; empty when it is not known."""
    breaks: tuple[str, ...] = ()
    created: datetime


def plan(facts: Facts, one: CveExposure, *, held: Iterable[Mitigation], now: datetime) -> Mitigation:
    """What can be switched off so that nothing comes to the code of a CVE. Pure.

    Args:
        facts: Of the host.
        one: The CVE on it.
        held: Mitigations that are there.
        now: Written down.

    Raises:
        InputError: Nothing can, and why.
    """
    if one.verdict not in _OPEN:
        raise InputError(f"{one.cve} is not open here: {one.verdict.replace('-', ' ')}.")
    return _of_sysctl(facts, one, held, now) or _of_modules(facts, one, now)


def _of_sysctl(facts: Facts, one: CveExposure, held: Iterable[Mitigation], now: datetime) -> Mitigation | None:
    switch = sysctl_of(facts, one.files)
    if switch is None or switch.name in STOPS_LIVEPATCHING:
        return None
    before = next((other.was for other in held if other.sysctl == switch.name), None)
    return Mitigation(
        cve=one.cve,
        title=one.title,
        created=now,
        file=SYSCTL.format(cve=one.cve),
        sysctl=switch.name,
        value=switch.value,
        was=before if before is not None else facts.sysctl(switch.name) or "",
        breaks=(switch.breaks,),
    )


def _of_modules(facts: Facts, one: CveExposure, now: datetime) -> Mitigation:
    if not one.objects:
        raise InputError(
            f"It is not known which module holds the code of {one.cve}.",
            hint="Give --kernel-files (`kmend kernel files` writes them).",
        )
    blocks = block_of(facts, one.objects)
    against = [f"{block.module}: {block.reason}" for block in blocks if not block.possible]
    if against:
        raise InputError(
            f"{one.cve} cannot be mitigated by a switch: {'; '.join(against)}.",
            hint="A module that is loaded and not used can be removed first (`modprobe -r`); built-in code "
            "needs a livepatch or an update.",
        )
    return Mitigation(
        cve=one.cve,
        title=one.title,
        created=now,
        file=MODPROBE.format(cve=one.cve),
        blocks=tuple(block.module for block in blocks),
        breaks=tuple(dict.fromkeys(f"{block.module}: {what}" for block in blocks for what in block.breaks)),
    )


def text(mitigation: Mitigation) -> str:
    """The drop-in."""
    record = " ".join(wire.dump(mitigation).split())
    lines = [
        f"# {mitigation.cve}: {printable(mitigation.title)}",
        f"# Written by `kmend mitigate`. It goes with `kmend mitigate --remove {mitigation.cve}`, or by itself",
        "# (`kmend mitigate --refresh`) when the CVE is closed.",
        f"{_MARK}{record}",
        *(f"install {module} /bin/false" for module in mitigation.blocks),
    ]
    if mitigation.sysctl:
        lines.append(f"{mitigation.sysctl} = {mitigation.value}")
    return "\n".join(lines) + "\n"


def write(root: Path, mitigation: Mitigation) -> str:
    """Write the drop-in; on the running host a sysctl holds at once. Returns what does not hold yet, or nothing.

    Raises:
        MachineError: The file cannot be written.
    """
    file = root / mitigation.file
    try:
        write_atomic(file, text(mitigation))
    except OSError as error:
        raise write_problem(file, error) from None
    return _set(root, mitigation.sysctl, mitigation.value) if mitigation.sysctl else ""


def remove(root: Path, mitigation: Mitigation, *, others: Iterable[Mitigation]) -> str:
    """Take a mitigation out; a sysctl goes back to what it was, unless another mitigation needs it.

    Returns:
        What does not hold yet, or nothing.

    Raises:
        MachineError: The file cannot be removed.
    """
    file = root / mitigation.file
    try:
        if file.exists():
            file.unlink()
            sync_folder(file.parent)
    except OSError as error:
        raise write_problem(file, error) from None
    shared = any(one.sysctl == mitigation.sysctl for one in others if one.cve != mitigation.cve)
    if not (mitigation.sysctl and mitigation.was) or shared:
        return ""
    if _get(root, mitigation.sysctl) != mitigation.value:
        return ""
    return _set(root, mitigation.sysctl, mitigation.was)


def held(root: Path) -> tuple[Mitigation, ...]:
    """The mitigations that are there, by CVE; files that somebody else wrote or damaged are none of them."""
    found = {}
    for folder in (MODPROBE, SYSCTL):
        for file in sorted((root / folder).parent.glob(Path(folder).name.format(cve="CVE-*"))):
            if one := _read(file, str(file.relative_to(root))):
                found[one.cve] = one
    return tuple(found[cve] for cve in sorted(found))


def lift_closed(root: Path, found: Exposure, *, dry_run: bool = False) -> Iterator[tuple[Mitigation, str]]:
    """Take out the mitigations of all CVEs that are closed, one after the other, each with what `remove` returns.

    Raises:
        MachineError: A file cannot be removed.
    """
    verdicts = {one.cve: one.verdict for one in found.cves}
    there = list(held(root))
    for one in tuple(there):
        # Without a verdict nobody knows that it is closed.
        if verdicts.get(one.cve, Verdict.UNKNOWN) not in _OPEN:
            there.remove(one)
            yield one, "" if dry_run else remove(root, one, others=there)


def _read(file: Path, name: str) -> Mitigation | None:
    with suppress(OSError, InputError, UnicodeDecodeError):
        if file.stat().st_size > _LARGEST:
            return None
        for line in file.read_text().splitlines():
            if line.startswith(_MARK):
                one = wire.load(Mitigation, line.removeprefix(_MARK), what=name)
                return one if one.file == name and CVE_ID.fullmatch(one.cve) else None
    return None


def _path(root: Path, name: str) -> Path:
    return root / "proc/sys" / name.replace(".", "/")


def _get(root: Path, name: str) -> str:
    with suppress(OSError):
        return _path(root, name).read_text().strip()
    return ""


def _set(root: Path, name: str, value: str) -> str:
    """Set a sysctl of the running host; an image of a host gets it at its next boot."""
    if root != Path("/"):
        return ""
    try:
        _path(root, name).write_text(value)
    except OSError as error:
        return f"{name} keeps its value until the next boot ({error.strerror})"
    return ""
