"""A real server whose disk is full, whose database is away, and whose clients are broken or mean."""

import json
import random
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import urllib3
import uvicorn

from kmend.cli import serve
from kmend.fleet import connections
from kmend.fleet.api.call import Settings
from kmend.fleet.app import make_app
from kmend.model import wire
from makers.database import fresh_postgres_database, own_postgres, postgres_programs
from makers.fleet import make_report
from makers.listening import Served, ask
from makers.server import SECRET

OWN_DISK = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'


def enrol(server, admin, name="web-1", secret=SECRET):
    """A host, taken in; its credential."""
    token = ask(server, "/tokens", admin, {"name": "t", "role": "enrol"})["text"]
    host = ask(server, "/enrol", token, {"name": name, "secret": secret})["host"]
    return f"kmend-host.{host}.{secret}"


def report(note="", **more):
    """A report as JSON; ``note`` makes it one of a kind."""
    return {**wire.plain(make_report()), "note": note, **more}


def raw(server, path, *, bearer="", body=None):
    """One request; the answer as it came."""
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    with urllib3.PoolManager(retries=False, timeout=20) as pool:
        content = None if body is None else json.dumps(body)
        return pool.request("POST" if body else "GET", f"{server}{path}", body=content, headers=headers)


def check_away(answer):
    """The server says that it cannot now, and when to come again."""
    assert answer.status == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["hint"]


# The disk.


@pytest.fixture
def small_disk(tmp_path):
    """A server whose state is on a disk of four megabytes, and where the test sees that disk."""
    state = tmp_path / "state"
    state.mkdir()
    within = (
        "unshare",
        "--mount",
        *([] if not _needs_user() else ["--map-root-user"]),
        "sh",
        "-c",
        OWN_DISK,
        state,
    )
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a mount namespace")
    served = Served(state, "--no-tls", within=within)
    try:
        yield served, Path(f"/proc/{served.process.pid}/root{state}")
    finally:
        served.kill()


def _needs_user():
    """Whether only a user namespace lets this user mount something."""
    return subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True).returncode != 0


def fill(disk):
    """Use up all space of the small disk, and of no other."""
    assert shutil.disk_usage(disk).total < 8 << 20
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    filler.write(b"x" * size)


def await_status(address, path, status):
    """Until it answers so: what a server wrote down is as good as new for some seconds."""
    until = time.monotonic() + 60
    while (answer := raw(address, path)).status != status:
        assert time.monotonic() < until, answer.status
        time.sleep(0.5)


