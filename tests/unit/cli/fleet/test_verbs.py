"""kmend serve and kmend fleet as they are typed: a real server, real TLS, real requests."""

import csv
import json
import shutil
import signal
import socket
import time

import pytest
import urllib3

from kmend.model import wire
from kmend.model.fleet import Failure
from makers.fleet import make_report
from makers.listening import serving
from makers.looks import make_cves, make_exposure, make_group, make_look
from makers.nouns import KERNEL, NOW, make_built
from makers.receiver import running_receiver

SECRET = "ab" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server for all tests of this file."""
    state = tmp_path_factory.mktemp("state")
    with serving(state) as (_, said):
        yield said


@pytest.fixture
def fleet(server, monkeypatch, type_in):
    """Runs `kmend fleet` as the first admin; gives back what it prints, parsed when it is JSON."""
    monkeypatch.setenv("KMEND_SERVER", server["listening"])
    monkeypatch.setenv("KMEND_TOKEN", server["admin token"].split()[0])
    monkeypatch.setenv("KMEND_FINGERPRINT", server["fingerprint"])

    def run(*words, code=0):
        got, out, err = type_in("fleet", *words)
        assert got == code, out + err
        return json.loads(out) if "--json" in words and code == 0 else out + err

    return run


def speak(server, path, *, bearer, body, method="POST"):
    """What an agent sends; the answer."""
    pool = urllib3.PoolManager(cert_reqs="CERT_NONE", assert_fingerprint=server["fingerprint"])
    headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}
    answer = pool.request(method, f"{server['listening']}/api/v1{path}", body=json.dumps(body), headers=headers)
    assert answer.status in {200, 201, 204}, answer.data
    return answer.json() if answer.data else None


def enrol(server, fleet, name, secret=SECRET):
    """A host; its id and its credential."""
    token = fleet("token", "create", "racks", "--role", "enrol", "--uses", "1", "--label", "zone=a").strip()
    host = speak(server, "/enrol", bearer=token, body={"name": name, "secret": secret})["host"]
    return host, f"kmend-host.{host}.{secret}"


def test_what_containers_reach_by_typing(server, fleet):
    """A CVE's containers, the CVEs, the checks, one host; what is in a name does nothing to the terminal."""
    host, credential = enrol(server, fleet, "reached", "c1" * 32)
    group = make_group("\x1b[2Jweb", "db", cves=make_cves(1003, score=9.8, exploited=True), count=12)
    look = make_look(exposure=make_exposure(group))
    speak(server, "/agent/look", bearer=credential, body=wire.plain(look), method="PUT")
    shown = fleet("exposure", "CVE-2026-1003")
    assert "reached" in shown
    assert r"\x1b[2Jweb, db and 10 more" in shown
    assert [one["host"] for one in fleet("exposure", "CVE-2026-1003", "--json")] == [host]
    assert "no container" in fleet("exposure", "CVE-2026-1003", "--reach", "could-not-tell")
    assert "no container" in fleet("exposure", "CVE-2026-9999")
    assert "is no CVE id" in fleet("exposure", "hello", code=1)
    assert ["CVE-2026-1003", "9.8", "yes", "1", "12"] in [line.split() for line in fleet("exposure").splitlines()]
    assert "container-privileged" in fleet("checks")
    shown = fleet("host", "look", host)
    assert "all 74%" in shown
    assert "\x1b" not in shown
    assert fleet("host", "look", host, "--json")["look"]["exposure"]["reachable"] == 1
    assert "There is no look of a host" in fleet("host", "look", "h0", code=1)
    assert "looks     1 host, 1 with" in fleet("summary")
    fleet("host", "remove", host)


def test_a_rollout_by_typing(server, fleet, tmp_path):
    """From the enrolment token to the finished rollout and its rollback."""
    make_built(tmp_path / "built", 3)
    host, credential = enrol(server, fleet, "web-1")
    speak(server, "/check-in", bearer=credential, body=wire.plain(make_report()))
    assert "web-1" in fleet("host", "list", "--selector", "zone=a")
    words = ("rollout", "create", tmp_path / "built", "--name", "first", "--wave", "100%:0s", "--json")
    made = fleet(*words)["id"]
    offer = speak(server, "/check-in", bearer=credential, body=wire.plain(make_report()))["offer"]
    assert (offer["action"], offer["number"]) == ("apply", 3)
    assert "first" in fleet("rollout", "list", "--state", "running")
    assert "0 done, 1 loading, 1 to settle" in fleet("rollout", "show", made)
    speak(server, "/check-in", bearer=credential, body=wire.plain(make_report(3)))
    assert fleet("rollout", "hosts", made, "--json")[0]["stage"] == "done"
    assert "livepatch  3 (applied)" in fleet("host", "show", host)
    back = ("rollout", "rollback", made, "--to", f"{KERNEL.build_id}=2", "--reason", "slow")
    assert "rolled-back: rollback by token:first-admin" in fleet(*back)
    offer = speak(server, "/check-in", bearer=credential, body=wire.plain(make_report(3)))["offer"]
    assert (offer["action"], offer["number"]) == ("go-back", 2)
    assert "run it     1 now" in fleet("rollout", "show", made)
    speak(server, "/check-in", bearer=credential, body=wire.plain(make_report(2)))
    assert "run it     0 now" in fleet("rollout", "show", made)
    assert "rolled back: slow" in fleet("block", "list")
    fleet("block", "remove", f"{KERNEL.build_id}=3")
    assert fleet("summary", "--json")["safe"] == 1
    assert "was offered livepatch 3" in fleet("events", "--host", host)
    assert next(one for one in fleet("audit").splitlines() if "rollout-rollback" in one).endswith("  slow")


