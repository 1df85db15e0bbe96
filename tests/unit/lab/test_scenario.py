"""The scenario against a guest that only pretends: every way in which a livepatch can fail."""

import pytest

from kmend.kit.progress import Silent
from kmend.lab import scenario
from kmend.lab.channel import Answer, LostGuest
from kmend.lab.guest import GuestFault, StagedGuest
from kmend.lab.scenario import Course, play, play_in_series
from kmend.model.kernel import Kernel
from kmend.model.lab import ContainerRecord, ProbeResult
from kmend.model.livepatch import Livepatch, ReplacedFunction

KERNEL = Kernel(release="6.1.0-1-cloud-amd64", version="6.1.1-1", build_id="ab" * 20)
FIXED, VULNERABLE = ProbeResult.FIXED, ProbeResult.VULNERABLE
STEPS = ["prepare", "probe-before", "load", "transition", "probe-after", "soak"]
STEPS += ["unload", "probe-unloaded", "reload", "look-back"]


def livepatch(*objects):
    """A manifest that replaces one function in each object."""
    functions = tuple(
        ReplacedFunction(object=name, name="f", position=0, size=1, bytes_proven=1)
        for name in objects or ("vmlinux",)
    )
    return Livepatch(
        kernel=KERNEL,
        number=1,
        module="kmend_1",
        sha256="0" * 64,
        size=1,
        fixes=(),
        functions=functions,
        compiler="",
        builder="",
    )


