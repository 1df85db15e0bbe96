"""A server for agents in a thread, with answers that a test chooses; it speaks the real protocol."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kmend.model import wire
from kmend.model.fleet import HostReport, Offer, OfferAction
from kmend.model.look import Look
from kmend.model.protocol import CheckedIn, Enrolled, Enrolment, NewSecret, Problem
from makers.nouns import KERNEL

TOKEN = "kmend_tok.secret"  # noqa: S105 - of a server that forgets


def make_offer(action="stay", number=None, *, kernel=KERNEL, **more):
    """An offer in channel edge."""
    basis = {"build_id": kernel.build_id, "channel": "edge", "because": "because of a test"}
    return Offer(action=OfferAction(action), number=number, **{**basis, **more})


class FakeFleetServer:
    """``offer`` is what it says; ``failing`` is (status, Retry-After) while it does not work.

    ``drop`` is how many reports it takes without being able to say so; ``reports`` and ``looks`` hold what was
    taken; a server that is older than looks does not take any (``takes_looks``).
    """

    def __init__(self, address):
        self.address = address
        self.secrets = {}
        self.next_secrets = {}
        self.tokens = {TOKEN}
        self.offer = make_offer()
        self.offers = None
        self.interval = 300
        self.failing = None
        self.drop = 0
        self.raw = None
        self.reports = []
        self.looks = []
        self.takes_looks = True
        self.asked = []

    def answer(self, method, path, bearer, content):
        """Status, headers and body; None for a connection that ends without an answer."""
        self.asked.append((method, path, bearer))
        if self.raw is not None:
            return 200, {}, self.raw
        if self.failing:
            status, retry = self.failing
            return self._problem(status, "not now", **({"Retry-After": str(retry)} if retry is not None else {}))
        return {
            ("POST", "/api/v1/enrol"): self._enrol,
            ("POST", "/api/v1/check-in"): self._check_in,
            ("PUT", "/api/v1/agent/secret"): self._change,
            ("PUT", "/api/v1/agent/look"): self._look,
        }[method, path](bearer, content)

    def _enrol(self, bearer, content):
        asked = wire.load(Enrolment, content, what="a test's enrolment")
        if bearer not in self.tokens:
            return self._problem(401, "The token is not known, has expired or was revoked.")
        known = [host for host, secret in self.secrets.items() if secret == asked.secret]
        host = known[0] if known else f"h{len(self.secrets) + 1}"
        self.secrets[host] = asked.secret
        if self.drop:
            self.drop -= 1
            return None
        told = Enrolled(host=host, channel="edge", labels=asked.labels, interval=self.interval)
        return 201, {}, wire.dump(told).encode()

    def _check_in(self, bearer, content):
        host, secret = self._known(bearer)
        if host is None:
            return self._problem(401, "The token is not known, has expired or was revoked.")
        if self.next_secrets.get(host) == secret:
            self.secrets[host] = self.next_secrets.pop(host)
        report = wire.load(HostReport, content, what="a test's report")
        self.reports.append(report)
        if self.drop:
            self.drop -= 1
            return None
        offer = self.offers(report) if self.offers else self.offer
        return 200, {}, wire.dump(CheckedIn(offer=offer, interval=self.interval)).encode()

    def _change(self, bearer, content):
        host, _ = self._known(bearer)
        if host is None:
            return self._problem(401, "The token is not known, has expired or was revoked.")
        self.next_secrets[host] = wire.load(NewSecret, content, what="a test's secret").secret
        return 204, {}, b""

    def _look(self, bearer, content):
        if not self.takes_looks:
            return self._problem(404, "There is nothing at this address for this method.")
        if self._known(bearer)[0] is None:
            return self._problem(401, "The token is not known, has expired or was revoked.")
        self.looks.append(wire.load(Look, content, what="a test's look"))
        return 204, {}, b""

    def _known(self, bearer):
        kind, host, secret = ([*bearer.split("."), "", ""])[:3]
        good = kind == "kmend-host" and secret in {self.secrets.get(host), self.next_secrets.get(host)} - {None}
        return (host, secret) if good else (None, secret)

    def _problem(self, status, detail, **headers):
        problem = Problem(type="urn:kmend:problem:test", title="No", status=status, detail=detail, hint="A hint.")
        return status, headers, wire.dump(problem).encode()


@contextmanager
def fake_server(tls=None):
    """The server on a free port of the loopback; with an ssl.SSLContext it speaks TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self):
            length = int(self.headers.get("Content-Length", 0))
            content = self.rfile.read(length)
            assert self.headers["Content-Type"] == "application/json"
            bearer = self.headers["Authorization"].removeprefix("Bearer ")
            answer = fake.answer(self.command, self.path, bearer, content)
            self.close_connection = True
            if answer is None:
                return
            status, headers, body = answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = _do  # noqa: N815 - the names that http.server looks for

        def log_message(self, *args):
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    listening = Quiet(("127.0.0.1", 0), Handler)
    if tls:
        listening.socket = tls.wrap_socket(listening.socket, server_side=True)
    fake = FakeFleetServer(f"http{'s' if tls else ''}://127.0.0.1:{listening.server_address[1]}")
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield fake
    finally:
        listening.shutdown()
        listening.server_close()
