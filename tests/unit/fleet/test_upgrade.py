"""From every schema that there was to the newest: nothing is lost, on SQLite and on PostgreSQL."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa

from kmend.fleet.store import things
from kmend.fleet.store.database import engine_for, open_database
from kmend.fleet.store.hosts import find_host, reports
from kmend.fleet.store.log import audit, events
from kmend.fleet.store.rollouts import find_rollout, stages_of
from kmend.fleet.store.schema import migrate, revision_of, revisions
from kmend.fleet.store.tables import METADATA
from kmend.fleet.store.tokens import add_token, token_for
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.fleet import EventKind
from kmend.model.rollout import Stage
from makers.fleet import make_host, make_report, make_rollout, make_token
from makers.nouns import NOW


def moment(at):
    """As the database has it."""
    return round(at.timestamp()) * 1_000_000


def rows():
    """One row for each table of the first schema, as that schema had it."""
    host, rollout, report = make_host(labels={"zone": "a"}), make_rollout(3), make_report(2)
    plan = rollout.plan
    build_id, number = plan.livepatches[0].build_id, plan.livepatches[0].number
    at = moment(NOW)
    return {
        "hosts": {
            "id": host.id,
            "name": host.name,
            "channel": host.channel,
            "labels": '{"zone": "a"}',
            "share": 5,
            "enrolled": moment(host.enrolled),
            "token_id": "t1",
            "credential": "c",
            "seen": at,
            "build_id": build_id,
            "running": 2,
            "report": wire.dump(report),
        },
        "host_labels": {"host_id": host.id, "key": "zone", "value": "a"},
        "reports": {"id": 1, "host_id": host.id, "at": at, "content": wire.dump(report)},
        "host_groups": {"name": "web", "selector": "role=web"},
        "blocks": {"build_id": build_id, "number": 1, "reason": "slow", "since": at},
        "rollouts": {
            "id": rollout.id,
            "channel": plan.channel,
            "plan": wire.dump(plan),
            "cuts": wire.dump(rollout.cuts),
            "state": "running",
            "reason": rollout.reason,
            "wave": 0,
            "wave_opened": moment(rollout.wave_opened),
            "created": moment(rollout.created),
            "counted_from": moment(rollout.counted_from),
            "back_to": "[]",
            "health": wire.dump(rollout.health),
        },
        "rollout_targets": {"rollout_id": rollout.id, "build_id": build_id, "number": number},
        "parts": {"rollout_id": rollout.id, "host_id": host.id, "stage": "offered", "offered": at, "changed": at},
        "events": {
            "id": 1,
            "at": at,
            "kind": EventKind.UPDATED.value,
            "host": host.id,
            "rollout": "",
            "text": "it was so",
        },
        "audit": {"id": 1, "at": at, "actor": "me", "action": "pause", "subject": "r1", "detail": ""},
        "lockouts": {"source": "token 1.2.3.4", "failures": 3, "since": at},
    }


def stored(address, revision):
    """A database of a schema, with something in each of its first tables; the text of a token in it."""
    engine = engine_for(address)
    migrate(engine, revision=revision)
    with engine.begin() as connection:
        for name, row in rows().items():
            columns = (sa.column(column) for column in row)
            connection.execute(sa.insert(sa.table(name, *columns)).values(row))
        text = add_token(connection, make_token())
    engine.dispose()
    return text


@pytest.mark.parametrize("revision", revisions())
def test_nothing_is_lost_by_an_upgrade(address, revision):
    """Everything that was stored with an earlier schema is there, and means the same."""
    text = stored(address, revision)
    database = open_database(address)
    rollout = make_rollout(3)
    with database.reading() as connection:
        assert revision_of(connection) == revisions()[-1]
        known = replace(make_host(labels={"zone": "a"}), seen=NOW, report=make_report(2))
        assert find_host(connection, "host-1") == known
        assert [report for _, report in reports(connection, "host-1")] == [make_report(2)]
        assert find_rollout(connection, rollout.id) == rollout
        assert stages_of(connection, ["host-1"]) == {"host-1": {rollout.id: Stage.OFFERED}}
        assert [block.number for block in things.blocks_for(connection, known.report.kernel.build_id)] == [1]
        assert things.find_group(connection, "web").selector == "role=web"
        assert [event.text for event in events(connection)] == ["it was so"]
        assert [record.action for record in audit(connection)] == ["pause"]
        assert token_for(connection, text, now=NOW).name == "ci"
        counts = {name: count(connection, name) for name in rows()}
        assert counts == dict.fromkeys(rows(), 1)
    database.close()


def count(connection, name):
    """Rows of a table."""
    return connection.execute(sa.select(sa.func.count()).select_from(METADATA.tables[name])).scalar_one()


def test_a_database_of_a_newer_kmend_is_not_touched(address):
    """The server says so by name, and does not start."""
    open_database(address).close()
    engine = engine_for(address)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999_later'"))
    with pytest.raises(InputError, match=r"schema 9999_later, which kmend .* does not know; its own is"):
        open_database(address)
    words = ["serve", "--listen", "127.0.0.1:0", "--no-tls", "--database", address]
    done = subprocess.run([sys.executable, "-m", "kmend", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "9999_later" in done.stderr
    assert "Traceback" not in done.stderr
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one() == "9999_later"
    engine.dispose()


OPEN = """
import sys
from kmend.fleet.store.database import open_database
print("ready", flush=True)
sys.stdin.readline()
open_database(sys.argv[1]).close()
"""


@pytest.mark.parametrize("revision", [None, revisions()[0]])
def test_servers_that_start_at_once_upgrade_once(address, revision):
    """Whoever comes first does it, the others wait; all of them start, on an empty database and on an old one."""
    if revision:
        stored(address, revision)
    words = [sys.executable, "-c", OPEN, address]
    servers = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for server in servers:
        server.stdout.readline()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda server: server.communicate(b"go\n", timeout=60), servers))
    assert [server.returncode for server in servers] == [0] * 3
    engine = engine_for(address)
    with engine.connect() as connection:
        assert revision_of(connection) == revisions()[-1]
        assert count(connection, "channels") == 2
        assert count(connection, "listening") == 1
    engine.dispose()


def test_an_upgrade_that_is_killed_was_not(address):
    """It is one transaction: the schema is the old one or the new one, with all its data."""
    stored(address, revisions()[0])
    words = [sys.executable, "-c", OPEN, address]
    for wait in (0.02, 0.04, 0.06, 0.08):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
            server.stdout.readline()
            server.stdin.write(b"go\n")
            server.stdin.flush()
            time.sleep(wait)
            server.kill()
    database = open_database(address)
    with database.reading() as connection:
        assert revision_of(connection) == revisions()[-1]
        assert count(connection, "hosts") == 1
    database.close()
