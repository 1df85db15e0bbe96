"""The channel's protocol, and how a lost guest is told from a slow one."""

import socket
import threading
import time
from base64 import b64decode, b64encode

import pytest

from kmend.kit.errors import BugError
from kmend.lab.channel import Alive, Answer, Channel, Done, LostGuest, parse_line, request_line


class FakeGuest:
    """Speaks the guest's side of the protocol on a socket."""

    def __init__(self, line, *, answers=True):
        self._line = line
        self._answers = answers
        self.seen = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        self._line.sendall(b"hello 2500\n")
        for line in self._line.makefile("rb"):
            _, number, uid, timeout, args, stdin = line.split()
            words = b64decode(args).split(b"\0")[:-1]
            self.seen.append((int(uid), int(timeout), words, b"" if stdin == b"-" else b64decode(stdin)))
            if self._answers:
                self._line.sendall(b"noise\nalive 3000\ndone %s 3 %s -\n" % (number, b64encode(words[0])))


@pytest.fixture
def ends():
    """Both ends of a connected socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"hello 12", Alive(uptime_ms=12, first=True)),
        (b"alive 512", Alive(uptime_ms=512, first=False)),
        (b"done 7 0 YQ== -", Done(number=7, answer=Answer(code=0, stdout=b"a", stderr=b""))),
        (b"done 7 0 YQ==", None),
        (b"done 7 0 Y@== -", None),
        (b"done x 0 - -", None),
        (b"alive", None),
        (b"", None),
        (b"\xff\x00garbage", None),
    ],
)
def test_parse_line(line, said):
    """What the guest says is understood; a line that a crash cut short or garbled is noise."""
    assert parse_line(line) == said


def test_request_line():
    """A request holds number, user, milliseconds, NUL-ended words and input, and is one line."""
    line = request_line(5, ["cat", "a b\n"], uid=65534, timeout=1.5, stdin=b"x\n")
    assert line.count(b"\n") == 1
    verb, number, uid, timeout, args, stdin = line.split()
    assert (verb, number, uid, timeout) == (b"run", b"5", b"65534", b"1500")
    assert (b64decode(args), b64decode(stdin)) == (b"cat\0a b\n\0", b"x\n")
    assert request_line(5, ["cat"], uid=0, timeout=1, stdin=b"").endswith(b" -\n")


@pytest.mark.parametrize("args", [[], ["a\0b"], ["x"] * 300])
def test_request_line_refuses(args):
    """A command that the guest cannot take never reaches it."""
    with pytest.raises(BugError):
        request_line(1, args, uid=0, timeout=1, stdin=b"")


def test_run(ends):
    """A command's answer comes back to whoever asked, noise and signs of life between notwithstanding."""
    ours, theirs = ends
    guest = FakeGuest(theirs)
    channel = Channel(ours, obituary=lambda: "", silence=5)
    channel.wait_up(timeout=60)
    assert channel.run(["echo", "1"], timeout=60, uid=7, stdin=b"in") == Answer(code=3, stdout=b"echo", stderr=b"")
    assert guest.seen == [(7, 60_000, [b"echo", b"1"], b"in")]


def test_dead_guest_is_reported_at_once(ends):
    """When QEMU is known to have ended, its obituary is the error, long before any time limit."""
    ours, theirs = ends
    FakeGuest(theirs, answers=False)
    dead = []
    channel = Channel(ours, obituary=lambda: "It panicked." if dead else "", silence=60)
    channel.wait_up(timeout=60)
    dead.append(True)
    begun = time.monotonic()
    with pytest.raises(LostGuest, match="It panicked"):
        channel.run(["true"], timeout=60)
    assert time.monotonic() - begun < 5


def test_silent_guest_is_a_hang(ends):
    """A guest without a sign of life is given up after the silence limit, not after the command's limit."""
    ours, theirs = ends
    FakeGuest(theirs, answers=False)
    channel = Channel(ours, obituary=lambda: "", silence=0.6)
    channel.wait_up(timeout=60)
    with pytest.raises(LostGuest, match=r"hangs: no sign of life for 0.6 s \(during: sleep"):
        channel.run(["sleep", "9"], timeout=60)


def test_guest_that_never_comes_up(ends):
    """A boot that never ends is given up after its limit."""
    channel = Channel(ends[0], obituary=lambda: "", silence=60)
    with pytest.raises(LostGuest, match="come up"):
        channel.wait_up(timeout=0.5)
