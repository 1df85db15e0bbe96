"""Looks for what is wrong with kmend on a host, and packs what support needs to know, without secrets."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from kmend.agent import sync, view
from kmend.agent.apply import Host
from kmend.agent.config import Paths, load_config, load_pinned_root
from kmend.agent.redact import redacted
from kmend.agent.settings import load_settings
from kmend.agent.state import load_state
from kmend.kit.errors import BusyError, KmendError, MachineError
from kmend.kit.files import write_atomic, write_problem
from kmend.linux import services
from kmend.linux.ftrace import enabled_functions, traced_by_others
from kmend.linux.kernel import command_line, running_kernel
from kmend.linux.kernel_log import can_read_kernel_log, read_kernel_log, troubles_in
from kmend.linux.livepatch import PREFIX, loaded_livepatches
from kmend.linux.modules import loaded_modules
from kmend.model import wire

UNITS = ("kmend-agent.service", "kmend-orderly.service")
_ROOM = 64 << 20
_JOURNAL_LINES = 500
_WORDS = ("kmend=", "lockdown=", "module.sig_enforce", "panic", "nolivepatch")


class Outcome(StrEnum):
    """Of one look."""

    OK = "ok"
    PROBLEM = "problem"
    UNKNOWN = "unknown"
    """Could not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One look and what it showed."""

    what: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Everything that the doctor looked at, and where the archive lies."""

    symptoms: tuple[Symptom, ...]
    archive: Path

    @property
    def well(self) -> bool:
        """Whether there is no problem."""
        return all(one.outcome != Outcome.PROBLEM for one in self.symptoms)


class _UnknownError(Exception):
    """A look that shows nothing."""


def examine(host: Host, archive: Path) -> Diagnosis:
    """Look at everything, and write the archive.

    Raises:
        MachineError: The archive cannot be written.
    """
    host = _with_settings(host)
    symptoms = tuple(_look(what, look, host) for what, look in _LOOKS.items())
    texts = dict(_texts(host)) | {"doctor.json": wire.dump(symptoms)}
    try:
        write_atomic(archive, _packed(texts, host), mode=0o600)
    except OSError as error:
        raise write_problem(archive, error) from error
    return Diagnosis(symptoms=symptoms, archive=archive)


def _with_settings(host: Host) -> Host:
    """The host with its settings if they can be read; the doctor works with broken ones too."""
    try:
        settings = load_settings(host.paths.settings)
    except KmendError:
        return host
    return Host(root=host.root, loader=host.loader, clock=host.clock, around=host.around, settings=settings)


def _look(what: str, look: Callable[[Host], str], host: Host) -> Symptom:
    try:
        return Symptom(what=what, outcome=Outcome.OK, detail=redacted(look(host)))
    except _UnknownError as error:
        return Symptom(what=what, outcome=Outcome.UNKNOWN, detail=redacted(str(error)))
    except KmendError as error:
        hint = f" {error.hint}" if error.hint else ""
        return Symptom(what=what, outcome=Outcome.PROBLEM, detail=redacted(error.message + hint))


def _kernel(host: Host) -> str:
    kernel = running_kernel(host.root).kernel
    loaded = [livepatch.name for livepatch in loaded_livepatches(host.root)]
    return f"{kernel.release}, build id {kernel.build_id}, livepatches: {', '.join(loaded) or 'none'}"


def _others(host: Host) -> str:
    """Somebody else's livepatches and ftrace users: respected, but good to know of."""
    foreign = [livepatch.name for livepatch in loaded_livepatches(host.root) if not livepatch.ours]
    if foreign:
        raise MachineError(f"Other livepatches are loaded: {', '.join(foreign)}.", hint="kmend leaves them alone.")
    traced = traced_by_others(host.root)
    if traced is None:
        raise _UnknownError("ftrace's list of functions cannot be read (tracefs is not mounted, or not root)")
    return f"no other livepatch; {len(traced)} functions are traced by others"


def _settings(host: Host) -> str:
    settings = load_settings(host.paths.settings).in_words
    return ", ".join(f"{name} = {value}" for name, value in settings.items()) or "all defaults"


def _enrolment(host: Host) -> str:
    config = load_config(host.paths)
    load_pinned_root(host.paths, config)
    return f"{config.repo}, channel {config.channel}"


