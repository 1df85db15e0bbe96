"""A fake Linux machine: a folder with /proc, /sys and /dev, and a loader that behaves like the kernel.

Loading makes sysfs entries, transitions take time, replaced livepatches leave, modules in use stay.
"""

import errno
import shutil
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kmend.agent import config
from kmend.agent.apply import Host
from kmend.agent.daemon import Daemon
from kmend.linux.modules import module_error
from kmend.model.host import ContainerRuns
from kmend.model.kernel import Kernel
from makers.nouns import KERNEL


class FakeClock:
    """Time that passes only when somebody sleeps; each sleep lets the fake kernel work too."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.ticks = []

    def now(self) -> datetime:
        """Real time plus what was slept."""
        return datetime.now(tz=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Slept seconds."""
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
        for tick in self.ticks:
            tick()


class FakeSurroundings:
    """Units and containers as tests set them; ``None`` means that nobody answers."""

    def __init__(self) -> None:
        self.failed: list[str] | None = []
        self.containers: dict[str, list[ContainerRuns] | None] = {}
        self.down: bool | None = False
        self.units: dict[str, str | None] = {}

    def failed_units(self) -> tuple[str, ...] | None:
        """What systemctl would list."""
        return None if self.failed is None else tuple(self.failed)

    def unit_state(self, name: str) -> str | None:
        """What systemctl is-active would say."""
        return self.units.get(name, "inactive")

    def going_down(self) -> bool | None:
        """What systemctl is-system-running would mean."""
        return self.down

    def runtimes(self) -> tuple[str, ...]:
        """Whose programs are there."""
        return tuple(self.containers)

    def container_runs(self, runtime: str, *, now: datetime) -> tuple[ContainerRuns, ...] | None:
        """What the runtime would list."""
        listed = self.containers[runtime]
        return None if listed is None else tuple(listed)

    def run(self, name: str, *, restarts: int = 0, steady: bool = True, runtime: str = "docker") -> None:
        """A container is there, and has been started again so many times."""
        runs = ContainerRuns(runtime=runtime, id=f"id-{name}", name=name, restarts=restarts, steady=steady)
        others = [one for one in self.containers.get(runtime) or [] if one.name != name]
        self.containers[runtime] = [*others, runs]


