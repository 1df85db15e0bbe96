"""kill -9 of the server at random moments of a rollout: nothing that was acknowledged is lost, and it goes on."""

import json
import random
import threading
from dataclasses import replace

import pytest
import urllib3

from kmend.model import wire
from kmend.model.host import AgentPhase
from makers.fleet import make_report
from makers.listening import serving

ROUNDS = 3
HOSTS = 12
AT_A_TIME = 3
BUILD = "cd" * 20


class Talker:
    """An agent in a thread that checks in again and again, as long as the server answers."""

    def __init__(self, number, fleet):
        self.secret = f"{number:064x}"
        self.fleet = fleet
        self.host = ""
        self.loading = False
        self.report = make_report()
        self.report = replace(self.report, kernel=replace(self.report.kernel, build_id=BUILD))
        self.acknowledged = None
        self.sent = None

    def talk(self, server, stop):
        """Check in until told to stop, or until the server is gone."""
        pool = urllib3.PoolManager(retries=False, timeout=5)
        try:
            while not stop.is_set():
                self.check_in(pool, server)
        except (urllib3.exceptions.HTTPError, ConnectionError):
            return

    def check_in(self, pool, server):
        """Report, and do what is offered; the answer is what makes a report acknowledged."""
        self.sent = self.report
        if self.report.phase == AgentPhase.APPLIED:
            self.loading = False
        answer = ask(pool, server, "/check-in", f"kmend-host.{self.host}.{self.secret}", wire.plain(self.report))
        assert answer["status"] == 200, answer
        self.acknowledged = self.report
        offer = answer["offer"]
        if offer["action"] == "apply":
            with self.fleet.lock:
                self.loading = True
                loading = sum(agent.loading for agent in self.fleet.agents)
                self.fleet.most = max(self.fleet.most, loading)
            self.report = replace(self.report, running=offer["number"], phase=AgentPhase.SOAKING)
        elif self.report.phase == AgentPhase.SOAKING:
            self.report = replace(self.report, phase=AgentPhase.APPLIED)


class Fleet:
    """All agents, and the most that were loading at a time."""

    def __init__(self):
        self.lock = threading.Lock()
        self.most = 0
        self.agents = [Talker(number, self) for number in range(HOSTS)]


def ask(pool, server, path, bearer, body=None):
    """One request; the answer with its status."""
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    method = "GET" if body is None else "POST"
    content = None if body is None else json.dumps(body)
    answer = pool.request(method, f"{server}/api/v1{path}", body=content, headers=headers)
    return {**answer.json(), "status": answer.status}


def begin(server, admin, fleet):
    """Enrol everybody and begin the rollout; its id."""
    pool = urllib3.PoolManager(retries=3)
    token = ask(pool, server, "/tokens", admin, {"name": "t", "role": "enrol"})["text"]
    for number, agent in enumerate(fleet.agents):
        agent.host = ask(pool, server, "/enrol", token, {"name": f"h{number}", "secret": agent.secret})["host"]
        agent.check_in(pool, server)
    plan = {
        "name": "x",
        "channel": "stable",
        "livepatches": [{"build_id": BUILD, "number": 1}],
        "waves": [{"percent": 20, "soak": 0}, {"percent": 100, "soak": 0}],
        "max_concurrent": AT_A_TIME,
    }
    return ask(pool, server, "/rollouts", admin, {"plan": plan})["id"]


def run_for(server, fleet, seconds, kill):
    """Let everybody talk for a while, then stop them or kill the server."""
    stop = threading.Event()
    threads = [threading.Thread(target=agent.talk, args=(server, stop)) for agent in fleet.agents]
    for thread in threads:
        thread.start()
    stop.wait(seconds)
    if kill:
        kill()
    stop.set()
    for thread in threads:
        thread.join()


def check_kept(server, admin, fleet):
    """What the server knows of each host is what it acknowledged last, or what was sent after that."""
    pool = urllib3.PoolManager(retries=3)
    for agent in fleet.agents:
        kept = ask(pool, server, f"/hosts/{agent.host}", admin)["report"]
        assert kept in (wire.plain(agent.acknowledged), wire.plain(agent.sent))


@pytest.mark.parametrize("seed", [1])
def test_a_rollout_outlives_kills_of_the_server(tmp_path, seed):
    """Acknowledged reports are there after every kill, the concurrency holds, and in the end everybody is done."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    fleet = Fleet()
    with serving(tmp_path, "--no-tls") as (process, said):
        admin = said["admin token"].split()[0]
        rollout = begin(said["listening"], admin, fleet)
        run_for(said["listening"], fleet, chance.uniform(0.01, 0.2), process.kill)
    for _ in range(ROUNDS):
        with serving(tmp_path, "--no-tls") as (process, said):
            check_kept(said["listening"], admin, fleet)
            run_for(said["listening"], fleet, chance.uniform(0.01, 0.2), process.kill)
    with serving(tmp_path, "--no-tls") as (_, said):
        check_kept(said["listening"], admin, fleet)
        pool = urllib3.PoolManager(retries=3)
        for _ in range(40):
            run_for(said["listening"], fleet, 0.2, None)
            state = ask(pool, said["listening"], f"/rollouts/{rollout}", admin)
            if state["state"] == "finished":
                break
        assert (state["state"], state["health"]["done"]) == ("finished", HOSTS)
    assert 0 < fleet.most <= AT_A_TIME
