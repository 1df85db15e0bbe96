"""Unpacks several archives at once, shows how far that is, and goes on after an interruption."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kmend.kit.errors import KmendError, MachineError, ProgramError
from kmend.kit.progress import Progress
from kmend.kit.run import spawn

_LOOK_EVERY = 0.1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One archive to unpack; ``done`` is a mark that exists once it was unpacked whole."""

    archive: Path
    command: tuple[str, ...]
    """The program, which reads the archive from its standard input."""
    done: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    archive: IO[bytes]
    errors: IO[bytes]

    @property
    def fed(self) -> int:
        """Bytes of the archive that the program has got."""
        return os.lseek(self.archive.fileno(), 0, os.SEEK_CUR)


def unpack(jobs: Sequence[Job], *, progress: Progress) -> None:
    """Run all jobs side by side; those whose mark exists are skipped. One failure ends them all.

    The archives go through pipes that this process feeds: when it is killed, the pipes end, and with them every
    program at their other end, also those that the unpacking programs have started.

    Raises:
        MachineError: The disk is full.
        ProgramError: An archive cannot be unpacked.
    """
    todo = [job for job in jobs if not job.done.exists()]
    total = sum(job.archive.stat().st_size for job in todo)
    with ExitStack() as stack:
        running = [_start(job, stack) for job in todo]
        left = list(running)
        while left:
            progress.amount(sum(each.fed for each in running), total, unit="bytes")
            _feed(left)
            for each in [each for each in left if each.process.poll() is not None]:
                _finish(each)
                left.remove(each)
        progress.amount(total, total, unit="bytes")


def _feed(left: Sequence[_Running]) -> None:
    """Give each program what it takes of its archive now; wait a moment when none takes any."""
    pipes = {each.process.stdin: each for each in left if each.process.stdin and not each.process.stdin.closed}
    if not pipes:
        with suppress(subprocess.TimeoutExpired):
            left[0].process.wait(_LOOK_EVERY)
        return
    _, ready, _ = select.select([], list(pipes), [], _LOOK_EVERY)
    for pipe in ready:
        try:
            sent = os.sendfile(pipe.fileno(), pipes[pipe].archive.fileno(), None, _CHUNK)
        except BlockingIOError:
            continue
        except BrokenPipeError:  # the program has ended; its exit code says why
            sent = 0
        if sent == 0:
            with suppress(BrokenPipeError):
                pipe.close()


def tar_command(folder: Path) -> tuple[str, ...]:
    """Unpacks an xz-compressed tar archive into a folder, owned by whoever runs it."""
    return ("tar", "--extract", "--xz", "--file=-", f"--directory={folder}", "--no-same-owner")


def _start(job: Job, stack: ExitStack) -> _Running:
    archive = stack.enter_context(job.archive.open("rb", buffering=0))
    errors = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    # xz uses all processors where the archive was packed in blocks.
    process = stack.enter_context(
        spawn(job.command, stdin=True, stdout=errors, stderr=errors, env={"XZ_DEFAULTS": "-T0"})
    )
    if process.stdin:
        os.set_blocking(process.stdin.fileno(), False)
    return _Running(job=job, process=process, archive=archive, errors=errors)


def _finish(each: _Running) -> None:
    if each.process.returncode != 0:
        raise _why(each)
    each.job.done.parent.mkdir(parents=True, exist_ok=True)
    each.job.done.touch()


def _why(each: _Running) -> KmendError:
    each.errors.seek(0)
    said = each.errors.read().decode(errors="replace").strip()
    if "No space left" in said:
        return MachineError(
            f"The disk became full while {each.job.archive.name} was unpacked.",
            hint="Free some space and run the same command again; it goes on where it was.",
        )
    return ProgramError(
        f"{each.job.archive.name} cannot be unpacked: {each.job.command[0]} ended with code "
        f"{each.process.returncode}: {said}",
        hint="Run the same command again.",
        code=each.process.returncode,
        output=said,
    )
