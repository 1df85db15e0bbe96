"""Tasks that keep a transition from ending (Documentation/livepatch/livepatch.rst, consistency model)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kmend.model.host import BlockingTask

_MOST = 20
_DEPTH = 16
_UNPATCHED, _PATCHED = "0", "1"
_FRAME = re.compile(r"\[<[0-9a-f]*>\] ([\w.]+)")


def blocking_tasks(root: Path = Path("/"), *, enabled: bool) -> tuple[BlockingTask, ...]:
    """The tasks, threads and kernel threads that have not changed over yet; at most 20.

    Args:
        root: Of the machine.
        enabled: Whether the livepatch is on its way in (else out).

    Empty when there is none, and when /proc may not be read. A CPU's idle task blocks too, but is not in /proc.
    """
    old = _UNPATCHED if enabled else _PATCHED
    found = []
    for folder in _threads(root):
        try:
            if (folder / "patch_state").read_text().strip() == old:
                found.append(_task(folder))
        except (OSError, ValueError):  # it may go while it is being read
            continue
        if len(found) == _MOST:
            break
    return tuple(found)


def _threads(root: Path) -> Iterator[Path]:
    for process in sorted(root.glob("proc/[0-9]*"), key=lambda path: int(path.name)):
        yield from process.glob("task/[0-9]*")


def _task(folder: Path) -> BlockingTask:
    return BlockingTask(
        pid=int(folder.parents[1].name),
        thread=int(folder.name),
        name=(folder / "comm").read_text().strip(),
        stack=_stack(folder / "stack"),
    )


def _stack(path: Path) -> tuple[str, ...]:
    """The functions in which a task is, innermost first; empty when they may not be read."""
    try:
        return tuple(_FRAME.findall(path.read_text()))[:_DEPTH]
    except OSError:
        return ()
