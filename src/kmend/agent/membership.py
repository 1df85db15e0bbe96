"""How this host belongs to a server: the credential in ``/var/lib/kmend/server.json``, for root only."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from kmend.agent.config import Paths, called
from kmend.agent.server import Link, ServerError, refused
from kmend.agent.settings import Settings
from kmend.kit.errors import InputError
from kmend.kit.files import lock, write_atomic, write_problem
from kmend.model import wire
from kmend.model.labels import check_labels
from kmend.model.protocol import Enrolled, Enrolment

T = TypeVar("T")
_WHAT = "kmend agent enroll"
_NEW_SECRET_AFTER = timedelta(days=30)
_PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """The server, and what this host is to it."""

    server: str
    secret: str
    """64 hex digits; written down before they are sent for the first time."""
    ca: str = ""
    fingerprint: str = ""
    host: str = ""
    """This host's id; empty until the server has taken it in."""
    channel: str = ""
    """That the server has this host in; what the host follows is its own affair."""
    labels: dict[str, str] = field(default_factory=dict)
    interval: int = 300
    """Seconds between check-ins, as the server asked at the start."""
    enrolled: datetime | None = None
    next_secret: str = ""
    """Was or is about to be sent to the server, and not used yet."""
    renewed: datetime | None = None
    """When the secret was last changed."""

    @property
    def credential(self) -> str:
        """For the Authorization header."""
        return f"kmend-host.{self.host}.{self.secret}"

    def link(self, settings: Settings, root: Path) -> Link:
        """The way to the server; agent.toml's proxy and certificates go before those of the enrolment.

        Raises:
            InputError: The certificates cannot be read.
        """
        ca, fingerprint = self.ca, self.fingerprint
        if settings.server_ca:
            ca, fingerprint = read_ca(root / settings.server_ca.lstrip("/")), ""
        return Link(address=self.server, ca=ca, fingerprint=fingerprint, proxy=settings.server_proxy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """What `enroll` says: everything but the secret."""

    server: str
    host: str
    channel: str
    labels: dict[str, str]
    interval: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What `leave` says."""

    server: str
    """Empty when the host belonged to none."""


def load_membership(paths: Paths) -> Membership | None:
    """How this host belongs to a server; None when it belongs to none (yet).

    Raises:
        InputError: The file cannot be read.
    """
    return _read(paths.server)


def join(
    paths: Paths, link: Link, *, token: str, name: str, labels: dict[str, str], now: datetime, force: bool = False
) -> Joined:
    """Have a server take this host in, and write the credential down.

    Killed in between, the same again ends as if nothing had happened: the secret is on the disk before it is sent.

    Args:
        paths: Where the agent keeps things.
        link: The server.
        token: Text of an enrolment token.
        name: Of this host, for people.
        labels: What the token does not say about this host.
        now: The moment.
        force: Leave the server that this host belongs to.

    Raises:
        InputError: The token does not hold, or the host belongs to a server.
        ServerError: The server is away, or nobody vouches for it.
        MachineError: The credential cannot be written.
    """
    check_labels(labels)
    with lock(paths.server_lock, what=_WHAT, wait=True):  # the daemon may be speaking to the server
        known = None if force else load_membership(paths)
        if known:
            raise InputError(
                f"This host belongs to {known.server} already, as {known.host}.",
                hint="Give --force if it shall be enrolled anew.",
            )
        draft = _draft(paths, link)
        told = _ask(link, Enrolment(name=name, secret=draft.secret, labels=labels), token=token)
        member = replace(
            draft,
            host=told.host,
            channel=told.channel,
            labels=told.labels,
            interval=told.interval,
            enrolled=now,
            renewed=now,
        )
        paths.fleet.unlink(missing_ok=True)  # what another server said does not count any more
        _save(paths.server, member)
        paths.joining.unlink(missing_ok=True)
    return Joined(
        server=member.server,
        host=member.host,
        channel=member.channel,
        labels=member.labels,
        interval=member.interval,
    )


def leave(paths: Paths) -> str:
    """Forget the server; returns its address, or an empty text when there was none.

    Raises:
        MachineError: The credential cannot be removed.
    """
    with lock(paths.server_lock, what=_WHAT, wait=True):  # the daemon may be speaking to the server
        known = _read(paths.server)
        try:
            for path in (paths.server, paths.joining, paths.fleet):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise write_problem(paths.server, error) from error
    return known.server if known else ""


def with_secret(paths: Paths, member: Membership, ask: Callable[[Membership], T]) -> tuple[Membership, T]:
    """Ask with the secret that holds, the next one first; the membership with it, and the answer.

    Raises:
        ServerError: What ``ask`` raises.
    """
    if not member.next_secret:
        return member, ask(member)
    newer = replace(member, secret=member.next_secret, next_secret="")
    try:
        answer = ask(newer)
    except ServerError as error:
        if not refused(error):
            raise
        answer = ask(member)
        newer = replace(member, next_secret="")
    _save(paths.server, newer)
    return newer, answer


def renewed(paths: Paths, member: Membership, link: Link, *, now: datetime) -> Membership:
    """The membership with a secret that is on its way to being the new one, when it is time for one.

    Raises:
        ServerError: The server does not take it; the old secret holds.
    """
    since = member.renewed or member.enrolled
    if member.next_secret or (since and since <= now < since + _NEW_SECRET_AFTER):
        return member
    draft = replace(member, next_secret=secrets.token_hex(32), renewed=now)
    _save(paths.server, draft)
    link.change_secret(draft.next_secret, credential=member.credential)
    return draft


def read_ca(path: Path) -> str:
    """Certificates in PEM.

    Raises:
        InputError: The file cannot be read, or holds none.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(
            f"{path} cannot be read: {reason}.", hint="Give a file with certificates in PEM."
        ) from None
    if _PEM not in text:
        raise InputError(f"{path} holds no certificate.", hint="Give a file with certificates in PEM.")
    return text


def read_token(path: Path) -> str:
    """The enrolment token in a file.

    Raises:
        InputError: The file cannot be read, or holds something else.
    """
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InputError(f"{path} cannot be read: {reason}.") from None
    if not text.isascii() or not text.startswith("kmend_") or len(text.split()) != 1:
        raise InputError(
            f"{path} holds no token.", hint="`kmend fleet token create --role enrol` prints one: kmend_…"
        )
    return text


def _ask(link: Link, enrolment: Enrolment, *, token: str) -> Enrolled:
    try:
        return link.enrol(enrolment, token=token)
    except ServerError as error:
        if not refused(error):
            raise
        raise InputError(error.message, hint=error.hint) from None


def _draft(paths: Paths, link: Link) -> Membership:
    """The secret to enrol with, on the disk; that of an enrolment with the same server that was cut short."""
    begun = _read(paths.joining)
    secret = begun.secret if begun and begun.server == link.address else secrets.token_hex(32)
    draft = Membership(server=link.address, secret=secret, ca=link.ca, fingerprint=link.fingerprint)
    _save(paths.joining, draft)
    return draft


def _read(path: Path) -> Membership | None:
    try:
        return wire.load(Membership, path.read_bytes(), what=str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.", hint="Run as root.") from None
    except InputError as error:
        error.hint = f"Enrol this host again: `{called()} enroll --force`."
        raise


def _save(path: Path, member: Membership) -> None:
    try:
        write_atomic(path, wire.dump(member), mode=0o600)
    except OSError as error:
        raise write_problem(path, error) from error
