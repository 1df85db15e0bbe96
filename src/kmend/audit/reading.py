"""Reading facts: names, settings, files and containers as the checks ask for them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from kmend.model.facts import Container, Engine, Image, Setting

_TRUE = frozenset(("true", "1", "yes", "on", "y"))
_FALSE = frozenset(("false", "0", "no", "off", "n"))
_SHORT = 12
_LONGEST_NUMBER = 20


def container_name(one: Container) -> str:
    """Its name and the begin of its id: ``container web (1a2b3c4d5e6f)``."""
    short = one.id[:_SHORT]
    return f"container {one.title} ({short})" if one.title and one.title != one.id else f"container {short}"


def image_name(one: Image) -> str:
    """``image nginx:1.27``, or its id when it has no name."""
    names = [name for name in one.names if "<none>" not in name]
    return f"image {names[0]}" if names else f"image {one.id.removeprefix('sha256:')[:_SHORT]}"


def plain_name(name: str) -> str:
    """The name of an image without what Docker leaves out: ``docker.io/library/nginx:1`` is ``nginx:1``."""
    return name.removeprefix("docker.io/").removeprefix("library/")


def named(settings: Iterable[Setting], *names: str) -> list[Setting]:
    """The settings of these names and those below them: ``hosts`` finds ``hosts.0`` too. Case does not count."""
    wanted = [name.lower() for name in names]
    return [
        one
        for one in settings
        if any((low := one.name.lower()) == name or low.startswith((f"{name}.", f"{name}[")) for name in wanted)
    ]


def values(settings: Iterable[Setting], *names: str) -> list[str]:
    """Their values; what is a list in one value (``a b``, ``a,b`` or ``["a", "b"]``) is taken apart."""
    found: list[str] = []
    for one in named(settings, *names):
        text = one.value.strip()
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        found += [bare for part in re.split(r"[,\s]+", inner) if (bare := part.strip("\"'"))]
    return found


def value(settings: Iterable[Setting], *names: str) -> str | None:
    """The last value, as the later setting wins; None when there is none."""
    found = [one for one in settings if one.name.lower() in {name.lower() for name in names}]
    return found[-1].value.strip() if found else None


def switch(settings: Iterable[Setting], *names: str) -> bool | None:
    """The value as yes or no; None when it is neither."""
    return as_switch(value(settings, *names))


def as_switch(text: str | None) -> bool | None:
    """A text as yes or no; None when it is neither."""
    low = (text or "").strip().lower()
    return True if low in _TRUE else False if low in _FALSE else None


def number(text: str | None) -> int | None:
    """A text as a number that is not negative; None when it is none, or absurdly long."""
    bare = (text or "").strip()
    return int(bare) if bare.isdecimal() and len(bare) <= _LONGEST_NUMBER else None


def ending(settings: Iterable[Setting], *ends: str) -> list[Setting]:
    """Settings whose dotted name ends like this: what plugin versions put in front does not count."""
    return [
        one
        for one in settings
        if any(one.name == end or one.name.endswith((f".{end}", f"/{end}", f'"{end}')) for end in ends)
    ]


def security_options(engine: Engine) -> list[str]:
    """What Docker's ``/info`` says under ``SecurityOptions``, as ``name=seccomp,profile=builtin``."""
    return [word for one in named(engine.says, "SecurityOptions") for word in one.value.split()]


def yaml_values(text: str) -> Mapping[str, str]:
    """The plain values of a YAML file of nested mappings, by dotted names; a list's items are joined by commas.

    Enough for the kubelet's configuration and the servers' manifests; not for anchors, flow style over several
    lines or block texts, whose lines are left out.
    """
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        bare = re.sub(r"(^|\s)#.*", "", line).rstrip()
        indent = len(bare) - len(bare.lstrip())
        if item := re.fullmatch(r"\s*-\s+(.+)", bare):
            names = [name for depth, name in above if depth <= indent]
            key = ".".join(names)
            found[key] = f"{found[key]},{_plain(item[1])}" if found.get(key) else _plain(item[1])
        elif pair := re.fullmatch(r"\s*[\"']?([\w./-]+)[\"']?:(?:\s+(.*))?", bare):
            above = [(depth, name) for depth, name in above if depth < indent]
            above.append((indent, pair[1]))
            if pair[2]:
                found[".".join(name for _, name in above)] = _plain(pair[2])
    return found


def _plain(text: str) -> str:
    return text.strip().strip("\"'")


def one_name(path: str) -> str:
    """A path by one of its names: /lib is /usr/lib, /var/run is /run, on every system of these years."""
    bare = path.removeprefix("/var") if path.startswith("/var/run/") else path
    return bare.removeprefix("/usr") if bare.startswith(("/usr/lib/", "/usr/bin/", "/usr/sbin/")) else bare


def argument(arguments: Iterable[str], name: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE``; ``true`` for a bare one, None without it."""
    words = [*arguments, "--"]
    found = None
    for place, word in enumerate(words[:-1]):
        bare, equals, rest = word.partition("=")
        if bare == name:
            after = words[place + 1]
            found = rest if equals else "true" if after.startswith("-") else after
    return found
