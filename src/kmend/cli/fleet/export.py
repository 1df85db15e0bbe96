"""Lists of the fleet as CSV or JSON, page by page, for spreadsheets and other programs."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import click

from kmend.kit.files import write_problem
from kmend.model import wire
from kmend.model.fleet import Event, Host
from kmend.model.rollout import Rollout

T = TypeVar("T")
Cell = str | int | None
FORMATS = click.Choice(["csv", "json"])
format_option = click.option("--format", "kind", type=FORMATS, default="csv", show_default=True, help="How.")
output_option = click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="File to write; else standard output."
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""A spreadsheet runs a cell that begins with one of these."""


def export(found: Iterable[T], row: Callable[[T], Mapping[str, Cell]], *, kind: str, output: Path | None) -> None:
    """Write everything as CSV, a row for each and a head above them, or as a JSON array of what the API has.

    Raises:
        MachineError: The file cannot be written.
    """
    lines = _as_csv(map(row, found)) if kind == "csv" else _as_json(found)
    if output is None:
        for line in lines:
            sys.stdout.write(line)
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            file.writelines(lines)
    except OSError as error:
        raise write_problem(output, error) from error


def host_row(host: Host) -> dict[str, Cell]:
    """A host as a row."""
    report = host.report
    return {
        "id": host.id,
        "name": host.name,
        "channel": host.channel,
        "labels": ",".join(f"{key}={value}" for key, value in sorted(host.labels.items())),
        "enrolled": _moment(host.enrolled),
        "seen": _moment(host.seen),
        "kernel": report.kernel.release if report else None,
        "build_id": report.kernel.build_id if report else None,
        "livepatch": report.running if report else None,
        "phase": report.phase.value if report else None,
        "quarantined": ",".join(str(one.number) for one in report.quarantined) if report else None,
        "failure": f"livepatch {report.failure.number}: {report.failure.reason}"
        if report and report.failure
        else None,
        "held": report.held if report else None,
        "agent": report.agent if report else None,
    }


def rollout_row(rollout: Rollout) -> dict[str, Cell]:
    """A rollout as a row."""
    updated = rollout.health.updated
    return {
        "id": rollout.id,
        "name": rollout.plan.name,
        "channel": rollout.plan.channel,
        "livepatches": ",".join(f"{one.build_id}={one.number}" for one in rollout.plan.livepatches),
        "state": rollout.state.value,
        "reason": rollout.reason,
        "wave": rollout.wave + 1,
        "waves": len(rollout.plan.waves),
        "created": _moment(rollout.created),
        "done": rollout.health.done,
        "in_flight": rollout.health.in_flight,
        "pending": rollout.health.pending,
        "failed": updated.failed,
        "quarantined": updated.quarantined,
        "rebooted": updated.rebooted,
        "silent": updated.silent,
    }


def event_row(event: Event) -> dict[str, Cell]:
    """An event as a row."""
    return {
        "id": event.id,
        "at": _moment(event.at),
        "kind": event.kind.value,
        "host": event.host,
        "rollout": event.rollout,
        "text": event.text,
    }


def _as_csv(rows: Iterable[Mapping[str, Cell]]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.writer(line)
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        writer.writerow([_harmless(cell) for cell in row.values()])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _as_json(found: Iterable[object]) -> Iterator[str]:
    begin = "[\n"
    for one in found:
        yield begin + json.dumps(wire.plain(one))
        begin = ",\n"
    yield "\n]\n" if begin != "[\n" else "[]\n"


def _harmless(cell: Cell) -> Cell:
    """The cell, with a quote before it where a spreadsheet would take it for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
