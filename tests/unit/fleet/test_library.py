"""What the server learns of the signed repository, and which hosts are open to a CVE by it."""

import asyncio
from contextlib import closing
from datetime import timedelta

import pytest

from kmend.fleet.counting import count_hour
from kmend.fleet.library import learn
from kmend.fleet.site.chart import draw
from kmend.fleet.store.database import open_database
from kmend.fleet.store.livepatches import (
    Sample,
    Standing,
    count_standing,
    find_livepatch,
    keep_sample,
    livepatches,
    sample,
    samples,
)
from kmend.kit.errors import MachineError, TrustError
from kmend.model import wire
from makers.fleet import make_plan, make_report
from makers.nouns import KERNEL, NOW, OTHER_KERNEL
from makers.server import TalkingServer

CVE = "CVE-2026-52928"


@pytest.fixture
def server(database):
    """A server on each kind of database."""
    with closing(TalkingServer(database)) as opened:
        yield opened


def learned(server, made):
    """Read the repository; how many were new."""
    return learn(server.database, made.repo, now=server.now)


def counted(server):
    """How many hosts stand how with the CVE."""
    with server.database.reading() as connection:
        return {one.value: count for one, count in count_standing(connection, CVE).items()}


def test_only_what_concerns_the_fleet_is_learned(server, made):
    """The newest for its kernels, what runs, what rollouts bring; each once, with the lab's report."""
    for number in (2, 3, 4):
        made.publish(number)
    made.publish(1, kernel=OTHER_KERNEL)
    assert learned(server, made) == 0
    server.check_in(server.enrol(), make_report(2))
    server.ask("POST", "/rollouts", json={"plan": wire.plain(make_plan(3))})
    assert learned(server, made) == 3
    assert learned(server, made) == 0
    with server.database.reading() as connection:
        known = {one.key: one for one in livepatches(connection)}
    assert set(known) == {(KERNEL.build_id, number) for number in (2, 3, 4)}
    newest = known[KERNEL.build_id, 4]
    assert newest.channels == ("edge",)
    assert newest.manifest.cves == (CVE, "CVE-2026-72379")
    assert newest.report.passed
    assert newest.published == made.now


def test_a_second_channel_is_added(server, made):
    """A livepatch that was promoted is the same one."""
    server.check_in(server.enrol(), make_report(1))
    learned(server, made)
    made.publish(1, channel="stable")
    assert learned(server, made) == 1
    with server.database.reading() as connection:
        assert find_livepatch(connection, KERNEL.build_id, 1).channels == ("edge", "stable")


def test_what_is_not_signed_is_not_learned(server, made, tmp_path):
    """Nor is a folder that is no repository."""
    server.check_in(server.enrol(), make_report(1))
    entry = made.entry_path()
    entry.write_bytes(entry.read_bytes().replace(b"52928", b"52929"))
    with pytest.raises(TrustError):
        learned(server, made)
    with pytest.raises(MachineError):
        learn(server.database, tmp_path, now=NOW)
    assert counted(server) == {"open": 0, "closed": 0, "unknown": 1}


def test_hosts_are_open_closed_or_unknown(server, made):
    """By their kernel and by what they run; hosts that never reported are not known either."""
    hosts = [server.enrol(f"web-{number}", secret=f"{number + 1:064x}") for number in range(4)]
    server.check_in(hosts[0], make_report(1))
    server.check_in(hosts[1])
    server.check_in(hosts[2], make_report(kernel=OTHER_KERNEL))
    learned(server, made)
    assert counted(server) == {"open": 1, "closed": 1, "unknown": 2}
    answer = server.ask("GET", f"/hosts?open_to={CVE.lower()}").json()
    assert [one["name"] for one in answer["items"]] == ["web-1"]
    assert server.ask("GET", "/hosts?open_to=CVE-2026-11111").json()["items"] == []
    assert server.ask("GET", "/hosts?open_to=heartbleed").status_code == 400
    assert Standing.OPEN.value == "open"


def test_the_fleet_is_counted_once_an_hour(server, made):
    """Whoever comes first does it; what is older than ninety days goes."""
    server.check_in(server.enrol())
    learned(server, made)
    with server.database.writing() as connection:
        for days in (91, 89):
            keep_sample(connection, Sample(hour=NOW - timedelta(days=days), hosts=1, open_hosts=1, open_cves=1))
    assert count_hour(server.database, now=NOW)
    assert not count_hour(server.database, now=NOW + timedelta(minutes=59))
    assert count_hour(server.database, now=NOW + timedelta(minutes=60))
    with server.database.reading() as connection:
        kept = samples(connection, since=NOW - timedelta(days=100))
        now = sample(connection, now=NOW)
    assert [one.hour for one in kept] == [NOW - timedelta(days=89), NOW, NOW + timedelta(hours=1)]
    assert kept[1] == now == Sample(hour=NOW, hosts=1, open_hosts=1, open_cves=2)


