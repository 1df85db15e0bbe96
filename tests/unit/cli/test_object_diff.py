"""The verb ``kmend object-diff``."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kmend.build.module import with_klp_relocations
from kmend.cli import main
from kmend.elf import constants as c
from kmend.elf.objects import ObjectCode
from kmend.elf.reader import ElfFile
from kmend.model.fix import ObjectionCode
from makers.damage import damaged
from makers.objects import COMPILER, SECTIONS, compile_c, link_kernel, link_module, warnings_of

SOURCE = """
static int counter = 7;
static noinline int inner(int x) { if (x > 9) consume(&counter); return x * 3 + counter; }
int first(int x) { if (x > 5) printk("first %d\\n", x); return inner(x) + 1; }
int second(int x) { return inner(x) + 2; }
"""
FIXED = SOURCE.replace("x > 5", "x > 6")
TWIN = "static noinline int inner(int x) { return observe(&x); }\nint other(int x) { return inner(x) * 5; }\n"
CLANG = next((name for name in ("clang", "clang-19", "clang-14") if shutil.which(name)), None)


class Place:
    """A folder with two objects and the running symbols."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.out = folder / "OUT.o"
        self._monkeypatch = monkeypatch

    def objects(self, original: str, fixed: str, *, flags: tuple[str, ...] = SECTIONS) -> None:
        """Compile both."""
        self.original = compile_c(self.folder / "original", original, flags=flags)
        self.fixed = compile_c(self.folder / "fixed", fixed, flags=flags)

    def symbols_of(self, path: Path) -> None:
        """Take the running symbols from a file."""
        done = subprocess.run(["readelf", "--symbols", "--wide", path], capture_output=True, check=True)
        (self.folder / "symbols").write_bytes(done.stdout)

    def run(self, *more: str | Path, linked_into: str = "vmlinux") -> int:
        """The exit code; the object is there only if that is 0, the report only if it is not 1."""
        words: list[str | Path] = ["kmend", "object-diff", self.original, self.fixed, "--object", linked_into]
        words += ["--symtab", self.folder / "symbols", "--name", "fix", "-o", self.out]
        words += ["--json", self.folder / "report", *more]
        self._monkeypatch.setattr("sys.argv", list(map(str, words)))
        code = main.run_command(main.kmend)
        assert self.out.exists() == (code == 0)
        assert (self.folder / "report").exists() == (code != 1)
        return code

    @property
    def report(self) -> dict[str, Any]:
        """The report."""
        found: dict[str, Any] = json.loads((self.folder / "report").read_text())
        return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Two objects of one file, compared by themselves."""
    found = Place(tmp_path, monkeypatch)
    found.objects(SOURCE, FIXED)
    found.symbols_of(found.original)
    return found


def test_a_changed_function_is_taken_out(place: Place) -> None:
    """With local names, a global handle, and a description; readelf and ld have nothing against it."""
    assert place.run() == 0
    assert place.report["changed"] == ["first"]
    assert place.report["functions"] == [{"name": "first", "object": "vmlinux", "position": 0}]
    assert place.report["special"] == {"__mcount_loc": 1}
    assert "instead of" in place.report["reasons"]["first"]["difference"]
    assert warnings_of(place.out) == ""
    symbols = {one.name: one for one in ElfFile(place.out).symbols if one.is_defined}
    assert symbols["first"].bind == c.STB_LOCAL
    assert symbols[".kmend.fix.first"].bind == c.STB_GLOBAL
    section = ElfFile(place.out).section(".kmend.description")
    assert section is not None
    assert ElfFile(place.out).content(section) == b"name=fix\0object=vmlinux\0function=first,0\0"
    subprocess.run(["ld", "-r", "-o", place.folder / "linked", place.out], check=True)
    (place.folder / "final").write_bytes(with_klp_relocations(ElfFile(place.folder / "linked")))
    assert warnings_of(place.folder / "final") == ""


def test_callbacks_are_reported(place: Place) -> None:
    """Callbacks alone are something to build; the description names what to register them by."""
    callbacks = """
