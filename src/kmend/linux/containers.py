"""Containers as their runtimes' own programs show them. Looks only: nothing is entered, started or stopped."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from kmend.kit.errors import ProgramError
from kmend.kit.run import run
from kmend.model.host import ContainerRuns

_TIMEOUT = 20
_SHORT = timedelta(minutes=10)
_FIELDS = "{{.Id}}|{{.Name}}|{{.RestartCount}}|{{.State.StartedAt}}"
# Docker writes 2026-11-24T12:00:00.123456789Z, Podman 2026-11-24 12:00:00.123456789 +0000 UTC.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)? ?(Z|[+-]\d\d:?\d\d)")


def runtimes() -> tuple[str, ...]:
    """Programs of container runtimes on this machine that can be asked."""
    return tuple(name for name in _ASK if shutil.which(name))


def container_runs(runtime: str, *, now: datetime) -> tuple[ContainerRuns, ...] | None:
    """The containers of one runtime, stopped ones too; None when it does not answer."""
    try:
        return tuple(_ASK[runtime](runtime, now))
    except (ProgramError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _inspected(runtime: str, now: datetime) -> Iterator[ContainerRuns]:
    """By the commands that Docker, Podman and nerdctl share."""
    ids = run((runtime, "ps", "--all", "--quiet", "--no-trunc"), timeout=_TIMEOUT).text.split()
    if not ids:
        return
    # One that has gone meanwhile makes the exit code 1; the others are listed all the same.
    done = run(
        (runtime, "inspect", "--type", "container", "--format", _FIELDS, *ids), timeout=_TIMEOUT, check=False
    )
    for line in done.text.splitlines():
        number, name, restarts, started = line.split("|")
        count = int(restarts)
        steady = count == 0 or not _lately(_moment(started), now)
        yield ContainerRuns(runtime=runtime, id=number, name=name.lstrip("/"), restarts=count, steady=steady)


def _pods(runtime: str, now: datetime) -> Iterator[ContainerRuns]:
    """Of Kubernetes: each start of a pod's container is a new container with a higher attempt."""
    listed = json.loads(run((runtime, "ps", "--all", "--output", "json"), timeout=_TIMEOUT).text)
    newest: dict[str, Any] = {}
    for found in listed["containers"]:
        key = f"{found['podSandboxId']}/{found['metadata']['name']}"
        if key not in newest or _attempt(found) > _attempt(newest[key]):
            newest[key] = found
    for key, found in newest.items():
        created = datetime.fromtimestamp(int(found["createdAt"]) / 1e9, tz=now.tzinfo)
        yield ContainerRuns(
            runtime=runtime,
            id=key,
            name=found["metadata"]["name"],
            restarts=_attempt(found),
            steady=_attempt(found) == 0 or not _lately(created, now),
        )


def _attempt(found: Any) -> int:
    return int(found["metadata"].get("attempt", 0))


def _moment(text: str) -> datetime | None:
    found = _MOMENT.match(text)
    return datetime.fromisoformat(f"{found[1]}T{found[2]}{found[3].replace('Z', '+00:00')}") if found else None


def _lately(started: datetime | None, now: datetime) -> bool:
    return started is not None and now - started < _SHORT


_ASK: dict[str, Callable[[str, datetime], Iterator[ContainerRuns]]] = {
    "docker": _inspected,
    "podman": _inspected,
    "nerdctl": _inspected,
    "crictl": _pods,
}
