"""An audit as one HTML page: no script, nothing from elsewhere, light and dark as the reader has it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator

from kmend.audit.views.common import (
    by_check,
    failed,
    heading,
    notes_on,
    of_outcome,
    percent,
    reference,
    rules_of,
    waived,
)
from kmend.kit.printable import printable
from kmend.model.finding import AuditReport, Difference, Finding, Outcome, Rule, Score, Severity

_LONGEST = 1_000
_OPEN = 20
"""A check with more failed subjects than this is folded."""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --text: #1c2330; --soft: #5a6474; --page: #f6f7f9; --card: #fff; --line: #dde1e7;
  --critical: #b3123b; --high: #b4470a; --medium: #8a6a00; --low: #3a6ea5; --good: #1d7a4c; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --soft: #a2acba; --page: #14171c;
  --card: #1d2128; --line: #333a45; --critical: #ff7a95; --high: #ffa366; --medium: #e5c458;
  --low: #8ab8ea; --good: #6fd3a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem 1rem 4rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0; }
p { margin: .3rem 0; } .soft { color: var(--soft); } code { font-size: .9em; }
table { width: 100%; border-collapse: collapse; background: var(--card); border: 1px solid var(--line); }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
meter { width: 8rem; max-width: 30vw; }
article { background: var(--card); border: 1px solid var(--line); border-left-width: 4px; padding: .8rem 1rem;
  margin: 0 0 .8rem; border-radius: 4px; }
.critical { border-left-color: var(--critical); } .high { border-left-color: var(--high); }
.medium { border-left-color: var(--medium); } .low { border-left-color: var(--low); }
.word { font-weight: 600; } .critical .word { color: var(--critical); } .high .word { color: var(--high); }
.medium .word { color: var(--medium); } .low .word { color: var(--low); } .gone { color: var(--good); }
ul { margin: .4rem 0; padding-left: 1.2rem; } summary { cursor: pointer; }
nav a { color: inherit; margin-right: 1rem; }
"""


def page(report: AuditReport) -> str:
    """The report as a page that stands for itself."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: AuditReport) -> Iterator[str]:
    title = _text(f"Audit of {report.host or 'a host'}")
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    about = _text(f"{heading(report)}, kmend {report.version}")
    yield f'<header><h1>{title}</h1><p class="soft">{about}</p></header>'
    yield from _summary(report)
    yield "<main>"
    if report.difference:
        yield from _difference(report.difference)
    yield from _failures(report)
    yield from _list("unknown", "Could not tell", of_outcome(report, Outcome.UNKNOWN))
    yield from _list("waived", "Waived", waived(report))
    yield from _list("passed", "Passed", of_outcome(report, Outcome.PASS))
    yield from _list("absent", "Does not apply", of_outcome(report, Outcome.NOT_APPLICABLE))
    yield from _words("What could not be seen", report.unseen)
    yield from _words("Notes", report.notes)
    yield "</main></body></html>"


def _summary(report: AuditReport) -> Iterator[str]:
    found = failed(report)
    counts = [(one, sum(finding.severity is one for finding in found)) for one in reversed(Severity)]
    yield f"<p>{', '.join(f'{number} {one.value}' for one, number in counts)}.</p>"
    yield '<nav><a href="#failed">Failed</a><a href="#unknown">Could not tell</a>'
    yield '<a href="#passed">Passed</a></nav>'
    yield "<h2>Scores</h2><table><thead><tr><th>area</th><th>score</th>"
    yield "".join(f'<th class="n">{word}</th>' for word in ("pass", "fail", "could not tell", "waived"))
    yield "</tr></thead><tbody>"
    yield from map(_score, report.scores)
    yield "</tbody></table>"


def _score(one: Score) -> str:
    bar = (
        ""
        if one.percent is None
        else f'<meter min="0" max="100" value="{one.percent}" aria-hidden="true"></meter> '
    )
    numbers = "".join(f'<td class="n">{n}</td>' for n in (one.passed, one.failed, one.unknown, one.waived))
    return f"<tr><td>{_text(one.area)}</td><td>{bar}{percent(one)}</td>{numbers}</tr>"


def _failures(report: AuditReport) -> Iterator[str]:
    rules = rules_of(report)
    yield '<h2 id="failed">Failed</h2>'
    found = failed(report)
    if not found:
        yield "<p>Nothing.</p>"
    for first, some in by_check(found):
        yield from _failure(first, some, rules[first.check])


def _failure(first: Finding, found: tuple[Finding, ...], rule: Rule) -> Iterator[str]:
    number = reference(rule)
    yield f'<article class="{first.severity.value}">'
    yield f'<h3><span class="word">{first.severity.value}</span> {_text(rule.title)}</h3>'
    source = " · ".join(part for part in (number, rule.source) if part)
    yield f'<p class="soft"><code>{_text(rule.id)}</code> · {_text(source)}</p>'
    items = "".join(f"<li>{_text(one.subject)}: {_text(one.evidence)}</li>" for one in found)
    many = len(found) > _OPEN
    yield (
        f"<details><summary>{len(found)} subjects</summary><ul>{items}</ul></details>"
        if many
        else f"<ul>{items}</ul>"
    )
    remedies = list(dict.fromkeys(one.remedy for one in found))[:3]
    yield f"<p><strong>Remedy:</strong> {_text(' '.join(remedies))}</p>"
    yield from (f'<p class="soft">{_text(one)}</p>' for one in notes_on(rule))
    yield "</article>"


def _difference(difference: Difference) -> Iterator[str]:
    yield f"<h2>Since {difference.since:%Y-%m-%d %H:%M} UTC</h2><ul>"
    for one in difference.new:
        yield f"<li>New: {one.severity.value} <code>{_text(one.check)}</code> {_text(one.subject)}</li>"
    for one in difference.gone:
        yield f'<li class="gone">Gone: <code>{_text(one.check)}</code> {_text(one.subject)}</li>'
    yield f"<li>Unchanged failures: {difference.stayed}</li></ul>"


def _list(name: str, title: str, found: Iterable[Finding]) -> Iterator[str]:
    rows = [
        f"<tr><td><code>{_text(one.check)}</code></td><td>{_text(one.subject)}</td>"
        f"<td>{_text(one.waived or one.evidence)}</td></tr>"
        for one in found
    ]
    yield f'<h2 id="{name}">{title}</h2>'
    yield f"<details><summary>{len(rows)}</summary><table><tbody>{''.join(rows)}</tbody></table></details>"


def _words(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        items = "".join(f"<li>{_text(one)}</li>" for one in lines)
        yield f"<h2>{title}</h2><details><summary>{len(lines)}</summary><ul>{items}</ul></details>"


def _text(text: str) -> str:
    """Text that stays text, also between quotes."""
    return html.escape(printable(text, most=_LONGEST), quote=True)
