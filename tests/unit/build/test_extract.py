"""What comes along in a livepatch, and what stays the running kernel's own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from kmend.build.extract import Extraction
from kmend.build.module import with_klp_relocations
from kmend.build.resolve import Resolver
from kmend.elf import constants as c
from kmend.elf.objects import ObjectCode, Piece, Undefined
from kmend.elf.reader import ElfFile
from kmend.model.fix import ObjectionCode
from makers.objects import FakeView, link_kernel, link_module, make_difference, warnings_of

SOURCE = """
extern int other(int x);
static int counter = 7;
static noinline int helper(int x) { return x * 3 + consume(&counter); }
int first(int x) { if (x > 5) printk("first %d\\n", x); return helper(x) + 1; }
int (*operations[])(int) = {first, helper};
"""
NEW = "if (x > 6) printk"


class Taken(NamedTuple):
    """An extraction as an object that was read back."""

    extraction: Extraction
    code: ObjectCode
    path: Path

    def codes(self) -> set[ObjectionCode]:
        """What stands in the way."""
        return {one.code for one in self.extraction.objections}

    def names_of(self, function: str) -> dict[str, list[object]]:
        """What a function refers to: imported names, own pieces, literals."""
        found: dict[str, list[object]] = {"imported": [], "own": [], "literals": []}
        piece = next(one for one in self.code.pieces() if one.name.endswith(function) and one.is_function)
        for reference in piece.references:
            if isinstance(reference.target, Undefined):
                found["imported"].append(reference.target.name)
            elif isinstance(reference.target, Piece) and not reference.target.is_anonymous:
                found["own"].append(reference.target.name)
        return found


def take(
    folder: Path,
    original: str,
    fixed: str,
    *,
    files: dict[str, str] | None = None,
    exports: tuple[str, ...] = ("printk", "consume", "__fentry__"),
    module: bool = False,
) -> Taken:
    """Compare, extract and read back; ``files`` are the others of the running kernel."""
    difference = make_difference(folder, original, fixed)
    ours = {"file.c": original}
    vmlinux = link_kernel(folder / "kernel", {**(files or {}), **({} if module else ours)})
    modules = [link_module(folder / "module", ours)] if module else []
    running = modules[0] if module else vmlinux
    (block,) = running.blocks_like(difference.original)
    view = FakeView(vmlinux, *modules, exports=dict.fromkeys(exports, "vmlinux"))
    new = frozenset(piece.name for piece in difference.new_functions if not piece.is_local)
    extraction = Extraction(difference, Resolver(view, running, block, new), place="file.o", prefix="0")
    path = folder / "part.o"
    path.write_bytes(extraction.out.to_bytes())
    assert warnings_of(path) == ""
    return Taken(extraction, ObjectCode(path), path)


def edit(folder: Path, old: str, new: str, source: str = SOURCE, **options: object) -> Taken:
    """What one replacement makes."""
    assert old in source
    return take(folder, source, source.replace(old, new, 1), **options)  # type: ignore[arg-type]


OTHER = {"other.c": "int other(int x) { return x; }\nstatic int used counter = 1;\n"}


def test_a_changed_function_calls_the_running_kernels_own(tmp_path: Path) -> None:
    """Exports by name, all else as klp symbols; nothing that did not change comes along."""
    taken = edit(tmp_path, "if (x > 5) printk", NEW)
    assert taken.codes() == set()
    assert set(taken.names_of("first")["imported"]) == {
        "printk", "__fentry__", ".klp.rela.vmlinux/.klp.sym.vmlinux.helper,0",
    }  # fmt: skip
    assert [piece.name for piece in taken.code.pieces() if piece.is_function] == [".kmend.0.first"]


def test_variables_are_the_running_kernels(tmp_path: Path) -> None:
    """A static variable is counted among all of its name, as the kernel counts them."""
    taken = edit(tmp_path, "x * 3", "x * 4", files=OTHER)
    position = 2  # the kernel is linked other.c first
    assert f".klp.rela.vmlinux/.klp.sym.vmlinux.counter,{position}" in taken.names_of("helper")["imported"]
    assert not taken.code.data


def test_a_call_goes_to_the_new_version_and_a_pointer_to_the_original(tmp_path: Path) -> None:
    """Pointers are stored and compared, and outlive the livepatch."""
    source = (
        SOURCE
        + "int both(int x) { consume(helper); consume(both); return helper(x) + (x ? both(x - 2) : 0) + 1; }\n"
    )
    fixed = source.replace("x * 3", "x * 4").replace(": 0) + 1;", ": 0) + 2;")
    taken = take(tmp_path, source, fixed)
    found = taken.names_of("both")
    assert ".klp.rela.vmlinux/.klp.sym.vmlinux.helper,0" in found["imported"]
    assert ".klp.rela.vmlinux/.klp.sym.vmlinux.both,0" in found["imported"]
    assert ".kmend.0.helper" in found["own"]


def test_a_pointer_to_a_new_function_is_refused(tmp_path: Path) -> None:
    """The kernel may keep it when the livepatch is gone."""
    new = "static noinline int extra(int x) { return x * 9; }\nint first(int x) { consume(extra); "
    assert edit(tmp_path, "int first(int x) { ", new).codes() == {ObjectionCode.NEW_CALLBACK}
    direct = new.replace("consume(extra)", "x = extra(x)")
    taken = edit(tmp_path / "b", "int first(int x) { ", direct)
    assert taken.codes() == set()
    assert "extra" in taken.code.functions


KLP = """
struct klp_object;
struct klp_callbacks { int (*pre)(struct klp_object *); void (*post)(struct klp_object *),
  (*pre_un)(struct klp_object *), (*post_un)(struct klp_object *); char enabled; };
