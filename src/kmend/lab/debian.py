"""The Debian guest, running: systemd, Docker, three containers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kmend.kit.run import run
from kmend.lab.guest import Guest, GuestFault
from kmend.lab.initramfs import initramfs, program
from kmend.lab.machine import Machine, MachinePlan, machine
from kmend.lab.probes import wanted_modules
from kmend.lab.programs import compile_static, own_source
from kmend.model.kernel import Kit

CONTAINERS = {"web": "database", "database": "queue", "queue": "web"}
"""Each container and the one that it keeps a connection with."""
PROBING = "web"
"""The container that runs the probes."""
BEAT_FOLDER = "/run/kmend/beat"
_PROBE_EVERY_MS = 250
_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "overlay", "veth", "bridge", "ext4")


def container_args(name: str) -> list[str]:
    """Arguments of ``docker create``: an unprivileged container, restarted by Docker should it ever stop."""
    every = str(_PROBE_EVERY_MS if name == PROBING else 0)
    return [
        *("--name", name, "--hostname", name, "--user", "65534:65534", "--cap-drop", "ALL", "--read-only"),
        *("--security-opt", "no-new-privileges", "--restart", "always"),
        *("--tmpfs", "/tmp:rw,mode=1777"),  # noqa: S108 - in the container; O_TMPFILE probes need a file system
        *("-v", f"{BEAT_FOLDER}:/beat", "-v", "/run/kmend/probes:/probes:ro"),
        *("kmend-lab", "/bin/beat", name, CONTAINERS[name], every),
    ]


class DebianGuest(Guest):
    """A Debian guest that has said hello; systemd may still be starting services."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine, program="/run/kmend/guest")

    def wait_docker(self, *, timeout: float = 300) -> None:
        """Wait until Docker's service is up.

        Raises:
            GuestFault: It failed or did not come up in time.
            LostGuest: The guest is gone.
        """
        deadline = time.monotonic() + timeout
        state = ""
        while time.monotonic() < deadline:
            state = self.run(["systemctl", "is-active", "docker.service"])[1].strip()
            if state in ("active", "failed"):
                break
            time.sleep(0.5)
        if state != "active":
            journal = self.run(["journalctl", "-u", "docker", "-u", "containerd", "-n", "20", "--no-pager"])[1]
            raise GuestFault(f"Docker did not come up in the guest ({state or 'no answer'}):\n{journal}")


@contextmanager
def debian_machine(
    kit: Kit,
    folder: Path,
    *,
    disk: Path,
    accelerator: str,
    probes: Mapping[str, str] | None = None,
    forward: tuple[str, ...] = (),
    keep_changes: bool = False,
    silence: float = 120,
    limit: float = 2400,
) -> Iterator[Machine]:
    """A running Debian guest with this kit's kernel and modules; gone after the block.

    Raises:
        LostGuest: It did not come up.
    """
    probes = probes or {}
    modules_disk, initrd = folder / "modules.img", folder / "initrd"
    _make_modules_disk(kit, modules_disk)
    files = {
        f"lab/probes/{name}": program(compile_static(source, name=name, folder=folder))
        for name, source in probes.items()
    }
    at_once = [*_MODULES, *(module for source in probes.values() for module in wanted_modules(source))]
    guest = compile_static(own_source("guest"), name="guest", folder=folder)
    initrd.write_bytes(initramfs(kit, guest=guest, modules=at_once, files=files))
    plan = MachinePlan(
        image=kit.image,
        initrd=initrd,
        accelerator=accelerator,
        folder=folder,
        memory_mb=1536,
        command_line=("kmend.root=1", "systemd.show_status=0", "systemd.log_target=journal"),
        disks=((disk, "raw", True), (modules_disk, "raw", False)),
        keep_changes=keep_changes,
        network=True,
        forward=forward,
        silence=silence,
        limit=limit,
    )
    with machine(plan) as vm:
        yield vm


def _make_modules_disk(kit: Kit, disk: Path) -> None:
    """The kernel's modules as a read-only ext4 disk: the guest's own disk knows no kernel."""
    size = sum(path.lstat().st_size for path in kit.modules.rglob("*") if not path.is_symlink())
    room = size // 1_000_000 * 5 // 4 + 64
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", kit.modules, disk, f"{room}M"], timeout=300)
