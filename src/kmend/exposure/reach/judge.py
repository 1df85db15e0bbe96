"""What each container can reach of one CVE's code. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from kmend.exposure.presence import Place, Presence
from kmend.exposure.reach.answer import LOADS_ITSELF, Answer, State, any_of, every, say
from kmend.exposure.reach.box import Box
from kmend.exposure.reach.entries import entry_of
from kmend.exposure.reach.entry import Code, Way
from kmend.exposure.reach.gates import Gate, NotKnown, has_network
from kmend.exposure.reach.host import HostView
from kmend.model.exposure import ContainerReach, Evidence, Reach
from kmend.model.facts import Container, Facts

_REACH = {
    State.OPEN: Reach.REACHABLE,
    State.UNKNOWN: Reach.UNKNOWN,
    State.SHUT: Reach.GATED,
    State.ABSENT: Reach.NOT_REACHABLE,
}
_ORDER = (Reach.REACHABLE, Reach.UNKNOWN, Reach.GATED, Reach.NOT_REACHABLE)
_NOT_RUNNING = frozenset(("exited", "created", "dead", "removing", "stopped", "configured", "removed"))
_FROM_NETWORK = {
    code: Way(name="from the network (CVSS AV:N)", gates=(has_network,), code=code)
    for code in (Code.LOADED, Code.HARDWARE)
}
_HEADERS = Way(name="code that uses a header", gates=(NotKnown(),), code=Code.UNKNOWN)
_IN_KERNEL = frozenset((Presence.BUILT_IN, Presence.MODULE, Presence.HEADER))
_PIECES_MOST = 8


class _Found(NamedTuple):
    """How one container stands to one CVE."""

    way: str
    answer: Answer


class Judge:
    """Judges the code of CVEs for the running containers of a host; what is asked again is known already."""

    def __init__(self, facts: Facts, *, only: str = "") -> None:
        self._host = HostView(facts)
        names = container_names(facts.containers)
        kept = [one for one in facts.containers if not only or only in {one.name, one.pod, one.id, names[one.id]}]
        boxes = {names[one.id]: Box(one, self._host) for one in kept}
        self.left_out = tuple(sorted(name for name, box in boxes.items() if _is_left_out(box)))
        alike: dict[tuple[object, ...], list[str]] = defaultdict(list)
        for name, box in sorted(boxes.items()):
            if name not in self.left_out:
                alike[box.likeness].append(name)
        self._alike = {names[0]: tuple(names) for names in alike.values()}
        self._boxes = {name: boxes[name] for name in self._alike}
        self._gates: dict[tuple[str, Gate], Answer] = {}
        self._known: dict[tuple[object, ...], tuple[ContainerReach, ...]] = {}

    @property
    def containers(self) -> tuple[str, ...]:
        """Names of those that are judged."""
        return tuple(sorted(name for names in self._alike.values() for name in names))

    def reach(self, named: tuple[str, ...], place: Place, *, from_network: bool) -> tuple[ContainerReach, ...]:
        """How the containers stand to code, the most exposed first.

        Args:
            named: Files of the record.
            place: Where they are in the kernel.
            from_network: The CNA says that an attacker needs nothing but packets.
        """
        ways = _ways(named, place)
        key = (tuple(dict.fromkeys(ways)), from_network)
        if key not in self._known:
            self._known[key] = self._grouped(key[0], from_network=from_network)
        return self._known[key]

    def _grouped(
        self, ways: Iterable[tuple[Way, tuple[str, ...]]], *, from_network: bool
    ) -> tuple[ContainerReach, ...]:
        ways = tuple(ways)
        if from_network:
            objects = tuple(dict.fromkeys(name for _, names in ways for name in names))
            of_hardware = all(way.code is Code.HARDWARE for way, _ in ways)
            ways = ((_FROM_NETWORK[Code.HARDWARE if of_hardware else Code.LOADED], objects), *ways)
        found: dict[_Found, list[str]] = defaultdict(list)
        for name, names in self._alike.items():
            found[self._best(name, ways)] += names
        reaches = (_reach(tuple(sorted(names)), one) for one, names in found.items())
        return tuple(sorted(reaches, key=lambda one: (_ORDER.index(one.reach), one.containers)))

    def _best(self, name: str, ways: tuple[tuple[Way, tuple[str, ...]], ...]) -> _Found:
        """The way that stands open, or else the one that is nearest to it."""
        answers = [_Found(way.name, self._way(name, way, objects)) for way, objects in ways]
        best = any_of(one.answer for one in answers)
        return next(one for one in answers if one.answer == best)

    def _way(self, name: str, way: Way, objects: tuple[str, ...]) -> Answer:
        code = self._code(name, way, objects)
        return every((*(self._gate(name, gate) for gate in way.gates), code))

    def _gate(self, name: str, gate: Gate) -> Answer:
        key = (name, gate)
        if key not in self._gates:
            self._gates[key] = gate(self._boxes[name])
        return self._gates[key]

    def _code(self, name: str, way: Way, objects: tuple[str, ...]) -> Answer:
        """Whether the code is in the kernel on this way; of several objects the best."""
        if not objects:
            return say(State.OPEN, "", "kernel files", "which object holds the code is not known: taken as there")
        if way.code is Code.HARDWARE:
            return any_of(self._host.hardware(one) for one in objects)
        found = any_of(self._module(name, one, way.asks) for one in objects)
        if way.code is Code.UNKNOWN and found.gate == "module-not-loaded":
            return found._replace(state=State.UNKNOWN)
        return found

    def _module(self, name: str, module: str, asks: tuple[str, ...]) -> Answer:
        """Whether a module is in the kernel, comes in when the container asks for it, or can be brought by it."""
        found = self._host.present(module)
        if found is not None:
            return found
        own = self._boxes[name].loads_modules
        if own.state is State.OPEN:
            return say(State.OPEN, "", LOADS_ITSELF, f"it can load {module} by itself")
        by_request = self._host.loadable(module, asks)
        return any_of((by_request, own)) if own.state is State.UNKNOWN else by_request


def container_names(containers: tuple[Container, ...]) -> dict[str, str]:
    """Id → a name that no other container has."""
    count: dict[str, int] = defaultdict(int)
    for one in containers:
        count[one.title] += 1
    return {
        one.id: one.title if one.title and count[one.title] == 1 else f"{one.title}@{one.id[:12]}"
        for one in containers
    }


def _is_left_out(box: Box) -> bool:
    return box.container.state in _NOT_RUNNING or box.has_own_kernel


def _ways(named: tuple[str, ...], place: Place) -> list[tuple[Way, tuple[str, ...]]]:
    """The ways into the files of a record, each with the objects that hold the code there.

    Headers do not say whose code they end up in: they count only where the record names nothing else.
    """
    files = place.files if place.presence in _IN_KERNEL else tuple((file, ()) for file in named)
    code = [one for one in files if not one[0].endswith(".h")]
    if not code:
        return [(_HEADERS, ())]
    return [(way, objects) for file, objects in code for way in entry_of(file).ways]


def _reach(names: tuple[str, ...], found: _Found) -> ContainerReach:
    answer = found.answer
    return ContainerReach(
        containers=names,
        reach=_REACH[answer.state],
        way=found.way,
        gate=answer.gate,
        evidence=_least(answer.evidence),
    )


def _least(evidence: tuple[Evidence, ...]) -> tuple[Evidence, ...]:
    return tuple(dict.fromkeys(evidence))[:_PIECES_MOST]
