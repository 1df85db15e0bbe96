"""Enrolment: what is written down, what goes wrong and how that is said, whom the agent trusts."""

import json
import re
import ssl
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from kmend.agent import membership
from kmend.agent.config import Paths
from kmend.agent.server import Link, ServerError, check_address, check_fingerprint
from kmend.agent.settings import Settings
from kmend.cli.agent.verb import agent
from kmend.fleet.tls import self_made_certificate
from kmend.kit.errors import InputError
from makers.fleet import make_report
from makers.fleet_server import TOKEN, fake_server

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    """What the environment of the tests says does not count."""
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    """A server without TLS on this machine."""
    with fake_server() as fake:
        yield fake


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that the server made itself."""
    return self_made_certificate(tmp_path_factory.mktemp("tls"), names=["127.0.0.1"], now=datetime.now(tz=UTC))


@pytest.fixture
def secure(certificate):
    """A server with TLS whose certificate nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    with fake_server(context) as fake:
        yield fake


@pytest.fixture
def token(tmp_path):
    """A file with a token that holds."""
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


def enroll(machine, server, token, *words):
    """The verb; exit code and text."""
    words = ["--server", getattr(server, "address", server), "--token-file", str(token), *words]
    found = CliRunner().invoke(
        agent, ["--machine-root", str(machine.root), "enroll", *words], standalone_mode=False
    )
    if found.exception:
        raise found.exception
    return found.return_value, found.stdout


def test_enroll(machine, server, token):
    """The credential is on the disk for root only, the answer holds no secret; a report gets through."""
    code, text = enroll(machine, server, token, "--label", "zone=a", "--json")
    assert code == 0
    path = machine.host().paths.server
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    member = membership.load_membership(machine.host().paths)
    assert (member.host, member.server, member.channel) == ("h1", server.address, "edge")
    assert re.fullmatch("[0-9a-f]{64}", member.secret)
    assert json.loads(text) == {
        "server": server.address,
        "host": "h1",
        "channel": "edge",
        "labels": {"zone": "a"},
        "interval": 300,
    }
    link = member.link(Settings(), machine.root)
    assert link.check_in(make_report(), credential=member.credential).interval == 300
    assert not machine.host().paths.joining.exists()


def test_twice_needs_force(machine, server, token):
    """An enrolled host stays what it is; with --force it is enrolled anew, with another secret."""
    enroll(machine, server, token)
    before = membership.load_membership(machine.host().paths)
    with pytest.raises(InputError, match=r"belongs to .* already, as h1"):
        enroll(machine, server, token)
    assert membership.load_membership(machine.host().paths) == before
    server.tokens.clear()
    with pytest.raises(InputError, match="not known"):
        enroll(machine, server, token, "--force")
    assert membership.load_membership(machine.host().paths) == before
    server.tokens.add(TOKEN)
    assert "as h2" in enroll(machine, server, token, "--force")[1]


def test_killed_before_the_answer(machine, server, token):
    """The server took the host in, but the answer was lost: asking again is the same host."""
    server.drop = 1
    with pytest.raises(ServerError, match="does not answer"):
        enroll(machine, server, token)
    assert membership.load_membership(machine.host().paths) is None
    assert "as h1" in enroll(machine, server, token)[1]
    assert list(server.secrets) == ["h1"]


def test_a_bad_token(machine, server, token):
    """Refused by the server, or no token at all; nothing is a membership then."""
    token.write_text("kmend_wrong.secret")
    with pytest.raises(InputError, match="The token is not known") as found:
        enroll(machine, server, token)
    assert found.value.hint == "A hint."
    for content in ("", "two words", "kmend_a b", "hunter2"):
        token.write_text(content)
        with pytest.raises(InputError, match="holds no token"):
            enroll(machine, server, token)
    token.unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        enroll(machine, server, token)
    assert membership.load_membership(machine.host().paths) is None


def test_nobody_vouches_for_the_server(machine, secure, token, certificate):
    """A certificate that nobody knows is refused; its fingerprint or its authority opens the way."""
    with pytest.raises(ServerError, match="cannot be trusted") as found:
        enroll(machine, secure, token)
    assert "--fingerprint" in found.value.hint
    with pytest.raises(ServerError, match="cannot be trusted"):
        enroll(machine, secure, token, "--fingerprint", "ab" * 32)
    assert secure.asked == []
    colons = ":".join(re.findall("..", certificate.fingerprint.upper()))
    assert enroll(machine, secure, token, "--fingerprint", colons)[0] == 0
    assert enroll(machine, secure, token, "--ca", str(certificate.certificate), "--force")[0] == 0
    assert membership.load_membership(machine.host().paths).ca == certificate.certificate.read_text()


