"""What a host runs: blocks of files, symbols counted as the kernel counts them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmend.elf import constants as c
from kmend.elf.btf import struct_sizes
from kmend.elf.objects import ObjectCode
from kmend.elf.reader import ElfFile
from kmend.elf.running import RunningModule
from kmend.elf.writer import OutObject, OutSymbol
from kmend.kit.errors import InputError
from makers.objects import compile_c, link_kernel, link_module

ONE = "static noinline used int work(int x) { return consume(&x); }\nint one(int x) { return work(x); }\n"
TWO = """
static noinline used int work(int x) { return consume(&x) + 2; }
static used int own; int two(void) { return own; }
"""


def test_positions_count_in_the_order_of_addresses(tmp_path: Path) -> None:
    """Every symbol of the name counts, function or not; a unique name has position 0."""
    machine = link_kernel(tmp_path, {"a.c": ONE, "b.c": TWO, "c.c": "static int used work = 5;\n"})
    found = [one for one in machine.elf.symbols if one.name == "work"]
    assert len(found) == 3
    by_address = sorted(found, key=lambda one: one.value)
    assert [machine.position(one) for one in by_address] == [1, 2, 3]
    unique = machine.find("one", None)
    assert unique is not None
    assert machine.position(unique) == 0


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By their static functions; alike ones stay several."""
    machine = link_kernel(tmp_path, {"a/same.c": ONE, "b/same.c": TWO, "c/same.c": ONE.replace("one", "three")})
    two = ObjectCode(compile_c(tmp_path / "two", TWO, name="same.c"))
    one = ObjectCode(compile_c(tmp_path / "one", ONE, name="same.c"))
    (block,) = machine.blocks_like(two)
    assert "own" in block.symbols
    assert len(machine.blocks_like(one)) == 2


def test_a_file_whose_functions_are_not_there_has_no_block(tmp_path: Path) -> None:
    """Half of the static functions is not enough."""
    machine = link_kernel(tmp_path, {"same.c": ONE})
    more = "static noinline used int gone(int x) { return consume(&x) * 3; }\n"
    assert machine.blocks_like(ObjectCode(compile_c(tmp_path / "o", ONE + more, name="same.c"))) == []
    assert machine.blocks_like(ObjectCode(compile_c(tmp_path / "o", ONE, name="elsewhere.c"))) == []


def test_a_static_name_leads_to_its_own_file(tmp_path: Path) -> None:
    """Each block has its own; a name that a file has twice is nobody's."""
    machine = link_kernel(tmp_path, {"a.c": ONE, "b.c": TWO})
    places = set()
    for name, text in (("a.c", ONE), ("b.c", TWO)):
        part = ObjectCode(compile_c(tmp_path / "o", text, name=name))
        (block,) = machine.blocks_like(part)
        symbol = machine.find_piece(part.functions["work"], block)
        assert symbol is not None
        places.add(symbol.value)
    assert len(places) == 2
    assert machine.find_piece(part.functions["work"], None) is None
    assert machine.find("work", None) is None


def made(folder: Path, *symbols: tuple[str, str, int], sections: tuple[str, ...]) -> ElfFile:
    """A module with these symbols: name, section, value."""
    out = OutObject()
    for name in sections:
        out.section(name, flags=c.SHF_ALLOC).append(bytes(64))
    out.symbol(OutSymbol("file.c", bind=c.STB_LOCAL, type=c.STT_FILE, place=c.SHN_ABS))
    for name, section, value in symbols:
        out.symbol(OutSymbol(name, out.section(section), value, 4, c.STB_LOCAL, c.STT_OBJECT))
    (folder / "made.ko").write_bytes(out.to_bytes())
    return ElfFile(folder / "made.ko")


def test_positions_in_a_module_count_in_the_order_of_its_table(tmp_path: Path) -> None:
    """Addresses do not matter, and sections are told by name: the loaded file has fewer."""
    elf = made(tmp_path, ("v", ".data", 32), ("v", ".data", 0), ("v", ".rodata", 8), sections=(".data", ".rodata"))
    module = RunningModule("made", tmp_path / "made.ko", elf)
    found = [one for one in module.elf.symbols if one.name == "v"]
    assert [module.position(one) for one in found] == [1, 2, 3]


def test_names_that_init_code_has_too_are_not_counted(tmp_path: Path) -> None:
    """Their number changes once the module has started."""
    elf = made(
        tmp_path, ("v", ".init.data", 0), ("v", ".data", 0), ("w", ".data", 8), sections=(".init.data", ".data")
    )
    module = RunningModule("made", tmp_path / "made.ko", elf)
    positions = {(one.name, one.section): module.position(one) for one in module.elf.symbols if one.name in "vw"}
    assert set(positions.values()) == {None, 0}
    assert [name for (name, _), position in positions.items() if position == 0] == ["w"]


def test_a_module_is_read_by_its_symbols(tmp_path: Path) -> None:
    """Code without what is filled in later, and bytes of its data."""
    module = link_module(tmp_path, {"file.c": "static int v[2] = {5, 6}; int f(void) { return consume(v); }"})
    symbol = module.find("f", None)
    assert symbol is not None
    assert len(module.code(symbol)) == symbol.size
    section = module.elf.section(".data")
    assert section is not None
    assert module.bytes_at((section.number, 0), 8) == struct.pack("<II", 5, 6)


def btf(*types: tuple[str, int, int, bytes], damage: int = 0) -> bytes:
    """A BTF section: name, kind, size and what follows."""
    names, table = b"\0", b""
    for name, kind, size, rest in types:
        table += struct.pack("<III", len(names), kind << 24 | len(rest) // 12, size) + rest
        names += name.encode() + b"\0"
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(table) - damage, len(table), len(names))
    return header + table + names


def sizes(folder: Path, content: bytes) -> dict[str, int]:
    """What is found in a file with that section."""
    out = OutObject()
    out.section(".BTF", flags=0).append(content)
    (folder / "btf.o").write_bytes(out.to_bytes())
    return dict(struct_sizes(ElfFile(folder / "btf.o"), ("bug_entry", "alt_instr", "missing")))


def test_sizes_of_structures_come_from_btf(tmp_path: Path) -> None:
    """By name, past types of other kinds; names that are not there are left out."""
    content = btf(("int", 1, 4, b""), ("bug_entry", 4, 12, bytes(24)), ("alt_instr", 4, 14, bytes(12)))
    content = content.replace(struct.pack("<III", 1, 1 << 24, 4), struct.pack("<III", 1, 1 << 24, 4) + bytes(4))
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(content) - 24 - 25, len(content) - 24 - 25, 25)
    assert sizes(tmp_path, header + content[24:]) == {"bug_entry": 12, "alt_instr": 14}


@pytest.mark.parametrize(
    "content", [b"", b"\x9f\xeb", bytes(64), btf(("x", 31, 1, b"")), btf(("x", 4, 1, b""), damage=3)]
)
def test_damaged_btf_is_refused(tmp_path: Path, content: bytes) -> None:
    """Without the sizes nothing could be cut."""
    with pytest.raises(InputError, match="BTF"):
        sizes(tmp_path, content)


@settings(max_examples=100, deadline=1000)
@given(junk=st.binary(max_size=200))
def test_any_btf_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    """Whatever follows the header."""
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(junk), 0, len(junk))
    try:
        found = sizes(tmp_path_factory.mktemp("btf"), header + junk)
    except InputError:
        return
    assert set(found) <= {"bug_entry", "alt_instr", "missing"}
