"""ELF files as they are, and as nobody should have made them."""

from __future__ import annotations

import lzma
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmend.elf import constants as c
from kmend.elf.objects import ObjectCode
from kmend.elf.reader import ElfFile
from kmend.elf.tables import entries_by_function
from kmend.kit.errors import InputError
from makers.objects import PRELUDE, compile_c

SOURCE = """
static int counter = 7;
static noinline int quiet(int x) { return consume(&counter) + x; }
int loud(int x) { printk("loud %d\\n", x); return quiet(x) + counter; }
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small object."""
    return compile_c(tmp_path_factory.mktemp("reader"), SOURCE)


def write(folder: Path, content: bytes) -> Path:
    """A file of these bytes."""
    (folder / "made.o").write_bytes(content)
    return folder / "made.o"


def test_sections_and_symbols_are_those_that_readelf_shows(path: Path) -> None:
    """Names, types, values, sizes and bindings agree with binutils, in file order."""
    elf = ElfFile(path)
    shown = subprocess.run(["readelf", "-sW", path], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in shown.splitlines() if line.strip()[:1].isdigit()]
    assert [symbol.size for symbol in elf.symbols] == [int(row[2], 0) for row in rows]
    assert [symbol.is_local for symbol in elf.symbols] == [row[4] == "LOCAL" for row in rows]
    assert {symbol.name for symbol in elf.symbols} >= {"counter", "quiet", "loud", "printk", "file.c"}
    text = elf.section(".text.loud")
    assert text is not None
    assert text.is_text
    assert {elf.symbols[one.symbol].name for one in elf.relocations(text)} >= {"__fentry__", "printk"}


def test_relocations_come_by_offset(path: Path) -> None:
    """Whoever cuts sections relies on the order."""
    elf = ElfFile(path)
    for section in elf.sections:
        offsets = [one.offset for one in elf.relocations(section)]
        assert offsets == sorted(offsets)


def test_zeros_take_no_space_in_the_file(tmp_path: Path) -> None:
    """A .bss section reads as zeros, also beyond the end of the file."""
    elf = ElfFile(compile_c(tmp_path, "char room[100000]; int use(void) { return consume(room); }"))
    section = elf.section(".bss.room")
    assert section is not None
    assert elf.content(section) == bytes(100000)
    assert elf.read(section, 99990, 50) == bytes(10)


def test_more_sections_than_the_header_can_count(tmp_path: Path) -> None:
    """Beyond 65,279 sections the numbers stand in section 0 and in a table of their own."""
    lines = "".join(f".section .s{number}\n.byte 1\n" for number in range(66000))
    labels = ".globl first, last\n.section .s3\nfirst:\n.section .s65999\nlast:\n"
    (tmp_path / "many.s").write_text(lines + labels)
    subprocess.run(["as", "-o", "many.o", "many.s"], cwd=tmp_path, check=True)
    elf = ElfFile(tmp_path / "many.o")
    places = {one.name: elf.sections[one.section].name for one in elf.symbols if not one.is_local}
    assert places == {"first": ".s3", "last": ".s65999"}


def test_names_of_reserved_numbers_are_not_taken_for_sections(path: Path, tmp_path: Path) -> None:
    """A symbol in a reserved section of unknown meaning is refused where something points to it."""
    elf = ElfFile(path)
    table = next(section for section in elf.sections if section.type == c.SHT_SYMTAB)
    number = next(one.number for one in elf.symbols if one.name == ".data.counter")
    content = bytearray(path.read_bytes())
    struct.pack_into("<H", content, table.offset + number * 24 + 6, 0xFF05)
    with pytest.raises(InputError, match="unknown kind"):
        ObjectCode(write(tmp_path, bytes(content)))


@pytest.mark.parametrize("size", [0, 1, 15, 63, 64, 200])
def test_a_cut_file_is_refused(path: Path, tmp_path: Path, size: int) -> None:
    """However little is there."""
    with pytest.raises(InputError):
        ObjectCode(write(tmp_path, path.read_bytes()[:size]))


