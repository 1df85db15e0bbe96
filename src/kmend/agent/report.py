"""The HostReport: what the agent says of its host to the server."""

from __future__ import annotations

from dataclasses import replace

from kmend import __version__
from kmend.agent.apply import Host
from kmend.agent.attempt import last_failure
from kmend.agent.config import called, load_config, switched_off
from kmend.agent.decide import running_number
from kmend.agent.orders import Fleet, other_channel
from kmend.agent.settings import UpdatePolicy
from kmend.agent.state import after_reboot, load_state, orderly_boot
from kmend.agent.windows import within
from kmend.linux.kernel import running_kernel
from kmend.linux.livepatch import LoadedLivepatch, loaded_livepatches
from kmend.model.fleet import HostReport
from kmend.model.host import HostKernel

_LONGEST = 2000
_QUARANTINES = 200
_OUTBOX = 20


def make_report(host: Host, fleet: Fleet) -> HostReport:
    """What this host looks like now.

    Raises:
        InputError: The agent's memory or the enrolment cannot be read.
    """
    now = host.clock.now()
    here = running_kernel(host.root)
    loaded = loaded_livepatches(host.root)
    state = load_state(host.paths, boot_id=here.boot_id, now=now)
    state = after_reboot(state, boot_id=here.boot_id, now=now, orderly=orderly_boot(host.paths))
    return HostReport(
        at=now,
        kernel=here.kernel,
        boot_id=here.boot_id,
        phase=state.phase,
        running=running_number(loaded),
        quarantined=state.quarantined[-_QUARANTINES:],
        failure=last_failure(host.paths),
        unexpected_reboot=fleet.unexpected_reboot,
        held=_held(host, fleet, here, loaded)[:_LONGEST],
        agent=f"kmend-agent {__version__}",
        note=state.note[:_LONGEST],
    )


def in_this_boot(fleet: Fleet, *, boot_id: str, orderly: str) -> Fleet:
    """What is remembered, in this boot. Pure.

    Args:
        fleet: As it was written last.
        boot_id: Of this boot.
        orderly: The boot that was last ended in order.
    """
    if fleet.boot_id == boot_id:
        return fleet
    unexpected = bool(fleet.boot_id) and orderly != fleet.boot_id
    return replace(fleet, boot_id=boot_id, unexpected_reboot=unexpected)


def queued(fleet: Fleet, report: HostReport) -> Fleet:
    """With one more report to send; what says the same as the newest one takes its place. Pure.

    Of too many the newest are kept: each says all that is so, the older ones only how it came to be.
    """
    waiting = fleet.outbox
    if waiting and same(waiting[-1], report):
        waiting = waiting[:-1]
    return replace(fleet, outbox=(*waiting, report)[-_OUTBOX:])


def same(one: HostReport, other: HostReport) -> bool:
    """Whether two reports say the same but for the moment. Pure."""
    return replace(one, at=other.at) == other


def _held(host: Host, fleet: Fleet, here: HostKernel, loaded: tuple[LoadedLivepatch, ...]) -> str:
    """Why nothing that the server offers is loaded on this host now; empty when nothing speaks against it."""
    switch = switched_off(host.paths)
    return (
        (switch.because if switch else "")
        or _by_enrolment(host, fleet)
        or _by_others(loaded)
        or _by_windows(host)
        or _by_refusal(host, fleet, here)
    )


def _by_enrolment(host: Host, fleet: Fleet) -> str:
    if host.settings.update_policy == UpdatePolicy.LOCAL:
        return 'update_policy is "local": this host goes by its own copy of the repository'
    if not host.paths.config.exists():
        return f"the agent has no repository yet ({called()} init)"
    channel = host.settings.channel or load_config(host.paths).channel
    return other_channel(fleet.offer, channel) if fleet.offer else ""


def _by_others(loaded: tuple[LoadedLivepatch, ...]) -> str:
    foreign = [one.name for one in loaded if not one.ours]
    return f"other livepatches are loaded: {', '.join(foreign)}" if foreign else ""


def _by_windows(host: Host) -> str:
    settings = host.settings
    if within(settings.windows, host.clock.now(), settings.zone):
        return ""
    return f"waits for a window: {' and '.join(map(str, settings.windows))} ({settings.time_zone})"


def _by_refusal(host: Host, fleet: Fleet, here: HostKernel) -> str:
    refused = fleet.refused
    if refused is None or refused.build_id != here.kernel.build_id or host.clock.now() >= refused.until:
        return ""
    return refused.because
