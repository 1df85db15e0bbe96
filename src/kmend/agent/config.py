"""How a host is enrolled: ``/etc/kmend/agent.json`` and the pinned ``/etc/kmend/root.json``."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic, write_problem
from kmend.linux.kernel import command_line
from kmend.model import wire
from kmend.trust.download import Limits, open_source
from kmend.trust.layout import check_channel
from kmend.trust.repository import check_root


def called() -> str:
    """How this program is called here: the one file has a name of its own."""
    return "kmend-agent" if Path(sys.argv[0]).name.startswith("kmend-agent") else "kmend agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What `kmend agent init` was told."""

    repo: str
    channel: str
    root_sha256: str
    """Of the pinned root.json."""
    enrolled: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the agent keeps things, under a root folder."""

    root: Path = Path("/")

    @property
    def config(self) -> Path:
        """Repository and channel."""
        return self.root / "etc/kmend/agent.json"

    @property
    def settings(self) -> Path:
        """What the owner wants; may be missing."""
        return self.root / "etc/kmend/agent.toml"

    @property
    def pinned_root(self) -> Path:
        """The start of all trust."""
        return self.root / "etc/kmend/root.json"

    @property
    def switch(self) -> Path:
        """While this file exists, the agent is switched off."""
        return self.root / "etc/kmend/disabled"

    @property
    def library(self) -> Path:
        """Everything that the agent remembers."""
        return self.root / "var/lib/kmend"

    @property
    def state(self) -> Path:
        """AgentState."""
        return self.library / "state.json"

    @property
    def seen(self) -> Path:
        """The trust cache: which versions were seen last. Forgetting it would allow rollbacks."""
        return self.library / "trust"

    @property
    def copy(self) -> Path:
        """This host's own copy of what the repository offers it."""
        return self.library / "copy"

    @property
    def last(self) -> Path:
        """What came of the last look at the repository."""
        return self.library / "reports/last-check.json"

    @property
    def orderly(self) -> Path:
        """The boot that was last ended in order."""
        return self.library / "orderly-shutdown"

    @property
    def server(self) -> Path:
        """Membership: the server and the credential."""
        return self.library / "server.json"

    @property
    def joining(self) -> Path:
        """The same while it is not known yet whether the server has taken the host in."""
        return self.library / "server-joining.json"

    @property
    def server_lock(self) -> Path:
        """Held by whoever speaks to the server."""
        return self.library / "server.lock"

    @property
    def fleet(self) -> Path:
        """What the server said last, and what it has not heard yet."""
        return self.library / "fleet.json"

    @property
    def attempt(self) -> Path:
        """The last attempt to load something, if it failed."""
        return self.library / "reports/last-attempt.json"

    @property
    def watching(self) -> Path:
        """Held by the run that watches a livepatch; others may look, and unload."""
        return self.library / "watching"

    @property
    def look(self) -> Path:
        """The newest look at the host, as the server is told of it."""
        return self.library / "reports/look.json"

    @property
    def audit(self) -> Path:
        """The audit of the newest look, whole."""
        return self.library / "reports/audit.json"

    @property
    def not_here(self) -> Path:
        """CVEs that the running kernel cannot have, by the newest look."""
        return self.library / "reports/not-here.json"

    @property
    def kernel_files(self) -> Path:
        """Which source files the running kernel was built from, as the repository has it signed."""
        return self.library / "kernel-files.json"

    @property
    def looking(self) -> Path:
        """Held by whoever looks at the host."""
        return self.library / "looking"

    @property
    def cache(self) -> Path:
        """What a look can make anew, but only slowly."""
        return self.library / "cache"

    @property
    def module_use(self) -> Path:
        """Which kernel modules were seen in use."""
        return self.library / "audit/modules.json"

    @property
    def daemon(self) -> Path:
        """Held by the daemon."""
        return self.library / "daemon"

    @property
    def lock(self) -> Path:
        """Held by whoever changes anything."""
        return self.library / "lock"


def enrol(
    paths: Paths, *, root_json: bytes, repo: str, channel: str, now: datetime, force: bool = False
) -> AgentConfig:
    """Pin a root and follow a channel.

    Args:
        paths: Where to.
        root_json: Content of the root.json that `kmend keys init` left.
        repo: http(s):// or file:// address, or a folder.
        channel: The stream to follow.
        now: When the host was enrolled.
        force: Replace an enrolment with another root; what was seen of the old repository is forgotten.

    Raises:
        InputError: The root or the address cannot be used, or the host is enrolled with another root.
    """
    check_root(root_json)
    check_channel(channel)
    _, address = open_source(repo, limits=Limits())
    digest = hashlib.sha256(root_json).hexdigest()
    known = load_config(paths) if paths.config.exists() else None
    if known and known.root_sha256 != digest and not force:
        raise InputError(
            f"This host is enrolled with another root ({known.root_sha256[:12]}…), at {known.repo}.",
            hint="Give --force if it shall trust the new one instead.",
        )
    config = AgentConfig(repo=address.rstrip("/"), channel=channel, root_sha256=digest, enrolled=now)
    try:
        if known and known.root_sha256 != digest:
            shutil.rmtree(paths.seen, ignore_errors=True)
        write_atomic(paths.pinned_root, root_json)
        write_atomic(paths.config, wire.dump(config))
    except OSError as error:
        raise write_problem(paths.config, error) from error
    return config


def load_config(paths: Paths) -> AgentConfig:
    """The enrolment.

    Raises:
        InputError: The host is not enrolled.
    """
    try:
        return wire.load(AgentConfig, paths.config.read_bytes(), what=str(paths.config))
    except FileNotFoundError:
        raise InputError(
            "This host is not enrolled.",
            hint=f"Run `{called()} init --root root.json --repo URL --channel stable`.",
        ) from None


def load_pinned_root(paths: Paths, config: AgentConfig) -> bytes:
    """The pinned root, if it is still the one that was pinned.

    Raises:
        InputError: It is missing or was changed.
    """
    try:
        content = paths.pinned_root.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{paths.pinned_root} is missing.", hint="Enrol this host again.") from None
    if hashlib.sha256(content).hexdigest() != config.root_sha256:
        raise InputError(
            f"{paths.pinned_root} is not the root that this host was enrolled with.", hint="Enrol it again."
        )
    return content


class Switch(StrEnum):
    """What a kill switch switches off."""

    OFF = "off"
    """The agent: the repository is not asked, nothing is loaded."""
    NO_APPLY = "no-apply"
    """Loading: what is offered is looked at and said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchedOff:
    """A kill switch that is set, and where."""

    switch: Switch
    because: str


def switched_off(paths: Paths) -> SwitchedOff | None:
    """The kill switch that is set on this host, if any; of two the stronger one."""
    if paths.switch.exists():
        return SwitchedOff(switch=Switch.OFF, because=f"{paths.switch} exists")
    words = command_line(paths.root)
    for switch in Switch:
        if f"kmend={switch}" in words:
            return SwitchedOff(switch=switch, because=f"the kernel command line says kmend={switch}")
    return None
