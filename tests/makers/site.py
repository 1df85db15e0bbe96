"""The dashboard in a thread of this process, on a free port of the loopback, with a fleet to look at."""

import socket
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import uvicorn

from kmend.fleet.counting import count_hour
from kmend.fleet.library import learn
from kmend.fleet.store.livepatches import Sample, keep_sample
from kmend.fleet.web import WebServer
from kmend.model import wire
from kmend.model.fleet import Failure
from kmend.model.host import AgentPhase
from kmend.model.rollout import Wave
from makers.fleet import make_plan, make_report
from makers.looks import make_cves, make_exposure, make_group, make_look
from makers.nouns import KERNEL, NOW, OTHER_KERNEL
from makers.server import TalkingServer

HOUR = timedelta(hours=1)
HOSTILE = '<img src=x onerror="document.title=1">\x1b[31mred\u202egnp.exe ' + "w" * 150
"""A host's name that would like to be more than one."""


@contextmanager
def running_site(database, **more):
    """The real application behind a real web server; ``address`` is where, ``clock`` is still set by hand."""
    server = TalkingServer(database, **more)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(server.app, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        web = WebServer(config, server.app.state.streams)
        thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not web.started:
            time.sleep(0.01)
        server.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            yield server
        finally:
            web.should_exit = True
            thread.join()
            server.close()


def fill_fleet(server, repository):
    """A dozen hosts of two kernels in every state, three rollouts, and the livepatches of a signed repository."""
    for number in (1, 2, 3):
        repository.publish(number)
    repository.publish(1, kernel=OTHER_KERNEL)
    server.ask("PUT", "/channels/edge", json={"paused": False, "reason": ""})
    learn_all(server, repository)
    hosts = [enrol(server, number) for number in range(14)]
    for number, host in enumerate(hosts[:12]):
        server.check_in(host, make_report(2 if number % 2 else None, agent="kmend-agent 0.1.0"))
    server.check_in(hosts[12], make_report(kernel=OTHER_KERNEL))
    old = begin(server, "old one", 2, (Wave(soak=0),))
    for host in hosts[:4]:
        server.check_in(host, make_report())
    server.ask("POST", f"/rollouts/{old}/abort", json={"reason": "livepatch 3 is better"})
    server.later(minutes=2)
    first = begin(
        server,
        "CVE-2026-52928 & <b>bold</b>",
        3,
        (Wave(percent=100, selector="role=canary", soak=1800), Wave(percent=60, soak=7200), Wave()),
    )
    begin(server, "for the newer kernel", 1, (Wave(),), kernel=OTHER_KERNEL)
    for host in hosts[:4]:
        server.check_in(host, make_report())
    for host in hosts[4:12]:
        server.check_in(host, make_report(1, agent="kmend-agent 0.1.0"))
    server.later(minutes=3)
    troubled = Failure(build_id=KERNEL.build_id, number=3, reason="kpatch_abc is loaded already", at=NOW)
    server.check_in(hosts[0], make_report(3))
    server.check_in(hosts[1], make_report(3, phase=AgentPhase.SOAKING))
    server.check_in(hosts[2], make_report(quarantined=(3,)))
    server.check_in(hosts[3], make_report(failure=troubled))
    server.check_in(hosts[5], make_report(held="kmend is switched off: maintenance until Monday"))
    server.later(hours=1)
    server.ask("POST", f"/rollouts/{first}/resume", json={"reason": ""})
    for number, host in enumerate(hosts[:12]):
        report = {
            0: make_report(3),
            1: make_report(3),
            2: make_report(quarantined=(3,)),
            3: make_report(failure=troubled),
        }
        server.check_in(host, report.get(number, make_report(1, agent="kmend-agent 0.1.0")))
    hostile = make_group(HOSTILE, "web", cves=make_cves(1003, score=9.8, exploited=True))
    for number, host in enumerate(hosts[:8]):
        look = make_look(exposure=make_exposure(hostile)) if number == 7 else make_look()
        server.ask("PUT", "/agent/look", bearer=host, json=wire.plain(look))
    hook = {"name": "chat", "url": "https://chat.example.org/hooks/kmend", "happenings": ["rollout.stopped"]}
    server.ask("POST", "/webhooks", json=hook)
    with server.database.writing() as connection:
        for hours in range(200, 1, -1):
            moment = server.now.replace(minute=0, second=0, microsecond=0)
            spread = min(14, 2 + (200 - hours) // 12)
            keep_sample(
                connection,
                Sample(
                    hour=moment - hours * HOUR,
                    hosts=spread,
                    open_hosts=spread - hours % 3,
                    open_cves=2 if hours % 50 else 0,
                ),
            )
    count_hour(server.database, now=server.now)
    learn_all(server, repository)
    return hosts, first


def enrol(server, number):
    """A host with labels; the first four are canaries, one has a name that nobody wants."""
    labels = {"role": "canary" if number < 4 else "web", "zone": "ab"[number % 2]}
    name = HOSTILE if number == 7 else f"web-{number}.example.org"
    return server.enrol(name, secret=f"{number + 1:064x}", labels=labels)


def begin(server, name, number, waves, kernel=KERNEL):
    """A rollout in stable; its id."""
    limits = {"failed": 100, "quarantined": 100, "rebooted": 100, "silent": 100}
    plan = {**wire.plain(make_plan(number, waves=waves, name=name, kernel=kernel)), "limits": limits}
    answer = server.ask("POST", "/rollouts", json={"plan": plan})
    return answer.json().get("id", "")


def learn_all(server, repository):
    """Read the repository now."""
    learn(server.database, repository.repo, now=server.now)