typedef int (*ctor_t)(void *, void *, void *);
extern void *klp_shadow_alloc(void *, u64, u64, unsigned, ctor_t, void *);
extern void klp_shadow_free_all(u64, void *);
"""
CALLBACKS = """
static int set_up(struct klp_object *object) { counter = 8; return 0; }
static void tear_down(struct klp_object *object) { printk("gone\\n"); }
static const struct klp_callbacks mine used in_section(".kmend.callbacks") = {
  .pre = set_up, .post_un = tear_down };
"""


def test_callbacks_come_along(tmp_path: Path) -> None:
    """With a symbol to register them by; what they use is the running kernel's, and nothing stands in the way."""
    source = KLP + SOURCE
    taken = take(tmp_path, source, source + CALLBACKS)
    assert taken.codes() == set()
    mine = taken.code.data[".kmend.0.mine"]
    assert mine.bind == c.STB_GLOBAL
    assert {one.offset: one.target for one in mine.references} == {
        0: taken.code.functions["set_up"], 24: taken.code.functions["tear_down"],
    }  # fmt: skip
    assert ".klp.rela.vmlinux/.klp.sym.vmlinux.counter,0" in taken.names_of("set_up")["imported"]
    assert [piece.name for piece in taken.extraction.linked_names] == ["mine"]


def test_callbacks_of_init_code_are_refused(tmp_path: Path) -> None:
    """The kernel gives init code's memory away before the livepatch is taken out."""
    source = KLP + SOURCE
    late = CALLBACKS.replace("static void tear_down", 'static in_section(".init.text") void tear_down')
    assert take(tmp_path, source, source + late).codes() == {ObjectionCode.INIT_CODE}


SHADOW = {
    "a constructor": ("klp_shadow_alloc(&x, 7, 4, 0, begin, 0);", True),
    "a destructor": ("klp_shadow_free_all(7, begin);", True),
    "data of a constructor": ("klp_shadow_alloc(&x, 7, 4, 0, 0, begin);", False),
    "kept before": ("hook = begin; klp_shadow_alloc(&x, 7, 4, 0, begin, 0);", False),
    "perhaps another call": ("if (x) consume(begin); else klp_shadow_free_all(7, begin);", False),
}


@pytest.mark.parametrize("case", SHADOW)
def test_functions_for_shadow_variables(tmp_path: Path, case: str) -> None:
    """The kernel calls constructors and destructors at once; every other use of the address could be kept."""
    statement, fine = SHADOW[case]
    source = KLP + "ctor_t hook;\n" + SOURCE
    begin = "static int begin(void *o, void *data, void *c) { *(int *)data = 9; return 0; }\nint first(int x) { "
    fixed = source.replace("int first(int x) { ", begin + statement, 1)
    exports = ("printk", "consume", "__fentry__", "klp_shadow_alloc", "klp_shadow_free_all")
    shadow = KLP + "void *klp_shadow_alloc(void *o, u64 i, u64 s, unsigned g, ctor_t f, void *d) { return o; }\n"
    files = {"shadow.c": shadow + "void klp_shadow_free_all(u64 i, void *f) { observe(f); }\n"}
    taken = take(tmp_path, source, fixed, files=files, exports=exports)
    assert taken.codes() == (set() if fine else {ObjectionCode.NEW_CALLBACK})


