"""Shows kit.progress events: a live bar on a terminal, plain lines everywhere else. All to standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from kmend.kit.progress import Progress

_LINE_EVERY = 10.0
"""Seconds between two plain lines about the same step."""


@contextmanager
def shown(*, console: Console | None = None) -> Iterator[Progress]:
    """Progress for the block: bars when standard error is a terminal, else lines."""
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        lines = PlainLines(console.file)
        yield lines
        lines.end()
        return
    with _bars(console) as bars:
        live = _LiveBars(bars)
        yield live
        live.end()


class PlainLines:
    """One line per step when it begins, one every ten seconds while it runs, for logs and pipes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._step = ""
        self._begun = self._said = time.monotonic()

    def step(self, text: str) -> None:
        """Say what begins."""
        self.end()
        self._step, self._begun, self._said = text, time.monotonic(), time.monotonic()
        self._say(f"{text} ...")

    def amount(self, done: float, total: float, *, unit: str = "") -> None:
        """Say how far it is, now and then."""
        if time.monotonic() - self._said >= _LINE_EVERY:
            self._said = time.monotonic()
            self._say(f"{self._step}: {_amount(done, total, unit)}")

    def note(self, text: str) -> None:
        """Say it."""
        self._say(text)

    def end(self) -> None:
        """Say how long a long step took."""
        seconds = time.monotonic() - self._begun
        if self._step and seconds >= 1:
            self._say(f"{self._step}: done after {seconds:.0f} s")
        self._step = ""

    def _say(self, text: str) -> None:
        print(text, file=self._file, flush=True)


class _LiveBars:
    """The current step as a bar; steps that have ended stay above it as lines."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._task: TaskID | None = None
        self._step = ""
        self._begun = time.monotonic()

    def step(self, text: str) -> None:
        self.end()
        self._step, self._begun = text, time.monotonic()
        self._task = self._bars.add_task(escape(text), total=None, amount="")

    def amount(self, done: float, total: float, *, unit: str = "") -> None:
        if self._task is not None:
            self._bars.update(
                self._task, completed=done, total=total or None, amount=escape(_amount(done, total, unit))
            )

    def note(self, text: str) -> None:
        self._bars.console.print(f"  {escape(text)}", highlight=False)

    def end(self) -> None:
        if self._task is None:
            return
        self._bars.remove_task(self._task)
        self._task = None
        seconds = time.monotonic() - self._begun
        self._bars.console.print(f"[green]✓[/] {escape(self._step)} [dim]{seconds:.1f} s[/]", highlight=False)


def _bars(console: Console) -> Bars:
    return Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.fields[amount]}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _amount(done: float, total: float, unit: str) -> str:
    if unit == "bytes":
        have, whole = decimal(int(done)), decimal(int(total))
    else:
        have, whole = f"{done:g}", f"{total:g}{f' {unit}' if unit else ''}"
    return f"{have} of {whole}" if total else have