class FakeMachine:
    """The folder and the kernel in it.

    ``transition_ticks`` is how many sleeps a transition takes (None: it never ends); ``refuse`` is the errno that
    loading fails with; ``log_on_load`` is written to the kernel log when a module was loaded.
    """

    def __init__(self, root: Path, *, kernel: Kernel = KERNEL, boot: int = 1) -> None:
        self.root = root
        self.kernel = kernel
        self.clock = FakeClock()
        self.around = FakeSurroundings()
        self.clock.ticks.append(self._work)
        self.transition_ticks: int | None = 2
        self.refuse = 0
        self.log_on_load: list[str] = []
        self.loaded: list[tuple[str, bytes]] = []
        self._pending: dict[str, tuple[str, int | None]] = {}
        self._records = 0
        self._write("proc/sys/kernel/osrelease", kernel.release)
        self._write("proc/sys/kernel/version", f"#1 SMP PREEMPT_DYNAMIC Debian {kernel.version} (2026-05-01)")
        self._write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro quiet")
        self._write("dev/kmsg", "")
        (root / "sys/kernel").mkdir(parents=True)
        (root / "sys/kernel/notes").write_bytes(make_notes(kernel.build_id))
        self.boot(boot)

    def host(self, **settings: Any) -> Host:
        """The machine as the agent takes it."""
        return Host(root=self.root, loader=self, clock=self.clock, around=self.around, **{"soak": 10, **settings})

    def enrol(self, made: Any) -> None:
        """Let it follow the channel edge of a simulated repository."""
        config.enrol(self.host().paths, root_json=made.root, repo=str(made.repo), channel="edge", now=made.now)

    def boot(self, number: int) -> None:
        """Start anew: nothing is loaded."""
        self._write("proc/sys/kernel/random/boot_id", f"{number:08d}-0000-0000-0000-000000000000\n")
        shutil.rmtree(self.root / "sys/kernel/livepatch", ignore_errors=True)
        shutil.rmtree(self.root / "sys/module", ignore_errors=True)
        (self.root / "sys/kernel/livepatch").mkdir(parents=True)
        (self.root / "sys/module").mkdir()
        self._pending.clear()

    def load(self, name: str, content: bytes) -> None:
        """finit_module: the livepatch appears and its transition begins."""
        if self.refuse:
            self.log(f"module {name} is refused")
            raise module_error(f"load {name}", self.refuse)
        if self._module(name).exists():
            raise module_error(f"load {name}", errno.EEXIST)
        self.loaded.append((name, content))
        self._write(f"sys/module/{name}/initstate", "live\n")
        self._write(f"sys/kernel/livepatch/{name}/enabled", "1\n")
        self._write(f"sys/kernel/livepatch/{name}/transition", "1\n")
        self._pending[name] = ("in", self.transition_ticks)
        self.log(f"livepatch: enabling patch '{name}'")
        for line in self.log_on_load:
            self.log(line)

    def remove(self, name: str) -> None:
        """delete_module: refused while the livepatch is there."""
        if not self._module(name).exists():
            raise module_error(f"remove {name}", errno.ENOENT)
        if self._livepatch(name).exists():
            raise module_error(f"remove {name}", errno.EAGAIN)
        shutil.rmtree(self._module(name))

    def foreign(self, name: str) -> None:
        """A livepatch that somebody else has loaded."""
        self._write(f"sys/kernel/livepatch/{name}/enabled", "1\n")
        self._write(f"sys/kernel/livepatch/{name}/transition", "0\n")

    def task(
        self, pid: int, *, thread: int = 0, name: str = "dd", state: str = "0", stack: str | None = ""
    ) -> None:
        """A thread as /proc shows it during a transition; ``stack`` None: it may not be read."""
        folder = f"proc/{pid}/task/{thread or pid}"
        self._write(f"{folder}/comm", f"{name}\n")
        self._write(f"{folder}/patch_state", f"{state}\n")
        if stack is not None:
            self._write(f"{folder}/stack", stack)

    def log(self, text: str) -> None:
        """Write a record to the kernel log."""
        self._records += 1
        with (self.root / "dev/kmsg").open("a") as file:
            file.write(f"6,{self._records},{self._records * 1000},-;{text}\n")

    def livepatches(self) -> list[str]:
        """Names in sysfs."""
        return sorted(path.name for path in (self.root / "sys/kernel/livepatch").iterdir())

    def modules(self) -> list[str]:
        """Names of loaded modules."""
        return sorted(path.name for path in (self.root / "sys/module").iterdir())

    def files(self) -> dict[str, bytes]:
        """Everything that the agent keeps, for comparing before and after."""
        kept = [*self.root.glob("etc/kmend/*"), *self.root.glob("var/lib/kmend/*.json")]
        return {str(path): path.read_bytes() for path in kept}

    def _work(self) -> None:
        """What the kernel does while the agent sleeps."""
        for path in (self.root / "sys/kernel/livepatch").iterdir():
            leaving = (path / "enabled").read_text().strip() == "0"
            if leaving and self._pending.get(path.name, ("", 0))[0] != "out":
                (path / "transition").write_text("1\n")
                self._pending[path.name] = ("out", 2)
        for name, (way, left) in list(self._pending.items()):
            if left is not None:
                self._pending[name] = (way, left - 1)
                if left <= 1:
                    self._finish(name, way)

    def _finish(self, name: str, way: str) -> None:
        del self._pending[name]
        if way == "out":
            shutil.rmtree(self._livepatch(name))
            return
        (self._livepatch(name) / "transition").write_text("0\n")
        for other in self.livepatches():
            if other != name:  # .replace = true
                shutil.rmtree(self._livepatch(other))

    def _livepatch(self, name: str) -> Path:
        return self.root / "sys/kernel/livepatch" / name

    def _module(self, name: str) -> Path:
        return self.root / "sys/module" / name

    def _write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)


def make_notes(build_id: str) -> bytes:
    """ELF notes as in /sys/kernel/notes: another note first, then the build id."""
    value = bytes.fromhex(build_id)
    other = struct.pack("<III", 6, 5, 0x100) + b"Linux\0\0\0" + b"12345\0\0\0"
    return other + struct.pack("<III", 4, len(value), 3) + b"GNU\0" + value


def run_for(machine: FakeMachine, seconds: float, running: Daemon) -> None:
    """Let a daemon run for so many seconds, then ask it to end."""
    end = machine.clock.monotonic() + seconds

    def tick() -> None:
        if machine.clock.monotonic() >= end:
            raise KeyboardInterrupt

    machine.clock.ticks.append(tick)
    try:
        running.run()
    except KeyboardInterrupt:
        return
    finally:
        machine.clock.ticks.remove(tick)