static int set_up(void *object) { return consume(object); }
static void *mine[5] used in_section(".kmend.callbacks") = { set_up };
"""
    place.objects(SOURCE, SOURCE + callbacks)
    assert place.run() == 0
    assert place.report["callbacks"] == [{"kind": "pre_patch", "function": "set_up"}]
    assert place.report["changed"] == place.report["objections"] == []
    section = ElfFile(place.out).section(".kmend.description")
    assert section is not None
    assert ElfFile(place.out).content(section).endswith(b"object=vmlinux\0callbacks=mine\0")
    assert any(one.name == ".kmend.fix.mine" and not one.is_local for one in ElfFile(place.out).symbols)


def test_the_source_line_is_named(place: Place) -> None:
    """Where the fixed object has debug information, the report says where the difference stands."""
    place.objects(SOURCE, FIXED, flags=(*SECTIONS, "-g"))
    assert place.run() == 0
    line = place.report["reasons"]["first"]["line"]
    text = (place.folder / "fixed/file.c").read_text().splitlines()
    assert "x > 6" in text[int(line.rsplit(":", 1)[1]) - 1]


@pytest.mark.parametrize("module", [False, True])
def test_positions_in_the_running_object(place: Place, *, module: bool) -> None:
    """A static function with a namesake in another file is asked for by its position."""
    link = link_module if module else link_kernel
    machine = link(place.folder / "running", {"other.c": TWIN, "file.c": SOURCE})
    place.symbols_of(machine.elf.path)
    assert place.run(linked_into="small.ko" if module else "vmlinux") == 0
    owner = "small" if module else "vmlinux"
    assert {"name": "inner", "object": owner, "position": 2} in place.report["klp_symbols"]


def test_a_module_without_names_of_files(place: Place) -> None:
    """Modules are shipped stripped; a static function is found all the same if its name is unique."""
    machine = link_module(place.folder / "running", {"other.c": "int other;\n", "file.c": SOURCE})
    shipped = place.folder / "small.ko"
    subprocess.run(["strip", "--strip-debug", "-o", shipped, machine.elf.path], check=True)
    place.symbols_of(shipped)
    assert place.run(linked_into="small") == 0
    assert {"name": "inner", "object": "small", "position": 0} in place.report["klp_symbols"]
    machine = link_module(place.folder / "running", {"other.c": TWIN, "file.c": SOURCE})
    subprocess.run(["strip", "--strip-debug", "-o", shipped, machine.elf.path], check=True)
    place.symbols_of(shipped)
    assert place.run(linked_into="small") == 2
    assert [one["code"] for one in place.report["objections"]] == [ObjectionCode.UNRESOLVED_SYMBOL]


def test_exports_stay_ordinary_symbols(place: Place) -> None:
    """What Module.symvers lists of vmlinux needs no klp symbol; a broken line of it is named."""
    machine = link_kernel(place.folder / "running", {"file.c": SOURCE})
    place.symbols_of(machine.elf.path)
    symvers = place.folder / "Module.symvers"
    symvers.write_text("0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n0x1\t__fentry__\tvmlinux\tEXPORT_SYMBOL\n")
    assert place.run("--symvers", symvers) == 0
    assert [one["name"] for one in place.report["klp_symbols"]] == ["inner"]
    symvers.write_text("0x12345678\tprintk\tvmlinux\tEXPORT_SYMBOL\t\nnonsense\n")
    assert place.run("--symvers", symvers) == 1


def test_what_the_running_kernel_lacks_is_refused(place: Place) -> None:
    """Unless the objects are compared by themselves, when nobody knows what the kernel exports."""
    place.objects(SOURCE, SOURCE.replace("x > 5", "absent(x)").replace("int first", "int absent(int);\nint first"))
    assert place.run() == 0
    place.symbols_of(link_kernel(place.folder / "running", {"file.c": SOURCE}).elf.path)
    assert place.run() == 2
    assert [one["code"] for one in place.report["objections"]] == [ObjectionCode.UNRESOLVED_SYMBOL]


def test_new_functions_and_statics(place: Place) -> None:
    """A new function comes along, even a global one is local then; the running kernel's variable is used."""
    fixed = SOURCE.replace("x > 5", "fresh(x)").replace(
        "int first", "noinline int fresh(int x) { return observe(&counter) > x; }\nint first"
    )
    place.objects(SOURCE, fixed)
    assert place.run() == 0
    assert place.report["new"] == ["fresh"]
    assert {"name": "counter", "object": "vmlinux", "position": 0} in place.report["klp_symbols"]
    assert {one.name: one.bind for one in ElfFile(place.out).symbols}["fresh"] == c.STB_LOCAL


