"""An exposure on a terminal: what to do first, then the table. Names from elsewhere never move the cursor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import click

from kmend.exposure.assess import counts
from kmend.kit.printable import printable
from kmend.model.exposure import CveExposure, Exposure, Reach, Verdict

WORDS = {
    Verdict.OPEN: "open",
    Verdict.UNKNOWN: "could not tell",
    Verdict.CLOSED_BY_LIVEPATCH: "closed by livepatch",
    Verdict.CLOSED_BY_VERSION: "closed by version",
    Verdict.NOT_BUILT: "not built in this kernel",
    Verdict.NOT_AFFECTED: "not affected, came in later",
}
_COLOURS = {
    Reach.REACHABLE: "red",
    Reach.UNKNOWN: "yellow",
    Reach.GATED: "green",
    Reach.NOT_REACHABLE: "green",
}
_NAMES, _TITLE, _LINE = 3, 70, 400


def lines(exposure: Exposure, *, most: int, details: bool) -> Iterator[str]:
    """The whole report.

    Args:
        exposure: What was found out.
        most: At most so many CVEs in the table.
        details: The evidence of every CVE that is shown.
    """
    kernel = exposure.kernel
    yield f"{_shown(exposure.host or 'host', bold=True)}  {_shown(kernel.release)}  {_shown(kernel.version)}"
    yield from _to_do(exposure)
    yield ""
    yield from _counted(exposure)
    listed = [one for one in exposure.cves if details or one.verdict in {Verdict.OPEN, Verdict.UNKNOWN}]
    if listed:
        yield ""
        yield click.style(f"{'CVE':<17}{'CVSS':<6}{'REACH':<17}{'BY WHOM':<34}WHAT", bold=True)
    for one in listed[:most]:
        yield _row(one)
        if details:
            yield from _details(one)
    if len(listed) > most:
        yield f"… and {len(listed) - most} more (--all)"
    yield from _notes(exposure)


def _to_do(exposure: Exposure) -> Iterator[str]:
    if exposure.actions:
        yield click.style("What to do", bold=True)
    for action in exposure.actions:
        yield f"  • {printable(action.text, most=_LINE)}"
    if not exposure.actions and any(one.verdict is Verdict.OPEN for one in exposure.cves):
        yield "Nothing can be switched off or applied now; an update of the kernel has to close what is open."


def _counted(exposure: Exposure) -> Iterator[str]:
    number = counts(exposure.cves)
    reach = Counter(one.worst for one in exposure.cves if one.verdict is Verdict.OPEN)
    for verdict, count in number.items():
        more = ""
        if verdict is Verdict.OPEN and count and exposure.containers:
            parts = (f"{reach[one]} {one.replace('-', ' ')}" for one in Reach if reach[one])
            more = f"  ({', '.join(parts)} of {len(exposure.containers)} containers)"
        yield f"{count:7,}  {WORDS[verdict]}{more}"


def _row(one: CveExposure) -> str:
    first = one.reach[0] if one.reach else None
    word = "-" if first is None else first.reach.replace("-", " ")
    if one.verdict is not Verdict.OPEN:
        word = WORDS[one.verdict] if one.verdict is not Verdict.UNKNOWN else "? " + word
    colour = _COLOURS[first.reach] if first is not None and one.verdict is Verdict.OPEN else None
    score = f"{one.score:.1f}" if one.vector or one.score else "-"
    exploited = click.style("exploited since " + printable(one.exploited_since), fg="red") + ": "
    title = (exploited if one.exploited_since else "") + printable(one.title, most=_TITLE)
    return f"{one.cve:<17}{score:<6}{click.style(f'{word:<17}', fg=colour)}{_by_whom(one):<34}{title}"


def _by_whom(one: CveExposure) -> str:
    """The containers that stand nearest to it, or the gate that keeps all of them out."""
    if not one.reach:
        return "-"
    if one.worst in {Reach.GATED, Reach.NOT_REACHABLE}:
        return one.reach[0].gate
    names = [name for group in one.reach if group.reach is one.worst for name in group.containers]
    everyone = sum(len(group.containers) for group in one.reach)
    if len(names) == everyone > 1:
        return f"all {everyone} containers"
    return _named(tuple(names), most=1, long=20)


def _named(names: tuple[str, ...], *, most: int = _NAMES, long: int = 60) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(printable(name, most=long) for name in names[:most]) + more


def _details(one: CveExposure) -> Iterator[str]:
    yield f"    {WORDS[one.verdict]}"
    for piece in one.evidence:
        yield f"      {printable(piece.source)}: {printable(piece.value, most=_LINE)}"
    if one.vector:
        yield f"    {printable(one.vector)}"
    for line in one.rationale.splitlines():
        yield f"      {printable(line, most=_LINE)}"
    for group in one.reach:
        gate = f", gate {group.gate}" if group.gate else ""
        what = f"{group.reach.replace('-', ' ')} by {group.way}{gate}"
        yield f"    {_named(group.containers)}: {click.style(what, fg=_COLOURS[group.reach])}"
        for piece in group.evidence:
            yield f"      {printable(piece.source)}: {printable(piece.value, most=_LINE)}"


def _notes(exposure: Exposure) -> Iterator[str]:
    notes = list(exposure.missing)
    if exposure.unread:
        notes.append(
            f"{len(exposure.unread)} records could not be read, first {exposure.unread[0].cve}: "
            f"{exposure.unread[0].why}"
        )
    if exposure.left_out:
        notes.append(f"left out, not running or on a kernel of their own: {', '.join(exposure.left_out[:_NAMES])}")
    if notes:
        yield ""
    for note in notes:
        yield f"note: {printable(note, most=_LINE)}"


def _shown(text: str, *, bold: bool = False) -> str:
    return click.style(printable(text), bold=bold)
