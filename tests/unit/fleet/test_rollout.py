"""The decision of the server: what a host should run and why; when a rollout goes on or stops."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend.fleet.rollout import (
    SHARES,
    cuts_for,
    decide,
    judge,
    share_of,
    stage_after,
    trouble,
    wave_of,
)
from kmend.model import wire
from kmend.model.fleet import Block, Channel, OfferAction
from kmend.model.host import AgentPhase
from kmend.model.rollout import (
    IN_FLIGHT,
    BackTo,
    Health,
    Limits,
    Rollout,
    RolloutState,
    Situation,
    Stage,
    Tally,
    Wave,
)
from makers.fleet import STABLE, make_host, make_report, make_rollout, seen_by_host
from makers.nouns import KERNEL, NOW, OTHER_KERNEL

WELL = Health(updated=Tally(hosts=10), waiting=Tally(hosts=90), done=10, settled=NOW - timedelta(hours=2))


def ask(report, *situations, host=None, channel=STABLE, blocks=()):
    """The Offer for a host."""
    return decide(host or make_host(), report, situations, channel=channel, blocks=blocks, now=NOW)


def test_a_host_in_the_open_wave_is_offered_the_livepatch():
    """With the rollout that asks for it, and why."""
    offer = ask(make_report(2), seen_by_host(make_rollout(3)))
    assert (offer.action, offer.number, offer.rollout) == (OfferAction.APPLY, 3, "rollout-3")
    assert offer.because == "rollout “to 3” brings livepatch 3 to this host"


@pytest.mark.parametrize(
    ("report", "change", "because"),
    [
        (make_report(3), {}, "livepatch 3 runs, as it should"),
        (make_report(4), {}, "livepatch 4 runs, which is higher than 3"),
        (make_report(2, quarantined=(3,)), {}, "quarantined on this host: WARN"),
        (make_report(2, held="kmend=off"), {}, "takes nothing now: kmend=off"),
        (make_report(kernel=OTHER_KERNEL), {}, "no rollout in channel stable has a livepatch for 6.1.0-56"),
        (make_report(2), {"state": RolloutState.PAUSED}, "is paused: because of a test"),
        (make_report(2), {"state": RolloutState.STOPPED}, "is stopped: because"),
        (make_report(2), {"state": RolloutState.ABORTED}, "is aborted: because"),
        (make_report(2), {"selector": "env=prod"}, "no wave that takes this host"),
        (make_report(2), {"waves": (Wave(percent=1), Wave())}, "this host is in wave 2 of"),
    ],
)
def test_why_a_host_stays(report, change, because):
    """Every way not to be offered anything has its own reason, and the host goes on with what it runs."""
    offer = ask(report, seen_by_host(make_rollout(3, **change)))
    assert (offer.action, offer.number) == (OfferAction.STAY, report.running)
    assert because in offer.because


def test_a_block_and_a_paused_channel_hold_for_everybody():
    """Both name their reason."""
    block = Block(build_id=KERNEL.build_id, number=3, reason="slow disks", since=NOW)
    assert (
        "blocked in the whole fleet: slow disks"
        in ask(make_report(), seen_by_host(make_rollout(3)), blocks=[block]).because
    )
    paused = Channel(name="stable", paused=True, reason="holidays")
    assert (
        ask(make_report(), seen_by_host(make_rollout(3)), channel=paused).because
        == "channel stable is paused: holidays"
    )


@pytest.mark.parametrize(
    ("report", "change", "channel", "holds"),
    [
        (make_report(2), {"state": RolloutState.PAUSED}, STABLE, True),
        (make_report(2), {"state": RolloutState.STOPPED}, STABLE, True),
        (make_report(2), {"waves": (Wave(percent=1), Wave())}, STABLE, True),
        (make_report(2), {"state": RolloutState.ABORTED}, STABLE, False),
        (make_report(2), {"state": RolloutState.ROLLED_BACK}, STABLE, False),
        (make_report(3), {"state": RolloutState.PAUSED}, STABLE, False),
        (make_report(2), {}, STABLE, False),
        (make_report(3), {}, Channel(name="stable", paused=True), True),
        (make_report(2, held="no window"), {}, Channel(name="stable", paused=True), True),
    ],
)
def test_what_is_held_back_from_hosts_with_rules_of_their_own(report, change, channel, holds):
    """A pause, a stop and a later wave hold back what is higher than what runs; what is over does not."""
    assert ask(report, seen_by_host(make_rollout(3, **change)), channel=channel).holds is holds


def test_every_offer_names_the_blocked_numbers():
    """Of the host's own kernel only, whatever is offered."""
    blocks = [Block(build_id=KERNEL.build_id, number=one, reason="bad", since=NOW) for one in (7, 4)]
    blocks.append(Block(build_id=OTHER_KERNEL.build_id, number=5, reason="bad", since=NOW))
    assert ask(make_report(2), seen_by_host(make_rollout(3)), blocks=blocks).blocked == (4, 7)
    assert ask(make_report(2), blocks=blocks).blocked == (4, 7)