class _Pretender(StagedGuest):
    """A guest that behaves as the kernel does, but for one fault."""

    def __init__(self, fault=""):
        self.fault = fault
        self.program = "/init"
        self.on = False
        self.log = "[ 1.0] BUG: long before the scenario\n"
        self.boots = 0
        self.loads = 0
        self.modules = set()

    @property
    def accelerator(self):
        return "tcg"

    def answer(self, args, *, timeout=60, uid=0, stdin=b""):
        if "work &" in args[-1]:
            if self.fault == "dies":
                raise LostGuest("The guest's kernel panicked.")
            if self.fault == "warns":
                self.log += "[ 9.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2\n"
            return Answer(code=0 if self.fault == "load ends" else 124, stdout=b"", stderr=b"")
        if "echo 0 >" in args[-1]:
            self.on = self.fault == "stays"
            return Answer(code=0, stdout=b"", stderr=b"")
        if args[1] == "unload":
            return Answer(code=0, stdout=b"", stderr=b"")
        return Answer(code=0, stdout=b"12 cat", stderr=b"")

    def build_id(self):
        return "cd" * 20 if self.fault == "other kernel" else KERNEL.build_id

    def boot_id(self):
        self.boots += self.fault == "reboots"
        return f"boot {self.boots}"

    def taint(self):
        return 1 << 15 | (1 << 9 if self.fault == "tainted" and self.loads else 0)

    def put(self, path, content):
        self.file = content

    def mark_log(self, text):
        self.log += f"[ 2.0] {text}\n"

    def kernel_log(self):
        return self.log

    def load(self, path):
        self.loads += 1
        self.on = True
        refused = {"refused": 1, "refused again": 2}.get(self.fault)
        return "Invalid argument; kernel: livepatch: no" if self.loads == refused else ""

    def loaded_modules(self):
        return frozenset(self.modules)

    def livepatch_fact(self, name, fact):
        if fact.endswith("/patched"):
            return "0" if self.fault == "not patched" else "1"
        if not self.on:
            return ""
        return {"enabled": "1", "transition": "1" if self.fault == "stuck" else "0"}[fact]

    def probe(self):
        effective = self.on if self.fault != "no effect" else False
        if self.fault == "not vulnerable":
            effective = True
        if self.fault == "cannot go back" and self.loads:
            effective = True
        return {} if self.fault == "no probe" else {"p": FIXED if effective else VULNERABLE}

    def modprobe(self, name):
        if self.fault == "no device":
            raise GuestFault(f"{name} was not loaded: No such device")
        if self.fault == "gives up":
            self.log += f"[ 4.0] livepatch: applying patch 'kmend_1' to loading module '{name}'\n"
            raise GuestFault(f"{name} was not loaded: Invalid argument")
        if self.fault == "bad module":
            raise GuestFault(f"{name} was not loaded: Exec format error")
        self.modules.add(name)

    def containers(self):
        return (
            ContainerRecord(
                name="web",
                started_at="a",
                started_at_after="a",
                restarts=int(self.fault == "restarts"),
                heartbeats=9,
                longest_gap_ms=60,
                connection_kept=True,
            ),
        )


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waiting for what will never come ends soon."""
    monkeypatch.setattr(scenario, "_TRANSITION_LIMIT", 0.2)


def played(fault="", *objects):
    """The course that a scenario took."""
    course = Course(progress=Silent())
    guest = _Pretender(fault)
    try:
        play(course, guest, livepatch(*objects), b"module", soak=1)
    except (GuestFault, LostGuest):
        assert course.failure
    return course, guest


def test_all_is_well():
    """Every step passes in order, the module was put there, and what happened before does not count."""
    course, guest = played()
    assert course.failure == ""
    assert [step.name for step in course.steps] == STEPS
    assert all(step.passed for step in course.steps)
    assert (course.before, course.after, course.unloaded) == ({"p": VULNERABLE}, {"p": FIXED}, {"p": VULNERABLE})
    assert guest.file == b"module"
    assert guest.loads == 2
    assert "BUG" not in course.log


def test_in_a_series_the_guest_is_left_without_the_livepatch():
    """Loaded, taken out, loaded and taken out; the log of those before is not looked at."""
    guest = _Pretender()
    for place in (1, 2):
        course = Course(progress=Silent(), place=place)
        play_in_series(course, guest, livepatch("vmlinux", "fuse"), b"module", soak=0)
        names = [step.name for step in course.steps if step.name != "late-module"]
        assert names == ["prepare", "load", "transition", "soak", "unload", "reload", "unload", "look-back"]
        assert course.log.count("scenario") == 0
        assert not guest.on
    assert (guest.loads, guest.modules) == (4, {"fuse"})
    guest.log += "[ 5.0] WARNING: CPU: 0 PID: 1 at kernel/x.c:1 f+0x1/0x2\n"
    course = Course(progress=Silent(), place=3)
    play_in_series(course, guest, livepatch(), b"module", soak=0)
    assert course.failure == ""


def test_without_a_probe():
    """A livepatch without probes passes, and the report says that nothing was tested."""
    course, _ = played("no probe")
    assert course.failure == ""
    assert {step.name: step.detail for step in course.steps}["probe-after"] == "no probe came with the livepatch"


def test_module_that_is_loaded_later():
    """A module that the livepatch is for and that is not loaded yet is loaded once the livepatch is there."""
    course, guest = played("", "vmlinux", "nf_tables")
    assert course.failure == ""
    assert guest.modules == {"nf_tables"}
    assert [step.name for step in course.steps].index("late-module") == STEPS.index("transition") + 1


@pytest.mark.parametrize(
    ("fault", "step", "why"),
    [
        ("other kernel", "prepare", "the guest runs build id cdcd"),
        ("not vulnerable", "probe-before", "not there before"),
        ("refused", "load", "Invalid argument; kernel: livepatch: no"),
        ("stuck", "transition", "did not end within 0.2 s; it waits for 12 cat"),
        ("no effect", "probe-after", "p says vulnerable"),
        ("dies", "soak", "panicked"),
        ("warns", "soak", "WARNING: CPU: 0"),
        ("load ends", "soak", "ended early"),
        ("stays", "unload", "the way back did not end"),
        ("cannot go back", "probe-unloaded", "did not bring the old code back"),
        ("refused again", "reload", "Invalid argument"),
        ("reboots", "look-back", "rebooted"),
        ("tainted", "look-back", "tainted anew (0x200"),
        ("restarts", "look-back", "container web restarted"),
    ],
)
def test_fault(fault, step, why):
    """A fault fails its own step, says why, and ends the scenario there."""
    course, _ = played(fault)
    assert course.failure.startswith(f"{step}: ")
    assert why in course.failure
    assert [one.name for one in course.steps if not one.passed] == [step]
    assert course.steps[-1].name == step


def test_module_without_effect():
    """A module that is loaded later but not patched fails."""
    course, _ = played("not patched", "nf_tables")
    assert course.failure.startswith("late-module: ")


def test_driver_without_its_device():
    """A module whose init function finds no device in the VM is no fault of the livepatch; the report says so."""
    course, _ = played("no device", "xen_netback")
    assert course.failure == ""
    assert course.unreached == ["xen_netback"]
    assert "lacks its device" in next(step.detail for step in course.steps if step.name == "late-module")


def test_module_that_gives_up_after_it_was_livepatched():
    """Whatever its init function says then, the livepatch was applied to it."""
    course, _ = played("gives up", "kvm_amd")
    assert course.failure == ""
    assert course.unreached == []
    assert "kvm_amd was livepatched" in next(one.detail for one in course.steps if one.name == "late-module")


def test_module_that_cannot_be_loaded():
    """Any other refusal fails the scenario."""
    course, _ = played("bad module", "xen_netback")
    assert course.failure.startswith("late-module: ")
