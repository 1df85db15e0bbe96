"""Symbols read from the text of readelf."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kmend.elf import constants as c
from kmend.elf.readelf import ListedSymbols, exported_names, listed, parse
from kmend.elf.reader import ElfFile
from kmend.elf.running import VMLINUX
from kmend.kit.errors import InputError
from makers.objects import compile_c, link_kernel, link_module

ONE = "static noinline int same(int x) { return consume(&x); }\nint one(int x) { return same(x) + 1; }\n"
TWO = "static noinline int same(int x) { return observe(&x); }\nint two(int x) { return same(x) + 2; }\n"
HEAD = """
Symbol table '.symtab' contains {} entries:
   Num:    Value          Size Type    Bind   Vis      Ndx Name
     0: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  UND
"""


def text_of(path: Path) -> str:
    """What readelf prints of a file."""
    return subprocess.run(["readelf", "-sW", path], capture_output=True, text=True, check=True).stdout


def test_reads_what_the_file_has(tmp_path: Path) -> None:
    """Every symbol of an object comes out of the text as it comes out of the file."""
    path = compile_c(tmp_path, ONE + "u64 big[100000] = {1};\n")
    assert list(parse(text_of(path), source="text")) == ElfFile(path).symbols


def test_positions_in_the_kernel_are_those_of_the_file(tmp_path: Path) -> None:
    """Files and positions are found in a list of symbols as in vmlinux itself."""
    machine = link_kernel(tmp_path, {"one.c": ONE, "two.c": TWO})
    (tmp_path / "text").write_text(text_of(machine.elf.path))
    symbols = listed(VMLINUX, tmp_path / "text")
    for left, right in zip(machine.symbols, symbols.symbols, strict=True):
        assert machine.position(left) == symbols.position(right)
    assert {symbols.position(one) for one in symbols.symbols if one.name == "same"} == {1, 2}


def test_positions_in_a_module_are_those_of_the_file(tmp_path: Path) -> None:
    """A module's symbols count in file order."""
    machine = link_module(tmp_path, {"one.c": ONE, "two.c": TWO})
    symbols = ListedSymbols("small", parse(text_of(machine.elf.path), source="text"))
    places = [symbols.position(one) for one in symbols.symbols if one.name == "same"]
    assert places == [machine.position(one) for one in machine.symbols if one.name == "same"] == [1, 2]


def test_a_name_in_init_code_too_has_no_position(tmp_path: Path) -> None:
    """Once a module has started its init code is gone from the count, so nobody can tell the position."""
    init = TWO.replace("static noinline", 'static noinline in_section(".init.text")')
    machine = link_module(tmp_path, {"one.c": ONE, "two.c": init})
    symbols = ListedSymbols("small", parse(text_of(machine.elf.path), source="text"))
    assert [symbols.position(one) for one in symbols.symbols if one.name == "same"] == [None, None]


def test_odd_rows() -> None:
    """Versions, hex sizes, unknown kinds, visibility notes and odd sections are read; .dynsym is skipped."""
    rows = [
        "     1: ffffffff81000010 0x12345 FUNC    GLOBAL DEFAULT    1 versioned@@GLIBC_2.2 (2)",
        "     2: 0000000000000000     0 FILE    LOCAL  DEFAULT  ABS a file.c",
        "     3: 0000000000000000     8 <OS specific>: 11 <processor specific>: 13 HIDDEN [<other>: 8] COM x",
        "     4: 0000000000000000     0 NOTYPE  GLOBAL DEFAULT OS [0xff20] .klp.sym.vmlinux.printk,0",
    ]
    text = HEAD.format(1).replace(".symtab", ".dynsym") + HEAD.format(5) + "\n".join(rows) + "\n\nNo version.\n"
    found = parse(text, source="text")
    assert [(one.name, one.size, one.section) for one in found[1:]] == [
        ("versioned", 0x12345, 1),
        ("a file.c", 0, c.SHN_ABS),
        ("x", 8, c.SHN_COMMON),
        (".klp.sym.vmlinux.printk,0", 0, c.SHN_LIVEPATCH),
    ]
    assert (found[3].type, found[3].bind) == (11, 13)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no symbol table"),
        ("\0\x7fELF", "no symbol table"),
        (HEAD.format(1) + HEAD.format(1), "2 symbol table"),
        (HEAD.format(999999999999), "line 2 announces 999999999999 symbols, but 1 follow"),
        (HEAD.format(2) + "     1: 0000000000000000     0 NOTYPE  LOC", "line 5"),
        (HEAD.format(2) + "     7: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  ABS x", "line 5: symbol 7"),
        (HEAD.format(2) + "     1: 00000000     0 NOTYPE  LOCAL  DEFAULT  ABS x", "line 5"),
        (HEAD.format(2) + "     1: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  65535 x", "line 5: section"),
        (HEAD.format(2) + "     1: 0000000000000000     0 WHAT    LOCAL  DEFAULT  ABS x", "line 5: unknown kind"),
        (HEAD.format(2) + "     1: 0000000000000000     0 FUNC    LOCAL  DEFAULT  1 long[...]", "--wide"),
    ],
)
def test_errors_name_the_line(text: str, says: str) -> None:
    """What is not readelf's text, or cut, or impossible, is refused."""
    with pytest.raises(InputError, match=says):
        parse(text, source="text")


def test_exports_of_the_kernel_and_of_a_module() -> None:
    """__ksymtab_ symbols tell the kernel's exports; what a module leaves undefined is somebody's."""
    rows = [
        "     1: 0000000000000000     0 NOTYPE  LOCAL  DEFAULT  1 __ksymtab_printk",
        "     2: 0000000000000000     0 NOTYPE  GLOBAL  DEFAULT  UND consume",
    ]
    symbols = parse(HEAD.format(3) + "\n".join(rows), source="text")
    assert exported_names(symbols, VMLINUX) == {"printk"}
    assert exported_names(symbols, "small") == {"consume"}
