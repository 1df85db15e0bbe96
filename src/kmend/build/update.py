"""From a distribution update to fixes: what was closed in between, and the difference that closes it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from kmend.build.closure import Update
from kmend.build.sources import Sources
from kmend.build.taking import begun, named_in
from kmend.build.upstream import Clone, taken_over
from kmend.exposure.concern import Concern, concern, differs
from kmend.exposure.records import CveRecord
from kmend.exposure.units import Units
from kmend.kit.errors import InputError
from kmend.kit.progress import Progress
from kmend.linux.changelog import ChangelogItem, cves_closed
from kmend.model.fix import Fix
from kmend.model.kernel import Kernel
from kmend.model.update import CveState, PlannedCve, PlannedFix, UpdatePlan

log = logging.getLogger(__name__)

_LIMITED = re.compile(r"\[(?P<architectures>[a-z0-9_,/ -]+)\] ")
_OURS = frozenset(("x86", "amd64"))
_NAME_LIMIT = 80


def plan_update(
    kernel: Kernel,
    items: Sequence[ChangelogItem],
    *,
    records: Mapping[str, CveRecord],
    units: Units,
    update: Update,
    clone: Clone | None = None,
    progress: Progress,
) -> tuple[UpdatePlan, tuple[Fix, ...]]:
    """Every CVE that the changelog items close, and the fixes derived for those that concern the kernel.

    CVEs that share a file share a fix where there are no upstream commits, because the difference of a file cannot
    be told apart by CVE.

    Args:
        kernel: The kernel to be fixed.
        items: What the distribution did between the two versions.
        records: CVE records by id; those that are missing make their CVEs unknown.
        units: What the kernel was built from.
        update: The differences between the kernel's own source and the newer one.
        clone: With the stable series' commits; a CVE whose commit merges gets a fix of its own.
        progress: Told about the steps.
    """
    sources = update.sources
    progress.step("Looking which CVEs concern this kernel")
    subjects = {cve: item.subject for item in items for cve in item.cves}
    concerns: dict[str, Concern] = {}
    for cve in cves_closed(items):
        if cve in records:
            record = _as_committed(records[cve], sources, clone)
            concerns[cve] = concern(record, units, old=sources.old, new=sources.new)
        else:
            concerns[cve] = _without_record(subjects[cve])
    exact = _from_commits(concerns, records, sources, clone, progress)
    concerns = _entangled(concerns, sources, exact)
    rest = {cve: one for cve, one in concerns.items() if one.state is CveState.FIX and cve not in exact}
    groups = grouped({cve: one.sources for cve, one in rest.items()})
    fixes, refusals = _derived(groups, records, update, progress)
    fixes = [*exact.values(), *fixes]
    rows = [
        _row(
            cve,
            concerns[cve],
            records.get(cve),
            subjects[cve],
            update=update,
            fixes=fixes,
            refusals=refusals,
        )
        for cve in concerns
    ]
    planned = [_planned(fix, concerns, exact=fix.name in exact) for fix in fixes]
    plan = UpdatePlan(kernel=kernel, to_version=sources.new_version, cves=tuple(rows), fixes=tuple(planned))
    return plan, tuple(fixes)


def _as_committed(record: CveRecord, sources: Sources, clone: Clone | None) -> CveRecord:
    """The record with the files of this series' own commit; a record names those of all series."""
    repair = record.repair(sources.series)
    if clone is None or repair is None or not clone.has(repair.commit):
        return record
    return replace(record, files=clone.files(repair.commit))


def _from_commits(
    concerns: Mapping[str, Concern],
    records: Mapping[str, CveRecord],
    sources: Sources,
    clone: Clone | None,
    progress: Progress,
) -> dict[str, Fix]:
    """A fix for each CVE whose commit is in the clone and merges; the others go the way of the difference."""
    found: dict[str, Fix] = {}
    if clone is None:
        return found
    progress.step("Merging the upstream commits")
    for done, (cve, one) in enumerate(concerns.items(), 1):
        progress.amount(done, len(concerns), unit="CVEs")
        repair = records[cve].repair(sources.series) if cve in records else None
        if one.state is CveState.FIX and repair is not None and clone.has(repair.commit):
            try:
                found[cve] = taken_over(
                    repair.commit,
                    one.sources,
                    clone=clone,
                    tree=sources.old,
                    name=cve,
                    cve=cve,
                    title=records[cve].title,
                )
            except InputError as error:
                log.info("%s: %s", cve, error.message)
    return found


def _without_record(subject: str) -> Concern:
    limited = _LIMITED.match(subject)
    if limited and not _OURS & set(re.split(r"[,/ ]+", limited["architectures"])):
        reason = f"The changelog limits it to {limited['architectures']}."
        return Concern(state=CveState.NOT_BUILT, code="other-architecture", reason=reason)
    return Concern(
        state=CveState.UNKNOWN, code="no-record", reason="There is no CVE record of it to say which files."
    )


def _entangled(concerns: Mapping[str, Concern], sources: Sources, exact: Collection[str]) -> dict[str, Concern]:
    """What shares a differing file with a refused CVE is refused too, or it would carry half of that one's fix."""
    result = dict(concerns)
    barred: dict[str, str] = {}
    for cve, one in concerns.items():
        if one.state is CveState.REFUSED:
            for file in one.sources:
                if differs(file, sources.old, sources.new):
                    barred.setdefault(
                        file, f"{file} also carries the fix of {cve}, which was refused ({one.code})."
                    )
    for cve, one in concerns.items():
        hit = next((file for file in one.sources if file in barred), "")
        if hit and one.state is CveState.FIX and cve not in exact:
            result[cve] = replace(one, state=CveState.REFUSED, code="entangled", reason=barred[hit])
    return result


