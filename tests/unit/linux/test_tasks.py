"""Who keeps a transition from ending, by /proc."""

from kmend.linux.tasks import blocking_tasks
from makers.machine import FakeMachine

STACK = """\
[<0>] unix_ioctl+0x10/0x20
[<0>] sock_do_ioctl+0x30/0x100
[<0>] __x64_sys_ioctl.part.0+0x30/0x100
[<0>] do_syscall_64+0x1/0x2
"""


def test_threads_that_have_not_changed_over(tmp_path):
    """On the way in those in state 0, on the way out those in state 1; threads have their own line."""
    machine = FakeMachine(tmp_path)
    machine.task(20, name="done", state="1")
    machine.task(30, thread=31, name="worker", stack=STACK)
    machine.task(4, name="kworker/0:1", stack=None)
    machine.task(5, name="nothing", state="-1")
    found = blocking_tasks(tmp_path, enabled=True)
    assert [(task.pid, task.thread, task.name) for task in found] == [(4, 4, "kworker/0:1"), (30, 31, "worker")]
    assert found[1].stack == ("unix_ioctl", "sock_do_ioctl", "__x64_sys_ioctl.part.0", "do_syscall_64")
    assert str(found[0]) == "kworker/0:1 (4)"
    assert str(found[1]) == "worker (31) in unix_ioctl, sock_do_ioctl, __x64_sys_ioctl.part.0"
    assert [task.name for task in blocking_tasks(tmp_path, enabled=False)] == ["done"]


def test_kernels_without_patch_state(tmp_path):
    """Where /proc does not say there is nobody to name."""
    FakeMachine(tmp_path)
    (tmp_path / "proc/7/task/7").mkdir(parents=True)
    assert blocking_tasks(tmp_path, enabled=True) == ()


def test_a_crowd(tmp_path):
    """Twenty are enough."""
    machine = FakeMachine(tmp_path)
    for pid in range(1, 40):
        machine.task(pid)
    assert len(blocking_tasks(tmp_path, enabled=True)) == 20
