"""A running guest as the scenario sees it, whatever the profile: files, commands, the livepatch in it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

from kmend.kit.errors import MachineError
from kmend.lab import kernel_log
from kmend.lab.channel import Answer
from kmend.lab.machine import Machine
from kmend.linux.kernel import note_build_id
from kmend.model.lab import ContainerRecord, ProbeResult

_LOAD_LIMIT = 600.0
"""Seconds to load a module: one of hundreds of functions takes minutes where software plays a busy processor."""


class GuestFault(MachineError):  # noqa: N818 - a noun of the lab
    """Something in the guest did not go as the scenario demands."""


class Guest:
    """A running VM with Linux up.

    Args:
        machine: The VM.
        program: Path of the guest program in the guest.
    """

    def __init__(self, machine: Machine, *, program: str) -> None:
        self.machine = machine
        self.program = program

    @property
    def accelerator(self) -> str:
        """``kvm`` or ``tcg``."""
        return self.machine.plan.accelerator

    def answer(self, args: Sequence[str], *, timeout: float = 60, uid: int = 0, stdin: bytes = b"") -> Answer:
        """Run a command in the guest, as root if not told otherwise. Raises LostGuest."""
        return self.machine.channel.run(args, timeout=timeout, uid=uid, stdin=stdin)

    def run(self, args: Sequence[str], timeout: float = 60) -> tuple[int, str, str]:
        """Run a command as root: exit code (124: out of time), output, error output. Raises LostGuest."""
        answer = self.answer(args, timeout=timeout)
        return answer.code, answer.text, answer.stderr.decode(errors="replace")

    def must(self, args: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> str:
        """Run a command as root and return its output.

        Raises:
            GuestFault: It failed.
            LostGuest: The guest is gone.
        """
        answer = self.answer(args, timeout=timeout, stdin=stdin)
        if answer.code != 0:
            raise GuestFault(f"In the guest, {' '.join(args)} ended with {answer.code}: {answer.error_text}")
        return answer.text

    def put(self, path: str, content: bytes) -> None:
        """Write a file; its folder must exist."""
        self.must(["dd", f"of={path}", "bs=65536"], stdin=content, timeout=120)

    def get(self, path: str) -> bytes:
        """Read a file.

        Raises:
            GuestFault: It is not there.
        """
        answer = self.answer(["cat", path])
        if answer.code != 0:
            raise GuestFault(f"In the guest: {answer.error_text}")
        return answer.stdout

    def boot_id(self) -> str:
        """The kernel's id of this boot."""
        return self.get("/proc/sys/kernel/random/boot_id").decode().strip()

    def build_id(self) -> str:
        """GNU build id of the running kernel, lower-case hex; empty when it has none."""
        return note_build_id(self.get("/sys/kernel/notes"))

    def taint(self) -> int:
        """The kernel's taint flags (Documentation/admin-guide/tainted-kernels.rst)."""
        return int(self.get("/proc/sys/kernel/tainted"))

    def loaded_modules(self) -> frozenset[str]:
        """Names of the loaded modules."""
        lines = self.get("/proc/modules").decode().splitlines()
        return frozenset(line.split()[0] for line in lines if line)

    def kernel_log(self) -> str:
        """The kernel log since boot, as on the serial console; it is there even when the guest is dead."""
        return self.machine.console()

    def mark_log(self, text: str) -> None:
        """Write a line into the kernel log and wait until the console shows it (20 s at most)."""
        self.must(["sh", "-c", 'echo "$1" > /dev/kmsg', "sh", text])
        deadline = time.monotonic() + 20
        while text not in self.kernel_log() and time.monotonic() < deadline:
            time.sleep(0.05)

    def load(self, path: str) -> str:
        """Load a module file with finit_module; an empty string, or why it was refused."""
        before = len(self.kernel_log())
        answer = self.answer([self.program, "load", path], timeout=_LOAD_LIMIT)
        if answer.code == 0:
            return ""
        words = [text for _, text in kernel_log.messages(self.kernel_log()[before:])][-5:]
        return f"{answer.error_text or f'code {answer.code}'}; kernel: {' | '.join(words) or 'nothing'}"

    def unload(self, name: str, *, timeout: float) -> str:
        """Remove a module, trying while it is in use; an empty string, or why not."""
        deadline = time.monotonic() + timeout
        while True:
            answer = self.answer([self.program, "unload", name])
            if answer.code == 0 or time.monotonic() > deadline:
                return answer.error_text if answer.code else ""
            time.sleep(0.2)

    def livepatch_fact(self, name: str, fact: str) -> str:
        """``/sys/kernel/livepatch/NAME/FACT``, stripped; empty when it is not there."""
        answer = self.answer(["cat", f"/sys/kernel/livepatch/{name}/{fact}"])
        return answer.text.strip() if answer.code == 0 else ""

    def disable_livepatch(self, name: str) -> str:
        """Begin the way back; an empty string, or why it was refused."""
        answer = self.answer(["sh", "-c", f"echo 0 > /sys/kernel/livepatch/{name}/enabled"])
        return answer.error_text if answer.code else ""

    def stuck_tasks(self, target: int) -> str:
        """The tasks that a transition still waits for: pid and name."""
        script = "for d in /proc/[0-9]*/task/[0-9]*; do s=$(cat $d/patch_state 2>/dev/null); "
        script += f'[ "$s" = {1 - target} ] && echo "${{d##*/}} $(cat $d/comm)"; done | head -20'
        return self.answer(["sh", "-c", script], timeout=60).text.strip().replace("\n", ", ")


class StagedGuest(Guest, ABC):
    """A guest with all that the scenario needs of a profile."""

    @abstractmethod
    def probe(self) -> dict[str, ProbeResult]:
        """Ask every probe: name → what it says."""

    @abstractmethod
    def containers(self) -> tuple[ContainerRecord, ...]:
        """How each container fared from when all were up until now."""

    @abstractmethod
    def modprobe(self, name: str) -> None:
        """Load one of the kernel's own modules with what it needs. Raises GuestFault."""