def test_a_full_disk(small_disk, tmp_path):
    """503 and nothing half; what is acknowledged is kept; when there is space again it goes on by itself."""
    served, disk = small_disk
    credential = enrol(served.address, served.admin)
    host = credential.split(".")[1]
    first = raw(served.address, "/api/v1/check-in", bearer=credential, body=report("first"))
    assert first.status == 200
    fill(disk)
    acknowledged, refused = ["first"], 0
    for number in range(200):
        answer = raw(served.address, "/api/v1/check-in", bearer=credential, body=report(f"{number} {'x' * 1900}"))
        if answer.status == 200:
            acknowledged.append(str(number))
            continue
        check_away(answer)
        assert "disk" in answer.json()["detail"]
        refused += 1
        if refused == 3:
            break
    assert refused == 3
    assert raw(served.address, f"/api/v1/hosts/{host}", bearer=served.admin).status == 200
    assert raw(served.address, "/healthz").status == 200
    await_status(served.address, "/readyz", 503)
    (disk / "filler").unlink()
    await_status(served.address, "/readyz", 200)
    assert raw(served.address, "/api/v1/check-in", bearer=credential, body=report("end")).status == 200
    history = ask(served.address, f"/hosts/{host}/reports?limit=1000", served.admin)["items"]
    assert [one["report"]["note"].split()[0] for one in history] == ["end", *reversed(acknowledged)]
    assert "full" in served.log.read_text()
    for name in ("fleet.db", "fleet.db-wal"):
        shutil.copy(disk / name, tmp_path / name)
    with sqlite3.connect(tmp_path / "fleet.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


# The database.


def test_a_database_that_is_away_and_comes_back(tmp_path):
    """503 with Retry-After to everybody, readiness included; afterwards all is as before, without a restart."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    with own_postgres(programs) as postgres:
        served = Served(tmp_path / "state", "--no-tls", "--database", fresh_postgres_database(postgres.address))
        try:
            credential = enrol(served.address, served.admin)
            postgres.stop()
            begun = time.monotonic()
            check_away(raw(served.address, "/healthz"))
            check_away(raw(served.address, "/readyz"))
            check_away(raw(served.address, "/api/v1/summary", bearer=served.admin))
            check_away(raw(served.address, "/api/v1/check-in", bearer=credential, body=report("lost")))
            assert time.monotonic() - begun < 30
            postgres.start()
            assert raw(served.address, "/healthz").status == 200
            assert raw(served.address, "/readyz").status == 200
            assert raw(served.address, "/api/v1/check-in", bearer=credential, body=report("kept")).status == 200
            assert ask(served.address, "/summary", served.admin)["hosts"] == 1
        finally:
            served.kill()


# Clients.


@contextmanager
def listening_here(database, **settings):
    """The server with its connections as `kmend serve` has them, in a thread; its port."""
    server = uvicorn.Server(serve._config(make_app(database, settings=Settings(**settings)), None, ""))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            server.should_exit = server.force_exit = True
            thread.join()


def rest_of(client):
    """All that the server sends until it ends the connection."""
    client.settimeout(20)
    received = b""
    with suppress(ConnectionError):
        while part := client.recv(65536):
            received += part
    return received


BEGIN = b"POST /api/v1/check-in HTTP/1.1\r\nHost: x\r\n"
SLOW = {
    "nothing": (b"", b""),
    "half a head": (BEGIN, b""),
    "a header for ever": (BEGIN + b"x: ", b"x"),
    "a body for ever": (
        BEGIN + b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n",
        b" ",
    ),
    "a body that nobody wants": (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n", b" "),
}


@pytest.mark.parametrize("how", SLOW)
def test_slow_clients_are_let_go_and_others_are_served(sqlite, monkeypatch, how):
    """Two hundred that send nothing more, or a byte now and then, are gone in the time that a request may take."""
    monkeypatch.setattr(connections, "ARRIVES_IN", 2)
    begin, more = SLOW[how]
    with listening_here(sqlite, body_seconds=1.5) as port:
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for client in clients:
            client.sendall(begin)
        until = time.monotonic() + 20
        while time.monotonic() < until and any(client.fileno() >= 0 for client in clients):
            assert raw(f"http://127.0.0.1:{port}", "/healthz").status == 200
            for client in clients:
                trickle(client, more)
            time.sleep(0.2)
        assert all(client.fileno() < 0 for client in clients)


def trickle(client, more):
    """Send a little; close it when the server has ended it."""
    if client.fileno() < 0:
        return
    try:
        client.sendall(more)
        client.setblocking(False)
        if client.recv(65536) == b"":
            client.close()
    except BlockingIOError:
        client.setblocking(True)
    except OSError:
        client.close()


def test_a_request_that_comes_in_pieces_is_served(sqlite):
    """As long as it comes in time."""
    with listening_here(sqlite) as port, socket.create_connection(("127.0.0.1", port)) as client:
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n":
            client.sendall(bytes([byte]))
        assert rest_of(client).startswith(b"HTTP/1.1 200 ")


def memory_of(process):
    """Bytes of memory that a process has."""
    fields = Path(f"/proc/{process.pid}/statm").read_text().split()
    return int(fields[1]) * 4096


def head(credential, *, length, path="/api/v1/check-in", more=b""):
    """The first part of a request."""
    return (
        (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {credential}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n"
        ).encode()
        + more
        + b"\r\n"
    )


def send(port, content):
    """Send bytes; what comes back until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        with suppress(ConnectionError):
            client.sendall(content)
        return rest_of(client)


def statuses(received):
    """The statuses of the answers."""
    return [int(part.split()[1]) for part in received.split(b"\r\n") if part.startswith(b"HTTP/1.1 ")]


GOOD = json.dumps(wire.plain(make_report())).encode()
BODIES = {
    "empty": b"",
    "no JSON": b"\xff\xfe\x00",
    "half": GOOD[:50],
    "two": GOOD + GOOD,
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 40_000,
    "a list": b"[]",
    "a number": b"1e999",
    "a long number": b"1" * 200_000,
    "a huge whole number": GOOD.replace(b'"running": null', b'"running": ' + b"9" * 5000),
    "NaN": GOOD.replace(b'"running": null', b'"running": NaN'),
    "infinite": GOOD.replace(b'"running": null', b'"running": -Infinity'),
    "a fraction": GOOD.replace(b'"running": null', b'"running": 1.5'),
    "true": GOOD.replace(b'"running": null', b'"running": true'),
    "said twice": GOOD.replace(b'"running": null', b'"running": null, "running": 3'),
    "bad UTF-8": GOOD.replace(b'"note": ""', b'"note": "\xc3\x28"'),
    "half a surrogate pair": GOOD.replace(b'"note": ""', b'"note": "\\ud800"'),
    "NUL": GOOD.replace(b'"note": ""', b'"note": "\\u0000"'),
    "no date": GOOD.replace(b'"at": "2026', b'"at": "9999999'),
    "not UTF-8 at all": GOOD.decode().encode("utf-16"),
    "megabytes": b'{"note":"' + b"x" * 10_000_000 + b'"}',
}


@pytest.fixture(scope="module")
def under_fire(tmp_path_factory):
    """A server, its port and a host's credential; in the end it must be well and have had no surprise."""
    served = Served(tmp_path_factory.mktemp("fire") / "state", "--no-tls")
    credential = enrol(served.address, served.admin)
    port = int(served.address.rpartition(":")[2])
    before = memory_of(served.process)
    yield port, credential
    assert raw(served.address, "/api/v1/check-in", bearer=credential, body=report("end")).status == 200
    assert memory_of(served.process) - before < 100 << 20
    served.kill()
    log = served.log.read_text()
    assert "not foreseen" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize("which", BODIES)
def test_bodies_that_cannot_be(under_fire, which):
    """Refused, as the client's fault."""
    port, credential = under_fire
    body = BODIES[which]
    assert body != GOOD
    answer = send(port, head(credential, length=len(body)) + body)
    assert statuses(answer)[:1] in ([400], [413]), answer[:200]


def test_a_body_of_any_length_costs_no_memory(under_fire):
    """A sender that does not say how much, and does not stop, is refused; many of them at once, too."""
    port, credential = under_fire
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    begin = head(credential, length=0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(send(port, begin + chunk * 160))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever still sends when the answer is there may not get to read it.
    assert {status for answer in answers for status in statuses(answer)} <= {413}


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"x: " + b"y" * 10_000_000,
        b"GET /" + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 1_000_000,
    ],
)
def test_a_head_of_any_length_costs_no_memory(under_fire, content):
    """It is refused before all of it was taken."""
    port, _ = under_fire
    assert statuses(send(port, content)) in ([431], [])


