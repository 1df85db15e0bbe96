"""Reading kernel logs."""

import pytest

from kmend.lab import kernel_log

CLEAN = """\
[    0.000000] Linux version 6.1.0-47-cloud-amd64 (debian-kernel@lists.debian.org) (gcc-12)
[    0.071234] Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on, data leaks possible
[    0.103211] x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'
[    0.550000] debug: user breakpoints on
[    3.101112] kmend_1: loading out-of-tree module taints kernel.
[    3.101200] kmend_1: tainting kernel with TAINT_LIVEPATCH
[    3.101300] kmend_1: module verification failed: signature and/or required key missing - tainting kernel
[    3.200000] livepatch: enabling patch 'kmend_1'
[    3.200100] livepatch: 'kmend_1': starting patching transition
[    4.856000] livepatch: 'kmend_1': patching complete
[    5.000000] clocksource: Long readout interval, skipping watchdog check
[    6.000000] bugfix: BUGGY is a word, so is DEBUG
"""

FAULTS = {
    "null pointer": "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "oops": "Oops: 0000 [#1] PREEMPT SMP NOPTI",
    "bug": "kernel BUG at fs/proc/cmdline.c:8!",
    "warn": "WARNING: CPU: 1 PID: 412 at kernel/livepatch/core.c:998 klp_enable_patch+0x1/0x2",
    "panic": "Kernel panic - not syncing: sysrq triggered crash",
    "soft lockup": "watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [cat:412]",
    "hard lockup": "NMI watchdog: Watchdog detected hard LOCKUP on cpu 0",
    "rcu stall": "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "hung task": "INFO: task dockerd:300 blocked for more than 120 seconds.",
    "protection fault": "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
    "opcode": "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
    "list": "list_del corruption. prev->next should be ffff, but was dead",
    "refcount": "refcount_t: underflow; use-after-free.",
    "atomic": "BUG: scheduling while atomic: cat/412/0x00000002",
    "sleeping": "BUG: sleeping function called from invalid context at mm/slab.h:420",
    "livepatch": "livepatch: failed to initialize patch 'kmend_1' for module 'nf_tables' (-22)",
    "page": "Unable to handle kernel paging request at ffff",
    "workqueue": "BUG: workqueue lockup - pool cpus=1 node=0 flags=0x0 nice=0 stuck for 33s!",
}


def test_clean_log():
    """An ordinary log with a livepatch in it has no findings, whatever harmless words it holds."""
    assert kernel_log.findings(CLEAN) == ()


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name):
    """Every kind of fault is found, time stamp or not, carriage returns or not."""
    log = CLEAN + f"[    7.000000] {FAULTS[name]}\r\n[    7.000001] Modules linked in: kmend_1(OEK)\r\n"
    assert kernel_log.findings(log) == (FAULTS[name],)


def test_findings_are_limited():
    """A flood of faults neither fills the report nor repeats itself."""
    flood = "".join(f"[ 1.0] BUG: number {number}\n" * 2 for number in range(100))
    assert len(kernel_log.findings(flood)) == 40


def test_since():
    """Only what follows the mark counts; without the mark everything does."""
    log = "[ 1.0] BUG: old\n[ 2.0] mark\n[ 3.0] fine\n"
    assert kernel_log.findings(kernel_log.since(log, "mark")) == ()
    assert kernel_log.findings(kernel_log.since(log, "no such mark")) == ("BUG: old",)


def test_transition_by_the_kernels_clock():
    """The first transition is measured between the kernel's own two lines; another livepatch's do not count."""
    assert kernel_log.transition_ms(CLEAN, "kmend_1") == pytest.approx(1655.9)
    assert kernel_log.transition_ms(CLEAN, "kmend_2") is None
    assert kernel_log.transition_ms(CLEAN.replace("patching complete", "stuck"), "kmend_1") is None