def test_an_earlier_rollout_serves_hosts_that_the_new_one_does_not_take_yet():
    """A new host gets what is proven in the whole fleet, until its wave of the new rollout comes."""
    old = make_rollout(2, state=RolloutState.FINISHED)
    new = make_rollout(3, waves=(Wave(percent=1), Wave()))
    offer = ask(make_report(), seen_by_host(new), seen_by_host(old))
    assert (offer.action, offer.number) == (OfferAction.APPLY, 2)
    assert ask(make_report(2), seen_by_host(new), seen_by_host(old)).action == OfferAction.STAY


def test_a_rollback_reaches_hosts_that_run_the_number_and_no_others():
    """To the number it names, or to none; held back hosts and a paused channel do not stop it."""
    to_2 = BackTo(build_id=KERNEL.build_id, number=2)
    gone = make_rollout(3, state=RolloutState.ROLLED_BACK, back_to=(to_2,))
    paused = Channel(name="stable", paused=True)
    offer = ask(make_report(3), seen_by_host(gone), channel=paused)
    assert (offer.action, offer.number) == (OfferAction.GO_BACK, 2)
    assert ask(make_report(3, quarantined=(2,)), seen_by_host(gone)).action == OfferAction.TAKE_OUT
    nowhere = ask(make_report(3), seen_by_host(replace(gone, back_to=())))
    assert (nowhere.action, nowhere.number) == (OfferAction.TAKE_OUT, None)
    assert ask(make_report(2), seen_by_host(gone)).action == OfferAction.STAY
    assert ask(make_report(4), seen_by_host(gone)).action == OfferAction.STAY


def test_what_troubles_everybody_alike_does_not_stop_a_rollout():
    """A network that is down silences updated and waiting hosts; only the difference counts."""
    both = Health(updated=Tally(hosts=10, silent=5), waiting=Tally(hosts=100, silent=50), done=5)
    assert trouble(both, Limits()) == ""
    ours = replace(both, waiting=Tally(hosts=100, silent=1))
    assert trouble(ours, Limits()) == (
        "5 of 10 updated hosts fell silent (50.0%, 1.0% of those that wait, 5 points are allowed)"
    )


def test_one_quarantine_stops_a_canary():
    """With the defaults a canary of one host is enough to stop everything."""
    judged = judge(make_rollout(3), Health(updated=Tally(hosts=1, quarantined=1)), now=NOW)
    assert judged.state == RolloutState.STOPPED
    assert "1 of 1 updated hosts quarantined it" in judged.because


@pytest.mark.parametrize(
    ("health", "wave"),
    [
        (WELL, 1),
        (replace(WELL, pending=1), 0),
        (replace(WELL, settled=NOW - timedelta(minutes=59)), 0),
        (Health(), 0),
    ],
)
def test_the_next_wave_begins_when_the_last_host_has_soaked(health, wave):
    """Not while a host is to settle, not before the soak, not before anybody was updated."""
    judged = judge(make_rollout(3, waves=(Wave(percent=10), Wave())), health, now=NOW)
    assert (judged.state, judged.wave) == (RolloutState.RUNNING, wave)


def test_after_the_last_wave_it_is_finished():
    """And hosts that come later are still offered the livepatch."""
    judged = judge(make_rollout(3), WELL, now=NOW)
    assert judged.state == RolloutState.FINISHED
    assert ask(make_report(), seen_by_host(make_rollout(3, state=judged.state))).action == OfferAction.APPLY


