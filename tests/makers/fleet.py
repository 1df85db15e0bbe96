"""Hosts, reports and rollouts for tests of the server."""

from datetime import timedelta

from kmend.model.fleet import Channel, Host, HostReport, Role, Token
from kmend.model.host import AgentPhase, Quarantine
from kmend.model.rollout import Health, Limits, Rollout, RolloutPlan, RolloutState, Situation, Stage, Target, Wave
from makers.nouns import KERNEL, NOW

EVERYBODY = (Wave(),)
STABLE = Channel(name="stable")


def make_report(number=None, *, phase=AgentPhase.APPLIED, kernel=KERNEL, quarantined=(), **more):
    """What an agent says; ``quarantined`` are numbers for its kernel."""
    held = tuple(Quarantine(build_id=kernel.build_id, number=one, reason="WARN", since=NOW) for one in quarantined)
    phase = AgentPhase.IDLE if number is None else phase
    basis = {"at": NOW, "kernel": kernel, "boot_id": "b-1", "phase": phase, "running": number, "quarantined": held}
    return HostReport(**{**basis, **more})


def make_host(host_id="host-1", *, labels=None, report=None):
    """A host that follows stable."""
    return Host(
        id=host_id,
        name=host_id,
        channel="stable",
        labels=labels or {},
        enrolled=NOW - timedelta(days=9),
        seen=None if report is None else NOW,
        report=report,
    )


def make_plan(number=3, *, waves=EVERYBODY, kernel=KERNEL, **more):
    """A plan for one kernel."""
    basis = {
        "name": f"to {number}",
        "channel": "stable",
        "livepatches": (Target(build_id=kernel.build_id, number=number),),
        "waves": tuple(waves),
        "limits": Limits(),
    }
    return RolloutPlan(**{**basis, **more})


def make_rollout(number=3, *, state=RolloutState.RUNNING, wave=0, cuts=None, waves=EVERYBODY, back_to=(), **more):
    """A rollout that stands at a wave."""
    return Rollout(
        id=f"rollout-{number}",
        plan=make_plan(number, waves=waves, **more),
        cuts=cuts if cuts is not None else tuple(round(one.percent * (1 << 32) / 100) for one in waves),
        state=state,
        reason="because of a test",
        wave=wave,
        wave_opened=NOW - timedelta(hours=2),
        created=NOW - timedelta(hours=3),
        counted_from=NOW - timedelta(hours=3),
        back_to=tuple(back_to),
    )


def seen_by_host(rollout, *, health=None, stage=Stage.WAITING):
    """The rollout as a host sees it."""
    return Situation(rollout=rollout, health=health or Health(), stage=stage)


def make_token(key="t1", **more):
    """A token."""
    basis = {"id": key, "name": "ci", "role": Role.ADMIN, "created": NOW, "expires": None, "revoked": None}
    rest = {"last_used": None, "uses_left": None, "channel": "", "labels": {}}
    return Token(**{**basis, **rest, **more})
