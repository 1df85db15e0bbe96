"""What a check is made of: a rule, and a pure function that judges a case by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from kmend.audit.reading import container_name, image_name, plain_name
from kmend.model.facts import Container, Engine, EngineKind, Facts, FileFacts, Image, Setting
from kmend.model.finding import Actionable, Area, Livepatching, Outcome, Rule, Severity

HOST = "host"


class Verdict(NamedTuple):
    """What a judgement came to for one subject."""

    outcome: Outcome
    evidence: str
    subject: str = HOST
    severity: Severity | None = None
    """When it is not the rule's."""
    remedy: str = ""
    """When the rule's can be said more exactly."""
    in_pod: bool = False
    """Whether it is about a container of a Kubernetes pod."""


class Advisory(NamedTuple):
    """What a distribution says of one of its packages and one hole."""

    cve: str
    package: str
    """The source package, or a binary one where the file speaks of those."""
    release: str
    """``debian 12``; empty when the file does not say."""
    fixed: str
    """First version without the hole; empty while there is none. ``0``: never affected."""


class Demand(NamedTuple):
    """One line of what kernel-hardening-checker says."""

    option: str
    kind: str
    """``kconfig``, ``cmdline``, ``sysctl``"""
    wanted: str
    reason: str
    holds: bool
    result: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that a judgement may read: the facts, and what else was given."""

    facts: Facts
    advisories: Mapping[str, tuple[Advisory, ...]] = field(default_factory=dict)
    """By package."""
    used_modules: frozenset[str] = frozenset()
    """Modules that were seen in use on earlier days."""
    demands: tuple[Demand, ...] | None = None
    """What kernel-hardening-checker says of this kernel; None when it was not asked."""

    # Each of these is asked for by many checks, some of them once for every container.
    @cached_property
    def containers(self) -> tuple[Container, ...]:
        """The containers that run."""
        return tuple(one for one in self.facts.containers if one.state in {"running", "paused"} or one.pid)

    @property
    def is_x86(self) -> bool:
        """Whether the host's processors are, or may be, of this kind."""
        return self.facts.kernel.architecture in {"x86_64", "i686", ""}

    @cached_property
    def images_by_name(self) -> Mapping[str, list[Image]]:
        """Images by each of their names."""
        found: dict[str, list[Image]] = {}
        for one in self.facts.images:
            for name in one.names:
                found.setdefault(plain_name(name), []).append(one)
        return found

    @cached_property
    def images_by_id(self) -> Mapping[str, Image]:
        """Images by id."""
        return {one.id: one for one in self.facts.images}

    @cached_property
    def files(self) -> Mapping[str, FileFacts]:
        """Files by path."""
        return {one.path: one for one in self.facts.files}

    @cached_property
    def sysctls(self) -> Mapping[str, str]:
        """Sysctls by name."""
        return {one.name: one.value for one in self.facts.sysctls}

    @cached_property
    def config(self) -> Mapping[str, str] | None:
        """The kernel's configuration by ``CONFIG_`` name; None when it was not seen."""
        settings = self.facts.kernel.config
        return None if settings is None else {one.name: one.value for one in settings}

    @cached_property
    def unseen(self) -> Mapping[str, str]:
        """Why something could not be looked at, by what it is."""
        return {one.what: one.why for one in self.facts.unseen}

    def engines(self, kind: EngineKind) -> tuple[Engine, ...]:
        """The engines of a kind."""
        return tuple(one for one in self.facts.engines if one.kind == kind)


Judge = Callable[[Case], Iterable[Verdict]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A rule with the function that judges by it."""

    rule: Rule
    judge: Judge


def check(
    area: Area,
    name: str,
    title: str,
    severity: Severity,
    judge: Judge,
    *,
    remedy: str,
    source: str,
    cis: str = "",
    level: int = 0,
    actionable: Actionable = Actionable.RUNTIME,
    breaks: str = "",
    livepatching: Livepatching = Livepatching.SAFE,
) -> Check:
    """A check; with a CIS number it is of level 1 when nothing else is said."""
    rule = Rule(
        id=name,
        title=title,
        area=area,
        severity=severity,
        source=source,
        remedy=remedy,
        cis=cis,
        level=level or (1 if cis else 0),
        actionable=actionable,
        breaks=breaks,
        livepatching=livepatching,
    )
    return Check(rule=rule, judge=judge)


def good(evidence: str, *, subject: str = HOST) -> Verdict:
    """It is as it should be."""
    return Verdict(Outcome.PASS, evidence, subject)


def bad(evidence: str, *, subject: str = HOST, severity: Severity | None = None, remedy: str = "") -> Verdict:
    """It is not as it should be."""
    return Verdict(Outcome.FAIL, evidence, subject, severity, remedy)


def unknown(evidence: str, *, subject: str = HOST) -> Verdict:
    """The facts do not show it."""
    return Verdict(Outcome.UNKNOWN, evidence, subject)


def not_here(evidence: str, *, subject: str = HOST) -> Verdict:
    """There is nothing here that the check is about."""
    return Verdict(Outcome.NOT_APPLICABLE, evidence, subject)


def judged(holds: bool | None, seen: str, *, missing: str = "The facts do not show it.") -> Verdict:
    """Pass or fail with the same evidence; could not tell for None."""
    if holds is None:
        return unknown(missing)
    return good(seen) if holds else bad(seen)


def of_host(decide: Callable[[Case], Verdict]) -> Judge:
    """A judgement on the host as a whole."""
    return lambda case: (decide(case),)


def of_containers(decide: Callable[[Container, Case], Verdict]) -> Judge:
    """A judgement on each container that runs."""

    def judge(case: Case) -> Iterator[Verdict]:
        for one in case.containers:
            yield decide(one, case)._replace(subject=container_name(one), in_pod=bool(one.pod))
        if not case.containers:
            yield not_here("No container runs.")

    return judge


def of_told_containers(decide: Callable[[Container, Case], Verdict]) -> Judge:
    """A judgement on each container that runs, by what only its engine can tell."""

    def careful(one: Container, case: Case) -> Verdict:
        return unknown("No engine told of it.") if one.engine is EngineKind.NONE else decide(one, case)

    return of_containers(careful)


def of_images(decide: Callable[[Image, Case], Verdict]) -> Judge:
    """A judgement on each image."""

    def judge(case: Case) -> Iterator[Verdict]:
        for one in case.facts.images:
            yield decide(one, case)._replace(subject=image_name(one))
        if not case.facts.images:
            yield not_here("No image is here.")

    return judge


def of_docker(decide: Callable[[Engine, Case], Verdict]) -> Judge:
    """A judgement on each Docker daemon."""
    return of_engines(EngineKind.DOCKER, "Docker", decide)


def of_engines(kind: EngineKind, name: str, decide: Callable[[Engine, Case], Verdict]) -> Judge:
    """A judgement on each engine of a kind."""

    def judge(case: Case) -> Iterator[Verdict]:
        found = case.engines(kind)
        for one in found:
            subject = f"{name} of uid {one.uid}" if one.uid else name
            yield decide(one, case)._replace(subject=subject)
        if not found:
            yield not_here(f"{name} is not here.")

    return judge


def shown(settings: Iterable[Setting]) -> str:
    """Settings as evidence: ``name = value (file)``."""
    return ", ".join(f"{one.name} = {one.value}" + (f" ({one.source})" if one.source else "") for one in settings)