def _memory(host: Host) -> str:
    here = running_kernel(host.root)
    state = load_state(host.paths, boot_id=here.boot_id, now=host.clock.now())
    return f"phase {state.phase}, {len(state.quarantined)} quarantined"


def _repository(host: Host) -> str:
    try:
        decision = sync.check(host)
    except BusyError as error:
        raise _UnknownError(error.message) from None
    return f"{decision.verdict}: {decision.because}"


def _server(host: Host) -> str:
    found = view.server_status(host)
    if found is None:
        return "this host belongs to no server"
    if found.error:
        raise MachineError(
            f"{found.address}: {found.error}", hint="Without it the host goes on with the repository."
        )
    if found.succeeded is None:
        raise _UnknownError(f"{found.address} has not heard of this host yet; the daemon reports to it")
    return f"{found.address}, last heard {found.succeeded:%Y-%m-%d %H:%M} UTC"


def _room(host: Host) -> str:
    place = next(path for path in (host.paths.library, *host.paths.library.parents) if path.exists())
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        raise MachineError(f"Only {free >> 20} MB are free in {place}.")
    return f"{free >> 20} MB are free in {place}"


def _log(host: Host) -> str:
    if not can_read_kernel_log(host.root):
        raise MachineError("The kernel log cannot be read, so trouble cannot be seen.", hint="Run as root.")
    found = troubles_in(read_kernel_log(host.root))
    return f"{len(found)} complaints in this boot's log"


def _units(host: Host) -> str:
    states = {unit: host.around.unit_state(unit) for unit in UNITS}
    if None in states.values():
        raise _UnknownError("systemd does not answer")
    if stopped := [f"{unit} is {state}" for unit, state in states.items() if state != "active"]:
        raise MachineError(f"{' and '.join(stopped)}.", hint=f"`systemctl enable --now {' '.join(UNITS)}`")
    return "all active"


_LOOKS: dict[str, Callable[[Host], str]] = {
    "kernel": _kernel,
    "others": _others,
    "settings": _settings,
    "enrolment": _enrolment,
    "memory": _memory,
    "repository": _repository,
    "server": _server,
    "disk": _room,
    "kernel log": _log,
    "units": _units,
}


def _texts(host: Host) -> Iterator[tuple[str, str]]:
    """Names and contents of what is packed; what cannot be read says why."""
    paths = host.paths
    yield "status.json", _or_error(lambda: wire.dump(view.status(host)))
    yield "info.json", _or_error(lambda: wire.dump(view.info(host)))
    for path in (paths.config, paths.settings, paths.state, paths.last, paths.orderly, paths.fleet):
        yield path.name, _or_error(path.read_text)
    yield "os-release", _or_error((host.root / "etc/os-release").read_text)
    yield "command-line", _or_error(lambda: _known_words(host.root))
    yield "modules", "\n".join(loaded_modules(host.root))
    yield "ftrace", enabled_functions(host.root) or "nothing, or cannot be read"
    yield "kernel-log", "\n".join(_about_us(host.root))
    yield "journal", services.journal(UNITS, lines=_JOURNAL_LINES) or "cannot be read"


def _or_error(read: Callable[[], str]) -> str:
    try:
        return read()
    except KmendError as error:
        return f"{error.message}\n"
    except (OSError, UnicodeDecodeError) as error:
        return f"cannot be read: {error}\n"


def _known_words(root: Path) -> str:
    """Only words that concern kmend: a command line may hold keys and addresses."""
    words = command_line(root)
    known = [word for word in words if word.startswith(_WORDS)]
    return " ".join(known) + f"\n({len(words) - len(known)} other words are left out)\n"


def _about_us(root: Path) -> list[str]:
    """Lines of the kernel log about livepatches, and what the kernel complained about."""
    lines = read_kernel_log(root)
    ours = [line.text for line in lines if "livepatch" in line.text or PREFIX in line.text]
    complaints = [
        f"{found.text} [{', '.join(sorted(found.functions | found.modules))}]" for found in troubles_in(lines)
    ]
    return [*ours, "complaints:", *complaints]


def _packed(texts: dict[str, str], host: Host) -> bytes:
    """A tar.gz of the texts, each without secrets."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in sorted(texts.items()):
            content = redacted(text).encode()
            entry = tarfile.TarInfo(f"kmend-doctor/{name}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(host.clock.now().timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def default_archive(paths: Paths) -> Path:
    """Where the archive goes unless told otherwise."""
    return paths.library / "reports/kmend-doctor.tar.gz"