def test_livepatches_and_cves_by_typing(tmp_path, made, type_in, monkeypatch):
    """What the dashboard's pages of them show."""
    with serving(tmp_path / "state", "--repository", made.repo) as (_, said):
        monkeypatch.setenv("KMEND_SERVER", said["listening"])
        monkeypatch.setenv("KMEND_TOKEN", said["admin token"].split()[0])
        monkeypatch.setenv("KMEND_FINGERPRINT", said["fingerprint"])

        def fleet(*words, code=0):
            got, out, err = type_in("fleet", *words)
            assert got == code, out + err
            return json.loads(out) if "--json" in words and code == 0 else out + err

        assert "is the server started with --repository?" in fleet("livepatch", "list")
        _, credential = enrol(said, fleet, "web-1")
        speak(said, "/check-in", bearer=credential, body=wire.plain(make_report(1)))
        while not fleet("livepatch", "list", "--json"):
            time.sleep(0.2)
        assert [KERNEL.release, KERNEL.build_id, "1", "edge", "2", "1"] in [
            line.split() for line in fleet("livepatch", "list").splitlines()
        ]
        shown = fleet("livepatch", "show", f"{KERNEL.build_id}=1")
        for words in ("hosts      1 runs it now", "300 found equal", "lab        passed (quick", "published "):
            assert words in shown
        assert "knows no manifest" in fleet("livepatch", "show", f"{KERNEL.build_id}=7", code=1)
        assert ["CVE-2026-52928", "0", "1"] in [line.split() for line in fleet("cves").splitlines()]
        assert "closed    1 host, by the livepatch that it runs" in fleet("cves", "CVE-2026-52928")
        assert "is no CVE id" in fleet("cves", "hello", code=1)
        assert "web-1" in fleet("host", "list", "--state", "safe")
        assert "(no host)" in fleet("host", "list", "--state", "quarantined")
        assert "is no state" in fleet("host", "list", "--state", "odd", code=1)
        assert "There is no host" in fleet("events", "--host", "h0", code=1)
        assert "There is no rollout" in fleet("events", "--rollout", "r0", code=1)
        assert "There is no host" in fleet("events", "--host", "h0", "--export", "csv", code=1)
        assert "open      0 hosts, though" in fleet("cves", "CVE-2026-52928")
        assert "looks     0 hosts, " in fleet("summary")


def test_pause_resume_and_abort(fleet):
    """And what does not go ends with 1 and the server's own words."""
    made = fleet("rollout", "create", "cd" * 20 + "=1", "--name", "x", "--json")["id"]
    assert "paused: pause by token:first-admin made at start: lunch" in fleet(
        "rollout", "pause", made, "--reason", "lunch"
    )
    assert "pause is not possible" in fleet("rollout", "pause", made, code=1)
    assert "running" in fleet("rollout", "resume", made)
    assert "aborted" in fleet("rollout", "abort", made)
    assert "There is no rollout r0" in fleet("rollout", "show", "r0", code=1)


def test_hosts_can_be_changed_and_removed(server, fleet):
    """Labels are set and taken away one by one."""
    host, _ = enrol(server, fleet, "db-1", "cd" * 32)
    changed = fleet("host", "set", host, "--label", "rack=7", "--no-label", "zone", "--channel", "edge", "--json")
    assert (changed["labels"], changed["channel"]) == ({"rack": "7"}, "edge")
    assert fleet("host", "list", "--name", "db-1", "--json") == [changed]
    assert fleet("host", "list", "--name", "db-2") == "(no host)\n"
    assert "removed" in fleet("host", "remove", host)
    assert "There is no host" in fleet("host", "show", host, code=1)


