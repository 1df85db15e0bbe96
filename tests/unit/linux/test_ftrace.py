"""Who is attached to which function, as the kernel lists it."""

import pytest

from kmend.linux.ftrace import TracedFunction, traced_by_others

# As 6.1 and 6.12 write it: a livepatch alone, and with a kprobe; a tracer; BPF; another diversion; a module's.
LISTED = """\
cmdline_proc_show (1) R I     \ttramp: 0xffffffffc0349000 (klp_ftrace_handler+0x0/0x1a0) ->0x0
unix_ioctl (2) R I     \t
schedule (1)           \ttramp: 0xffffffffc0351000 (function_trace_call+0x0/0x150) ->function_trace_call+0x0/0x150
do_nanosleep (1) R   D O M\t
tcp_connect (1) R I     \ttramp: 0xffffffffc0361000 (kpatch_handler+0x0/0x1a0) ->0x0
dummy_xmit [dummy] (1) R I     \ttramp: 0xffffffffc0371000 (klp_ftrace_handler+0x0/0x1a0) ->0x0
dummy_xmit (1)           \ttramp: 0xffffffffc0351000 (function_trace_call+0x0/0x150)
"""


@pytest.fixture
def root(tmp_path):
    """A machine with a livepatch of three functions, and the list."""
    for place in ("vmlinux/cmdline_proc_show,1", "vmlinux/unix_ioctl,1", "dummy/dummy_xmit,1"):
        (tmp_path / "sys/kernel/livepatch/kmend_1" / place).mkdir(parents=True)
    (tmp_path / "sys/kernel/tracing").mkdir(parents=True)
    (tmp_path / "sys/kernel/tracing/enabled_functions").write_text(LISTED)
    return tmp_path


def test_livepatches_do_not_count(root):
    """What only livepatches are attached to is left out; of all others it is known whether they divert."""
    assert traced_by_others(root) == (
        TracedFunction(name="unix_ioctl", diverted=False),
        TracedFunction(name="schedule", diverted=False),
        TracedFunction(name="do_nanosleep", diverted=False),
        TracedFunction(name="tcp_connect", diverted=True),
        TracedFunction(name="dummy_xmit", diverted=False),
    )


def test_the_older_place_of_tracefs(root):
    """Below debugfs, where it is mounted on older systems."""
    (root / "sys/kernel/debug").mkdir()
    (root / "sys/kernel/tracing").rename(root / "sys/kernel/debug/tracing")
    assert len(traced_by_others(root)) == 5


def test_what_cannot_be_told(tmp_path):
    """Without tracefs it is unknown, not nothing."""
    assert traced_by_others(tmp_path) is None