RCU = {
    "a callback": ("call_rcu(&head, begin);", "call_rcu", True),
    "as the last thing": ("if (x) call_rcu(&head, begin);", "call_rcu", True),
    "kept before": ("hook = begin; call_rcu(&head, begin);", "call_rcu", False),
    "the head": ("call_rcu((void *)begin, 0);", "call_rcu", False),
    "another flavour": ("call_srcu(&head, begin);", "call_srcu", False),
}


@pytest.mark.parametrize("case", RCU)
def test_functions_for_rcu(tmp_path: Path, case: str) -> None:
    """The livepatch waits for callbacks of call_rcu() when it goes; for no others."""
    statement, function, fine = RCU[case]
    head = "struct head { void *next, *func; } head;\ntypedef void (*rcu_t)(struct head *);\nrcu_t hook;\n"
    source = f"{head}void {function}(struct head *, rcu_t);\n{SOURCE}"
    begin = "static void begin(struct head *h) { consume(h); }\nint first(int x) { "
    fixed = source.replace("int first(int x) { ", begin + statement, 1)
    files = {"rcu.c": f"void {function}(void *head, void *f) {{ observe(f); }}\n"}
    taken = take(tmp_path, source, fixed, files=files, exports=("printk", "consume", "__fentry__", function))
    assert taken.codes() == (set() if fine else {ObjectionCode.NEW_CALLBACK})


def test_literals_come_along(tmp_path: Path) -> None:
    """Strings with their NUL; places beside a literal keep their distance; wide strings stay whole."""
    source = """
int f(int y) { int s = y; for (long i = 1; i < 9; i++) s += "0123456789"[i] * consume(&s); return s; }
int g(void) { return consume(L"\\u0100AB"); }
"""
    fixed = source.replace("int s = y", "int s = y + 1").replace("{ return consume(", "{ return 1 + consume(")
    taken = take(tmp_path, source, fixed)
    assert taken.codes() == set()
    rodata = [one for one in taken.code.elf.sections if one.name.startswith(".rodata")]
    literals = b"".join(taken.code.elf.content(one) for one in rodata)
    assert literals.count(b"0123456789\0") == literals.count(b"9\0") == 1
    assert "\u0100AB\0".encode("utf-16-le") in literals
    starts = {
        one.delta
        for piece in taken.code.pieces()
        if piece.name.endswith(".f")
        for one in piece.references
        if isinstance(one.target, Piece) and one.target.section.name.startswith(".rodata")
    }
    assert max(starts) - min(starts) == 7  # the first and the last place of the loop, in one and the same string


def test_literals_are_not_merged_again(tmp_path: Path) -> None:
    """The linker would move a reference that points beside its literal."""
    taken = edit(tmp_path, "if (x > 5) printk", NEW)
    assert not any(
        one.flags & (c.SHF_MERGE | c.SHF_STRINGS) for one in taken.code.elf.sections if one.flags & c.SHF_ALLOC
    )


def test_private_statics_are_copied_and_shared_ones_are_not(tmp_path: Path) -> None:
    """``__func__`` and ``__warned`` belong to the code, ``seen`` to the running kernel."""
    source = """
int f(int x) {
  static int seen; static char __warned; static int ___done;
  if (!__warned) { __warned = 1; printk(__func__); }
  if (!___done) { ___done = 1; consume(0); }
  seen += x; return consume(&seen) + 1;
}
"""
    taken = edit(tmp_path, "+ 1;", "+ 2;", source)
    assert taken.codes() == set()
    imported = " ".join(str(one) for one in taken.names_of("f")["imported"])
    assert ".seen." in imported
    assert ".___done." in imported
    assert {name.split(".")[0] for name in taken.code.data} == {"__warned", "__func__"}