def test_certificates_of_the_environment_and_of_the_settings(machine, secure, token, certificate, monkeypatch):
    """SSL_CERT_FILE counts for who says nothing; server_ca counts instead of what the enrolment said."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.certificate))
    assert enroll(machine, secure, token)[0] == 0
    monkeypatch.delenv("SSL_CERT_FILE")
    member = membership.load_membership(machine.host().paths)
    with pytest.raises(ServerError, match="cannot be trusted"):
        member.link(Settings(), machine.root).check_in(make_report(), credential=member.credential)
    (machine.root / "ca.pem").write_text(certificate.certificate.read_text())
    link = replace(member, fingerprint="ab" * 32).link(Settings(server_ca="/ca.pem"), machine.root)
    assert link.check_in(make_report(), credential=member.credential)
    (machine.root / "ca.pem").write_text("nothing")
    with pytest.raises(InputError, match="holds no certificate"):
        member.link(Settings(server_ca="/ca.pem"), machine.root)


def test_a_server_that_is_away(machine, token):
    """Said with the address; a half-done enrolment is none."""
    with pytest.raises(ServerError, match=r"http://127\.0\.0\.1:1 does not answer: .*refused"):
        enroll(machine, "http://127.0.0.1:1", token)
    assert membership.load_membership(machine.host().paths) is None


@pytest.mark.parametrize("address", ["http://fleet.example", "ftp://x", "fleet.example:8443", "https://", ""])
def test_addresses_that_are_none(address):
    """Nothing goes over the network in the clear; a missing scheme is said."""
    with pytest.raises(InputError):
        check_address(address)


def test_addresses():
    """A slash at the end does not count; this machine may be without TLS."""
    assert check_address("https://fleet.example:8443/") == "https://fleet.example:8443"
    assert check_address("http://[::1]:80") == "http://[::1]:80"
    with pytest.raises(InputError, match="no SHA-256"):
        check_fingerprint("ab" * 20)


def test_a_proxy_of_the_environment_or_the_settings(machine, server, token, monkeypatch):
    """The one of agent.toml goes before that of the environment; NO_PROXY is heard."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(ServerError, match="does not answer"):
        enroll(machine, server, token)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert enroll(machine, server, token)[0] == 0
    (machine.root / "etc/kmend/agent.toml").write_text('server_proxy = "http://127.0.0.1:1"\n')
    with pytest.raises(ServerError, match="does not answer"):
        enroll(machine, server, token, "--force")


@pytest.mark.parametrize("content", [b"<html>hotel</html>", b"{}", b"[]", b"\xff", b'{"host": 1}'])
def test_something_else_answers(machine, server, token, content):
    """A captive portal or another program is no server."""
    server.raw = content
    with pytest.raises(ServerError, match="is not a Enrolled"):
        enroll(machine, server, token)


def test_an_answer_without_end(server):
    """More than a kmend server says is not read to its end."""
    server.raw = b"x" * (2 << 20)
    with pytest.raises(ServerError, match="with more"):
        Link(address=server.address).check_in(make_report(), credential="kmend-host.h1.x")


def test_retry_after(server):
    """Seconds are taken, at most an hour; a date or nonsense is not."""
    for text, seconds in (("7", 7.0), ("99999999", 3600.0), ("soon", None), ("-3", None)):
        server.failing = (503, text)
        with pytest.raises(ServerError) as found:
            Link(address=server.address).check_in(make_report(), credential="kmend-host.h1.x")
        assert (found.value.status, found.value.retry_after) == (503, seconds)


def test_leave(machine, server, token):
    """Forgets the server and what it said."""
    enroll(machine, server, token)
    assert membership.leave(machine.host().paths) == server.address
    assert membership.leave(machine.host().paths) == ""
    assert membership.load_membership(machine.host().paths) is None


def test_a_secret_is_changed_now_and_then(machine, server, token):
    """After 30 days a new one is written down, sent, and used; the old one does not hold any more then."""
    enroll(machine, server, token)
    paths = Paths(root=machine.root)
    member = membership.load_membership(paths)
    link = member.link(Settings(), machine.root)
    assert membership.renewed(paths, member, link, now=member.renewed + timedelta(days=29)) == member
    later = membership.renewed(paths, member, link, now=member.renewed + timedelta(days=31))
    assert membership.load_membership(paths) == later
    assert later.next_secret not in {"", member.secret}

    def check_in(one):
        return link.check_in(make_report(), credential=one.credential)

    newer, _ = membership.with_secret(paths, later, check_in)
    assert (newer.secret, newer.next_secret) == (later.next_secret, "")
    assert membership.load_membership(paths) == newer
    with pytest.raises(ServerError, match="not known"):
        check_in(member)


def test_killed_before_the_new_secret_was_sent(machine, server, token):
    """The server does not know it: the old one goes on holding, and the new one is forgotten."""
    enroll(machine, server, token)
    paths = Paths(root=machine.root)
    member = replace(membership.load_membership(paths), next_secret="cd" * 32)

    def check_in(one):
        return link.check_in(make_report(), credential=one.credential)

    link = member.link(Settings(), machine.root)
    after, _ = membership.with_secret(paths, member, check_in)
    assert (after.secret, after.next_secret) == (member.secret, "")
    assert membership.load_membership(paths) == after


def test_a_broken_credential(machine, server, token):
    """Says what to do, without the secret."""
    enroll(machine, server, token)
    path = machine.host().paths.server
    path.write_text(path.read_text().replace('"host": "h1"', '"host": 7'))
    with pytest.raises(InputError, match="is not a Membership") as found:
        membership.load_membership(machine.host().paths)
    assert "enroll --force" in found.value.hint
    assert enroll(machine, server, token, "--force")[0] == 0
    assert membership.load_membership(machine.host().paths).host == "h2"