@pytest.mark.parametrize(
    ("fixed", "code"),
    [
        (SOURCE.replace("counter = 7", "counter = 8"), ObjectionCode.CHANGED_DATA),
        (SOURCE + '__asm__(".section .text.g,\\"axG\\",@progbits,signature,comdat; nop; .previous");',
         ObjectionCode.UNSUPPORTED_SECTION),
        (SOURCE + 'in_section(".initcall6.init") used static void *entry = second;\n',
         ObjectionCode.UNSUPPORTED_SECTION),
    ],
)  # fmt: skip
def test_objections_end_with_code_2(place: Place, fixed: str, code: ObjectionCode) -> None:
    """Nothing is built, and the report says why; an object of an earlier run is gone."""
    place.out.write_text("old")
    place.objects(SOURCE, fixed)
    assert place.run() == 2
    assert code in {one["code"] for one in place.report["objections"]}


def test_unmarked_padding_and_several_sources_are_refused(place: Place) -> None:
    """Room in front of functions would be lost; an object of several sources has no single block."""
    place.objects(SOURCE, FIXED, flags=(*SECTIONS, "-fpatchable-function-entry=16,16"))
    assert place.run() == 2
    assert [one["code"] for one in place.report["objections"]] == ["unsupported-file"]
    place.objects(SOURCE, FIXED)
    twin = compile_c(place.folder / "twin", TWIN, name="other.c")
    for path in (place.original, place.fixed):
        subprocess.run(["ld", "-r", "-o", f"{path}.all", path, twin], check=True)
    place.original, place.fixed = Path(f"{place.original}.all"), Path(f"{place.fixed}.all")
    assert place.run() == 2
    assert "file.c, other.c" in place.report["objections"][0]["reason"]


@pytest.mark.parametrize("flags", [SECTIONS, (), (*SECTIONS, "-g"), (*SECTIONS, "-O3"), (*SECTIONS, "-Os")])
@pytest.mark.parametrize("text", [SOURCE, TWIN, "int only;\n", ""])
def test_an_object_against_itself_is_no_change(place: Place, text: str, flags: tuple[str, ...]) -> None:
    """Whatever it holds; and so it is when only the time of compiling differs."""
    place.objects(text, text, flags=flags)
    with place.fixed.open("ab") as file:  # not byte for byte the same, so that they really are compared
        file.write(b"\0")
    assert place.run() == 3
    assert place.report["changed"] == place.report["objections"] == []
    place.fixed = place.original
    assert place.run() == 3


def test_functions_that_share_a_section(place: Place) -> None:
    """Without -ffunction-sections the same function is found."""
    place.objects(SOURCE, FIXED, flags=())
    assert place.run() == 0
    assert place.report["changed"] == ["first"]


@pytest.mark.skipif(CLANG is None, reason="no clang here")
def test_objects_of_clang(place: Place) -> None:
    """Its objects have no __mcount_loc before the kernel's build adds it."""
    for folder in ("original", "fixed"):
        subprocess.run(
            [str(CLANG), "-O2", "-fno-pic", "-mcmodel=kernel", "-pg", "-mfentry", *SECTIONS,
             "-fno-asynchronous-unwind-tables", "-w", "-c", "-o", "file.o", "file.c"],
            cwd=place.folder / folder, check=True,
        )  # fmt: skip
    place.symbols_of(place.original)
    assert place.run() == 0
    assert place.report["changed"] == ["first"]
    assert warnings_of(place.out) == ""
    assert ".kmend.fix.first" in {one.name for one in ElfFile(place.out).symbols}


