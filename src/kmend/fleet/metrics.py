"""The fleet's state as Prometheus reads it (text format 0.0.4). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from kmend.fleet.store.livepatches import Sample
from kmend.fleet.store.summary import RunningCount, StageCount
from kmend.model.protocol import FleetSummary
from kmend.model.rollout import Rollout, RolloutState

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Figure = tuple[dict[str, str], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """All that the metrics are made from."""

    summary: FleetSummary
    running: Sequence[RunningCount]
    rollouts: Sequence[Rollout]
    """Those that are not over, and the latest others."""
    stages: Sequence[StageCount]
    exposed: Sample
    """By the livepatches that are known."""
    notices: int
    """That wait for webhooks."""


def render(counted: Counted) -> str:
    """The metrics as text."""
    summary = counted.summary
    states = ("silent", "safe", "soaking", "troubled")
    by_state: list[Figure] = [({"state": name}, getattr(summary, name)) for name in states]
    parts = [
        _gauge("kmend_hosts", "Hosts under care.", [({}, summary.hosts)]),
        _gauge("kmend_hosts_state", "Hosts by how they stand; one host may be in several states.", by_state),
        _gauge("kmend_hosts_running", "Hosts by kernel and livepatch.", map(_running, counted.running)),
        _gauge("kmend_rollout_state", "1 for the state that a rollout is in.", _states(counted.rollouts)),
        _gauge("kmend_rollout_wave", "The open wave, counted from 1.", map(_wave, counted.rollouts)),
        _gauge("kmend_rollout_hosts", "Hosts by their stage in a rollout.", map(_stage, counted.stages)),
        _gauge("kmend_rollout_trouble", "Hosts with a trouble, by kind and group.", _troubles(counted.rollouts)),
    ]
    parts += [
        _gauge(
            "kmend_open_cves", "CVEs that a livepatch would close on some host.", [({}, counted.exposed.open_cves)]
        ),
        _gauge("kmend_hosts_open", "Hosts on which it would.", [({}, counted.exposed.open_hosts)]),
        _gauge("kmend_notices_waiting", "Notices that wait for webhooks.", [({}, counted.notices)]),
    ]
    return "".join(parts)


def _gauge(name: str, about: str, samples: Iterable[Figure]) -> str:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
    lines += [f"{name}{_labels(labels)} {value:g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    pairs = (f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return f"{{{','.join(pairs)}}}" if labels else ""


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _running(one: RunningCount) -> Figure:
    number = "none" if one.number is None else str(one.number)
    return {"build_id": one.build_id, "number": number}, one.hosts


def _named(rollout: Rollout) -> dict[str, str]:
    return {"rollout": rollout.id, "name": rollout.plan.name}


def _states(rollouts: Sequence[Rollout]) -> list[Figure]:
    return [
        ({**_named(rollout), "state": state.value}, int(rollout.state == state))
        for rollout in rollouts
        for state in RolloutState
    ]


def _wave(rollout: Rollout) -> Figure:
    return _named(rollout), rollout.wave + 1


def _stage(one: StageCount) -> Figure:
    return {"rollout": one.rollout, "stage": one.stage.value}, one.hosts


def _troubles(rollouts: Sequence[Rollout]) -> list[Figure]:
    samples: list[Figure] = []
    for rollout in rollouts:
        for group, tally in (("updated", rollout.health.updated), ("waiting", rollout.health.waiting)):
            kinds = {name: count for name, count in asdict(tally).items() if name != "hosts"}
            samples += [({**_named(rollout), "group": group, "kind": kind}, n) for kind, n in kinds.items()]
    return samples
