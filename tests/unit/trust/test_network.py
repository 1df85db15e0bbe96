"""Proxies and private authorities: as told, else as the environment says."""

import datetime as dt
import functools
import http.server
import ipaddress
import ssl
import threading
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tuf.api.exceptions import DownloadError

from kmend.agent import sync
from kmend.agent.decide import Verdict
from kmend.agent.settings import Settings
from kmend.trust.download import Limits, Network, open_source
from kmend.trust.refusal import Refusal, refused

QUICK = Limits(connect=2, silence=2, total=5)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; asked as a proxy, it serves the same whatever the host is called."""

    asked = ()

    def do_GET(self):
        """Note what was asked for."""
        self.server.asked.append(self.path)
        self.path = urlsplit(self.path).path
        super().do_GET()

    def log_message(self, *args):
        """Nothing."""


@pytest.fixture
def serve():
    """Starts a web server for a folder; returns it."""
    servers = []

    def start(folder, *, tls=None):
        server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
        )
        server.asked = []
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """No proxy but those that a test sets."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def address(server, scheme="http"):
    """Of a server."""
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"


def download(source, network):
    """Fetch one file."""
    fetcher, base = open_source(source, limits=QUICK, network=network)
    return fetcher.download_bytes(base + "file", 1000)


def test_the_proxy_that_is_told(serve, tmp_path, monkeypatch):
    """It goes before the environment's; no_proxy goes before both."""
    (tmp_path / "file").write_text("x")
    proxy = serve(tmp_path)
    network = Network(proxy=address(proxy))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert download("http://repo.invalid", network) == b"x"
    assert proxy.asked == ["http://repo.invalid/file"]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    direct = serve(tmp_path)
    assert download(address(direct), network) == b"x"
    assert direct.asked == ["/file"]


def test_the_proxy_of_the_environment(serve, tmp_path, monkeypatch):
    """Where none is told."""
    (tmp_path / "file").write_text("x")
    proxy = serve(tmp_path)
    monkeypatch.setenv("http_proxy", address(proxy))
    assert download("http://repo.invalid", None) == b"x"
    assert proxy.asked == ["http://repo.invalid/file"]


def test_the_agent_uses_its_settings(machine, made, serve):
    """A repository that can be reached through the proxy only."""
    proxy = serve(made.repo)
    settings = Settings(repository="http://repo.invalid", proxy=address(proxy))
    assert sync.check(machine.host(settings=settings)).verdict == Verdict.AVAILABLE
    assert all(asked.startswith("http://repo.invalid/") for asked in proxy.asked)
    assert sync.update(machine.host(settings=replace(settings, ca_file="/no/file"))).applied


def authority(folder, name):
    """A private authority with a certificate for 127.0.0.1, and a TLS context that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(tz=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / f"{name}.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret = folder / f"{name}.key"
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return pem, context


def test_a_private_authority(serve, tmp_path, monkeypatch):
    """Only what it signed is trusted: not by default, not by another one; SSL_CERT_FILE works too."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "file").write_text("x")
    mine, context = authority(tmp_path, "mine")
    other, _ = authority(tmp_path, "other")
    place = address(serve(served, tls=context), "https")
    assert download(place, Network(ca_file=str(mine))) == b"x"
    for network in (None, Network(ca_file=str(other)), Network(ca_file=str(tmp_path / "none.pem"))):
        with pytest.raises(DownloadError):
            download(place, network)
    with pytest.raises(DownloadError) as unknown:
        download(place, None)
    told = refused(Refusal.UNREACHABLE, what="the repository", detail=str(unknown.value))
    assert "ca_file" in told.hint
    assert "ca_file" not in refused(Refusal.UNREACHABLE, what="the repository", detail="refused").hint
    monkeypatch.setenv("SSL_CERT_FILE", str(mine))
    assert download(place, None) == b"x"
