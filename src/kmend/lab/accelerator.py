"""Which accelerator QEMU can use here: proven by booting, not by looking at /dev/kvm."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.files import scratch, write_atomic
from kmend.kit.progress import Progress
from kmend.lab.initramfs import cpio, program
from kmend.lab.machine import MachinePlan, boots
from kmend.lab.programs import compile_static, own_source
from kmend.model.kernel import Kit

_TIMEOUT = 15.0


def accelerator(kit: Kit, progress: Progress, *, root: Path = Path("/"), cache: Path | None = None) -> str:
    """``kvm`` when a kernel really boots with it, else ``tcg``; remembered until this machine boots again.

    /dev/kvm can be there and open, and a stock kernel still hangs at its first instructions.
    """
    if not os.access(root / "dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    cache = cache or cache_root()
    boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    memory = cache / "accelerator.json"
    known = _remembered(memory, boot_id)
    if known:
        return known
    progress.step("Trying whether KVM works here")
    found = "kvm" if _kvm_boots(kit, cache) else "tcg"
    write_atomic(memory, json.dumps({"boot_id": boot_id, "accelerator": found}) + "\n")
    return found


def _remembered(memory: Path, boot_id: str) -> str:
    try:
        known = json.loads(memory.read_text())
        return str(known["accelerator"]) if known["boot_id"] == boot_id else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _kvm_boots(kit: Kit, cache: Path) -> bool:
    with scratch(cache / "lab", prefix="kvm-") as folder:
        initrd = folder / "initrd"
        initrd.write_bytes(
            cpio({"init": program(compile_static(own_source("guest"), name="guest", folder=folder))})
        )
        plan = MachinePlan(
            image=kit.image, initrd=initrd, accelerator="kvm", folder=folder, command_line=("kmend.probe=1",)
        )
        return boots(plan, word="this accelerator works", timeout=_TIMEOUT)
