"""Objects that kmend writes: read back by its own reader and by binutils."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kmend.elf import constants as c
from kmend.elf.reader import ElfFile
from kmend.elf.writer import OutObject, OutSymbol
from makers.objects import warnings_of

NAMES = st.from_regex(r"\A[a-z_.][a-z0-9_.]{0,11}\Z")


def small() -> OutObject:
    """Text that calls an outer function and reads a variable of its own; something that waits for a module."""
    out = OutObject()
    text = out.section(".text.f", flags=c.SHF_ALLOC | c.SHF_EXECINSTR, align=16)
    data = out.section(".data.v", flags=c.SHF_ALLOC | c.SHF_WRITE, align=8)
    room = out.section(".bss", type=c.SHT_NOBITS, flags=c.SHF_ALLOC | c.SHF_WRITE, align=4)
    room.size = 4096
    text.append(bytes(20), align=16)
    variable = out.symbol(OutSymbol("v", data, data.append(b"\1\2\3\4", align=4), 4, c.STB_LOCAL, c.STT_OBJECT))
    out.symbol(OutSymbol("f", text, 0, 20, c.STB_GLOBAL, c.STT_FUNC))
    callee = out.symbol(OutSymbol("callee"))
    waiting = out.symbol(OutSymbol(".klp.sym.nf_tables.x,0", place=c.SHN_LIVEPATCH))
    text.relocations += [(11, c.R_X86_64_32S, variable, 2), (1, c.R_X86_64_PLT32, callee, -4)]
    text.livepatch_relocations["nf_tables"] = [(6, c.R_X86_64_PC32, waiting, -4)]
    return out


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Sections, symbols and relocations survive; readelf has nothing to say."""
    path = tmp_path / "small.o"
    path.write_bytes(small().to_bytes())
    assert warnings_of(path) == ""
    elf = ElfFile(path)
    text = elf.section(".text.f")
    assert text is not None
    assert text.is_text
    assert text.offset % 16 == 0
    symbols = {one.name: one for one in elf.symbols}
    assert (symbols["f"].size, symbols["f"].type, symbols["f"].is_local) == (20, c.STT_FUNC, False)
    assert symbols[".klp.sym.nf_tables.x,0"].section == c.SHN_LIVEPATCH
    found = [(one.offset, one.type, elf.symbols[one.symbol].name, one.addend) for one in elf.relocations(text)]
    assert found == [
        (1, c.R_X86_64_PLT32, "callee", -4),
        (6, c.R_X86_64_PC32, ".klp.sym.nf_tables.x,0", -4),
        (11, c.R_X86_64_32S, "v", 2),
    ]
    rela = elf.section(".klp.rela.nf_tables.text.f")
    assert rela is not None
    assert rela.flags & c.SHF_RELA_LIVEPATCH
    room = elf.section(".bss")
    assert room is not None
    assert room.size == 4096


def test_local_symbols_come_first(tmp_path: Path) -> None:
    """The table's header says where the global ones begin (System V ABI)."""
    out = small()
    out.symbol(OutSymbol("late", out.sections[0], bind=c.STB_LOCAL))
    path = tmp_path / "small.o"
    path.write_bytes(out.to_bytes())
    elf = ElfFile(path)
    (table,) = [one for one in elf.sections if one.type == c.SHT_SYMTAB]
    assert [one.is_local for one in elf.symbols] == [number < table.info for number in range(len(elf.symbols))]
    assert "late" in [one.name for one in elf.symbols[: table.info]]


@settings(max_examples=40)
@given(
    sections=st.lists(st.tuples(NAMES, st.binary(max_size=40), st.sampled_from([1, 2, 8, 16])), max_size=6),
    symbols=st.lists(st.tuples(NAMES, st.integers(0, 5), st.booleans()), max_size=12),
)
def test_any_object_is_read_back(
    tmp_path_factory: object, sections: list[tuple[str, bytes, int]], symbols: list[tuple[str, int, bool]]
) -> None:
    """Contents at aligned places, and every symbol with its section."""
    out = OutObject()
    placed: dict[str, list[tuple[int, bytes]]] = {}
    for name, data, align in sections:
        at = out.section("." + name).append(data, align=align)
        assert at % align == 0
        placed.setdefault("." + name, []).append((at, data))
    for name, place, is_local in symbols:
        section = out.sections[place] if place < len(out.sections) else None
        out.symbol(OutSymbol(name, section, bind=c.STB_LOCAL if is_local and section else c.STB_GLOBAL))
    path = tmp_path_factory.mktemp("any") / "any.o"  # type: ignore[attr-defined]
    path.write_bytes(out.to_bytes())
    elf = ElfFile(path)
    for name, pieces in placed.items():
        section = elf.section(name)
        assert section is not None
        content = elf.content(section)
        assert all(content[at : at + len(data)] == data for at, data in pieces)
    wanted = sorted((one.name, one.section.name if one.section else "") for one in out.symbols)
    assert sorted((one.name, elf.sections[one.section].name) for one in elf.symbols[1:]) == wanted
