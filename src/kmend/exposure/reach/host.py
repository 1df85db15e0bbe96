"""What the gates ask of a host, made ready once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cached_property

from kmend.exposure.reach.answer import Answer, State, say
from kmend.exposure.units import VMLINUX
from kmend.model.facts import BlockedModule, Facts, Mount


class HostView:
    """The kernel's modules, sysctls and mounts, looked up by name."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.sysctls = {one.name: one.value for one in facts.sysctls}
        self.config = None if facts.kernel.config is None else {one.name: one.value for one in facts.kernel.config}
        self.loaded = frozenset(one.name for one in facts.modules.loaded)
        self._asked: dict[tuple[str, ...], dict[str, tuple[str, str]]] = {}

    def present(self, name: str) -> Answer | None:
        """Whether a module's code is in the kernel, or can never be; None where it has to be loaded."""
        modules = self.facts.modules
        if name == VMLINUX:
            return say(State.OPEN, "", "kernel files", "built into the kernel")
        if name in self.loaded:
            return say(State.OPEN, "", "/proc/modules", f"{name} is loaded")
        if name in modules.built_in:
            return say(State.OPEN, "", "modules.builtin", f"{name} is built in")
        if modules.available is not None and name not in modules.available:
            return say(State.ABSENT, "module-missing", "modules.dep", f"{name} is not installed")
        if modules.loading_disabled:
            return say(
                State.SHUT, "modules-disabled", "kernel.modules_disabled", "1: no module is loaded any more"
            )
        return None

    def loadable(self, name: str, asks: tuple[str, ...]) -> Answer:
        """Whether a module that is not there comes in when a container asks for one of some aliases."""
        block = self._blocks.get(name)
        if block is not None and not block.by_alias_only:
            return say(State.SHUT, "module-blocked", block.source, f"install {name} is refused")
        if not self.facts.modules.aliases:
            return say(State.UNKNOWN, "module-not-loaded", "modules.alias", "it could not be read")
        asked = self.asked(asks).get(name)
        if asked is None:
            value = f"{name} is not loaded, and no alias that a container asks for here leads to it"
            return say(State.ABSENT, "module-not-loaded", "modules.alias", value)
        alias, owner = asked
        pulled = self._blocks.get(owner)
        if pulled is not None:
            return say(State.SHUT, "module-blocked", pulled.source, f"{owner} is not loaded by its alias {alias}")
        by = "" if owner == name else f", which needs {name}"
        return say(State.OPEN, "", "modules.alias", f"{alias} loads {owner}{by}")

    def asked(self, asks: tuple[str, ...]) -> dict[str, tuple[str, str]]:
        """Module → alias and the module that has it, of all modules that requests for these aliases bring in."""
        if asks not in self._asked:
            self._asked[asks] = self._follow(asks)
        return self._asked[asks]

    def _follow(self, asks: tuple[str, ...]) -> dict[str, tuple[str, str]]:
        owners: dict[str, str] = {}
        for alias in self.facts.modules.aliases:
            if any(_is_asked(alias.pattern, ask) for ask in asks):
                owners.setdefault(alias.module, alias.pattern)
        # A request for a name, such as sch_htb, needs no alias.
        for name in self.facts.modules.available or ():
            if any(ask.endswith("_") and name.startswith(ask) for ask in asks):
                owners.setdefault(name, name)
        found = {owner: (pattern, owner) for owner, pattern in owners.items()}
        for owner, pattern in owners.items():
            for needed in self._needs.get(owner, ()):
                found.setdefault(needed, (pattern, owner))
        return found

    def hardware(self, name: str) -> Answer:
        """Whether a driver's hardware is here: it is loaded or built in, or a device asks for it."""
        if name in self.loaded:
            return say(State.OPEN, "", "/proc/modules", f"{name} is loaded")
        if name == VMLINUX:
            return say(State.UNKNOWN, "hardware", "kernel files", "built in: whether it has a device is not known")
        if name in self._with_hardware:
            return say(State.OPEN, "", "/sys/bus modalias", f"{self._with_hardware[name]} asks for {name}")
        return say(State.ABSENT, "hardware", "/sys/bus modalias", f"no device asks for {name}")

    def backing(self, upper: str) -> Mount | None:
        """The host's mount that a path lies on."""
        fitting = [one for one in self.facts.mounts if f"{upper}/".startswith(f"{one.target.rstrip('/')}/")]
        return max(fitting, key=lambda one: len(one.target), default=None)

    @cached_property
    def _needs(self) -> dict[str, tuple[str, ...]]:
        return {one[0]: one[1:] for one in self.facts.modules.needs}

    @cached_property
    def _blocks(self) -> dict[str, BlockedModule]:
        """The strictest line about each module."""
        found: dict[str, BlockedModule] = {}
        for one in self.facts.modules.blocked:
            if one.name not in found or not one.by_alias_only:
                found[one.name] = one
        return found

    @cached_property
    def _with_hardware(self) -> dict[str, str]:
        return dict(self._devices())

    def _devices(self) -> Iterator[tuple[str, str]]:
        by_bus: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for alias in self.facts.modules.aliases:
            bus, colon, _ = alias.pattern.partition(":")
            if colon:
                by_bus[bus].append((alias.pattern.split("*", 1)[0], alias.pattern, alias.module))
        for device in self.facts.modules.hardware:
            for start, pattern, module in by_bus.get(device.partition(":")[0], ()):
                if device.startswith(start) and fnmatchcase(device, pattern):
                    yield module, device[:60]


def _is_asked(pattern: str, ask: str) -> bool:
    """``net-pf-2-proto-132`` is asked for by itself and more exact ones, not by ``net-pf-2-proto-1``."""
    return pattern == ask or (pattern.startswith(ask) and (ask[-1] in "-_:" or pattern[len(ask)] == "-"))
