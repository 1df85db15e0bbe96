"""The table at the end of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

from kmend.cli.demo.report import DemoReport
from kmend.cli.demo.words import clock, elapsed, milliseconds

_FIRST, _SECOND = 28, 24


def show_ending(report: DemoReport, console: Console, *, page: Path, figures: Path) -> None:
    """Print before and after, the figures, what did not hold, and where the reports are."""
    for line in ending(report, page=page, figures=figures):
        console.print(line, soft_wrap=True)


def ending(report: DemoReport, *, page: Path, figures: Path) -> Iterator[Text]:
    """The table's lines."""
    yield Text()
    yield Text(f"  {'':<{_FIRST}}{'before':<{_SECOND}}after", style="dim")
    yield _row(
        "probe inside a container", report.probe_before, report.probe_after, good=report.probe_after == "fixed"
    )
    yield _same("boot id", report.boot_id_before, report.boot_id_after)
    for one in report.container_records:
        yield _same(f"{one.name} is running since", clock(one.started_at), clock(one.started_at_after))
    yield Text()
    yield from map(_fact, _facts(report))
    yield Text()
    for claim in report.claims:
        if not claim.holds:
            yield Text.assemble(("  did not hold: ", "bold red"), f"{claim.text} ({claim.evidence})")
    if report.passed:
        yield Text.assemble(
            ("  ✓ ", "bold green"),
            f"{', '.join(report.cves) or report.fix} is closed in a running kernel; no container was restarted.",
        )
    yield Text(f"    the picture   {page}")
    yield Text(f"    the figures   {figures}")


def _facts(report: DemoReport) -> Iterator[tuple[str, str]]:
    yield "containers restarted", f"{report.containers_restarted} of {report.containers}"
    yield "connections kept", f"{report.connections_kept} of {report.containers}"
    at_load = milliseconds(report.max_heartbeat_gap_at_load_ms)
    whole, usual = milliseconds(report.max_heartbeat_gap_ms), milliseconds(report.typical_heartbeat_gap_ms)
    yield "longest heartbeat gap", f"{at_load} while it was applied, {whole} in the whole run (usual: {usual})"
    yield "transition", milliseconds(report.transition_ms)
    yield "build", f"{report.build_seconds} s"
    yield "the whole demo", elapsed(report.demo_seconds)


def _fact(fact: tuple[str, str]) -> Text:
    return Text(f"  {fact[0]:<{_FIRST}}{fact[1]}")


def _same(name: str, before: str, after: str) -> Text:
    short = before if len(before) < _SECOND else f"{before[: _SECOND - 4]}…"
    return _row(name, short, "the same" if before == after else after, good=before == after)


def _row(name: str, before: str, after: str, *, good: bool) -> Text:
    return Text.assemble(f"  {name:<{_FIRST}}{before:<{_SECOND}}", (after, "green" if good else "bold red"))
