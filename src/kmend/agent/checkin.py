"""Check-ins: the host's reports reach the server, and what it answers is kept where every run of the agent looks.

Nothing here is needed to keep the host safe: without the server the agent goes on with the repository alone.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus

from kmend.agent import sync
from kmend.agent.apply import Host, end_soak
from kmend.agent.config import Switch, switched_off
from kmend.agent.decide import Decision, Verdict
from kmend.agent.look import load_look
from kmend.agent.membership import Membership, load_membership, renewed, with_secret
from kmend.agent.orders import Fleet, Order, Refused, Rule, load_fleet, order_of
from kmend.agent.report import in_this_boot, make_report, queued, same
from kmend.agent.server import Link, ServerError
from kmend.agent.state import load_state, orderly_boot
from kmend.agent.watching import WHAT
from kmend.kit.errors import BusyError, KmendError
from kmend.kit.files import lock, write_atomic, write_problem
from kmend.linux.kernel import running_kernel
from kmend.linux.livepatch import loaded_livepatches
from kmend.linux.notify import notify
from kmend.model import wire
from kmend.model.fleet import HostReport, Offer, OfferAction
from kmend.model.host import AgentPhase
from kmend.model.protocol import CheckedIn

log = logging.getLogger(__name__)

_SHORTEST, _SLOWEST, _LONGEST = 10, 3600.0, 86400
_TURN = 60.0
"""Seconds that one check-in may go on sending reports of earlier; the rest is sent at the next one."""
_ASK_AGAIN = timedelta(minutes=30)
_OURS = {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
"""What the server says of a report that it can never take."""
_NEVER = _OURS | {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}
"""What it says of a look that it can never take, also because it is older than looks are."""
_PASSING = {
    Verdict.AVAILABLE,
    Verdict.SOAKING,
    Verdict.STALLED,
    Verdict.HELD_BACK,
    Verdict.SWITCHED_OFF,
    Verdict.OUTSIDE_WINDOW,
    Verdict.WITHHELD,
}
"""Verdicts that a report tells by itself, or that pass."""


@dataclass(slots=True, kw_only=True)
class CheckIns:
    """The daemon's side of the server."""

    chance: Callable[[], float] = random.random
    said: str = ""
    acknowledged: HostReport | None = None
    """The report that the server took last from this process."""
    urgent: bool = False
    """Whether the next look is to come at once."""

    def due_in(self, host: Host) -> float:
        """Seconds until the next check-in; endless on a host that belongs to no server."""
        try:
            if load_membership(host.paths) is None:
                return math.inf
        except KmendError as error:
            self._say(logging.ERROR, f"{error.message} {error.hint}".strip())
            return math.inf
        return due_in(load_fleet(host.paths), host.clock.now())

    def rest(self, host: Host, seconds: float, *, sleep: Callable[[float], None]) -> None:
        """Wait, and check in meanwhile; ends early when the server wants something new."""
        end = host.clock.monotonic() + seconds
        while not self.urgent and (left := end - host.clock.monotonic()) > 0:
            due = self.due_in(host)
            sleep(min(left, max(due, 1.0)))
            if due < left and self.check_in(host):
                break
        self.urgent = False

    def check_in(self, host: Host, *, news: bool = False) -> bool:
        """Report, if that is due, and do as the server says; what goes wrong is logged and changes nothing.

        Args:
            host: The machine.
            news: Report although it is not due, if there is something new to say.

        Returns:
            Whether the server names another livepatch to load than before.
        """
        try:
            with lock(host.paths.server_lock, what="kmend agent"):
                return self._check_in(host, news=news)
        except BusyError as error:
            log.debug("%s", error.message)
        except (KmendError, OSError) as error:
            self._say(logging.ERROR, str(error))
        return False

    def meanwhile(self, host: Host) -> None:
        """Check in while a livepatch is being watched.

        Raises:
            BusyError: The server asks to take back what is being watched, so the watch is over.
        """
        if self.due_in(host) > 0:
            return
        self.check_in(host)
        state = load_state(host.paths, boot_id=running_kernel(host.root).boot_id, now=host.clock.now())
        if state.phase != AgentPhase.SOAKING:
            raise BusyError("The livepatch was taken out while it was watched, as the server asked.")
        order = _order(host)
        if order.back and state.livepatch and order.number != state.livepatch.number:
            with lock(host.paths.lock, what=WHAT, wait=True):
                end_soak(host, state)
            self.urgent = True
            raise BusyError(f"The watch of livepatch {state.livepatch.number} ends: {order.because}.")

    def note_refusal(self, host: Host, decision: Decision) -> None:
        """Remember that an offer is not taken for a reason of the owner's, so that the server hears of it."""
        with lock(host.paths.server_lock, what="kmend agent", wait=True):
            self._note_refusal(host, decision)

    def _note_refusal(self, host: Host, decision: Decision) -> None:
        fleet = load_fleet(host.paths)
        offer = fleet.offer
        if offer is None or offer.action != OfferAction.APPLY or offer.number is None:
            return
        taken = (decision.running or 0) >= offer.number or offer.build_id != decision.kernel.build_id
        if taken or decision.verdict in _PASSING:
            return
        because = f"{decision.verdict}: {decision.because}"
        until = host.clock.now() + _ASK_AGAIN
        refused = Refused(build_id=offer.build_id, number=offer.number, because=because, until=until)
        _save(host, replace(fleet, refused=refused))

    def _check_in(self, host: Host, *, news: bool) -> bool:
        member = load_membership(host.paths)
        if member is None:
            return False
        before = load_fleet(host.paths)
        boot_id = running_kernel(host.root).boot_id
        fleet = in_this_boot(before, boot_id=boot_id, orderly=orderly_boot(host.paths))
        report = make_report(host, fleet)
        due = due_in(fleet, host.clock.now()) <= 0
        is_news = self.acknowledged is None or not same(self.acknowledged, report)
        if not due and not (news and is_news):
            return False
        fleet = queued(fleet, report)
        _save(host, fleet)
        if not due and fleet.failures:  # the server is away or asked to wait: the report waits too
            return False
        fleet = self._sent(host, member, fleet)
        if fleet.outbox:
            return False
        fleet = _told_look(host, fleet)
        if self._taken_out(host):
            return self._check_in(host, news=True)
        return _wants_more(before.offer, fleet.offer)

    def _sent(self, host: Host, member: Membership, fleet: Fleet) -> Fleet:
        """Send what waits, the oldest first; what was acknowledged is off the disk only after that."""
        link = member.link(host.settings, host.root)
        until = time.monotonic() + _TURN
        try:
            while fleet.outbox and time.monotonic() < until:
                notify("WATCHDOG=1")
                ask = partial(_ask, link, fleet.outbox[0])
                member, answer = with_secret(host.paths, member, ask)
                self.acknowledged = fleet.outbox[0]
                fleet = heard(fleet, answer, now=host.clock.now(), chance=self.chance())
                _save(host, fleet)
            self._say(logging.INFO, _told(fleet))
            renewed(host.paths, member, link, now=host.clock.now())
        except ServerError as error:
            now = host.clock.now()
            fleet = failed(fleet, error, interval=member.interval, now=now, chance=self.chance())
            _save(host, fleet)
            self._say(logging.WARNING, f"{error.message} {error.hint}".strip())
        return fleet

    def _taken_out(self, host: Host) -> bool:
        """Take kmend's livepatch out when the server asks for it; whether there was one to take out."""
        switch = switched_off(host.paths)
        running = [one.number for one in loaded_livepatches(host.root) if one.ours and one.enabled]
        if not running or _order(host).rule != Rule.OUT or (switch and switch.switch == Switch.OFF):
            return False
        gone = sync.unload_now(host, hold=False)
        log.info("taken out as the server asked: %s", ", ".join(gone))
        return True

    def _say(self, level: int, text: str) -> None:
        """Say in the journal what is new."""
        if text != self.said:
            log.log(level, "%s", text)
        self.said = text