def test_linked_back_it_does_what_the_fix_does(place: Place) -> None:
    """OUT.o, linked to the original object in place of klp relocations, computes the fixed results."""
    program = """
    extern int old(int), new(int) __asm__(".kmend.fix.second");
    int printk(const char *t, ...) { return 0; }
    int consume(void *t) { return 1; }
    int observe(void *t) { return 2; }
    int main(void) { return old(4) == 4 * 3 + 7 + 2 && new(4) == 4 * 3 + 7 + 20 ? 0 : 1; }
    """
    place.objects(SOURCE, SOURCE.replace("+ 2", "+ 20"))
    assert place.run() == 0
    (place.folder / "main.c").write_text(program)
    own = [f"--redefine-sym=.klp.rela.vmlinux/.klp.sym.vmlinux.{name},0={name}" for name in ("inner", "counter")]
    subprocess.run(["objcopy", *own, place.out], check=True)
    subprocess.run(
        ["objcopy", "--globalize-symbol=inner", "--redefine-sym=second=old", place.original, "old.o"],
        cwd=place.folder, check=True,
    )  # fmt: skip
    words = [COMPILER, "-no-pie", "-pg", "-mfentry", "-w", "-o", "program", "main.c", "old.o", place.out]
    subprocess.run(words, cwd=place.folder, check=True)
    assert subprocess.run([place.folder / "program"], cwd=place.folder, check=False).returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--struct-size", "jump_entry"],
        ["--struct-size", "jump_entry=0"],
        ["--struct-size", "jump_entry=99999999999"],
        ["--struct-size", "what=3"],
        ["--struct-size", "jump_entry,jump_entry=16"],
        ["--name", "a.b/c"],
        ["--object", "../vmlinux x"],
        ["--symtab", "/nonexistent"],
        ["--symtab", "/"],
        ["--kernel", "0.0.0-none"],
        ["--symvers", "/nonexistent"],
        ["--symvers", "/"],
    ],
)
def test_wrong_options_are_named(place: Place, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An error with what was given, and nothing is left."""
    assert place.run(*words) == 1
    assert words[1].split(",")[0] in capsys.readouterr().err


def test_an_input_is_never_overwritten(place: Place) -> None:
    """Nor may object and report be one file."""
    place.out = place.original
    before = place.original.read_bytes()
    with pytest.raises(AssertionError):
        place.run()
    assert place.original.read_bytes() == before


def test_nothing_is_left_where_the_report_cannot_be_written(place: Place) -> None:
    """An object without its report would look like one of a run that went well."""
    assert place.run("--json", "/proc/report") == 1
    assert not place.out.exists()


def test_a_pipe_is_no_object(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Objects are mapped, not read; nobody waits for a writer."""
    place.fixed.unlink()
    os.mkfifo(place.fixed)
    assert place.run() == 1
    assert "no ordinary file" in capsys.readouterr().err


def test_damaged_objects_are_an_error(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever was done to it: a message, or an answer where nothing that counts was hit; never a traceback."""
    good = place.fixed.read_bytes()
    codes = set()
    for number in range(60):
        place.fixed.write_bytes(damaged(good, random.Random(number)))  # noqa: S311 - the same every time
        codes.add(place.run())
        assert "Traceback" not in capsys.readouterr().err
    assert codes >= {0, 1}


def test_an_object_that_claims_too_much_is_refused(place: Place) -> None:
    """Sections that overlap, or gigabytes of zeros, are not read."""
    data = bytearray(place.fixed.read_bytes())
    headers, count = struct.unpack_from("<Q", data, 40)[0], len(ObjectCode(place.fixed).elf.sections)
    for number in range(1, count):
        struct.pack_into("<IQQ", data, headers + 64 * number + 4, c.SHT_NOBITS, c.SHF_ALLOC, 0)
        struct.pack_into("<Q", data, headers + 64 * number + 32, 1 << 28)
    place.fixed.write_bytes(data)
    assert place.run() == 1
