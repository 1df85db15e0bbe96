"""Callbacks and a shadow variable in a real kernel: built from diffs, loaded, taken out, refused."""

import re
from contextlib import contextmanager
from dataclasses import replace

import pytest

from kmend.build.builder import build
from kmend.build.plan import plan
from kmend.kit.progress import Silent
from kmend.lab.accelerator import accelerator
from kmend.lab.kernel_log import findings
from kmend.lab.quick import quick_guest
from kmend.lab.scenario import Course, play
from kmend.model.lab import ProbeResult
from kmend.model.livepatch import Livepatch
from makers.fixes import BUSY_EDITS, CALLBACK_EDITS, CMDLINE_PROBE, DUMMY_CALLBACK_EDITS, RCU_EDITS, make_fix
from makers.folders import make_edited

READS = 50
STATE = "/sys/kernel/livepatch/kmend_1"
# A second between the looks that end a grace period.
SLOW_RCU = "for one in first next; do echo 250 > /sys/module/rcutree/parameters/jiffies_till_${one}_fqs; done"

pytestmark = [pytest.mark.vm, pytest.mark.kit]


def livepatch_of(kit, out, *fixes):
    """Build, and return the manifest and the module."""
    numbered = [replace(fix, name=f"fix-{number}") for number, fix in enumerate(fixes)]
    manifest = build(plan(numbered, kit.kernel, number=1), kit, out=out, progress=Silent())
    assert isinstance(manifest, Livepatch), manifest
    return manifest, (out / "livepatch.ko").read_bytes()


@contextmanager
def booted(kit, folder, *modules, **probes):
    """A guest with that kernel, for three minutes at most."""
    folder.mkdir()
    chosen = accelerator(kit, Silent())
    with quick_guest(kit, folder, accelerator=chosen, probes=probes, spare_modules=modules, limit=180) as guest:
        yield guest


def said(log):
    """What the callbacks and livepatch itself wrote, in order."""
    return re.findall(r"kmend-test: (.*)|livepatch: .*(transition|patching complete)$", log, re.MULTILINE)


def test_callbacks_and_a_shadow_variable(kit, tmp_path):
    """Each callback runs at its time; the shadow variable counts on between reads and is gone after taking out."""
    fix = make_fix(make_edited(kit.source, "fs/proc/cmdline.c", *CALLBACK_EDITS))
    manifest, module = livepatch_of(kit, tmp_path / "out", fix)
    assert [one.name for one in manifest.functions] == ["cmdline_proc_show"]
    course = Course(progress=Silent())
    with booted(kit, tmp_path / "vm", probe=CMDLINE_PROBE) as guest:
        play(course, guest, manifest, module, soak=0)
        shown = guest.must(["cat", "/proc/cmdline"])
    assert course.after == {"probe": ProbeResult.FIXED}
    once = ["pre_patch of vmlinux", "transition", "post_patch", "patching complete"]
    back = ["pre_unpatch", "transition", "post_unpatch after 101", "patching complete"]
    assert [own or kernel for own, kernel in said(course.log)] == [*once, *back, *once]
    # Loaded twice, read once by the probe since: the count began anew.
    assert shown.startswith("kmend-was-here 102 ")


def test_callbacks_of_a_module_run_when_it_is_there(kit, tmp_path):
    """Not when the livepatch is loaded, but when the module is, and when the livepatch is taken out."""
    fix = make_fix(make_edited(kit.source, "drivers/net/dummy.c", *DUMMY_CALLBACK_EDITS))
    manifest, module = livepatch_of(kit, tmp_path / "out", fix)
    course = Course(progress=Silent())
    with booted(kit, tmp_path / "vm", "dummy") as guest:
        play(course, guest, manifest, module, soak=0)
    own = [line for line in map("".join, said(course.log)) if line != "transition"]
    assert own == [
        "patching complete", "pre_patch of dummy", "post_unpatch of dummy", "patching complete",
        "pre_patch of dummy", "patching complete",
    ]  # fmt: skip


def test_a_pre_patch_that_refuses(kit, tmp_path):
    """The livepatch is not loaded, and what an earlier fix did is undone, though the kernel never asks for it."""
    fixes = [
        make_fix(make_edited(kit.source, f"fs/proc/{name}.c", *edits))
        for name, edits in (("cmdline", CALLBACK_EDITS), ("version", BUSY_EDITS))
    ]
    _, module = livepatch_of(kit, tmp_path / "out", *fixes)
    with booted(kit, tmp_path / "vm") as guest:
        guest.put("/livepatch.ko", module)
        assert "busy" in guest.load("/livepatch.ko").lower()
        assert "kmend_1" not in guest.loaded_modules()
        log = guest.kernel_log()
        assert "kmend-was-here" not in guest.must(["cat", "/proc/cmdline"])
    assert [own for own, _ in said(log) if own] == ["pre_patch of vmlinux", "post_unpatch after 0"]


def test_rcu_callbacks_of_a_livepatch(kit, tmp_path):
    """Every one is called, though grace periods are long and the livepatch is taken out at once."""
    fix = make_fix(make_edited(kit.source, "fs/proc/version.c", *RCU_EDITS))
    _, module = livepatch_of(kit, tmp_path / "out", fix)
    with booted(kit, tmp_path / "vm") as guest:
        guest.put("/livepatch.ko", module)
        assert guest.load("/livepatch.ko") == ""
        guest.must(["sh", "-c", f"until grep -qx 0 {STATE}/transition; do sleep 0.1; done"])
        guest.must(["sh", "-c", SLOW_RCU])
        reads = f"for one in $(seq {READS}); do read line < /proc/version; done; echo 0 > {STATE}/enabled"
        guest.must(["sh", "-c", f"{reads}; while test -e {STATE}; do sleep 0.1; done"], timeout=120)
        assert guest.unload("kmend_1", timeout=60) == ""
        log = guest.kernel_log()
    assert log.count("kmend-test: freed") == READS
    assert findings(log) == ()