def due_in(fleet: Fleet, now: datetime) -> float:
    """Seconds until the next check-in. Pure; a clock that was set back does not put it off."""
    if fleet.due is None or fleet.tried is None or now < fleet.tried:
        return 0.0
    return max(0.0, (fleet.due - now).total_seconds())


def heard(fleet: Fleet, answer: CheckedIn, *, now: datetime, chance: float) -> Fleet:
    """What is remembered once the oldest report was acknowledged. Pure.

    Args:
        fleet: As it was.
        answer: What the server said.
        now: The moment.
        chance: A random number from 0 up to 1: hosts spread over a tenth of the interval to either side.
    """
    interval = min(max(answer.interval, _SHORTEST), _LONGEST)
    pause = timedelta(seconds=interval * (0.9 + 0.2 * chance))
    return replace(
        fleet,
        outbox=fleet.outbox[1:],
        tried=now,
        succeeded=now,
        error="",
        failures=0,
        due=now + pause,
        offer=answer.offer,
        refused=fleet.refused if fleet.refused and now < fleet.refused.until else None,
    )


def failed(fleet: Fleet, error: ServerError, *, interval: int, now: datetime, chance: float) -> Fleet:
    """What is remembered after a try that failed: when to try again, and why it failed. Pure.

    As long as the server asks for, else twice as long each time up to an hour, from half to one and a half of it.
    A report that the server can never take is not sent again.
    """
    failures = fleet.failures + 1
    pause = min(max(interval, _SHORTEST) * 2.0 ** min(failures, 20), _SLOWEST) * (0.5 + chance)
    if error.retry_after is not None:
        pause = max(error.retry_after, 1.0) * (1 + 0.1 * chance)
    return replace(
        fleet,
        outbox=fleet.outbox[1:] if error.status in _OURS else fleet.outbox,
        tried=now,
        error=error.message,
        failures=failures,
        due=now + timedelta(seconds=pause),
    )