def test_static_locals_keep_their_number_in_the_running_kernel(tmp_path: Path) -> None:
    """The fixed object calls it otherwise; the klp symbol has the name that runs."""
    source = """
int f(int x) { static int seen = 3; seen += x; return consume(&seen); }
int g(void) { static int n = 1; return consume(&n); }
"""
    fixed = source.replace("int f(int x) {", "int f(int x) { static int more = 5; consume(&more);")
    taken = take(tmp_path, source, fixed)
    old = next(name for name in taken.extraction._difference.original.data if name.startswith("seen"))
    assert f".klp.rela.vmlinux/.klp.sym.vmlinux.{old},0" in taken.names_of("f")["imported"]
    assert {name.split(".")[0] for name in taken.code.data} == {"more"}


def test_a_cold_part_comes_with_its_function(tmp_path: Path) -> None:
    """Both jump to each other within the livepatch, whichever of them changed."""
    source = (
        "extern cold int rare(int x);\nint f(int x) { if (__builtin_expect(x > 99, 0)) "
        '{ rare(x); rare(x + 1); printk("odd\\n"); x = rare(3); } return consume(&x); }\n'
    )
    taken = edit(tmp_path, "rare(3)", "rare(4)", source, files={"rare.c": "int rare(int x) { return x; }"})
    assert taken.codes() == set()
    functions = {piece.name: piece for piece in taken.code.pieces() if piece.is_function}
    assert set(functions) == {".kmend.0.f", "f.cold"}
    for one, other in (("f.cold", ".kmend.0.f"), (".kmend.0.f", "f.cold")):
        assert functions[other] in [reference.target for reference in functions[one].references]


def test_a_table_entry_comes_with_its_function_only(tmp_path: Path) -> None:
    """Of two entries of __bug_table the one of the changed function; its place is in the new code."""
    bug = (
        'asm volatile("1: ud2\\n.pushsection __bug_table,\\"aw\\"\\n'
        '.long 1b - ., 0\\n.word %c0, 0\\n.popsection" : : "i"(LINE));'
    )
    source = "".join(
        f"int {name}(int x) {{ {bug.replace('LINE', line)} return x; }}\n"
        for name, line in (("f", "11"), ("g", "22"))
    )
    taken = edit(
        tmp_path, f"{bug.replace('LINE', '22')} return x", f"{bug.replace('LINE', '23')} return x + 1", source
    )
    (table,) = taken.code.tables("__bug_table")
    assert table.size == 12
    assert table.code[8] == 23
    (place,) = table.references
    assert isinstance(place.target, Piece)
    assert place.target.name == ".kmend.0.g"
    (locations,) = taken.code.tables("__mcount_loc")
    assert locations.size == 8


def test_an_alternative_brings_its_replacement(tmp_path: Path) -> None:
    """The call in the replacement code goes where it went, wherever the code lies now."""
    alternative = (
        'asm volatile("771: call observe\\n772:\\n.pushsection .altinstructions,\\"a\\"\\n'
        ".long 771b - ., 773f - .\\n.word N\\n.byte 772b-771b, 774f-773f\\n.popsection\\n"
        '.pushsection .altinstr_replacement,\\"ax\\"\\n773: call consume\\n774:\\n.popsection");'
    )
    source = "".join(
        f"int {name}(int x) {{ {alternative.replace('N', str(number))} return x + {number}; }}\n"
        for number, name in enumerate(("f", "g", "h"), 3)
    )
    taken = edit(tmp_path, "x + 4", "x + 5", source, exports=("consume", "__fentry__"))
    assert taken.codes() == set()
    (table,) = taken.code.tables(".altinstructions")
    (store,) = taken.code.tables(".altinstr_replacement")
    assert (table.size, store.size) == (12, 5)
    assert [(one.target.name, one.delta) for one in store.references if isinstance(one.target, Undefined)] == [
        ("consume", 0)
    ]
    first, second = table.references
    assert isinstance(first.target, Piece)
    assert first.target.name == ".kmend.0.g"
    assert (second.target, second.delta) == (store, 0)


@pytest.mark.parametrize("section", [".data.once", ".data..once"])
def test_what_warn_once_remembers_comes_along(tmp_path: Path, section: str) -> None:
    """Both names that kernels have for its section."""
    once = f'{{ static u8 in_section("{section}") __already_done; if (!__already_done) __already_done = 1; }}'
    taken = edit(tmp_path, "return x + 1;", f"{once} return x + 1;", "int f(int x) { return x + 1; }")
    assert taken.codes() == set()
    assert any("__already_done" in str(name) for name in taken.names_of("f")["own"])