def test_nothing_that_a_host_says_moves_the_cursor(server, fleet):
    """Names and reasons stay on their lines, in tables, about one host, in errors, and in its history."""
    name = "web\x1b[2J\n\u202eroot"
    host, credential = enrol(server, fleet, name, "ce" * 32)
    failure = Failure(
        at=NOW, build_id=KERNEL.build_id, number=4, reason="\x1b]0;x\x07\nheld back  livepatch 9: no"
    )
    for report in (make_report(3), make_report(3, held="disk\rfull", failure=failure)):
        speak(server, "/check-in", bearer=credential, body=wire.plain(report))
    shown = [fleet("host", *verb) for verb in (("list",), ("show", host), ("history", host))]
    assert all(line.isprintable() for text in shown for line in text.splitlines())
    assert [r"web\x1b[2J\n\u202eroot" in text for text in shown] == [True, True, False]
    assert "held back" not in {line[:9] for text in shown for line in text.splitlines()}
    assert len(shown[2].splitlines()) == 3
    assert fleet("host", "show", host, "--json")["name"] == name
    assert r"There is no host \x1b[2J" in fleet("host", "show", "\x1b[2J", code=1)
    assert fleet("host", "remove", host, "--json") == {"removed": host}


def test_webhooks(fleet):
    """Made, tried, listed and deleted; one that nobody listens at says so."""
    with running_receiver() as receiver:
        made = fleet("webhook", "create", "chat", f"{receiver.address}/x", "--on", "rollout.stopped", "--json")
        name = made["webhook"]["id"]
        assert "It arrived: 204." in fleet("webhook", "test", name)
        assert len(receiver.got) == 1
    assert "rollout.stopped" in fleet("webhook", "list")
    assert made["secret"] not in fleet("webhook", "list")
    assert "did not arrive" in fleet("webhook", "test", name, code=1)
    assert "no answer" in fleet("webhook", "deliveries", name)
    assert fleet("webhook", "delete", name, "--json") == {"removed": name}
    assert "There is no webhook" in fleet("webhook", "test", name, code=1)


def test_lists_are_exported(server, fleet, tmp_path):
    """As CSV that no spreadsheet runs, and as JSON; all pages of them, or what was asked for."""
    name = "=HYPERLINK(1)"
    for number in range(3):
        host, credential = enrol(server, fleet, f"{name}{number}", f"{number + 100:064x}")
        speak(server, "/check-in", bearer=credential, body=wire.plain(make_report(3, note="@x", held="-1\n2")))
    file = tmp_path / "hosts.csv"
    fleet("host", "export", "--selector", "zone=a", "--output", file)
    rows = list(csv.DictReader(file.open(newline="")))
    mine = [row for row in rows if name in row["name"]]
    assert {row["name"] for row in mine} == {f"'{name}{number}" for number in range(3)}
    assert (mine[0]["livepatch"], mine[0]["held"], mine[0]["build_id"]) == ("3", "'-1\n2", KERNEL.build_id)
    found = json.loads(fleet("host", "export", "--format", "json"))
    assert host in {one["id"] for one in found}
    assert json.loads(fleet("host", "export", "--format", "json", "--selector", "zone=none")) == []
    assert fleet("host", "export", "--selector", "zone=none") == ""
    fleet("rollout", "create", "ef" * 20 + "=1", "--name", "+1", "--json")
    assert "'+1" in fleet("rollout", "export")
    assert "rollout" in {one["kind"] for one in json.loads(fleet("events", "--export", "json"))}
    assert fleet("events", "--export", "csv").startswith("id,at,kind,host,rollout,text")
    assert fleet("host", "list", "--open-to", "CVE-2026-53249", "--json") == []
    assert "is no CVE id" in fleet("host", "list", "--open-to", "heartbleed", code=1)
    assert "cannot be written" in fleet("host", "export", "--output", tmp_path / "no" / "file", code=1)


def test_channels_groups_blocks_and_tokens(fleet):
    """Everything that can be made can be listed."""
    fleet("channel", "create", "canary")
    fleet("channel", "pause", "canary", "--reason", "holidays")
    assert "holidays" in fleet("channel", "list")
    assert fleet("channel", "resume", "canary", "--json")["paused"] is False
    fleet("group", "set", "web", "role=web")
    assert fleet("group", "list", "--json") == [{"name": "web", "selector": "role=web"}]
    assert fleet("group", "remove", "web", "--json") == {"removed": "web"}
    fleet("block", "add", "ef" * 20 + "=9", "--reason", "bad")
    assert fleet("block", "list", "--json")[0]["number"] == 9
    made = fleet("token", "create", "ci", "--role", "viewer", "--days", "1", "--json")
    assert "good until" in fleet("token", "list")
    assert fleet("block", "remove", "ef" * 20 + "=9", "--json") == {"removed": "ef" * 20 + "=9"}
    assert fleet("token", "revoke", made["token"]["id"], "--json") == {"removed": made["token"]["id"]}
    assert "revoked" in fleet("token", "list")