def grouped(files: Mapping[str, Iterable[str]]) -> tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]:
    """CVEs joined where they share .c files: pairs of CVEs and all their files, both sorted, in the order given.

    Headers join only those that have nothing else: many files may use one, each for another thing.
    """
    leader: dict[str, str] = {}
    for cve, paths in [(cve, _joining(paths)) for cve, paths in files.items()]:
        together = {leader[path] for path in paths if path in leader}
        leader = {path: cve if old in together else old for path, old in leader.items()}
        leader |= dict.fromkeys(paths, cve)
    groups: dict[str, tuple[list[str], set[str]]] = {}
    for cve, everything in files.items():
        members, all_paths = groups.setdefault(leader[_joining(everything)[0]], ([], set()))
        members.append(cve)
        all_paths.update(everything)
    return tuple((tuple(members), tuple(sorted(paths))) for members, paths in groups.values())


def _joining(paths: Iterable[str]) -> tuple[str, ...]:
    found = tuple(paths)
    return tuple(path for path in found if not path.endswith(".h")) or found


def _derived(
    groups: Sequence[tuple[tuple[str, ...], tuple[str, ...]]],
    records: Mapping[str, CveRecord],
    update: Update,
    progress: Progress,
) -> tuple[list[Fix], dict[str, str]]:
    """The fixes, and for each CVE of a group without one the reason."""
    progress.step("Deriving the fixes")
    fixes: list[Fix] = []
    refusals: dict[str, str] = {}
    for done, (cves, files) in enumerate(groups, 1):
        progress.amount(done, len(groups), unit="fixes")
        try:
            fixes.append(_fix(cves, files, records, update))
        except InputError as error:
            refusals |= dict.fromkeys(cves, error.message)
    return fixes, refusals


def _fix(cves: tuple[str, ...], files: tuple[str, ...], records: Mapping[str, CveRecord], update: Update) -> Fix:
    sources = update.sources
    commits = [one.commit[:12] for cve in cves if (one := records[cve].repair(sources.series))]
    upstream = f" (stable commits: {', '.join(commits)})" if commits else ""
    more = f" and {len(cves) - 1} more" if len(cves) > 1 else ""
    taking = begun(update, files)
    diff = update.diff(taking.changes)
    if not diff:
        raise InputError(f"{', '.join(files)} differ, but not in text that can be taken over.")
    return Fix(
        name=fix_name(cves, files),
        cves=cves,
        title=records[cves[0]].title + more,
        diff=diff,
        origin=f"Debian linux {sources.old_version} to {sources.new_version}{upstream}",
        reasoning=_reasoning(cves, files, taking.files),
    )


def _reasoning(cves: tuple[str, ...], files: tuple[str, ...], taken: tuple[str, ...]) -> str:
    text = (
        f"Derived: the whole difference of {', '.join(files)} between the two source versions, so it may carry "
        "other work on these files too. No person has read it."
    )
    others = [file for file in taken if file not in files]
    if others:
        text += f" Parts of {', '.join(others)} come along, because those differences need them."
    if len(cves) > 1:
        text += f" {len(cves)} CVEs share these files and so this fix: {', '.join(cves)}."
    return text


def fix_name(cves: Sequence[str], files: Sequence[str]) -> str:
    """A fix's name: its CVE, or for several the first file with how many files and CVEs there are."""
    if len(cves) == 1:
        return cves[0]
    stem = str(PurePosixPath(files[0]).with_suffix("")).replace("/", "-")
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", stem)[-_NAME_LIMIT:].lstrip("._-")
    others = f"-and-{len(files) - 1}-files" if len(files) > 1 else ""
    return f"{stem}{others}-{len(cves)}-cves"


def _row(
    cve: str,
    one: Concern,
    record: CveRecord | None,
    subject: str,
    *,
    update: Update,
    fixes: Sequence[Fix],
    refusals: Mapping[str, str],
) -> PlannedCve:
    if cve in refusals:
        one = replace(one, state=CveState.REFUSED, code="not-derivable", reason=refusals[cve])
    repair = record.repair(update.sources.series) if record else None
    return PlannedCve(
        cve=cve,
        title=record.title if record else subject,
        severity=record.severity if record else "",
        score=record.score if record else 0.0,
        files=record.files if record else (),
        sources=one.sources,
        named=named_in(record, update.of(one.sources)) if record else (),
        objects=one.objects,
        commit=repair.commit if repair else "",
        state=one.state,
        code=one.code,
        reason=one.reason,
        fix=next((fix.name for fix in fixes if cve in fix.cves), ""),
    )


def _planned(fix: Fix, concerns: Mapping[str, Concern], *, exact: bool) -> PlannedFix:
    files = {file for cve in fix.cves for file in concerns[cve].sources}
    objects = {name for cve in fix.cves for name in concerns[cve].objects}
    return PlannedFix(
        name=fix.name, cves=fix.cves, files=tuple(sorted(files)), objects=tuple(sorted(objects)), exact=exact
    )