def test_every_cut_of_an_object_is_refused(path: Path, tmp_path: Path) -> None:
    """The section headers stand at the end, so no prefix is a whole file."""
    content = path.read_bytes()
    for size in range(64, len(content), 97):
        with pytest.raises(InputError, match="damaged"):
            ElfFile(write(tmp_path, content[:size])).symbols  # noqa: B018 - reading is the test


def test_what_is_no_elf_file_for_this_machine_is_refused(path: Path, tmp_path: Path) -> None:
    """A folder, a text, a missing file, a file for another machine."""
    other = bytearray(path.read_bytes())
    other[18] = 183
    with pytest.raises(InputError, match="machine 183"):
        ElfFile(write(tmp_path, bytes(other)))
    with pytest.raises(InputError, match="not a 64-bit"):
        ElfFile(write(tmp_path, PRELUDE.encode()))
    with pytest.raises(InputError, match="does not exist"):
        ElfFile(tmp_path / "nothing.o")
    with pytest.raises(InputError, match="cannot be read"):
        ElfFile(tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [(60, 0xFFFF), (40, 1 << 62), (58, 1), (62, 0xFFF0)],
    ids=["count", "place", "entry size", "names"],
)
def test_a_section_table_outside_of_the_file_is_refused(
    path: Path, tmp_path: Path, field: int, value: int
) -> None:
    """Counts and places that a hostile file claims are believed only within the file."""
    content = bytearray(path.read_bytes())
    struct.pack_into("<Q" if field == 40 else "<H", content, field, value)
    with pytest.raises(InputError, match="damaged"):
        ElfFile(write(tmp_path, bytes(content)))


def test_a_huge_section_of_zeros_is_refused(path: Path, tmp_path: Path) -> None:
    """A few bytes of file must not cost gigabytes of memory."""
    content = bytearray(path.read_bytes())
    table = struct.unpack_from("<Q", content, 40)[0]
    index = next(one.number for one in ElfFile(path).sections if one.name == ".bss")
    struct.pack_into("<Q", content, table + index * 64 + 32, 1 << 44)
    with pytest.raises(InputError, match="zeros"):
        ElfFile(write(tmp_path, bytes(content)))


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, 1 << 30), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)
)
def test_altered_bytes_are_read_or_refused(path: Path, tmp_path: Path, edits: list[tuple[int, bytes]]) -> None:
    """Whatever is altered, reading ends soon with an object or an InputError."""
    content = bytearray(path.read_bytes())
    for place, new in edits:
        at = place % (len(content) - len(new))
        content[at : at + len(new)] = new
    _read(write(tmp_path, bytes(content)))


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.integers(0, 30),
    field=st.sampled_from([0, 4, 8, 24, 32, 40, 44, 56]),
    value=st.sampled_from([0, 1, 2, 3, 4, 8, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20]) | st.integers(0, 1 << 32),
)
def test_altered_section_headers_are_read_or_refused(
    path: Path, tmp_path: Path, row: int, field: int, value: int
) -> None:
    """The fields that steer the reader: types, places, sizes, links, sizes of entries."""
    content = bytearray(path.read_bytes())
    table = struct.unpack_from("<Q", content, 40)[0]
    count = struct.unpack_from("<H", content, 60)[0]
    struct.pack_into("<I", content, table + row % count * 64 + field, value & 0xFFFFFFFF)
    _read(write(tmp_path, bytes(content)))


def _read(path: Path) -> None:
    begin = time.monotonic()
    with suppress(InputError):
        entries_by_function(ObjectCode(path), {"bug_entry": 12, "jump_entry": 16})
    assert time.monotonic() - begin < 2


def test_compressed_module_is_read_like_any_other(tmp_path: Path) -> None:
    """Modules of newer kernels come as .ko.xz; a damaged one is a clear error."""
    plain = compile_c(tmp_path, "int f(void) { return 1; }")
    packed = tmp_path / "small.ko.xz"
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    assert ElfFile(packed).symbols == ElfFile(plain).symbols
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged"):
        ElfFile(packed)