def test_a_viewer_cannot_change_anything(fleet, tmp_path):
    """The role is named that would be needed."""
    file = tmp_path / "token"
    file.write_text(fleet("token", "create", "eyes", "--role", "viewer"))
    assert "stable" in fleet("--token-file", file, "channel", "list")
    assert "needs the role operator" in fleet("--token-file", file, "channel", "pause", "edge", code=1)


def test_a_server_that_is_not_the_one(fleet, monkeypatch):
    """Another fingerprint, no fingerprint, nothing there, no server at all: each with what to do."""
    assert "--fingerprint" in fleet("--fingerprint", "00" * 32, "summary", code=1)
    assert "64 hex digits" in fleet("--fingerprint", "abc", "summary", code=1)
    missing = fleet("--token-file", "/nowhere/token", "summary", code=1)
    assert "/nowhere/token cannot be read as a token: No such file or directory." in missing
    monkeypatch.delenv("KMEND_FINGERPRINT")
    assert "--fingerprint" in fleet("summary", code=1)
    assert "does not answer" in fleet("--server", "https://127.0.0.1:9", "summary", code=1)
    assert "no address of a server" in fleet("--server", "fleet", "summary", code=1)
    monkeypatch.delenv("KMEND_TOKEN")
    assert "There is no token" in fleet("summary", code=1)


def test_help_needs_no_server(type_in):
    """Of every verb."""
    code, out, _ = type_in("fleet", "rollout", "create", "--help")
    assert code == 0
    assert "--max-concurrent" in out


def test_a_certificate_can_vouch_for_itself(server, fleet, monkeypatch, tmp_path_factory):
    """Who has the self-made certificate needs no fingerprint."""
    state = next(tmp_path_factory.getbasetemp().glob("state*"))
    monkeypatch.delenv("KMEND_FINGERPRINT")
    assert "hosts" in fleet("--ca", state / "certificate.pem", "summary")


def test_a_second_start_keeps_everything_and_ends_well(tmp_path):
    """The same certificate, no second admin token, unless one is asked for; SIGTERM ends it with 0."""
    with serving(tmp_path, "--admin-token-file", tmp_path / "token") as (first, said):
        fingerprint = said["fingerprint"]
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0
    token = (tmp_path / "token").read_text().strip()
    assert token.startswith("kmend_first-admin.")
    for private in ("token", "fleet.db", "key.pem"):
        assert (tmp_path / private).stat().st_mode & 0o777 == 0o600
    shutil.move(tmp_path / "token", tmp_path / "old")
    with serving(tmp_path) as (_, said):
        assert said["fingerprint"] == fingerprint
        assert "admin token" not in said
    with serving(tmp_path, "--new-admin-token", "--no-tls") as (_, said):
        assert said["admin token"].startswith("kmend_")
        assert said["listening"].startswith("http://")


def test_backup_and_restore(type_in, tmp_path):
    """While the server runs; and back, into an empty state folder or over a full one with --force only."""
    with serving(tmp_path / "one", "--no-tls") as (_, said):
        code, out, _ = type_in("fleet", "backup", tmp_path / "backup", "--state", tmp_path / "one")
        assert (code, "database sqlite, schema 0" in out) == (0, True)
        token = said["admin token"].split()[0]
    code, out, err = type_in("fleet", "backup", tmp_path / "backup", "--state", tmp_path / "one")
    assert (code, "--force" in err) == (1, True)
    words = ("fleet", "restore", tmp_path / "backup", "--state", tmp_path / "two")
    code, out, _ = type_in(*words, "--json")
    assert (code, json.loads(out)["database"]) == (0, "sqlite")
    code, _, err = type_in(*words)
    assert (code, "--force" in err) == (1, True)
    assert type_in(*words, "--force")[0] == 0
    with serving(tmp_path / "two", "--no-tls") as (_, said):
        assert "admin token" not in said
        answer = urllib3.request(
            "GET", f"{said['listening']}/api/v1/whoami", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status == 200


def test_what_cannot_be_served(type_in, tmp_path):
    """Each ends with one clear message."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            "is no ADDRESS:PORT": ("--listen", "nowhere"),
            "cannot be listened on": ("--listen", f"127.0.0.1:{port}"),
            "go together": ("--certificate", tmp_path / "c.pem"),
            "cannot be used as certificate": ("--certificate", tmp_path / "c.pem", "--key", tmp_path / "k.pem"),
            "is no repository": ("--repository", tmp_path),
            "cannot be made": ("--database", f"sqlite:///{tmp_path}/key.pem/x", "--listen", "127.0.0.1:0"),
            "kmend keeps nothing in mysql": ("--database", "mysql://x/y", "--listen", "127.0.0.1:0"),
        }
        for message, words in cases.items():
            code, _, err = type_in("serve", "--state", tmp_path, *words)
            assert (code, message in err) == (1, True), err
