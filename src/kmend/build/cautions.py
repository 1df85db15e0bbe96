"""What of a livepatch may keep its transition from ending: functions that some task never leaves. Pure.

The kernel moves a task over only when none of the replaced functions is on its stack
(Documentation/livepatch/livepatch.rst, "Consistency model").
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from kmend.build.compare import Difference
from kmend.elf.code import Instruction, decode
from kmend.elf.objects import ObjectCode, Piece, Undefined
from kmend.model.fix import Caution, CautionCode

_ALWAYS_INSIDE = {
    "__schedule": "every sleeping task is in it (kernel/sched/core.c)",
    "schedule": "every sleeping task is in it (kernel/sched/core.c)",
    "schedule_timeout": "many sleeping tasks are in it (kernel/time/timer.c)",
    "worker_thread": "every worker of every workqueue is in it (kernel/workqueue.c)",
    "rescuer_thread": "every workqueue's rescuer is in it (kernel/workqueue.c)",
    "kthread": "every kernel thread is in it (kernel/kthread.c)",
    "kthreadd": "the parent of all kernel threads is in it (kernel/kthread.c)",
    "kthread_worker_fn": "every kthread worker is in it (kernel/kthread.c)",
    "smpboot_thread_fn": "every per-CPU thread is in it (kernel/smpboot.c)",
    "rcu_gp_kthread": "the thread of RCU's grace periods is in it (kernel/rcu/tree.c)",
    "kswapd": "a thread for each memory node is in it (mm/vmscan.c)",
    "do_idle": "every idle CPU is in it (kernel/sched/idle.c)",
    "cpu_startup_entry": "every idle CPU is in it (kernel/sched/idle.c)",
}
_STARTS = frozenset({
    "kthread_create_on_node", "kthread_create_on_cpu", "kernel_thread", "user_mode_thread", "create_io_thread",
})  # fmt: skip
_ASKS = frozenset({"kthread_should_stop", "kthread_freezable_should_stop", "kthread_should_park"})
_SLEEPS = frozenset({
    "schedule", "io_schedule", "schedule_timeout", "schedule_timeout_interruptible", "schedule_timeout_killable",
    "schedule_timeout_uninterruptible", "schedule_timeout_idle", "schedule_hrtimeout", "schedule_hrtimeout_range",
})  # fmt: skip


def cautions(difference: Difference, *, place: str) -> tuple[Caution, ...]:
    """A Caution to each changed function that a task may be in for as long as the kernel runs.

    Args:
        difference: Of one object.
        place: The object's name.
    """
    threads = frozenset(_threads(difference.original))
    found = []
    for change in difference.changed:
        why = _why(change.original, threads)
        if why:
            found.append(_caution(f"{place}: {change.original.name}", change.original.name, why))
    return tuple(found)


def _caution(place: str, name: str, why: str) -> Caution:
    return Caution(
        code=CautionCode.MAY_STALL,
        place=place,
        reason=f"{name} is replaced, and {why}. The transition waits for every task that is inside, and stalls if "
        "one never leaves.",
        advice="Change functions that it calls and that return; else prove in the lab, under load, that the "
        "transition ends.",
    )


def _why(function: Piece, threads: frozenset[Piece]) -> str:
    known = _ALWAYS_INSIDE.get(function.name)
    if known:
        return known
    if function in threads:
        return "it is the main function of a kernel thread"
    looped = _called_in_loops(function)
    if asked := sorted(looped & _ASKS):
        return f"it loops until {asked[0]}() says so, as the main loop of a kernel thread does"
    if slept := sorted(looped & _SLEEPS):
        return f"it sleeps in a loop that calls {slept[0]}()"
    return ""


def _threads(code: ObjectCode) -> Iterator[Piece]:
    """The functions whose address is taken right before a call that starts a kernel thread."""
    for piece in code.pieces():
        taken: Piece | None = None
        for one in sorted(piece.references, key=lambda reference: reference.offset):
            if one.is_branch:
                if taken is not None and _name(one.target) in _STARTS:
                    yield taken
                taken = None
            elif isinstance(one.target, Piece) and one.target.is_function and not one.delta:
                taken = one.target


def _called_in_loops(function: Piece) -> frozenset[str]:
    """The names of functions whose calls are run again and again without leaving the function."""
    calls = {one.offset: _name(one.target) for one in function.references if one.is_branch}
    code = {one.offset: one for one in decode(function.code)}
    linked = {start for start, one in code.items() if any(at in calls for at in range(one.offset, one.end))}
    found = set()
    for start in linked:
        name = next(calls[at] for at in range(start, code[start].end) if at in calls)
        if name in _ASKS | _SLEEPS and _comes_again(start, code, linked):
            found.add(name)
    return frozenset(found)


def _comes_again(start: int, code: Mapping[int, Instruction], linked: Collection[int]) -> bool:
    """Whether an instruction can be reached from itself; ``linked`` are branches that lead elsewhere."""
    queue = [code[start].end]
    seen: set[int] = set()
    while queue:
        at = queue.pop()
        if at in seen or at not in code:
            continue
        seen.add(at)
        goal = code[at].target() if at not in linked else None
        queue += [goal] if goal is not None else []
        if not code[at].mnemonic.startswith(("jmp", "ret", "ud2")):
            queue.append(code[at].end)
    return start in seen


def _name(target: object) -> str:
    return target.name if isinstance(target, (Piece, Undefined)) else ""
