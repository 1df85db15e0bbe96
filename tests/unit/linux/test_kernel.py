"""What the agent reads from /proc, /sys and /dev."""

import pytest

from kmend.kit.errors import MachineError
from kmend.linux.kernel import build_id_of, running_kernel
from kmend.linux.kernel_log import newest_record, read_kernel_log, troubles_in
from makers.machine import FakeMachine, make_notes
from makers.nouns import KERNEL


def test_identity_of_the_running_kernel(tmp_path):
    """Build id, release and Debian's package version come out of three files."""
    found = running_kernel(FakeMachine(tmp_path).root)
    assert found.kernel == KERNEL
    assert found.boot_id.startswith("00000001-")


@pytest.mark.parametrize("notes", [b"", b"\0" * 11, make_notes("ab" * 20)[:-1], make_notes("ab" * 20)[:40]])
def test_notes_without_a_build_id(notes):
    """Empty, short or cut notes are an error, never another build id."""
    with pytest.raises(MachineError, match="no GNU build id"):
        build_id_of(notes)


def test_notes_with_a_claimed_size_beyond_the_end():
    """A size that points behind the end is an error."""
    with pytest.raises(MachineError):
        build_id_of(b"\x04\0\0\0\xff\xff\xff\xff\x03\0\0\0GNU\0ab")


def test_kernel_log_after_a_record(tmp_path):
    """Only what came later is read, and only trouble is reported."""
    machine = FakeMachine(tmp_path)
    machine.log("WARNING: CPU: 1 PID: 2 at old.c:1")
    after = newest_record(machine.root)
    machine.log("livepatch: enabling patch 'kmend_1'")
    machine.log("kmend_1: tainting kernel with TAINT_LIVEPATCH")
    machine.log("Oops: 0000 [#1] PREEMPT SMP")
    lines = read_kernel_log(machine.root, after=after)
    assert len(lines) == 3
    assert [found.text for found in troubles_in(lines)] == ["Oops: 0000 [#1] PREEMPT SMP"]


def test_what_programs_write_is_not_the_kernels(tmp_path):
    """A program that writes an oops into /dev/kmsg fools nobody."""
    machine = FakeMachine(tmp_path)
    with (tmp_path / "dev/kmsg").open("a") as file:
        file.write("12,1,1000,-;BUG: unable to handle page fault for address: ffff\n")
    machine.log("BUG: unable to handle page fault for address: aaaa")
    assert [line.text[-4:] for line in read_kernel_log(machine.root)] == ["aaaa"]


WARN = """\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 77 at net/unix/af_unix.c:8 unix_ioctl+0x10/0x20 [kmend_1]
Modules linked in: kmend_1(OK) overlay
RIP: 0010:unix_ioctl+0x10/0x20 [kmend_1]
Call Trace:
 <TASK>
 ? other_leftover+0x1/0x30
 sock_do_ioctl.isra.0+0x30/0x100
 __x64_sys_ioctl+0x30/0x100
---[ end trace 0000000000000000 ]---
later_unrelated+0x1/0x2
INFO: task dd:12 blocked for more than 120 seconds.
 folio_wait_bit+0x1/0x9
watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [x:3]
RIP: 0010:spin+0x1/0x9 [drm]
kernel BUG at mm/slub.c:305!
WARNING: fs/proc/cmdline.c:8 at cmdline_proc_show+0x1/0x9, CPU#0: cat/7
"""


def test_each_trouble_has_its_own_trace(tmp_path):
    """WARN, hung task, lockup, BUG; only an oops or BUG is fatal, leftovers and later lines do not count."""
    machine = FakeMachine(tmp_path)
    for text in WARN.splitlines():
        machine.log(text)
    warn, hung, lockup, bug, new = troubles_in(read_kernel_log(machine.root))
    assert warn.functions == {"unix_ioctl", "sock_do_ioctl", "__x64_sys_ioctl"}
    assert warn.modules == {"kmend_1"}
    assert hung.functions == {"folio_wait_bit"}
    assert lockup.modules == {"drm"}
    assert new.functions == {"cmdline_proc_show"}
    assert [one.fatal for one in (warn, hung, lockup, bug, new)] == [False, False, False, True, False]


def test_no_kernel_log(tmp_path):
    """Where the log may not be read there is nothing, and no error."""
    assert read_kernel_log(tmp_path) == ()
    assert newest_record(tmp_path) == -1
