"""The quick profile on a real kernel, with livepatches that the builder made: good ones, and ones that kill."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmend.kit.progress import Silent
from kmend.lab.lab import run_lab
from kmend.lab.series import run_lab_series
from kmend.model import wire
from kmend.model.lab import LabReport, ProbeResult, Profile
from makers.fixes import CMDLINE_PROBE, DUMMY_DIFF, GOOD_DIFF, cmdline_diff

pytestmark = [pytest.mark.vm, pytest.mark.kit]

KMEND = Path(sys.executable).parent / "kmend"


def descendants(pid):
    """All running processes below one: pid → command line."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            found |= descendants(int(child))
    return found


def vms(pid):
    """The QEMU processes below one."""
    return [child for child, line in descendants(pid).items() if "qemu-system" in line]


def test_a_good_livepatch_is_proven(kit, built):
    """Vulnerable, fixed, vulnerable again; the report lies in the folder and no VM is left."""
    folder = built(GOOD_DIFF, CMDLINE_PROBE)
    report = run_lab(kit, folder, soak=2, progress=Silent())
    assert report.passed, report.failure
    assert (report.probe_before, report.probe_after, report.probe_unloaded) == (
        ProbeResult.VULNERABLE,
        ProbeResult.FIXED,
        ProbeResult.VULNERABLE,
    )
    assert report.boot_id_before == report.boot_id_after != ""
    assert report.transition_ms > 0
    assert report.kernel_log_findings == report.console_tail == ()
    assert wire.load(LabReport, (folder / "labreport.json").read_bytes(), what="report") == report
    assert vms(os.getpid()) == []


def test_a_module_that_is_loaded_later(kit, built):
    """A livepatch for a module that is not loaded takes effect when it is; without a probe nothing is claimed."""
    report = run_lab(kit, built(DUMMY_DIFF), soak=1, progress=Silent())
    assert report.passed, report.failure
    assert report.probe_before is report.probe_after is ProbeResult.UNKNOWN
    assert [step.name for step in report.steps].count("late-module") == 1


def test_a_panic_is_a_failed_report(kit, built):
    """A livepatch that panics the kernel: failed at the probe, with the console's last words, and no VM left."""
    folder = built(cmdline_diff('panic("killed by a test");'), CMDLINE_PROBE)
    report = run_lab(kit, folder, soak=2, progress=Silent())
    assert not report.passed
    assert report.failure.startswith("probe-after: The guest's kernel panicked.")
    assert any("killed by a test" in line for line in report.console_tail)
    assert report.probe_before is ProbeResult.VULNERABLE
    assert report.probe_after is ProbeResult.UNKNOWN
    assert vms(os.getpid()) == []


def test_a_hang_is_a_failed_report(kit, built):
    """A livepatch that stops every processor for good: failed after the silence limit, and no VM left."""
    spin = "for (;;) { local_irq_disable(); set_current_state(TASK_UNINTERRUPTIBLE); smp_send_stop(); }"
    folder = built(cmdline_diff(spin), CMDLINE_PROBE)
    begun = time.monotonic()
    report = run_lab(kit, folder, soak=2, silence=15, progress=Silent())
    assert not report.passed
    assert "no sign of life for 15 s" in report.failure
    assert time.monotonic() - begun < 120
    assert vms(os.getpid()) == []


def test_an_oops_is_a_failed_report(kit, built):
    """A livepatch with a bug that the kernel survives: failed, with the kernel's own words."""
    report = run_lab(kit, built(cmdline_diff('WARN(1, "seen by a test");')), soak=2, progress=Silent())
    assert not report.passed
    assert report.failure.startswith("soak: the kernel log is not clean")
    assert any("WARNING: CPU" in line for line in report.kernel_log_findings)


def test_a_series_in_one_boot(kit, built):
    """Two that are good, around one that warns when it is used: that one fails, the others pass in other boots."""
    folders = [built(DUMMY_DIFF, name="a"), built(cmdline_diff('WARN(1, "seen");'), name="b")]
    folders.append(built(GOOD_DIFF, name="c"))
    found = dict(run_lab_series(kit, folders, progress=Silent()))
    assert [found[folder].passed for folder in folders] == [True, False, True]
    assert [found[folder].series_place for folder in folders] == [1, 0, 1]
    assert found[folders[0]].boot_id_before == found[folders[0]].boot_id_after
    assert found[folders[0]].boot_id_before != found[folders[2]].boot_id_before
    assert [step.name for step in found[folders[2]].steps].count("unload") == 2
    assert vms(os.getpid()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle(kit, built, number):
    """Killed hard or by Ctrl-C while the VM runs leaves no VM and no report; the next run works and sweeps up."""
    folder = built(GOOD_DIFF, CMDLINE_PROBE)
    command = [
        KMEND,
        "lab",
        "run",
        "--kernel",
        kit.kernel.release,
        "--soak",
        "600",
        folder,
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as kmend:
        deadline = time.monotonic() + 120
        while not (running := vms(kmend.pid)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert running
        kmend.send_signal(number)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in running) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in running)
    assert not (folder / "labreport.json").exists()


def test_command_line(kit, built):
    """`kmend lab run --json` prints the report and exits 0 only for a proven livepatch."""
    folder = built(GOOD_DIFF, CMDLINE_PROBE)
    command = [
        KMEND,
        "lab",
        "run",
        "--kernel",
        kit.kernel.release,
        "--soak",
        "0",
        "--json",
    ]
    done = subprocess.run([*command, folder], capture_output=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["profile"] == Profile.QUICK
