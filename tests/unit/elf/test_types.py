"""Types and their users, read from what the compiler writes for debuggers."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from kmend.elf.dwarf import Dwarf
from kmend.elf.reader import ElfFile
from kmend.elf.types import TypeTable
from kmend.elf.uses import Role, Uses, functions
from kmend.kit.errors import InputError
from makers.objects import SECTIONS, compile_c

SOURCE = """
enum state { IDLE = 3, BUSY, GONE = -1 };
enum { LOOSE = 9 };
typedef struct { int q; } pair_t;
struct link { struct link *next; };
struct thing {
  unsigned a : 3, b : 5;
  _Bool c;
  char name[4][2];
  struct link link;
  enum state state;
  union { int x; long y; };
  int (*call)(struct thing *, u32);
  const char data[];
};
struct unused { int a; };
static struct { const char *name; int size; } table[2];
static pair_t pair;
struct moded { enum { OFF, ON } mode; };
static noinline int inner(struct thing *p) { return p->b + table[p->c].size + pair.q; }
static inline int folded(struct thing *given) { return given->a + LOOSE; }
int outer(struct thing *p) { struct link here = { 0 }; consume(&here); return inner(p) + folded(p) + BUSY; }
int moded(struct moded *p) { return p->mode == ON; }
"""


def table_of(path: Path) -> TypeTable:
    """The types of an object."""
    return TypeTable(Dwarf(ElfFile(path)))


@pytest.fixture(scope="module", params=[4, 5])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One object in each version of the format."""
    flags = (*SECTIONS, "-g", f"-gdwarf-{request.param}", "-fno-var-tracking")
    return compile_c(tmp_path_factory.mktemp("types"), SOURCE, flags=flags)


def test_as_many_entries_as_readelf_shows(path: Path) -> None:
    """None is left out, none is read twice, and each has the place and name that binutils give."""
    shown = subprocess.run(
        ["readelf", "--debug-dump=info", path], capture_output=True, text=True, check=True
    ).stdout
    entries = [line for line in shown.splitlines() if "Abbrev Number" in line and "DW_TAG" in line]
    places = [int(line.partition("><")[2].partition(">")[0], 16) for line in entries]
    dwarf = Dwarf(ElfFile(path))
    assert list(dwarf.entries) == places
    names = {line.rpartition(": ")[2].strip() for line in shown.splitlines() if "DW_AT_name" in line}
    assert {die.name for die in dwarf.entries.values() if die.name} == names


def test_the_layout_of_a_struct(path: Path) -> None:
    """Bit-fields, arrays, inner types with and without names, pointers by the name of their target."""
    (layout,) = table_of(path).layouts("struct thing")
    assert layout.size == 48
    assert [(one.name, one.at, one.size, one.type) for one in layout.members] == [
        ("a", 0, 3, "unsigned int"),
        ("b", 3, 5, "unsigned int"),
        ("c", 8, 8, "_Bool"),
        ("name", 16, 64, "char[4][2]"),
        ("link", 128, 64, "struct link"),
        ("state", 192, 32, "enum state"),
        ("x", 256, 32, "int"),
        ("y", 256, 64, "long int"),
        ("call", 320, 64, "int (struct thing *, u32) *"),
        ("data", 384, 0, "const char[]"),
    ]
    kinds = {slot.name: slot.kind for slot in layout.slots}
    assert kinds["link.next"] == "pointer to struct link"
    assert kinds["c"] == "boolean"
    assert kinds["call"] == "pointer to function (pointer to struct thing, unsigned of 4) giving signed of 4"


def test_other_types(path: Path) -> None:
    """Values of enums, targets of typedefs, types without a name; what nothing uses is not there."""
    table = table_of(path)
    assert table.layouts("enum state")[0].constants == (("IDLE", 3), ("BUSY", 4), ("GONE", -1))
    assert table.loose_constants() == {"LOOSE": 9, "OFF": 0, "ON": 1}
    assert table.layouts("typedef u32")[0].size == 4
    assert [one.name for one in table.unnamed()["variable table"].members] == ["name", "size"]
    assert table.unnamed()["typedef pair_t"].size == 4
    assert [one.kind for one in table.layouts("struct moded")[0].slots] == ["enum (unnamed)"]
    assert table.layouts("struct unused") == ()


def test_who_uses_a_type(path: Path) -> None:
    """Parameters, local variables, members and static variables, in inlined functions too."""
    uses = Uses(table_of(path))
    assert set(functions(uses.of("struct thing"))) == {"inner", "outer", "folded"}
    found = {(use.role, use.name, use.pointers, use.within) for use in uses.of("struct thing") if use.place}
    assert (Role.PARAMETER, "p", 1, "") in found
    assert (Role.PARAMETER, "given", 1, "outer") in found
    assert any(use.role == Role.OTHER for use in uses.of("struct thing"))
    roles = {(use.role, use.name, use.owner) for use in uses.of("struct link")}
    assert roles == {
        (Role.MEMBER, "next", "struct link"),
        (Role.MEMBER, "link", "struct thing"),
        (Role.LOCAL, "here", ""),
    }
    assert {use.role for use in uses.of("typedef pair_t")} == {Role.STATIC}


def test_without_debugging_information_there_is_nothing_to_read(tmp_path: Path) -> None:
    """An object as the builder compares it is refused in words."""
    with pytest.raises(InputError, match="no debugging information"):
        Dwarf(ElfFile(compile_c(tmp_path, SOURCE)))


def test_damage_is_told_as_such(path: Path, tmp_path: Path) -> None:
    """Bytes changed at random, in the entries and what belongs to them, end in an InputError or in types."""
    whole = path.read_bytes()
    sections = [one for one in ElfFile(path).sections if "debug_" in one.name]
    chance = random.Random(7)  # noqa: S311 - the same damage each time
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        section = chance.choice(sections)
        for _ in range(chance.randint(1, 6)):
            data[section.offset + chance.randrange(section.size)] = chance.choice((0, 1, 127, 128, 255))
        (tmp_path / "damaged.o").write_bytes(data)
        try:
            table = table_of(tmp_path / "damaged.o")
            Uses(table)
            table.unnamed()
            for name in ("struct thing", "enum state", "typedef pair_t"):
                table.layouts(name)
        except InputError:
            refused += 1
    assert refused > 20


def test_cut_entries_are_told_as_such(path: Path, tmp_path: Path) -> None:
    """An end anywhere: the section's size is changed in its header."""
    elf = ElfFile(path)
    (section,) = [one for one in elf.sections if one.name == ".debug_info"]
    whole = path.read_bytes()
    header = int.from_bytes(whole[40:48], "little") + 64 * section.number
    for size in range(1, section.size, 37):
        data = bytearray(whole)
        data[header + 32 : header + 40] = size.to_bytes(8, "little")
        (tmp_path / "cut.o").write_bytes(data)
        with pytest.raises(InputError):
            table_of(tmp_path / "cut.o")