def test_bytes_at_random(under_fire):
    """Whatever is done to a good request: it is the client's fault, if it is one; others are served."""
    port, credential = under_fire
    chance = random.Random(7)  # noqa: S311 - repeatable, not secret
    clients = [(socket.create_connection(("127.0.0.1", port)), damaged(credential, chance)) for _ in range(500)]
    for client, content in clients:
        client.sendall(content)
    assert statuses(send(port, head(credential, length=len(GOOD)) + GOOD)) == [200]
    for client, content in clients:
        got = statuses(what_came(client))
        assert all(status < 500 for status in got), content


def damaged(credential, chance):
    """A good request, with some damage."""
    content = bytearray(head(credential, length=len(GOOD), more=b"X: y\r\n") + GOOD)
    for _ in range(chance.randrange(1, 8)):
        damage(content, chance)
    return bytes(content)


def what_came(client):
    """All that the server sent soon; it may still wait for more."""
    client.settimeout(0.02)
    received = b""
    with client, suppress(OSError):
        while part := client.recv(65536):
            received += part
    return received


def damage(content, chance):
    """Change, drop, add or move some bytes."""
    at = chance.randrange(len(content))
    match chance.randrange(4):
        case 0:
            content[at] = chance.randrange(256)
        case 1:
            del content[at : at + chance.randrange(1, 9)]
        case 2:
            content[at:at] = chance.choice([b"\0", b"\r\n", b"{", b'"', b"\xff\xff", b"9" * 40, b": ", b"%00"])
        case 3:
            content[at:at] = content[: chance.randrange(1, 60)]
