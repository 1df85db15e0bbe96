"""The quick profile: that kernel with an initramfs of busybox, up in seconds; no containers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kmend.kit.errors import MachineError
from kmend.lab.guest import GuestFault, StagedGuest
from kmend.lab.initramfs import (
    initramfs,
    link,
    module_content,
    module_order,
    program,
)
from kmend.lab.machine import NETWORK, Machine, MachinePlan, forward_to, machine
from kmend.lab.probes import probe_result, wanted_modules
from kmend.lab.programs import compile_static, own_source
from kmend.linux.modules import module_name
from kmend.model.kernel import Kit
from kmend.model.lab import ContainerRecord, ProbeResult

_MODULES = ("virtio_pci", "virtio_console")
_BUSYBOX = Path("/bin/busybox")
_APPLETS = ("sh", "cat", "dd", "ls", "md5sum", "head", "sleep", "kill", "true", "ps", "grep", "find", "ip")
_NOBODY = 65534
_PROBE_TIMEOUT = 60.0
_MEMORY_MB = 480
_COPIES = 3
"""The archive, what is unpacked from it, and the modules once they are loaded."""


class QuickGuest(StagedGuest):
    """The quick profile's guest."""

    def __init__(self, machine: Machine, *, program: str, kit: Kit, probes: tuple[str, ...]) -> None:
        super().__init__(machine, program=program)
        self._kit = kit
        self._probes = probes

    def probe(self) -> dict[str, ProbeResult]:
        """Run every probe once as an unprivileged user: name → what it says."""
        return {name: self._probe(name) for name in self._probes}

    def _probe(self, name: str) -> ProbeResult:
        code = self.answer([f"/lab/probes/{name}"], timeout=_PROBE_TIMEOUT, uid=_NOBODY).code
        return probe_result(code)

    def modprobe(self, name: str) -> None:
        """Load a module of the kernel and what it needs.

        Raises:
            GuestFault: The kernel refused.
        """
        loaded = self.loaded_modules()
        for file in module_order(self._kit.modules, [name]):
            if module_name(file) not in loaded and (why := self.load(f"/lib/modules/{module_name(file)}.ko")):
                raise GuestFault(f"{module_name(file)} was not loaded: {why}")

    def containers(self) -> tuple[ContainerRecord, ...]:
        """None in this profile."""
        return ()


@contextmanager
def quick_guest(
    kit: Kit,
    folder: Path,
    *,
    accelerator: str,
    probes: Mapping[str, str],
    spare_modules: Iterable[str] = (),
    files: Mapping[str, tuple[int, bytes]] | None = None,
    forward_port: int | None = None,
    silence: float = 90,
    limit: float = 900,
) -> Iterator[QuickGuest]:
    """A running quick guest; it is gone after the block.

    Args:
        kit: The kernel.
        folder: Scratch folder.
        accelerator: ``kvm`` or ``tcg``.
        probes: Name → C source.
        spare_modules: Modules that come along without being loaded, for ``modprobe``.
        files: More files, as for ``initramfs.cpio``.
        forward_port: Port of this machine's loopback that the guest reaches at ``machine.FORWARDED``; nothing else
            is reachable for it, and without a port nothing at all.
        silence: Seconds without a sign of life after which the guest counts as hung.
        limit: Seconds that the VM may live at most.

    Raises:
        LostGuest: It did not come up.
    """
    initrd = folder / "initrd"
    network = ("virtio_net",) if forward_port else ()
    archive = _archive(kit, folder, probes=probes, spare_modules=spare_modules, modules=network, files=files or {})
    initrd.write_bytes(archive)
    plan = MachinePlan(
        image=kit.image,
        initrd=initrd,
        accelerator=accelerator,
        folder=folder,
        memory_mb=_MEMORY_MB + _COPIES * len(archive) // 1_000_000,
        network=forward_port is not None,
        forward=forward_to(forward_port),
        silence=silence,
        limit=limit,
    )
    with machine(plan) as vm:
        guest = QuickGuest(vm, program="/init", kit=kit, probes=tuple(probes))
        if forward_port:
            guest.must(["sh", "-c", NETWORK])
        yield guest


def _archive(
    kit: Kit,
    folder: Path,
    *,
    probes: Mapping[str, str],
    spare_modules: Iterable[str],
    modules: Iterable[str],
    files: Mapping[str, tuple[int, bytes]],
) -> bytes:
    if not _BUSYBOX.exists():
        raise MachineError(f"{_BUSYBOX} is not on this machine.", hint="apt-get install busybox-static")
    content = {f"bin/{applet}": link("busybox") for applet in _APPLETS}
    content["bin/busybox"] = program(_BUSYBOX.read_bytes())
    content |= {
        f"lab/probes/{name}": program(compile_static(source, name=name, folder=folder))
        for name, source in probes.items()
    }
    content |= {
        f"lib/modules/{module_name(file)}.ko": program(module_content(kit.modules / file))
        for file in module_order(kit.modules, spare_modules)
    }
    at_once = [*_MODULES, *modules, *(module for source in probes.values() for module in wanted_modules(source))]
    guest = compile_static(own_source("guest"), name="guest", folder=folder)
    return initramfs(kit, guest=guest, modules=at_once, files={**content, **files})