def test_a_tested_feature_brings_its_code_along(tmp_path: Path) -> None:
    """static_cpu_has(): of the nameless pieces of code that do the testing, each function has its own."""
    source = """
unsigned char bits[8] = {1};
#define has(n) ({ __label__ yes, no; int r = 1; \\
    asm goto("jmp 6f\\n.pushsection .altinstr_aux,\\"ax\\"\\n6: testb $" #n ", bits+" #n "(%%rip)\\n" \\
             "jnz %l[yes]\\njmp %l[no]\\n.popsection" : : : : yes, no); \\
    no: r = 0; yes: r; })
int f(int x) { return has(1) ? x + 1 : consume(&x); }
int g(int x) { return x + 2; }
int h(int x) { return has(3) ? x + 3 : consume(&x); }
"""
    taken = edit(tmp_path, "return x + 2", "return has(2) ? x + 2 : 2", source, exports=("consume", "__fentry__"))
    assert taken.codes() == set()
    assert [change.fixed.name for change in taken.extraction._difference.changed] == ["g"]
    (entry,) = taken.code.tables(".altinstr_aux")
    bits, yes, no = entry.references
    assert (bits.target, bits.delta) == (Undefined(".klp.rela.vmlinux/.klp.sym.vmlinux.bits,0"), 2)
    owner = taken.code.functions[".kmend.0.g"]
    assert yes.target is owner
    assert no.target is owner
    assert entry in [one.target for one in owner.references]


def test_functions_of_one_section_are_taken_out_of_it(tmp_path: Path) -> None:
    """Branches to neighbours that the assembler had resolved are references again."""
    source = """
static noinline in_section(".sched.text") int near(int x) { return consume(&x) * 3; }
in_section(".sched.text") int middle(int x) { return near(x) + 1; }
in_section(".sched.text") int last(int x) { return middle(x) + near(x); }
"""
    taken = edit(tmp_path, "near(x) + 1", "near(x) + 2", source)
    assert taken.codes() == set()
    assert ".klp.rela.vmlinux/.klp.sym.vmlinux.near,0" in taken.names_of("middle")["imported"]
    assert taken.code.functions[".kmend.0.middle"].section.name == ".text.middle"


def test_a_short_jump_to_a_neighbour_is_refused(tmp_path: Path) -> None:
    """Two bytes of distance cannot reach out of a livepatch."""
    source = """
static noinline in_section(".sched.text") int near(int x) { return consume(0) * 3; }
in_section(".sched.text") int middle(int x) { if (x == 4) return 9; return near(x + 1); }
"""
    assert edit(tmp_path, "x == 4", "x == 5", source).codes() == {ObjectionCode.UNSUPPORTED_SECTION}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ('static int extra in_section(".data..percpu")', ObjectionCode.UNSUPPORTED_SECTION),
        ('static int extra in_section(".data..read_mostly")', ObjectionCode.UNSUPPORTED_SECTION),
        ('static int extra in_section(".init.data")', ObjectionCode.INIT_CODE),
        ("static int extra = 4", None),
        ("static int extra", None),
    ],
)
def test_new_data(tmp_path: Path, data: str, code: ObjectionCode | None) -> None:
    """Plain variables come along; what needs the linker's or the kernel's care is refused."""
    taken = edit(tmp_path, "int first(int x) { ", f"{data};\nint first(int x) {{ consume(&extra); ")
    assert taken.codes() == ({code} if code else set())
    if code is None:
        assert "extra" in taken.code.data


def test_a_module_refers_to_its_own_first(tmp_path: Path) -> None:
    """Its symbols wait for the module; unexported ones of the kernel do not."""
    source = SOURCE.replace("helper(x) + 1", "helper(x) + other(x) + 1")
    taken = edit(tmp_path, "x > 5", "x > 6", source, files=OTHER, module=True)
    assert taken.codes() == set()
    assert set(taken.names_of("first")["imported"]) == {
        "printk", "__fentry__", ".klp.rela.small/.klp.sym.small.helper,0",
        ".klp.rela.vmlinux/.klp.sym.vmlinux.other,0",
    }  # fmt: skip


