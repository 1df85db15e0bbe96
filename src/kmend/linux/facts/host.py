"""The host itself: names, accounts, mounts, listening sockets, audit rules. From /etc and /proc."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from kmend.linux.facts.look import Look
from kmend.model.facts import Group, IdRange, Mount, User

_FIELDS = 7
_LISTENS, _UNCONNECTED = "0A", "07"
_OCTAL = re.compile(r"\\([0-7]{3})")
_NUMBER = re.compile(r"\d{1,10}")
_MOST_MOUNTS = 20_000
_RELEASE_FILES = ("etc/os-release", "usr/lib/os-release")


def host_name(look: Look) -> str:
    """What the machine is called."""
    return look.text("proc/sys/kernel/hostname") or look.text("etc/hostname")


def machine_id(look: Look) -> str:
    """What tells this machine from others; machine-id(5)."""
    return look.text("etc/machine-id") or look.text("var/lib/dbus/machine-id")


def distribution(look: Look) -> str:
    """``debian 12``; empty when os-release does not say."""
    return next((name for path in _RELEASE_FILES if (name := distribution_in(look.text(path)))), "")


def distribution_in(text: str) -> str:
    """``debian 12``: ID and VERSION_ID of an os-release file's text; os-release(5)."""
    fields = {}
    for line in text.splitlines():
        name, _, value = line.strip().partition("=")
        fields[name] = value.strip("\"'")
    return f"{fields.get('ID', '')} {fields.get('VERSION_ID', '')}".strip()


def users(look: Look) -> tuple[User, ...]:
    """The lines of /etc/passwd; passwd(5)."""
    found = []
    for words in _rows(look, "etc/passwd"):
        if len(words) == _FIELDS and _all_numbers(words[2:4]):
            name, _, uid, gid, _, home, shell = words
            found.append(User(name=name, uid=int(uid), gid=int(gid), home=home, shell=shell))
    return tuple(found)


def groups(look: Look) -> tuple[Group, ...]:
    """The lines of /etc/group; group(5)."""
    found = []
    for words in _rows(look, "etc/group"):
        if len(words) > 3 and _all_numbers(words[2:3]):  # noqa: PLR2004
            members = tuple(filter(None, words[3].split(",")))
            found.append(Group(name=words[0], gid=int(words[2]), members=members))
    return tuple(found)


def id_ranges(look: Look, path: str) -> tuple[IdRange, ...]:
    """The lines of /etc/subuid or /etc/subgid; subuid(5). Inside they begin at 1, as newuidmap is asked for."""
    return tuple(
        IdRange(inside=1, outside=int(words[1]), count=int(words[2]), owner=words[0])
        for words in _rows(look, path)
        if len(words) == 3 and _all_numbers(words[1:])  # noqa: PLR2004
    )


def id_map(text: str) -> tuple[IdRange, ...]:
    """The lines of a uid_map or gid_map; user_namespaces(7)."""
    rows = [line.split() for line in text.splitlines()]
    return tuple(
        IdRange(inside=int(words[0]), outside=int(words[1]), count=int(words[2]))
        for words in rows
        if len(words) == 3 and _all_numbers(words)  # noqa: PLR2004
    )


def _rows(look: Look, path: str) -> Iterator[list[str]]:
    for line in look.lines(path):
        if line.strip() and not line.startswith("#"):
            yield line.split(":")


def _all_numbers(words: list[str]) -> bool:
    return all(_NUMBER.fullmatch(word) for word in words)


def mounts(look: Look, path: str) -> tuple[Mount, ...] | None:
    """The lines of a mountinfo file; proc_pid_mountinfo(5). None when it is not there."""
    content = look.read(path, note=False)
    if content is None:
        return None
    lines = content.decode(errors="replace").splitlines()
    if len(lines) > _MOST_MOUNTS:
        look.miss(f"/{path}", f"it holds {len(lines)} mounts; only {_MOST_MOUNTS} were looked at")
    return tuple(found for line in lines[:_MOST_MOUNTS] if (found := _mount(line)))


def _mount(line: str) -> Mount | None:
    """A line such as ``36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw,errors=continue``."""
    first, dash, second = line.partition(" - ")
    words, rest = first.split(" "), second.split(" ")
    if not dash or len(words) < 6 or len(rest) < 3:  # noqa: PLR2004
        return None
    shared = [word.partition(":")[0] for word in words[6:]]
    options = [*words[5].split(","), *rest[2].split(",")]
    return Mount(
        target=_unescaped(words[4]),
        source=_unescaped(rest[1]),
        kind=rest[0],
        options=tuple(dict.fromkeys(_unescaped(option) for option in options)),
        root=_unescaped(words[3]),
        propagation=next((name for name in ("shared", "master") if name in shared), ""),
    )


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), text) if "\\" in text else text


def listening(look: Look) -> tuple[str, ...]:
    """``tcp 0.0.0.0:2375``: listening TCP and bound UDP sockets of process 1's network namespace; proc_net(5)."""
    found = set()
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        wanted = _LISTENS if protocol.startswith("tcp") else _UNCONNECTED
        for line in look.lines(f"proc/1/net/{protocol}", limit=32 << 20)[1:]:
            words = line.split(maxsplit=4)
            if len(words) > 3 and words[3] == wanted and (place := _address(words[1])):  # noqa: PLR2004
                found.add(f"{protocol[:3]} {place}")
    return tuple(sorted(found))


def _address(text: str) -> str:
    """``0100007F:0277`` is ``127.0.0.1:631``: words of 32 bits, each as a little-endian machine holds it."""
    address, _, port = text.partition(":")
    try:
        raw = bytes.fromhex(address)
        turned = b"".join(raw[place : place + 4][::-1] for place in range(0, len(raw), 4))
        found = ipaddress.ip_address(turned)
        return f"[{found}]:{int(port, 16)}" if found.version == 6 else f"{found}:{int(port, 16)}"  # noqa: PLR2004
    except ValueError:
        return ""


def audit_rules(look: Look) -> tuple[str, ...] | None:
    """The rules of the audit system as configured, without comments; None when it is not installed."""
    paths = [*look.matching("etc/audit/rules.d/*.rules"), *look.matching("etc/audit/audit.rules")]
    if not paths:
        return None
    lines = (line.strip() for path in paths for line in look.lines(path))
    return tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