def test_the_pages_show_what_was_learned(server, made):
    """The livepatch with its proof, the CVE with its hosts, the picture."""
    host = server.enrol("web-1")
    server.check_in(host)
    learned(server, made)
    count_hour(server.database, now=server.now)
    server.later(hours=3)
    server.check_in(host)
    content = f"token={server.token('viewer')}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    server.request("POST", "/login", content=content, headers=form)
    page = server.request("GET", f"/livepatches/{KERNEL.build_id}/1").text
    for words in ("unix_ioctl", "Every function that it replaces", "vulnerable", "fixed", "1400 ms", CVE):
        assert words in page
    assert f"/livepatches/{KERNEL.build_id}/1" in server.request("GET", "/livepatches").text
    assert "web-1</a>" in server.request("GET", f"/cves?cve={CVE}").text
    home = server.request("GET", "/").text
    assert f'href="/cves?cve={CVE}"' in home
    assert home.count("<svg") == 2


def test_programs_are_told_what_was_learned(server, made):
    """Livepatches with their proof, CVEs with how hosts stand; and hosts by state."""
    made.publish(2)
    server.check_in(server.enrol(), make_report(1))
    server.check_in(server.enrol("other", secret="c1" * 32), make_report(2))
    learned(server, made)
    first, second = server.ask("GET", "/livepatches").json()["items"]
    assert [(one["number"], one["hosts"], one["channels"]) for one in (first, second)] == [
        (2, 1, ["edge"]),
        (1, 1, ["edge"]),
    ]
    assert CVE in first["cves"]
    path = f"/livepatches/{KERNEL.build_id}"
    server.ask("PUT", f"/blocks/{KERNEL.build_id}/2", json={"reason": "slow"})
    proof = server.ask("GET", f"{path}/2").json()
    assert (proof["hosts"], proof["blocked"], proof["rollouts"]) == (1, "slow", [])
    assert proof["livepatch"]["functions"][0]["bytes_proven"] == 300
    assert proof["report"]["passed"]
    for number in ("3", "0", "x", "99999999"):
        assert server.ask("GET", f"{path}/{number}").status_code == 404
    (one, *_) = server.ask("GET", "/open-cves").json()["items"]
    assert one == {"cve": CVE, "open": 0, "closed": 2}
    standing = {"open": 0, "closed": 2, "unknown": 0}
    assert server.ask("GET", f"/open-cves/{CVE.lower()}").json() == {"cve": CVE, **standing}
    assert server.ask("GET", "/open-cves/nonsense").status_code == 400
    by_state = {state: server.ask("GET", f"/hosts?in_state={state}").json()["items"] for state in ("safe", "bare")}
    assert {state: len(found) for state, found in by_state.items()} == {"safe": 2, "bare": 0}
    assert server.ask("GET", "/hosts?in_state=odd").status_code == 400


def test_a_running_server_learns_by_itself(tmp_path, made):
    """The work beside the requests begins with the server."""
    with closing(open_database(f"sqlite:///{tmp_path}/fleet.db")) as database:
        server = TalkingServer(database, repository=made.repo)
        server.check_in(server.enrol(), make_report(1))

        async def run():
            async with server.app.router.lifespan_context(server.app):
                while True:
                    with database.reading() as connection:
                        if livepatches(connection) and samples(connection, since=NOW):
                            return True
                    await asyncio.sleep(0.01)

        assert server.loop.run(run())
        server.close()


def test_a_picture_of_counts():
    """Steps from left to right, a round number at the top, and words for who does not see it."""
    assert draw([(NOW, 1)]) is None
    assert draw([(NOW, 1), (NOW, 2)]) is None
    drawn = draw([(NOW, 0), (NOW + timedelta(hours=1), 7), (NOW + timedelta(hours=2), 3)])
    assert [mark.text for mark in drawn.levels] == ["0", "5", "10"]
    assert drawn.line == "M60.0 156.0H346.0V53.8H632.0V112.2"
    assert drawn.last == (632.0, 112.2)
    assert drawn.words == "0 at Nov 1, 12:00, 3 now; lowest 0, highest 7."
    empty = draw([(NOW, 0), (NOW + timedelta(hours=1), 0)])
    assert [mark.text for mark in empty.levels] == ["0", "1", "2"]
    assert [mark.text for mark in draw([(NOW, 1), (NOW + timedelta(hours=1), 90_000)]).levels] == [
        "0",
        "50k",
        "100k",
    ]
