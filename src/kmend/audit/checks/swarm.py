"""Checks of Docker's swarm mode."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

from kmend.audit.check import Case, Check, Verdict, bad, check, good, judged, not_here, of_docker, unknown
from kmend.audit.reading import named, number, switch, value
from kmend.model.facts import Engine
from kmend.model.finding import Area, Severity

_swarm = partial(check, Area.SWARM)
_DOCS = "Docker documentation, “Administer and maintain a swarm”"
_STATE = "/var/lib/docker/swarm/docker-state.json"
_NANOSECONDS = 1_000_000_000
_LONGEST_CERTIFICATE = 90 * 24 * 3600
_LONGEST_KEY = 365
_LABEL = "com.docker.swarm.service."
_QUORUM = 3
_MOST_MANAGERS = 7


def _state(engine: Engine) -> str:
    return value(engine.says, "Swarm.LocalNodeState") or ""


def _in_swarm(
    decide: Callable[[Engine, Case], Verdict], *, manager: bool = False
) -> Callable[[Engine, Case], Verdict]:
    def careful(engine: Engine, case: Case) -> Verdict:
        state = _state(engine)
        if not state:
            return unknown("The daemon did not say whether it is in a swarm.")
        if state != "active":
            return not_here("Swarm mode is not on.")
        if manager and switch(engine.says, "Swarm.ControlAvailable") is False:
            return not_here("This node is no manager.")
        return decide(engine, case)

    return careful


def _number(engine: Engine, name: str) -> int | None:
    return number(value(engine.says, name))


def _off(engine: Engine, case: Case) -> Verdict:
    state = _state(engine)
    if not state:
        return unknown("The daemon did not say whether it is in a swarm.")
    services = _number(engine, "Swarm.Services") or 0
    tasks = sum(any(one.name.startswith(_LABEL) for one in found.labels) for found in case.containers)
    if state == "active" and (services or tasks):
        return good(f"Swarm mode is used: {services} services, {tasks} containers of services here.")
    return judged(state != "active", f"Swarm mode is {state}, and no service is here.")


def _managers(engine: Engine, _: Case) -> Verdict:
    managers = _number(engine, "Swarm.Managers")
    if managers is None:
        return unknown("The number of managers was not seen.")
    fine = managers % 2 == 1 and managers <= _MOST_MANAGERS
    if managers == 1 and (_number(engine, "Swarm.Nodes") or 1) > _QUORUM:
        return bad("One manager keeps the state of the whole swarm.")
    return judged(fine, f"{managers} managers.")


def _bound(_: Engine, case: Case) -> Verdict:
    if not case.facts.listening:
        return unknown("The listening sockets were not seen.")
    wide = [one for one in case.facts.listening if re.search(r"\s(0\.0\.0\.0|\[::\]|::|\*):2377$", one)]
    return judged(not wide, ", ".join(wide) or "The management port is bound to one address.")


def _overlays(engine: Engine) -> dict[str, bool]:
    """Overlay networks by name, with whether they are encrypted."""
    found: dict[str, dict[str, str]] = {}
    for one in named(engine.says, "Networks"):
        _, _, rest = one.name.partition(".")
        name, _, key = rest.partition(".")
        found.setdefault(name, {})[key.lower()] = one.value
    return {
        keys.get("name", name): any("encrypted" in key for key in keys)
        for name, keys in found.items()
        if keys.get("driver") == "overlay"
    }


def _encrypted(engine: Engine, _: Case) -> Verdict:
    if not named(engine.says, "Networks"):
        return unknown("The networks were not seen.")
    networks = _overlays(engine)
    # Docker makes "ingress" itself, plain: who publishes ports on it sends them plain.
    plain = sorted(name for name, encrypted in networks.items() if not encrypted)
    return judged(not plain, f"Plain overlay networks: {', '.join(plain) or 'none'}.")


def _secrets(engine: Engine, _: Case) -> Verdict:
    number = _number(engine, "Secrets")
    if number is None:
        return unknown("The number of secrets was not seen.")
    return judged(number > 0, f"The swarm keeps {number} secrets.")


def _autolock(engine: Engine, _: Case) -> Verdict:
    given = switch(engine.says, "Swarm.Cluster.Spec.EncryptionConfig.AutoLockManagers")
    return judged(given, f"Autolock is {'on' if given else 'off'}.", missing="The swarm's settings were not seen.")


def _key_age(engine: Engine, case: Case) -> Verdict:
    if switch(engine.says, "Swarm.Cluster.Spec.EncryptionConfig.AutoLockManagers") is not True:
        return not_here("Without autolock there is no key to unlock.")
    changed = value(engine.says, "Swarm.Cluster.UpdatedAt")
    return _age(changed, case, what="The swarm's settings, and so the key, were last changed")


def _age(moment: str | None, case: Case, *, what: str) -> Verdict:
    found = re.match(r"(\d{4})-(\d{2})-(\d{2})", moment or "")
    if not found:
        return unknown("When it was changed was not seen.")
    year, month, day = (int(part) for part in found.groups())
    now = case.facts.collected
    days = (now.year - year) * 365 + (now.month - month) * 30 + now.day - day
    return judged(days <= _LONGEST_KEY, f"{what} {found[0]}.")


def _node_certificates(engine: Engine, _: Case) -> Verdict:
    given = _number(engine, "Swarm.Cluster.Spec.CAConfig.NodeCertExpiry")
    if given is None:
        return unknown("The swarm's settings were not seen.")
    hours = given // _NANOSECONDS // 3600
    return judged(
        given <= _LONGEST_CERTIFICATE * _NANOSECONDS, f"Certificates of nodes are good for {hours} hours."
    )


def _ca(engine: Engine, case: Case) -> Verdict:
    moment = value(engine.says, "Swarm.Cluster.TLSInfo.IssuedAt") or value(engine.says, "Swarm.Cluster.CreatedAt")
    rotations = _number(engine, "Swarm.Cluster.Spec.CAConfig.ForceRotate") or 0
    moment = (value(engine.says, "Swarm.Cluster.UpdatedAt") or moment) if rotations else moment
    return _age(moment, case, what=f"The CA was rotated {rotations} times, and is at the earliest of")


def _planes(_: Engine, case: Case) -> Verdict:
    file = case.files.get(_STATE)
    if file is None or file.text is None:
        return unknown(f"{_STATE} was not read.")
    state = _parsed(file.text)
    if state is None:
        return unknown(f"{_STATE} is no JSON object.")
    data = str(state.get("DataPathAddr") or "")
    management = str(state.get("AdvertiseAddr") or "").rpartition(":")[0]
    return judged(bool(data) and data != management, f"Management: {management}, data: {data or 'the same'}.")


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


CHECKS: tuple[Check, ...] = (
    _swarm(
        "swarm-off",
        "Swarm mode is off where nothing uses it",
        Severity.LOW,
        of_docker(_off),
        source="Docker documentation, “Swarm mode overview”",
        remedy="Leave the swarm: `docker swarm leave` (`--force` on the last manager).",
        cis="5.1",
        breaks="Every service of the swarm; waive this check on hosts that are meant to be in one.",
    ),
    _swarm(
        "swarm-managers",
        "The swarm has an odd number of managers, 7 at most",
        Severity.LOW,
        of_docker(_in_swarm(_managers, manager=True)),
        source=_DOCS,
        remedy="`docker node promote` or `docker node demote` until there are 3, 5 or 7.",
        cis="7.1",
    ),
    _swarm(
        "swarm-bound",
        "The management port is bound to one address",
        Severity.MEDIUM,
        of_docker(_in_swarm(_bound, manager=True)),
        source="Docker documentation, “docker swarm init”",
        remedy="Make the swarm anew with `--listen-addr` of one interface, or close port 2377 outside.",
        cis="7.2",
    ),
    _swarm(
        "swarm-encrypted",
        "Overlay networks are encrypted",
        Severity.MEDIUM,
        of_docker(_in_swarm(_encrypted)),
        source="Docker documentation, “Encrypt traffic on an overlay network”",
        remedy="Make the network anew with `--opt encrypted`.",
        cis="7.3",
        breaks="Some throughput; nodes of Windows.",
    ),
    _swarm(
        "swarm-secrets",
        "Services get their secrets from the swarm",
        Severity.LOW,
        of_docker(_in_swarm(_secrets, manager=True)),
        source="Docker documentation, “Manage sensitive data with Docker secrets”",
        remedy="`docker secret create`, and give it to the service with `--secret`.",
        cis="7.4",
        level=2,
    ),
    _swarm(
        "swarm-autolock",
        "Managers need a key after a restart",
        Severity.LOW,
        of_docker(_in_swarm(_autolock, manager=True)),
        source="Docker documentation, “Lock your swarm”",
        remedy="`docker swarm update --autolock=true`, and keep the key elsewhere.",
        cis="7.5",
        breaks="A manager that restarts waits for `docker swarm unlock`.",
    ),
    _swarm(
        "swarm-key-age",
        "The key that unlocks managers is rotated every year",
        Severity.LOW,
        of_docker(_in_swarm(_key_age, manager=True)),
        source="Docker documentation, “Lock your swarm”",
        remedy="`docker swarm unlock-key --rotate`.",
        cis="7.6",
    ),
    _swarm(
        "swarm-node-certificates",
        "Certificates of nodes are good for 90 days at most",
        Severity.LOW,
        of_docker(_in_swarm(_node_certificates, manager=True)),
        source="Docker documentation, “Manage swarm security with PKI”",
        remedy="`docker swarm update --cert-expiry 2160h` or less.",
        cis="7.7",
        level=2,
    ),
    _swarm(
        "swarm-ca-age",
        "The swarm's CA is rotated every year",
        Severity.LOW,
        of_docker(_in_swarm(_ca, manager=True)),
        source="Docker documentation, “Manage swarm security with PKI”",
        remedy="`docker swarm ca --rotate`.",
        cis="7.8",
        level=2,
    ),
    _swarm(
        "swarm-planes",
        "Data of containers go another way than the management of the swarm",
        Severity.LOW,
        of_docker(_in_swarm(_planes)),
        source="Docker documentation, “Use overlay networks”",
        remedy="Join with `--data-path-addr` of another interface than `--advertise-addr`.",
        cis="7.9",
        level=2,
    ),
)
