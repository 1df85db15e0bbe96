"""Reading a finished livepatch back: every rule, broken once, is found."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from kmend.build.loader import simulate
from kmend.build.view import Export
from kmend.elf import constants as c
from kmend.elf.writer import OutObject, OutSection, OutSymbol
from kmend.kit.errors import BugError
from kmend.model.livepatch import ReplacedFunction
from makers.objects import FakeView, link_kernel, link_module

KERNEL = {
    "a.c": "static used noinline int work(int x) { return consume(&x); } int one(int x) { return x; }",
    "b.c": "static used noinline int work(int x) { return consume(&x) + 1; }",
}
SAMPLE = """
static const char info[] used in_section(".modinfo") = "vermagic=6.1.0 SMP";
int init_module(void) { return 0; }
static struct { char name[24]; int (*init)(void); char rest[32]; } module
  used in_section(".gnu.linkonce.this_module") = { .init = init_module };
static used int inside = 1;
"""
CRC = 0x1234
FUNCTION = ReplacedFunction(object="vmlinux", name="work", position=2, size=20, bytes_proven=20)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> FakeView:
    """A kernel of two files with one module."""
    folder = tmp_path_factory.mktemp("loader")
    found = FakeView(
        link_kernel(folder, KERNEL),
        link_module(folder, {"sample.c": SAMPLE}),
        exports={"printk": "vmlinux", "inner": "small"},
    )
    found.exports["named"] = Export(CRC, "vmlinux", "SPACE")
    return found


class Module:
    """A livepatch module in the making: all in order until a test alters it."""

    def __init__(self) -> None:
        self.out = OutObject()
        self.text = self.out.section(".text.work", flags=c.SHF_ALLOC | c.SHF_EXECINSTR)
        self.text.append(bytes(64))
        self.registers("work", position=2, new="work")
        self.table = self.out.section("__jump_table", flags=c.SHF_ALLOC)
        self.table.append(bytes(16))
        self.out.section(".modinfo").append(b"livepatch=Y\0vermagic=6.1.0 SMP\0name=kmend_1\0")
        self.out.section(".gnu.linkonce.this_module").append(bytes(64))
        self.versions = self.out.section("__versions")
        self.version("printk", CRC)
        self.printk = self.out.symbol(OutSymbol("printk"))
        self.text.relocations.append((4, c.R_X86_64_PLT32, self.printk, -4))
        self.klp("vmlinux", "vmlinux", "one,0", at=8)
        self.klp("small", "small", "inside,0", at=16)

    def registers(self, name: str, *, position: int, new: str) -> None:
        """The tables that the kernel walks: one klp_object of vmlinux with one klp_func."""
        names = self.out.section(".rodata.names")
        names.append(name.encode() + b"\0")
        self.functions = self.out.section(".data.functions", flags=c.SHF_ALLOC | c.SHF_WRITE)
        self.functions.append(struct.pack("<QQQ", 0, 0, position) + bytes(24))
        text = self.out.symbol(OutSymbol("names", names, bind=c.STB_LOCAL))
        self.new = self.out.symbol(OutSymbol(new, self.text, 0, 64, c.STB_LOCAL, c.STT_FUNC))
        self.functions.relocations += [(0, c.R_X86_64_64, text, 0), (8, c.R_X86_64_64, self.new, 0)]
        objects = self.out.section(".data.objects", flags=c.SHF_ALLOC | c.SHF_WRITE)
        objects.append(bytes(32))
        first = self.out.symbol(OutSymbol("functions_1", self.functions, bind=c.STB_LOCAL, type=c.STT_OBJECT))
        objects.relocations.append((8, c.R_X86_64_64, first, 0))
        self.out.symbol(OutSymbol("objects", objects, 0, 32, c.STB_LOCAL, c.STT_OBJECT))

    def version(self, name: str, crc: int) -> None:
        """Name the CRC of a symbol."""
        self.versions.append(struct.pack("<Q56s", crc, name.encode()))

    def klp(self, group: str, owner: str, name: str, *, at: int, section: OutSection | None = None) -> OutSymbol:
        """A relocation that livepatch resolves."""
        symbol = self.out.symbol(OutSymbol(f".klp.sym.{owner}.{name}", place=c.SHN_LIVEPATCH))
        entries = (section or self.text).livepatch_relocations.setdefault(group, [])
        entries.append((at, c.R_X86_64_PC32, symbol, -4))
        return symbol

    def check(self, folder: Path, view: FakeView, function: ReplacedFunction = FUNCTION) -> None:
        """Read it back."""
        (folder / "livepatch.ko").write_bytes(self.out.to_bytes())
        simulate(folder / "livepatch.ko", (function,), view=view)


def test_a_module_in_order_passes(tmp_path: Path, view: FakeView) -> None:
    """Nothing is found where nothing is wrong."""
    Module().check(tmp_path, view)


def _with_info(text: bytes) -> Callable[[Module], object]:
    def alter(module: Module) -> None:
        module.out.section(".modinfo").data[:] = text

    return alter


def _undefined(name: str, crc: int | None) -> Callable[[Module], object]:
    def alter(module: Module) -> None:
        module.text.relocations.append((24, c.R_X86_64_PLT32, module.out.symbol(OutSymbol(name)), -4))
        if crc is not None:
            module.version(name, crc)

    return alter


def _twisted(module: Module) -> None:
    waiting = module.klp("vmlinux", "vmlinux", "one,0", at=24)
    module.text.relocations.append((32, c.R_X86_64_PC32, waiting, -4))


def _waits(owner: str, name: str, *, group: str = "") -> Callable[[Module], object]:
    return lambda module: module.klp(group or owner, owner, name, at=24)


def _table_waits(module: Module) -> None:
    module.klp("small", "small", "inside,0", at=0, section=module.table)


def _relocated(at: int, kind: int) -> Callable[[Module], object]:
    return lambda module: module.text.relocations.append((at, kind, module.printk, 0))


def _moved_hook(module: Module) -> None:
    init = module.out.symbol(OutSymbol("init_module", module.text, 0, 64, c.STB_GLOBAL, c.STT_FUNC))
    module.out.section(".gnu.linkonce.this_module").relocations.append((8, c.R_X86_64_64, init, 0))


RULES: dict[str, tuple[Callable[[Module], object], str]] = {
    "1 not exported": (_undefined("nothing", CRC), "nothing is not exported"),
    "1 exported by a module": (_undefined("inner", CRC), "inner is not exported by vmlinux"),
    "1 no CRC": (lambda module: module.versions.data.clear(), "printk has CRC None"),
    "1 another CRC": (lambda module: module.versions.data.__setitem__(0, 9), "printk has CRC"),
    "1 a namespace": (_undefined("named", CRC), "namespace SPACE, which is not imported"),
    "2 no such symbol": (_waits("vmlinux", "gone,0"), "0 symbols gone"),
    "2 not unique": (_waits("vmlinux", "work,0"), "2 symbols work"),
    "2 too far": (_waits("vmlinux", "work,3"), "2 symbols work"),
    "2 no such module": (_waits("other", "x,0"), "other has 0 symbols"),
    "2 bad name": (_waits("vmlinux", "one"), "not the name of a klp symbol"),
    "3 vmlinux from a module": (_waits("vmlinux", "one,0", group="small"), "refer to vmlinux'"),
    "3 a table waits": (_table_waits, "__jump_table would wait"),
    "3 the wrong kind": (_twisted, "wrong kind of relocation"),
    "4 outside": (_relocated(62, c.R_X86_64_64), "lies outside"),
    "4 type": (_relocated(24, 9), "has type 9"),
    "4 not over zeros": (lambda module: module.text.data.__setitem__(5, 1), "not stand over zeros"),
    "7 no livepatch": (_with_info(b"vermagic=6.1.0 SMP\0"), "lacks livepatch=Y"),
    "7 another kernel": (_with_info(b"livepatch=Y\0vermagic=6.1.1 SMP\0"), "modinfo lacks"),
    "7 another struct": (
        lambda module: module.out.section(".gnu.linkonce.this_module").append(b"x"),
        "struct module has 65 bytes",
    ),
    "7 another layout of it": (
        _moved_hook,
        "struct module has init_module at offset 8, the kernel's has it at 24",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_broken_rule_is_found(tmp_path: Path, view: FakeView, rule: str) -> None:
    """The message names what does not hold, and it alone."""
    alter, message = RULES[rule]
    module = Module()
    alter(module)
    with pytest.raises(BugError) as caught:
        module.check(tmp_path, view)
    assert message in caught.value.message
    assert caught.value.message.count(";") == 0, caught.value.message


@pytest.mark.parametrize(("name", "position"), [("work", 0), ("work", 3), ("gone", 0), ("one", 2)])
def test_a_replaced_function_that_is_not_there_is_found(
    tmp_path: Path, view: FakeView, name: str, position: int
) -> None:
    """Rule 5: by name and by number."""
    function = ReplacedFunction(object="vmlinux", name=name, position=position, size=1, bytes_proven=1)
    with pytest.raises(BugError, match=f"symbols {name}"):
        Module().check(tmp_path, view, function)


def _moved(module: Module) -> None:
    offset, kind, symbol, _ = module.functions.relocations[1]
    module.functions.relocations[1] = (offset, kind, symbol, 4)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda module: setattr(module.new, "name", "other"), "it registers other for work,2 of vmlinux"),
        (_moved, "it registers no function for work,2 of vmlinux"),
        (lambda module: module.functions.data.__setitem__(16, 1), "it registers work for work,1 of vmlinux"),
        (lambda module: module.functions.relocations.clear(), "it does not register work,2 of vmlinux"),
    ],
)
def test_a_module_that_registers_something_else_is_found(
    tmp_path: Path, view: FakeView, alter: Callable[[Module], object], message: str
) -> None:
    """Rule 6: another new version, not its beginning, another position, nothing at all."""
    module = Module()
    alter(module)
    with pytest.raises(BugError, match=message):
        module.check(tmp_path, view)