def _told_look(host: Host, fleet: Fleet) -> Fleet:
    """Tell the server of a look that it has not heard of; a server that takes no looks is not asked twice."""
    look, member = load_look(host.paths), load_membership(host.paths)
    if look is None or member is None or look.at == fleet.look_told:
        return fleet
    link = member.link(host.settings, host.root)
    try:
        with_secret(host.paths, member, lambda known: link.tell_look(look, credential=known.credential))
    except ServerError as error:
        log.info("the look at this host is not taken: %s", error.message)
        if error.status not in _NEVER:
            return fleet
    fleet = replace(fleet, look_told=look.at)
    _save(host, fleet)
    return fleet


def _ask(link: Link, report: HostReport, member: Membership) -> CheckedIn:
    return link.check_in(report, credential=member.credential)


def _order(host: Host) -> Order:
    build_id = running_kernel(host.root).kernel.build_id
    return order_of(host.paths, host.settings, build_id=build_id, now=host.clock.now())


def _wants_more(before: Offer | None, now: Offer | None) -> bool:
    if now is None or now.action not in {OfferAction.APPLY, OfferAction.GO_BACK}:
        return False
    return before is None or (before.action, before.number, before.build_id) != (
        now.action,
        now.number,
        now.build_id,
    )


def _told(fleet: Fleet) -> str:
    return f"the server says {fleet.offer.action}: {fleet.offer.because}" if fleet.offer else ""


def _save(host: Host, fleet: Fleet) -> None:
    try:
        write_atomic(host.paths.fleet, wire.dump(fleet), mode=0o600)
    except OSError as error:
        raise write_problem(host.paths.fleet, error) from error
