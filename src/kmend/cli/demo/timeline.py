"""The timeline: what has been done, with its time, as it happens; on a terminal also what is under way."""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from kmend.cli.demo.report import Moment
from kmend.cli.demo.words import elapsed
from kmend.kit.errors import KmendError

_STILL_EVERY = 30.0
"""Seconds without a line after which a log hears what is under way."""
_INDENT = 20
_AREA = 9


class Timeline:
    """Collects moments and shows them; may be told from several threads. It is a kit.progress.Progress too."""

    def __init__(self, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._now = now
        self._begun = self._said = now()
        self._lock = threading.Lock()
        self._moments: list[Moment] = []
        self._doing: list[str] = []
        self._detail = self._amount = ""
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._now() - self._begun

    @property
    def moments(self) -> tuple[Moment, ...]:
        """All lines so far."""
        return tuple(self._moments)

    @contextmanager
    def stage(self, area: str, doing: str) -> Iterator[list[str]]:
        """One stage: the caller adds what came of it to the list; it is said when the block has ended."""
        begin = self._now()
        came: list[str] = []
        try:
            with self._under_way(doing, main=True):
                yield came
        except KmendError:
            self.say(area, f"{doing}: this did not work", took=self._now() - begin)
            raise
        self.say(area, "; ".join(came), took=self._now() - begin)

    @contextmanager
    def beside(self, doing: str) -> Iterator[Callable[[], None]]:
        """Something that goes on beside the stages of the block; call what is yielded when it has ended."""
        with ExitStack() as stack:
            stack.enter_context(self._under_way(doing, main=False))
            yield stack.close

    def say(self, area: str, text: str, *, took: float = 0.0) -> None:
        """Add a line."""
        with self._lock:
            moment = Moment(seconds=round(self.seconds, 2), took=round(took, 2), area=area, text=text)
            self._moments.append(moment)
            self._said = self._now()
            self._console.print(self._line(moment), soft_wrap=not self._console.is_terminal)

    def step(self, text: str) -> None:
        """What a stage is busy with (kit.progress)."""
        self._detail, self._amount = text, ""
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, description=escape(text), amount="")

    def amount(self, done: float, total: float, *, unit: str = "") -> None:
        """How far that is (kit.progress)."""
        spelled = (lambda number: decimal(int(number))) if unit == "bytes" else "{:g}".format
        self._amount = f"{spelled(done)} of {spelled(total)}" if total else spelled(done)
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, amount=self._amount)

    def note(self, text: str) -> None:
        """Details of a stage are not shown (kit.progress)."""

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show what is under way during the block: spinners on a terminal, else a line now and then."""
        if self._console.is_terminal:
            columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("[dim]{task.fields[amount]}"))
            with Bars(*columns, TimeElapsedColumn(), console=self._console, transient=True) as self._bars:
                yield
            self._bars = None
            return
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(ended,), daemon=True)
        ticker.start()
        try:
            yield
        finally:
            ended.set()
            ticker.join()

    @contextmanager
    def _under_way(self, doing: str, *, main: bool) -> Iterator[None]:
        self._doing.append(doing)
        task = self._bars.add_task(escape(doing), total=None, amount="") if self._bars is not None else None
        before = self._task
        if main:
            self._task, self._detail, self._amount = task, "", ""
        try:
            yield
        finally:
            self._doing.remove(doing)
            if main:
                self._task = before
            if self._bars is not None and task is not None:
                self._bars.remove_task(task)

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(1.0):
            with self._lock:
                if self._doing and self._now() - self._said >= _STILL_EVERY:
                    self._said = self._now()
                    text = ", ".join(self._doing)
                    detail = " ".join(filter(None, (self._detail, self._amount)))
                    text += f" ({detail})" if detail and detail not in text else ""
                    self._console.print(f"{elapsed(self.seconds):>7}  {'...':<{_AREA}}  {text}", soft_wrap=True)

    def _line(self, moment: Moment) -> Text:
        took = f"  {moment.took:.1f} s" if moment.took >= 1 else ""
        words = moment.text
        if self._console.is_terminal:
            room = max(30, self._console.width - _INDENT - len(took) - 1)
            words = f"\n{' ' * _INDENT}".join(textwrap.wrap(words, room))
        return Text.assemble(
            (f"{elapsed(moment.seconds):>7}  ", "dim"),
            (f"{moment.area:<{_AREA}}  ", "bold cyan"),
            words,
            (took, "dim"),
        )