def test_a_static_key_of_a_module_is_refused(tmp_path: Path) -> None:
    """The kernel acts on __jump_table before the module is there."""
    key = (
        'static int key[4] = {1};\nint f(int x) { asm volatile("1: nop\\n2: nop\\n'
        '.pushsection __jump_table,\\"aw\\"\\n.long 1b - ., 2b - .\\n.quad key + 1 - .\\n.popsection"); '
        "consume(key); return x + 3; }\n"
    )
    assert edit(tmp_path, "x + 3", "x + 4", key, module=True).codes() == {ObjectionCode.MODULE_STATIC_KEY}
    builtin = edit(tmp_path / "b", "x + 3", "x + 4", key)
    assert builtin.codes() == set()
    (table,) = builtin.code.tables("__jump_table")
    reference = table.references[-1]
    assert isinstance(reference.target, Undefined)
    assert reference.target.name == ".klp.rela.vmlinux/.klp.sym.vmlinux.key,0"
    assert reference.delta == 1  # the flag in the key's address


def test_what_the_kernel_does_not_have_is_refused(tmp_path: Path) -> None:
    """A fix for a newer kernel uses a newer function."""
    source = SOURCE.replace("helper(x) + 1", "helper(x) + 1")
    taken = edit(tmp_path, "x > 5", "x > other(6)", source)
    assert taken.codes() == {ObjectionCode.UNRESOLVED_SYMBOL}


def test_klp_relocations_are_the_last_step(tmp_path: Path) -> None:
    """Sections and symbols as the kernel wants them; readelf has nothing against the file."""
    edit(tmp_path, "helper(x) + 1", "helper(x) + other(x) + 2", files=OTHER, module=True)
    subprocess.run(["ld", "-r", "-o", "linked.o", "part.o"], cwd=tmp_path, check=True)
    (tmp_path / "livepatch.ko").write_bytes(with_klp_relocations(ElfFile(tmp_path / "linked.o")))
    assert warnings_of(tmp_path / "livepatch.ko") == ""
    elf = ElfFile(tmp_path / "livepatch.ko")
    waiting = {one.name: one for one in elf.sections if one.flags & c.SHF_RELA_LIVEPATCH}
    assert set(waiting) == {".klp.rela.small.text.first", ".klp.rela.vmlinux.text.first"}
    for rela in waiting.values():
        assert rela.flags & c.SHF_ALLOC
        assert elf.sections[rela.info].name == ".text.first"
        assert elf.sections[rela.link].type == c.SHT_SYMTAB
    symbols = {one.name: one.section for one in elf.symbols if one.section == c.SHN_LIVEPATCH}
    assert set(symbols) == {".klp.sym.small.helper,0", ".klp.sym.vmlinux.other,0"}
    assert not [one.name for one in elf.symbols if ".klp.rela" in one.name or ".kmend." in one.name]
    assert {one.name for one in elf.symbols if one.section == c.SHN_UNDEF and one.name} == {"printk", "__fentry__"}
    assert all(one.is_local for one in elf.symbols if one.is_defined and one.section != c.SHN_LIVEPATCH)


def test_two_files_with_a_function_of_the_same_name(tmp_path: Path) -> None:
    """Sections of one name are merged by the linker; each new function keeps its own code and symbol."""
    text = "static noinline used int work(int x) { return consume(&x) + %d; }\n"
    parts = []
    for number in (0, 1):
        difference = make_difference(tmp_path / str(number), text % 10, text % (20 + number))
        vmlinux = link_kernel(tmp_path / f"kernel{number}", {"file.c": text % 10})
        (block,) = vmlinux.blocks_like(difference.original)
        view = FakeView(vmlinux, exports={"consume": "vmlinux", "__fentry__": "vmlinux"})
        extraction = Extraction(
            difference, Resolver(view, vmlinux, block, frozenset()), place="file.o", prefix=str(number)
        )
        (tmp_path / f"part{number}.o").write_bytes(extraction.out.to_bytes())
        parts.append(extraction)
    names = [name for part in parts for name in part.linked_names.values()]
    assert names == [".kmend.0.work", ".kmend.1.work"]
    subprocess.run(["ld", "-r", "-o", "both.o", "part0.o", "part1.o"], cwd=tmp_path, check=True)
    code = ObjectCode(tmp_path / "both.o")
    first, second = (code.functions[name] for name in names)
    assert first.code != second.code
    assert first.code.count(bytes([20])) == 1
    assert second.code.count(bytes([21])) == 1


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    """Names of folders do not show."""
    one = edit(tmp_path / "a", "x > 5", "x > 6")
    two = edit(tmp_path / "somewhere else", "x > 5", "x > 6")
    assert one.path.read_bytes() == two.path.read_bytes()
