"""One virtual machine: QEMU started, watched and always ended."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kmend.kit.errors import MachineError
from kmend.kit.run import spawn
from kmend.lab.channel import Channel

FORWARDED = "10.0.2.100:8080"
"""Where the guest finds the one port of this machine that it reaches."""
NETWORK = "ip link set lo up; ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0"
"""Commands that give the guest its address."""
_QEMU = "qemu-system-x86_64"
_ENOUGH = 1 << 20


def forward_to(port: int | None) -> tuple[str, ...]:
    """A plan's ``forward`` to a port of this machine's loopback; to nothing when None."""
    if port is None:
        return ()
    return (sys.executable, "-IS", str(Path(__file__).with_name("relay.py")), str(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """What one VM is made of."""

    image: Path
    initrd: Path
    accelerator: str
    """``kvm`` or ``tcg``."""
    folder: Path
    """Scratch folder: console log; throw-away disk layers."""
    memory_mb: int = 512
    processors: int = 2
    command_line: tuple[str, ...] = ()
    disks: tuple[tuple[Path, str, bool], ...] = ()
    """(file, format, writable): a writable disk's changes are thrown away at the end unless ``keep_changes``."""
    keep_changes: bool = False
    forward: tuple[str, ...] = ()
    """Program and arguments that carry one connection to ``FORWARDED``; empty: the guest reaches nothing."""
    network: bool = False
    silence: float = 90
    """Seconds without a sign of life after which the guest counts as hung."""
    boot_limit: float = 300
    limit: float = 1800
    """Seconds that the VM may live at most."""


class Machine:
    """A running VM."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, plan: MachinePlan) -> None:
        self._process = process
        self.channel = channel
        self.plan = plan

    def console(self) -> str:
        """Everything on the serial console so far: the kernel log, and what the kernel wrote while dying."""
        return read_console(self.plan.folder)

    def wait_end(self, *, timeout: float) -> bool:
        """Wait until QEMU ends by itself (the guest powered off); False when it did not."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True


def read_console(folder: Path) -> str:
    """The console log in a VM's folder as text; empty when there is none."""
    path = folder / "console.log"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _ENOUGH))
        return file.read().decode(errors="replace").replace("\r", "")


@contextmanager
def machine(plan: MachinePlan) -> Iterator[Machine]:
    """A started VM whose guest has said hello; it is gone after the block, whatever happens.

    Raises:
        LostGuest: The guest did not come up.
        MachineError: QEMU is missing or refused its arguments.
    """
    deadline = time.monotonic() + plan.limit
    ours, theirs = socket.socketpair()
    with ours, theirs:
        args = qemu_args(plan, theirs.fileno())
        with (
            (plan.folder / "qemu.log").open("wb") as said,
            # QEMU lays throw-away disk layers into TMPDIR.
            spawn(
                args, stdout=said, stderr=said, pass_fds=[theirs.fileno()], env={"TMPDIR": str(plan.folder)}
            ) as process,
        ):
            theirs.close()
            channel = Channel(ours, obituary=lambda: _obituary(process, plan, deadline), silence=plan.silence)
            try:
                channel.wait_up(timeout=plan.boot_limit)
                yield Machine(process, channel, plan)
            finally:
                channel.close()


def _obituary(process: subprocess.Popen[bytes], plan: MachinePlan, deadline: float) -> str:
    code = process.poll()
    if code is None:
        late = time.monotonic() > deadline
        return f"The VM has used up its {plan.limit:g} s." if late else ""
    said = (plan.folder / "qemu.log").read_text(errors="replace").strip()
    if not read_console(plan.folder) and code > 0:
        raise MachineError(f"{_QEMU} did not start: {said or f'exit code {code}'}")
    if "Kernel panic" in read_console(plan.folder):
        return "The guest's kernel panicked."
    return f"The VM ended unexpectedly (exit code {code}). {said}".strip()


def boots(plan: MachinePlan, *, word: str, timeout: float) -> bool:
    """Whether a VM shows a word on its console within so many seconds; the VM is ended either way."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout
    args = qemu_args(plan, None)
    with (plan.folder / "qemu.log").open("wb") as said, spawn(args, stdout=said, stderr=said) as vm:
        while time.monotonic() < deadline:
            ended = vm.poll() is not None
            if word in read_console(plan.folder):
                return True
            if ended:
                return False
            time.sleep(0.1)
    return False


def qemu_args(plan: MachinePlan, channel: int | None) -> list[str]:
    """QEMU's command line. ``channel`` is the file descriptor of the guest channel's socket.

    The guest gets no default devices, no monitor, no way out but the forwarded port.
    """
    line = ["console=ttyS0", "panic=-1", "loglevel=7", "printk.devkmsg=on", *plan.command_line]
    return [
        _QEMU,
        *("-no-user-config", "-nodefaults", "-no-reboot", "-display", "none", "-monitor", "none"),
        # The forwarded port starts programs, which the stricter rules forbid.
        *("-sandbox", "on" if plan.forward else "on,elevateprivileges=deny,resourcecontrol=deny,spawn=deny"),
        *("-machine", "pc", "-smp", str(plan.processors), "-m", str(plan.memory_mb), "-rtc", "base=utc"),
        *_accelerator(plan.accelerator),
        *("-serial", f"file:{plan.folder / 'console.log'}"),
        *("-kernel", str(plan.image), "-initrd", str(plan.initrd), "-append", " ".join(line)),
        *_channel(channel),
        *_disks(plan),
        *_network(plan),
    ]


def _accelerator(name: str) -> Sequence[str]:
    if name == "kvm":
        return ("-accel", "kvm", "-cpu", "host")
    return ("-accel", "tcg,thread=multi", "-cpu", "max")


def _channel(descriptor: int | None) -> Sequence[str]:
    if descriptor is None:
        return ()
    return (
        *("-chardev", f"socket,id=channel,fd={descriptor}", "-device", "virtio-serial-pci"),
        *("-device", "virtserialport,chardev=channel,name=kmend,nr=1"),
    )


def _disks(plan: MachinePlan) -> Iterator[str]:
    for number, (path, form, writable) in enumerate(plan.disks):
        change = "" if plan.keep_changes else ",snapshot=on"
        mode = f"cache=unsafe{change}" if writable else "readonly=on"
        yield from ("-drive", f"if=none,id=disk{number},file={_escaped(path)},format={form},{mode}")
        yield from ("-device", f"virtio-blk-pci,drive=disk{number}")


def _network(plan: MachinePlan) -> Sequence[str]:
    if not plan.network:
        return ()
    # The only way out, carried by one short-lived program per connection.
    words = shlex.join(plan.forward).replace(",", ",,")
    forward = f",guestfwd=tcp:{FORWARDED}-cmd:{words}" if plan.forward else ""
    network = f"user,id=net,restrict=on,ipv6=off{forward}"
    return ("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile=")


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
