"""kill -9 of the server, its database and the agents at random moments of rollouts, fifty times."""

import json
import random
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
import urllib3

from kmend.fleet.rollout import share_of
from kmend.model import wire
from makers import rack
from makers.database import fresh_postgres_database, own_postgres, postgres_programs
from makers.fleet import make_report
from makers.listening import Served, ask
from makers.nouns import KERNEL, OTHER_KERNEL

ROUNDS = {"sqlite": 8, "postgresql": 9}
"""Kills during one rollout; with three rollouts on each kind of database they are 51."""
NUMBER = 3
AT_A_TIME = 3
CANARIES, PLAIN, OTHERS = 2, 8, 2
HELD, AHEAD = "held", "ahead"


class Fleet:
    """The agents of a rollout: their folders, by name; and the programs that run them, which can be killed."""

    def __init__(self, folder, server, admin):
        self.folder = folder
        self.server = server
        self.hosts = {}
        token = ask(server, "/tokens", admin, {"name": "t", "role": "enrol"})["text"]
        for number, (name, report) in enumerate(self.reports()):
            secret = f"{number:064x}"
            labels = {"role": "canary"} if name.startswith("canary") else {}
            asked = {"name": name, "secret": secret, "labels": labels}
            host = ask(server, "/enrol", token, asked)["host"]
            (folder / name).mkdir()
            known = {"host": host, "secret": secret, "report": wire.plain(report)}
            (folder / name / "agent.json").write_text(json.dumps(known))
            rack.Agent(folder / name, server).check_in_once()
            self.hosts[name] = host
        names = sorted(self.hosts)
        self.racks = [self.start(names[0::2]), self.start(names[1::2])]

    def reports(self):
        """Name and first report of each agent."""
        yield from ((f"canary-{number}", make_report()) for number in range(CANARIES))
        yield from ((f"plain-{number}", make_report()) for number in range(PLAIN))
        yield from ((f"other-{number}", make_report(kernel=OTHER_KERNEL)) for number in range(OTHERS))
        yield HELD, make_report(quarantined=[NUMBER])
        yield AHEAD, make_report(NUMBER + 2)

    def start(self, names):
        """Run some of the agents."""
        words = [sys.executable, rack.__file__, self.server, *(self.folder / name for name in names)]
        return names, subprocess.Popen(words)

    def kill_one(self, chance):
        """Kill some agents and begin them again."""
        index = chance.randrange(len(self.racks))
        names, process = self.racks[index]
        process.kill()
        process.wait()
        self.racks[index] = self.start(names)

    def end(self):
        """Stop all."""
        for _, process in self.racks:
            process.kill()
            process.wait()

    def journal(self, name):
        """What an agent sent and heard."""
        return rack.Journal(self.folder / name).lines

    def offers(self, name):
        """When an agent asked and was told to load something, and what."""
        lines = self.journal(name)
        asked = {line["note"]: line["t"] for line in lines if line["is"] == "sent"}
        heard = [line for line in lines if line["is"] == "acknowledged"]
        return [(asked[line["note"]], line["offer"]) for line in heard if line["offer"]["action"] != "stay"]

    def loading_since(self, name):
        """When an agent heard first that it is to load the livepatch."""
        heard = [line for line in self.journal(name) if line["is"] == "acknowledged"]
        return next(line["t"] for line in heard if line["offer"]["action"] == "apply")

    def safe_since(self, name):
        """When an agent first said that the livepatch is watched and well."""
        said = [line for line in self.journal(name) if line["is"] == "sent"]
        return next(line["t"] for line in said if (line["running"], line["phase"]) == (NUMBER, "applied"))


def begin(server, admin):
    """Begin the rollout; it with its cuts."""
    plan = {
        "name": "x",
        "channel": "stable",
        "livepatches": [{"build_id": one.build_id, "number": NUMBER} for one in (KERNEL, OTHER_KERNEL)],
        "waves": [{"selector": "role=canary", "soak": 0}, {"percent": 50, "soak": 0}, {"soak": 0}],
        "max_concurrent": AT_A_TIME,
    }
    return ask(server, "/rollouts", admin, {"plan": plan})


def block(served, admin):
    """Block the livepatch of the other kernel, however often it takes; when that was acknowledged."""
    path = f"/blocks/{OTHER_KERNEL.build_id}/{NUMBER}"
    until_it_goes(served, lambda: ask(served.address, path, admin, {"reason": "slow"}, method="PUT"))
    return time.time()


