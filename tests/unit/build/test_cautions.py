"""Functions that some task may never leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.build.cautions import cautions
from kmend.kit.errors import InputError
from kmend.model import wire
from kmend.model.fix import Caution, CautionCode
from kmend.model.livepatch import Livepatch
from makers.nouns import make_livepatch
from makers.objects import make_difference

KERNEL = """
extern int kthread_should_stop(void); extern void schedule(void); extern long schedule_timeout(long time);
extern void *kthread_create_on_node(int (*run)(void *), void *data, int node, const char *name);
"""
THREAD = """
static int run(void *d) { return printk(0) + 1; }
void *go(void) { return kthread_create_on_node(run, 0, -1, 0); }
"""


def found(folder: Path, text: str) -> list[str]:
    """Why a change from 1 to 2 in a file calls for caution."""
    difference = make_difference(folder, KERNEL + text, KERNEL + text.replace("printk(0) + 1", "printk(0) + 2"))
    assert difference.changed
    return [one.reason for one in cautions(difference, place="file.o")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int run(void *d) { while (!kthread_should_stop()) consume(d); return printk(0) + 1; }", "main loop"),
        ("int wait(int *d) { while (!observe(d)) schedule(); return printk(0) + 1; }", "schedule()"),
        ("int wait(int *d) { do schedule_timeout(9); while (!*d); return printk(0) + 1; }", "schedule_timeout()"),
        (THREAD, "main function of a kernel thread"),
        ("void worker_thread(int *d) { *d = printk(0) + 1; }", "every worker of every workqueue"),
    ],
)  # fmt: skip
def test_what_is_never_left_is_named(tmp_path: Path, text: str, said: str) -> None:
    """Loops that sleep or ask whether to stop, what threads are started with, and what is known to be so."""
    (reason,) = found(tmp_path, text)
    assert said in reason
    assert "The transition waits" in reason


@pytest.mark.parametrize(
    "text",
    [
        "int once(int *d) { if (observe(d)) schedule(); return printk(0) + 1; }",
        "int loop(int *d) { int n = 9; while (n--) consume(d); schedule(); return printk(0) + 1; }",
        "int f(void) { return printk(0) + 1; }\n" + THREAD.replace("printk(0) + 1", "3"),
    ],
)
def test_what_returns_is_not(tmp_path: Path, text: str) -> None:
    """Sleeping once, a loop before it, and functions beside a thread's."""
    assert found(tmp_path, text) == []


def test_the_manifest_carries_them() -> None:
    """A manifest from before there were any still loads; an unknown code does not."""
    old = wire.plain(make_livepatch())
    del old["cautions"]
    assert wire.load(Livepatch, wire.dump(old), what="old").cautions == ()
    one = Caution(code=CautionCode.MAY_STALL, place="a.o: run", reason="It loops.", advice="Wait.")
    again = wire.load(Livepatch, wire.dump(old | {"cautions": [wire.plain(one)]}), what="new")
    assert again.cautions == (one,)
    with pytest.raises(InputError):
        wire.load(Livepatch, wire.dump(old | {"cautions": [wire.plain(one) | {"code": "other"}]}), what="bad")
