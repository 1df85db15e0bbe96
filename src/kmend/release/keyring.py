"""Which key may sign what: the public half of a keys folder, as in ``keyring.json``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import SSlibKey

from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.model import wire

ROOT, TARGETS, SNAPSHOT, TIMESTAMP = "root", "targets", "snapshot", "timestamp"
TOP_ROLES = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Days that signatures hold; the release side renews them when half of that is over."""

    root: int = 365
    targets: int = 90
    channel: int = 90
    snapshot: int = 14
    timestamp: int = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """The public half of one Ed25519 key; the private one lies in ``private/NAME.pem``, or was carried away."""

    name: str
    keyid: str
    public: str
    """32 bytes as hex."""
    created: datetime
    encrypted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleKeys:
    """The keys of one TUF role; ``retiring`` still sign along until the next release has gone out."""

    role: str
    threshold: int
    keys: tuple[KeyRecord, ...]
    retiring: tuple[KeyRecord, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """All roles of a keys folder. A role that is not one of TUF's four is a channel."""

    root_version: int
    roles: tuple[RoleKeys, ...]
    lifetimes: Lifetimes

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the order in which clients ask them."""
        return tuple(keys.role for keys in self.roles if keys.role not in TOP_ROLES)

    def check_channel(self, name: str) -> None:
        """Make sure that there is a channel of that name.

        Raises:
            InputError: There is none.
        """
        if name not in self.channels:
            raise InputError(f"There is no channel {name!r}.", hint=f"There are: {', '.join(self.channels)}.")

    def role(self, name: str) -> RoleKeys:
        """The keys of a role.

        Raises:
            InputError: There is no such role.
        """
        for keys in self.roles:
            if keys.role == name:
                return keys
        known = ", ".join(keys.role for keys in self.roles)
        raise InputError(f"There is no role or channel {name!r}.", hint=f"There are: {known}.")

    def with_role(self, changed: RoleKeys) -> Keyring:
        """The same keyring with one role's keys changed."""
        roles = tuple(changed if keys.role == changed.role else keys for keys in self.roles)
        return replace(self, roles=roles)

    def lifetime(self, role: str) -> timedelta:
        """How long a signature of this role holds."""
        return timedelta(days=getattr(self.lifetimes, role if role in TOP_ROLES else "channel"))


def tuf_key(record: KeyRecord) -> SSlibKey:
    """The record as python-tuf wants it."""
    return SSlibKey(record.keyid, "ed25519", "ed25519", {"public": record.public})


def load_keyring(folder: Path) -> Keyring:
    """The keyring of a keys folder.

    Raises:
        InputError: The folder holds none, or it cannot be read.
    """
    path = folder / "keyring.json"
    try:
        return wire.load(Keyring, path.read_bytes(), what=str(path))
    except FileNotFoundError:
        raise InputError(
            f"{folder} is not a folder of keys: it has no keyring.json.",
            hint=f"`kmend keys init {folder}` makes one.",
        ) from None


def save_keyring(folder: Path, keyring: Keyring) -> None:
    """Write the keyring; this is the moment at which a change of keys takes effect."""
    write_atomic(folder / "keyring.json", wire.dump(keyring))
