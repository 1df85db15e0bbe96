"""What the agent reads from /proc, /sys and /dev."""

import pytest

from kmend.kit.errors import MachineError
from kmend.linux.kernel import build_id_of, running_kernel
from kmend.linux.kernel_log import newest_record, read_kernel_log, trouble_in
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
    assert trouble_in(lines) == ("Oops: 0000 [#1] PREEMPT SMP",)


def test_no_kernel_log(tmp_path):
    """Where the log may not be read there is nothing, and no error."""
    assert read_kernel_log(tmp_path) == ()
    assert newest_record(tmp_path) == -1
