"""One fix, from source to a patched host: the whole house in memory. Read this file first.

A kernel of two small files runs on a host. A bug is found in one of them. What follows is what kmend does with a
real kernel, by the same code: prove, compare, check, extract, link, read back, try, sign, publish, verify, apply.
Only four things are stand-ins: the kernel (small, but compiled and linked by the real tools), the VM (its report
is written here), the mirror (a folder) and the host (a folder with /proc and /sys, and a loader that behaves).
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kmend.agent import config, sync
from kmend.agent.decide import Verdict
from kmend.build import loader
from kmend.build.check import objections
from kmend.build.extract import Extraction
from kmend.build.module import with_klp_relocations
from kmend.build.resolve import Resolver
from kmend.build.verify import Proof, prove
from kmend.elf.reader import ElfFile
from kmend.kit.errors import KmendError, TrustError
from kmend.kit.progress import Silent
from kmend.model import wire
from kmend.model.livepatch import Livepatch, ReplacedFunction
from kmend.release import publish
from makers.machine import FakeMachine
from makers.nouns import NOW, make_livepatch, make_report
from makers.objects import FakeView, compile_c, link_kernel, link_module, make_difference, warnings_of
from makers.repository import SimulatedRepository, flip_bit

# A driver whose read() believes the length that it is given. `open_count` is state: it must never be copied.
DRIVER = """
static char answers[64] = "forty-two";
static int open_count;
static noinline int account(int n) { open_count += n; return consume(&open_count); }
int device_read(char *to, long length)
{
	if (length < 0)
		return printk("device: a negative length\\n");
	for (long i = 0; i < length; i++)
		to[i] = answers[i];
	return account(length);
}
"""
FIX = ("length < 0)", "length < 0 || length > 64)")
# Another file that has a function called `account`, too: the livepatch must find the right one.
OTHER = "static noinline used int account(int n) { return consume(&n) - n; }\n"
# What every module holds, and what says that this one is a livepatch.
GLUE = """
static const char info[] used in_section(".modinfo") = "livepatch=Y\\0vermagic=6.1.0-47-cloud-amd64 SMP";
static char module[64] used in_section(".gnu.linkonce.this_module");
struct { u64 crc; char name[56]; } versions[] used in_section("__versions") = {
	{ 0x1234, "__fentry__" }, { 0x1234, "printk" }, { 0x1234, "consume" },
};
"""
# What the livepatch registers: one function of vmlinux, and its new version.
TABLES = """
extern char new_version[] __asm__(".kmend.0.device_read");
struct function { char *name; char *new; u64 position; };
static struct function functions[] = { { "device_read", new_version, 0 }, { 0 } };
static struct { char *name; struct function *functions; } objects[] used = { { 0, functions }, { 0 } };
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build: a folder with livepatch.ko and livepatch.json."""
    return build(tmp_path_factory.mktemp("build"))


def build(folder: Path) -> Path:
    """The steps of kmend.build.builder, one by one."""
    # The kernel as the distribution linked it, long ago, and a module of it.
    kernel = link_kernel(folder / "kernel", {"other.c": OTHER, "driver.c": DRIVER})
    some_module = link_module(folder / "module", {"some.c": GLUE})
    view = FakeView(kernel, some_module, exports=dict.fromkeys(("printk", "consume", "__fentry__"), "vmlinux"))

    # Compile the one affected file, without and with the fix, and compare the two.
    difference = make_difference(folder, DRIVER, DRIVER.replace(*FIX), name="driver.c")
    (change,) = difference.changed
    assert change.fixed.name == "device_read"
    assert objections(difference, place="driver.o") == ()

    # The original that we compiled is the code that runs, byte by byte.
    (block,) = kernel.blocks_like(difference.original)
    proof = prove(change.original, running=kernel, block=block, place="driver.o")
    assert isinstance(proof, Proof)
    assert proof.fields_masked == 0

    # Take the changed function out. Its string comes along; `answers` and `account` stay the kernel's own.
    resolver = Resolver(view, kernel, block, frozenset())
    part = Extraction(difference, resolver, place="driver.o", prefix="0")
    assert part.objections == []
    (folder / "part.o").write_bytes(part.out.to_bytes())
    glue = compile_c(folder, GLUE + TABLES, name="glue.c", out="glue.o", flags=())
    subprocess.run(["ld", "-r", "-o", "linked.o", glue, "part.o"], cwd=folder, check=True)

    # The very last step: relocations that the kernel resolves when the livepatch is loaded.
    out = folder / "out"
    out.mkdir()
    module = with_klp_relocations(ElfFile(folder / "linked.o"))
    (out / "livepatch.ko").write_bytes(module)
    assert warnings_of(out / "livepatch.ko") == ""
    assert b".klp.sym.vmlinux.account,2\0" in module  # the second of two in this kernel

    # Read it back as the kernel's loader would.
    symbol = kernel.find_piece(change.original, block)
    assert symbol is not None
    function = ReplacedFunction(
        object="vmlinux", name="device_read", position=0, size=symbol.size, bytes_proven=proof.bytes_proven
    )
    loader.simulate(out / "livepatch.ko", (function,), view=view)
    livepatch = replace(make_livepatch(1, module=module), functions=(function,))
    (out / "livepatch.json").write_text(wire.dump(livepatch))
    return out


def livepatch_in(built: Path) -> Livepatch:
    """The manifest that the build left."""
    return wire.load(Livepatch, (built / "livepatch.json").read_bytes(), what="manifest")


def lab(built: Path, *, passed: bool) -> None:
    """Lab: the VM is a stand-in, so its report is written here."""
    (built / "labreport.json").write_text(wire.dump(make_report(livepatch_in(built), passed=passed)))


def release(built: Path, made: SimulatedRepository) -> None:
    """Release: sign and publish to the channel ``edge``."""
    publish.publish(built, repo=made.repo, keys=made.keys, channel="edge", now=made.now, progress=Silent())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimulatedRepository:
    """Keys by a ceremony of their own, and an empty repository."""
    return SimulatedRepository(tmp_path_factory.mktemp("release"))


def test_one_fix_reaches_a_host(built: Path, made: SimulatedRepository, tmp_path: Path) -> None:
    """From two versions of a C file to a host that runs the fixed function, and back."""
    # A livepatch that did not pass the lab is not published.
    lab(built, passed=False)
    with pytest.raises(KmendError):
        release(built, made)
    lab(built, passed=True)
    release(built, made)

    # The host pins the first root of trust once; from then on it believes nothing but signatures.
    machine = FakeMachine(tmp_path / "machine")
    host = machine.host()
    config.enrol(host.paths, root_json=made.root, repo=str(made.repo), channel="edge", now=made.now)

    # Somebody alters one bit of the module on its way: nothing is loaded, and nothing on the host changes.
    module = made.module_path(1)
    flip_bit(module)
    before = machine.files()
    with pytest.raises(TrustError):
        sync.update(host)
    assert machine.loaded == []
    assert machine.livepatches() == []
    assert set(machine.files()) >= set(before)
    flip_bit(module)

    # The real one is found, verified, loaded and watched.
    assert sync.check(host).verdict == Verdict.AVAILABLE
    done = sync.update(host)
    assert done.applied
    assert machine.livepatches() == ["kmend_1"]
    ((name, content),) = machine.loaded
    assert name == "kmend_1"
    assert content.startswith((built / "livepatch.ko").read_bytes())  # what was built, with its signature behind
    assert content.endswith(b"~Module signature appended~\n")
    assert sync.check(host).verdict == Verdict.UP_TO_DATE

    # And out again: the host is as it was.
    assert sync.unload_now(host, hold=False) == ("kmend_1",)
    assert machine.livepatches() == machine.modules() == []


def test_a_fix_that_cannot_be_livepatched_is_refused(tmp_path: Path) -> None:
    """The builder's "no" is a value that says what to write instead."""
    difference = make_difference(tmp_path, DRIVER, DRIVER.replace('"forty-two"', '"forty-three"'), name="driver.c")
    (objection,) = objections(difference, place="driver.o")
    assert (objection.code, objection.place) == ("changed-data", "driver.o: answers")
    assert "Do in code" in objection.advice


def test_a_livepatch_is_for_one_kernel_only(built: Path, made: SimulatedRepository, tmp_path: Path) -> None:
    """A host with another build is offered nothing."""
    kernel = replace(livepatch_in(built).kernel, build_id="ef" * 20)
    machine = FakeMachine(tmp_path / "machine", kernel=kernel)
    host = machine.host()
    config.enrol(host.paths, root_json=made.root, repo=str(made.repo), channel="edge", now=NOW)
    assert sync.check(host).verdict != Verdict.AVAILABLE
    assert not sync.update(host).applied
    assert machine.loaded == []
