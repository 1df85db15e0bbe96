"""The one door for running programs: argument list, timeout, output kept, no child left behind."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kmend.kit.errors import ProgramError

log = logging.getLogger(__name__)

_TAIL_LINES = 25
# util-linux's setpriv makes the kernel end the child when kmend itself is killed.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a program left: exit code (negative: ended by that signal), its output, and seconds it took."""

    args: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes
    seconds: float

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are shown as replacement characters."""
        return self.stdout.decode(errors="replace")


def run(
    args: Sequence[str | Path],
    *,
    timeout: float = 600,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    stdout: IO[bytes] | None = None,
    check: bool = True,
) -> Finished:
    """Run a program to its end and return what it left.

    Args:
        args: Program and arguments; never a shell string.
        timeout: Seconds; then the program and all its children are killed.
        cwd: Folder to run in.
        env: Added to this process's environment; ``LC_ALL=C.UTF-8`` is always set.
        stdin: Bytes to feed; without it the program reads an empty input.
        stdout: An open file that takes the output instead of memory.
        check: Raise when the exit code is not 0.

    Raises:
        ProgramError: The program is missing, ran out of time, or (with ``check``) failed.
    """
    words = tuple(str(word) for word in args)
    log.debug("run: %s", shlex.join(words))
    begin = time.monotonic()
    with spawn(words, cwd=cwd, env=env, stdin=stdin is not None, stdout=stdout) as process:
        try:
            out, err = process.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise ProgramError(
                f"{words[0]} did not end within {timeout:g} s: {shlex.join(words)}",
                hint="The machine may be overloaded; try again, or look at the program by hand.",
            ) from None
    done = Finished(
        args=words,
        code=process.returncode,
        stdout=out or b"",
        stderr=err or b"",
        seconds=time.monotonic() - begin,
    )
    if check and done.code != 0:
        raise failed(done)
    return done


def failed(done: Finished) -> ProgramError:
    """The error for a program that ended badly: command line to paste, exit code, last lines of output."""
    output = (done.stderr.decode(errors="replace").strip() or done.text.strip()).splitlines()
    tail = "\n".join(output[-_TAIL_LINES:])
    return ProgramError(
        f"{done.args[0]} failed with exit code {done.code}: {shlex.join(done.args)}\n{tail}".rstrip(),
        code=done.code,
        output=tail,
    )


@contextmanager
def spawn(
    args: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bool = False,
    stdout: IO[bytes] | None = None,
    stderr: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A running program in a process group of its own; leaving the block ends the whole group.

    The kernel ends the program too when kmend is killed (PR_SET_PDEATHSIG), so nothing is left behind.

    Raises:
        ProgramError: The program is missing.
    """
    words = [str(word) for word in args]
    _check_present(words[0], {**os.environ, **(env or {})}.get("PATH"))
    try:
        process = subprocess.Popen(
            [*_DIE_WITH_PARENT, *words],
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=stdout or subprocess.PIPE,
            stderr=stderr or subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise _missing(str(error.filename)) from None
    try:
        yield process
    finally:
        _end(process)


def _check_present(program: str, path: str | None) -> None:
    """Say by its own name that a program is missing; setpriv would say it of itself."""
    if "/" not in program and shutil.which(program, path=path) is None:
        raise _missing(program)


def _missing(program: str) -> ProgramError:
    return ProgramError(f"{program} is not on this machine.", hint="Install it with apt-get and try again.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a process group and collect it."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
