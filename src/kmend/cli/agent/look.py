"""``kmend agent look``: facts, audit and exposure of this host, kept for the server and for `status`.

The libraries of the audit and the exposure are imported only when it runs: the daemon does not need them.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import click

from kmend import __version__
from kmend.agent.apply import Host
from kmend.agent.config import Paths
from kmend.agent.look import BACKGROUND, keep, save_look
from kmend.cli.agent import texts
from kmend.cli.agent.answer import Answer, answer_with, host_of, json_option
from kmend.kit.errors import KmendError
from kmend.kit.files import lock
from kmend.kit.progress import Silent
from kmend.model.exposure import Exposure
from kmend.model.facts import Facts
from kmend.model.finding import AuditReport
from kmend.model.look import Look

_NICE = 15
_MEMORY = 400 << 20
"""Bytes that a look beside the daemon may take."""
_FIRST_TO_GO = "1000"
T = TypeVar("T")


@click.command("look")
@click.option(BACKGROUND, "background", is_flag=True, hidden=True)
@json_option
@click.pass_obj
def look(machine: Path, *, background: bool, as_json: bool) -> int:
    """Look at this host now: how it is set up, and which open CVEs its containers reach.

    The daemon does it every look_hours (24). Nothing is started in a container; nothing is changed, but a
    mitigation whose CVE is closed is taken out. The newest look is kept for `status` and for the server; the audit
    also whole, in reports/audit.json of the agent's folder. CVEs are looked at when agent.toml names cve_records.
    """
    if background:
        _step_back()

    def work() -> Answer:
        host = host_of(machine)
        with lock(host.paths.looking, what="kmend agent look"):
            made = _look(host)
        return Answer(made, texts.look_text(made))

    return answer_with(work, as_json=as_json)


@click.command("facts")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the facts as JSON in this file."
)
@json_option
@click.pass_obj
def facts(machine: Path, *, out: Path | None, as_json: bool) -> int:
    """Look at this host, and say or save what was seen, to be judged elsewhere.

    `kmend audit --facts FILE` and `kmend exposure --facts FILE` do it on a machine that has all of kmend. Nothing
    is started or changed here. Run it as root: what the caller may not see is listed as unseen.
    """

    def work() -> Answer:
        from kmend.cli.facts import facts_of, save, told  # noqa: PLC0415 - as the head of this file says

        os.environ.setdefault("XDG_CACHE_HOME", str(Paths(root=machine).cache))
        found = facts_of(None, machine)
        if out is not None:
            save(found, out)
        return Answer(found, told(found, out))

    return answer_with(work, as_json=as_json)


def _step_back() -> None:
    """Leave processor and memory to everybody else, and be the first to go when there is too little."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)


def _look(host: Host) -> Look:
    from kmend.agent.facts import host_facts  # noqa: PLC0415 - as the head of this file says
    from kmend.agent.telling import look_of, not_here  # noqa: PLC0415

    os.environ.setdefault("XDG_CACHE_HOME", str(host.paths.cache))
    now = host.clock.now()
    facts = host_facts(host.root, now=now)
    errors: list[str] = []
    report = _tried("audit", errors, lambda: _audit(host, facts, now)) if host.settings.look_audit else None
    found = _tried("exposure", errors, lambda: _exposure(host, facts)) if host.settings.cve_records else None
    lifted = _tried("mitigations", errors, lambda: _lift(host, found)) if found else None
    if report is not None:
        keep(host.paths.audit, report)
    if found is not None:
        keep(host.paths.not_here, not_here(found))
    made = look_of(report, found, at=now, version=__version__, errors=errors, lifted=lifted or ())
    save_look(host.paths, made)
    return made


def _tried(what: str, errors: list[str], work: Callable[[], T]) -> T | None:
    """What a part comes to; what goes wrong in it must not take the other part along."""
    try:
        return work()
    except KmendError as error:
        errors.append(f"{what}: {error.message} {error.hint}".strip())
    except MemoryError:
        errors.append(f"{what}: more than {_MEMORY >> 20} MiB of memory would be needed")
    except Exception as error:  # noqa: BLE001 - whatever it was, it is told
        errors.append(f"{what}: {type(error).__name__}: {error}")
    return None


def _audit(host: Host, facts: Facts, now: datetime) -> AuditReport:
    from kmend.audit import advisories, waivers  # noqa: PLC0415
    from kmend.audit.check import Advisory, Case  # noqa: PLC0415
    from kmend.audit.judge import audit  # noqa: PLC0415
    from kmend.audit.registry import select  # noqa: PLC0415
    from kmend.cli.audit.modules import learn  # noqa: PLC0415
    from kmend.exposure.fetching import local  # noqa: PLC0415

    settings = host.settings
    accepted = waivers.read(Path(settings.audit_waivers)) if settings.audit_waivers else ()
    known = learn(facts, live=host.root == Path("/"), file=host.paths.module_use)
    said: dict[str, tuple[Advisory, ...]] = {}
    for place in settings.advisories:
        for package, found in advisories.read(local(place, progress=Silent())).items():
            said[package] = (*said.get(package, ()), *found)
    case = Case(facts=facts, advisories=said, used_modules=frozenset(known.last if known else ()))
    return audit(case, select("all", ()), version=__version__, waivers=accepted, now=now)


def _exposure(host: Host, facts: Facts) -> Exposure:
    from kmend.agent.kernel_list import kernel_list  # noqa: PLC0415
    from kmend.cli.exposure.gather import Given, exposure_by  # noqa: PLC0415

    settings = host.settings
    given = Given(
        facts=None,
        root=host.root,
        records=settings.cve_records,
        kernel_files=Path(settings.kernel_files) if settings.kernel_files else kernel_list(host),
        kev=Path(settings.kev) if settings.kev else None,
        advisories=settings.advisories,
    )
    return exposure_by(facts, given, progress=Silent())


def _lift(host: Host, found: Exposure) -> tuple[str, ...]:
    """Take out the mitigations of CVEs that are closed; their names."""
    from kmend.exposure.dropins import lift_closed  # noqa: PLC0415

    return tuple(one.cve for one, _ in lift_closed(host.root, found))
