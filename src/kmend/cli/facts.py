"""``kmend facts``: what one look at a container host sees, to be judged here or elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from kmend.agent.facts import host_facts
from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic, write_problem
from kmend.kit.printable import printable
from kmend.model import facts as model
from kmend.model import wire
from kmend.model.facts import Facts

_LARGEST = 512 << 20
_MOST_UNSEEN = 20
_SECRET = 0o600
_F = TypeVar("_F", bound=Callable[..., Any])

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("/"),
    help="Look at an image of a host in this folder, by its files alone.",
)


def facts_options(command: _F) -> _F:
    """``--facts FILE`` and ``--root DIR``, for verbs that judge facts; ``facts_of`` takes both."""
    saved = click.option(
        "--facts",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Judge facts that `kmend facts -o` saved, of whatever host, instead of looking at this one.",
    )
    return saved(_root(command))


def facts_of(facts: Path | None, root: Path = Path("/")) -> Facts:
    """Saved facts, or those of the host below ``root`` now.

    Raises:
        InputError: The file holds no facts that this version can read.
        MachineError: The host cannot be looked at.
    """
    if facts is None:
        # Of this host only: what an image holds is not this machine's to remember.
        cache = cache_root() / "facts" / "layers.json" if root == Path("/") else None
        return host_facts(root, now=datetime.now(tz=UTC), cache=cache)
    if root != Path("/"):
        raise InputError(
            "--facts and --root exclude each other.", hint="Saved facts say themselves whose they are."
        )
    return load_facts(facts)


def load_facts(path: Path) -> Facts:
    """Facts that were saved.

    Raises:
        InputError: The file cannot be read, is too large, or of a newer format.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} holds more than {_LARGEST >> 20} MiB: these are no facts of one host.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    found = wire.load(Facts, content, what=str(path))
    if found.format > model.FORMAT:
        raise InputError(
            f"{path} has format {found.format}, and this version reads {model.FORMAT}.", hint="Use a newer kmend."
        )
    return found


@click.command()
@_root
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Save the facts as JSON in this file."
)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def facts(root: Path, out: Path | None, as_json: bool) -> None:
    """Look at this container host once, and say what was seen.

    Kernel, modules, sysctls, engines, containers, images: from files, /proc and the engines' sockets. Nothing is
    started or changed. Run it as root: what the caller may not see is listed as unseen.

    What was saved with -o can be judged on another machine: `kmend exposure --facts FILE`, `kmend audit --facts
    FILE`.
    """
    found = facts_of(None, root)
    if out is not None:
        save(found, out)
    if as_json:
        click.echo(_json(found), nl=False)
        return
    click.echo(told(found, out))


def save(found: Facts, out: Path) -> None:
    """Write facts into a file that only its owner can read.

    Raises:
        MachineError: It cannot be written.
    """
    try:
        # No secret is meant to be in it, but labels and command lines are the owners' own words.
        write_atomic(out, _json(found), mode=_SECRET)
    except OSError as error:
        raise write_problem(out, error) from error


def told(found: Facts, out: Path | None) -> str:
    """What was seen, in short, and where it was saved."""
    return "\n".join((*_summary(found), *((f"Saved in {out}.",) if out else ())))


def _json(found: Facts) -> str:
    """On one line: the facts of a thousand containers are large."""
    return json.dumps(wire.plain(found), sort_keys=True, separators=(",", ":")) + "\n"


def _summary(found: Facts) -> Iterator[str]:
    yield _line("host", f"{found.host or 'unnamed'} ({found.distribution or 'unknown distribution'})")
    yield from _about_kernel(found)
    packages = "unseen" if found.packages is None else str(len(found.packages))
    yield _line("packages", packages)
    for one in found.programs:
        yield _line("program", _about_program(one))
    for engine in found.engines:
        state = f"version {engine.version}" if engine.answers else "files only"
        yield _line("engine", f"{engine.kind} {engine.socket} ({state})")
    yield from _about_containers(found)
    yield from _about_unseen(found)


def _about_kernel(found: Facts) -> Iterator[str]:
    kernel, modules = found.kernel, found.modules
    yield _line("kernel", f"{kernel.release or 'unknown'} {kernel.package_version} {kernel.architecture}")
    for one in kernel.livepatches:
        state = "in transition" if one.in_transition else "enabled" if one.enabled else "disabled"
        yield _line("livepatch", f"{one.module} ({state}, closes {len(one.cves)} CVEs)")
    available = "unseen" if modules.available is None else str(len(modules.available))
    yield _line("modules", f"{len(modules.loaded)} loaded, {available} available, {len(modules.blocked)} blocked")
    yield _line("sysctls", str(len(found.sysctls) or len(found.configured_sysctls)))


def _about_program(one: model.Program) -> str:
    version = one.package_version or one.build_version or "unknown version"
    runs = f", run by {len(one.pids)}" if one.pids else ""
    replaced = ", replaced since it was started" if one.replaced else ""
    return f"{one.path} {version}{runs}{replaced}"


def _about_containers(found: Facts) -> Iterator[str]:
    states = Counter(f"{one.engine} {one.state or 'state unseen'}" for one in found.containers)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield _line("containers", f"{len(found.containers)}{f': {counts}' if counts else ''}")
    yield _line("images", str(len(found.images)))


def _about_unseen(found: Facts) -> Iterator[str]:
    yield _line("unseen", str(len(found.unseen)))
    for one in found.unseen[:_MOST_UNSEEN]:
        yield f"  {printable(one.what)}: {printable(one.why)}"
    if len(found.unseen) > _MOST_UNSEEN:
        yield f"  … and {len(found.unseen) - _MOST_UNSEEN} more; --json lists all"


def _line(name: str, text: str) -> str:
    return f"{name:<11}{printable(' '.join(text.split()))}"