@pytest.mark.parametrize(
    ("report", "before", "after"),
    [
        (make_report(2), Stage.OFFERED, Stage.OFFERED),
        (make_report(3, phase=AgentPhase.SOAKING), Stage.OFFERED, Stage.SOAKING),
        (make_report(3), Stage.SOAKING, Stage.DONE),
        (make_report(3), Stage.WAITING, Stage.WAITING),
        (make_report(2, quarantined=(3,)), Stage.SOAKING, Stage.TROUBLED),
        (make_report(2, quarantined=(3,)), Stage.WAITING, Stage.HELD),
        (make_report(2), Stage.SOAKING, Stage.TROUBLED),
        (make_report(), Stage.DONE, Stage.DONE),
        (make_report(2, held="pinned"), Stage.WAITING, Stage.HELD),
        (make_report(2, held="pinned"), Stage.OFFERED, Stage.HELD),
        (make_report(2), Stage.HELD, Stage.WAITING),
    ],
)
def test_where_a_host_stands_after_a_report(report, before, after):
    """From the offer to done, or to trouble."""
    assert stage_after(report, number=3, stage=before) == after


def test_a_host_has_the_same_share_for_ever():
    """It hangs on the id alone; a change of the formula would shuffle every fleet."""
    assert share_of("host-1") == share_of("host-1") == 1243059884
    shares = [share_of(f"host-{number}") for number in range(2000)]
    assert 150 < sum(share < SHARES // 10 for share in shares) < 250


def test_the_first_wave_has_one_host_at_least():
    """1% of three hosts would be nobody."""
    hosts = [(share_of(f"host-{number}"), {"zone": "ab"[number % 2]}) for number in range(3)]
    cuts = cuts_for((Wave(percent=0.001), Wave()), hosts)
    assert sum(share < cuts[0] for share, _ in hosts) == 1
    chosen = cuts_for((Wave(percent=0.001, selector="zone=b"), Wave()), hosts)
    assert chosen[0] == hosts[1][0] + 1


def test_nouns_go_through_the_codec():
    """A rollout and a report come back as they were."""
    rollout = make_rollout(3, back_to=(BackTo(build_id=KERNEL.build_id, number=None),))
    assert wire.load(Rollout, wire.dump(rollout), what="it") == rollout
    report = make_report(3, quarantined=(2,))
    assert wire.load(type(report), wire.dump(report), what="it") == report


# What must hold whatever is put in.

numbers = st.integers(min_value=1, max_value=5)
counts = st.integers(min_value=0, max_value=20)
tallies = st.builds(
    Tally, hosts=st.integers(20, 100), failed=counts, quarantined=counts, rebooted=counts, silent=counts
)
healths = st.builds(
    Health,
    updated=tallies,
    waiting=tallies,
    in_flight=counts,
    pending=counts,
    done=counts,
    settled=st.none() | st.timedeltas(timedelta(0), timedelta(hours=9)).map(lambda ago: NOW - ago),
)
selectors = st.sampled_from(["", "zone=a", "zone!=a", "!zone"])
waves = st.lists(
    st.builds(Wave, percent=st.floats(0.01, 100), selector=selectors, soak=st.integers(0, 7200)),
    min_size=1,
    max_size=4,
)


@st.composite
def rollouts(draw):
    """Any rollout for the kernel of the tests."""
    some = draw(waves)
    number = draw(numbers)
    back = draw(st.none() | st.integers(1, number))
    return make_rollout(
        number,
        state=draw(st.sampled_from(RolloutState)),
        waves=some,
        wave=draw(st.integers(0, len(some) - 1)),
        selector=draw(selectors),
        max_concurrent=draw(st.integers(0, 20)),
        back_to=[BackTo(build_id=KERNEL.build_id, number=back)],
    )


situations = st.lists(
    st.builds(Situation, rollout=rollouts(), health=healths, stage=st.sampled_from(Stage)), max_size=4
)
hosts = st.builds(
    make_host,
    st.integers(0, 500).map(lambda number: f"host-{number}"),
    labels=st.sampled_from([{}, {"zone": "a"}]),
)
reports = st.builds(
    make_report,
    st.none() | numbers,
    phase=st.sampled_from(AgentPhase),
    quarantined=st.sets(numbers, max_size=2).map(tuple),
    held=st.sampled_from(["", "pinned"]),
)
blocked = st.sets(numbers, max_size=2)
everything = settings(max_examples=300)


def blocks_of(some):
    """Blocks of numbers."""
    return [Block(build_id=KERNEL.build_id, number=number, reason="bad", since=NOW) for number in some]


@everything
@given(hosts, reports, situations, blocked, st.booleans())
def test_every_offer_has_a_reason_and_is_allowed(host, report, some, bad, paused):
    """Never a blocked, a quarantined or a lower number, but for what a rollback names."""
    channel = Channel(name="stable", paused=paused)
    offer = ask(report, *some, host=host, channel=channel, blocks=blocks_of(bad))
    assert offer.because.strip()
    quarantined = {held.number for held in report.quarantined}
    match offer.action:
        case OfferAction.STAY:
            assert offer.number == report.running
        case OfferAction.APPLY:
            assert offer.number > (report.running or 0)
            assert offer.number not in bad | quarantined
            assert not report.held
            assert not paused
        case OfferAction.GO_BACK:
            assert offer.number not in quarantined
    if offer.action in {OfferAction.GO_BACK, OfferAction.TAKE_OUT}:
        (asked,) = {one.rollout.id: one.rollout for one in some if one.rollout.id == offer.rollout}.values()
        assert any(
            one.rollout.state == RolloutState.ROLLED_BACK
            and one.rollout.plan.livepatches[0].number == report.running
            for one in some
        )
        assert asked.plan.livepatches[0].number == report.running


def granting(some, offer):
    """The situations that an offer may come from."""
    return [
        one
        for one in some
        if one.rollout.id == offer.rollout and one.rollout.plan.livepatches[0].number == offer.number
    ]


@everything
@given(hosts, reports, situations)
def test_no_offer_exceeds_a_wave_or_the_concurrency_or_comes_from_a_bad_rollout(host, report, some):
    """One of the rollouts with that number has the host in an open wave, a free place, and hosts that are well."""
    offer = ask(report, *some, host=host)
    if offer.action != OfferAction.APPLY:
        return
    allowed = []
    for one in granting(some, offer):
        wave = wave_of(one.rollout, share=share_of(host.id), labels=host.labels)
        most = one.rollout.plan.max_concurrent
        allowed.append(
            wave is not None
            and wave <= one.rollout.wave
            and (not most or one.stage in IN_FLIGHT or one.health.in_flight < most)
            and one.rollout.state in {RolloutState.RUNNING, RolloutState.FINISHED}
            and not (one.rollout.state == RolloutState.RUNNING and trouble(one.health, one.rollout.plan.limits))
        )
    assert any(allowed)


@everything
@given(rollouts(), healths, st.sampled_from(["failed", "quarantined", "rebooted", "silent"]), hosts, reports)
def test_bad_health_always_stops_a_running_rollout(rollout, health, kind, host, report):
    """Whatever else is the case: it is stopped, the reason says by what, and no host is offered anything."""
    rollout = replace(rollout, state=RolloutState.RUNNING)
    allowed = getattr(rollout.plan.limits, kind)
    waiting = replace(health.waiting, **{kind: 0})
    count = int(health.updated.hosts * allowed / 100) + 1
    bad = replace(health, waiting=waiting, updated=replace(health.updated, **{kind: count}))
    judged = judge(rollout, bad, now=NOW)
    assert judged.state == RolloutState.STOPPED
    assert judged.because.startswith("stopped by itself: ")
    assert ask(report, seen_by_host(rollout, health=bad), host=host).action == OfferAction.STAY


@everything
@given(rollouts(), healths)
def test_a_rollout_moves_one_wave_at_most_and_never_back(rollout, health):
    """And only a running one moves by itself."""
    judged = judge(rollout, health, now=NOW)
    assert rollout.wave <= judged.wave <= min(rollout.wave + 1, len(rollout.plan.waves) - 1)
    if rollout.state != RolloutState.RUNNING:
        assert (judged.state, judged.wave) == (rollout.state, rollout.wave)