def until_it_goes(served, act):
    """What an act answers, once the server can."""
    for _ in range(600):
        served.tend()
        try:
            answer = act()
        except (urllib3.exceptions.HTTPError, ConnectionError):
            answer = {"status": 0}
        if 200 <= answer["status"] < 300:
            return answer
        time.sleep(0.1)
    raise AssertionError(answer)


def check_kept(server, admin, fleet):
    """Every acknowledged report is in the history, and the last report is the acknowledged one or a later one."""
    for name, host in fleet.hosts.items():
        history = ask(server, f"/hosts/{host}/reports?limit=1000", admin)["items"]
        kept = [one["report"]["note"] for one in history]
        lines = fleet.journal(name)
        acknowledged = [line["note"] for line in lines if line["is"] == "acknowledged"]
        assert not set(acknowledged) - set(kept), name
        assert [line for line in lines if line["is"] == "refused"] == []
        last = ask(server, f"/hosts/{host}", admin)["report"]["note"]
        assert int(last) >= int(acknowledged[-1]), name


def check_offers(fleet, rollout, blocked_at):
    """Nobody was told to load what it must not: held back, lower, blocked, too early, too many."""
    assert fleet.offers(HELD) == []
    assert fleet.offers(AHEAD) == []
    for name in fleet.hosts:
        for asked, offer in fleet.offers(name):
            assert (offer["action"], offer["number"]) == ("apply", NUMBER)
            assert offer["build_id"] == KERNEL.build_id or asked < blocked_at
    check_waves(fleet, rollout)
    check_concurrency(fleet)


def check_waves(fleet, rollout):
    """No agent heard of the livepatch before all of the waves before its own were well."""
    cut = rollout["cuts"][1]
    waves = {name: wave_of(name, host, cut) for name, host in fleet.hosts.items() if name.split("-")[0] != "other"}
    for name in waves.keys() - {HELD, AHEAD}:
        before = [other for other in waves.keys() - {HELD, AHEAD} if waves[other] < waves[name]]
        assert all(fleet.safe_since(other) < fleet.loading_since(name) for other in before), name


def wave_of(name, host, cut):
    """Which wave an agent belongs to."""
    if name.startswith("canary"):
        return 0
    return 1 if share_of(host) < cut else 2


def check_concurrency(fleet):
    """At no time more agents were loading or watching than may."""
    changes = []
    for name in fleet.hosts:
        if fleet.offers(name):
            changes += [(fleet.loading_since(name), 1), (fleet.safe_since(name), -1)]
    loading = [sum(change for _, change in sorted(changes)[: index + 1]) for index in range(len(changes))]
    assert 0 < max(loading) <= AT_A_TIME


def faults(chance, served, fleet, postgres):
    """What can be killed, each brought back at once."""
    yield served.kill
    yield lambda: fleet.kill_one(chance)
    if postgres is not None:
        yield lambda: (postgres.kill(), postgres.start(patience=20))


def end_of(served, rollout_id):
    """The rollout when it has ended; in three minutes it has, however busy the machine is."""
    until = time.monotonic() + 180
    while True:
        state = until_it_goes(served, lambda: ask(served.address, f"/rollouts/{rollout_id}", served.admin))
        if state["state"] != "running" or time.monotonic() > until:
            return state
        time.sleep(0.1)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_rollout_outlives_kills(tmp_path, kind, seed):
    """What was acknowledged is kept, nobody loads what it must not, and in the end everybody is done."""
    chance = random.Random(seed)  # noqa: S311 - repeatable, not secret
    with ExitStack() as stack:
        postgres = stack.enter_context(own_postgres(postgres_programs())) if kind == "postgresql" else None
        words = ["--database", fresh_postgres_database(postgres.address)] if postgres else []
        served = Served(tmp_path / "state", "--no-tls", *words)
        stack.callback(served.kill)
        (tmp_path / "agents").mkdir()
        fleet = Fleet(tmp_path / "agents", served.address, served.admin)
        stack.callback(fleet.end)
        rollout = begin(served.address, served.admin)
        kinds = list(faults(chance, served, fleet, postgres))
        block_in, blocked_at = chance.randrange(ROUNDS[kind]), None
        for number in range(ROUNDS[kind]):
            time.sleep(chance.uniform(0.02, 1.2))
            served.tend()
            chance.choice(kinds)()
            if number == block_in:
                blocked_at = block(served, served.admin)
        state = end_of(served, rollout["id"])
        fleet.end()
        assert state["state"] == "finished", state["reason"]
        check_kept(served.address, served.admin, fleet)
        check_offers(fleet, rollout, blocked_at)
