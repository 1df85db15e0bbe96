"""Damaged objects for tests: cut, sprinkled with random bytes, or with absurd numbers where readers look."""

import os
import random
import resource
import signal
import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kmend.build.object_diff import object_diff
from kmend.elf import constants as c
from kmend.elf.readelf import listed
from kmend.elf.running import VMLINUX
from kmend.kit.errors import KmendError
from makers.objects import SECTIONS, SIZES, compile_c

SECONDS = 2
"""Processor time that one case may take."""
MEMORY = 512 << 20
"""Bytes of address space above what the process has before it begins."""
_STUCK = 60  # seconds by the clock, for what waits and does not work
_ODD = (0, 1, 2, 3, 7, 16, 255, 4095, 65279, 65280, 65535, 1 << 20, 1 << 29, 2**31 - 1, 2**31, 2**32 - 1, 2**40,
        2**63 - 1, 2**63, 2**64 - 4096, 2**64 - 1)  # fmt: skip
# Offset and bytes of each field.
_HEADER = ((4, 1), (16, 2), (18, 2), (40, 8), (52, 2), (58, 2), (60, 2), (62, 2))
_SECTION = ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 8), (40, 4), (44, 4), (48, 8), (56, 8))
_SYMBOL = ((0, 4), (4, 1), (6, 2), (8, 8), (16, 8))
_RELOCATION = ((0, 8), (8, 4), (12, 4), (16, 8))

_BUG = '"1: ud2\\n.pushsection __bug_table,\\"aw\\"\\n.long 1b - ., 0\\n.word 7, 0\\n.popsection\\n"'
_KEY = (
    '"2: nop\\n3: nop\\n.pushsection __jump_table,\\"aw\\"\\n.long 2b - ., 3b - .\\n.quad key + 1 - .\\n'
    '.popsection\\n"'
)
_FAULT = '"4: nop\\n5: nop\\n.pushsection __ex_table,\\"a\\"\\n.long 4b - ., 5b - ., 1\\n.popsection\\n"'
_ALTERNATIVE = (
    '"6: call observe\\n7:\\n.pushsection .altinstructions,\\"a\\"\\n.long 6b - ., 8f - .\\n.word 3\\n'
    '.byte 7b-6b, 9f-8f\\n.popsection\\n.pushsection .altinstr_replacement,\\"ax\\"\\n8: call consume\\n9:\\n'
    '.popsection\\n"'
)
_UNWIND = (
    '"0: nop\\n.pushsection .orc_unwind_ip,\\"a\\"\\n.long 0b - .\\n.popsection\\n'
    '.pushsection .orc_unwind,\\"a\\"\\n.byte 8,0,0,0,5,0\\n.popsection\\n"'
)
SOURCE = f"""
static int key[4] = {{1}}, counter = 7, zeros[100];
static const char *const names[] = {{"one", "two", "three"}};
extern cold int rare(int x);
static noinline int inner(int x) {{ static int seen; seen += x; consume(&seen); return x * 3 + counter; }}
int first(int x) {{ if (x > 5) printk("first %d\\n", x); return inner(x) + observe((void *)names[x & 1]); }}
int second(int x) {{ asm volatile({_BUG} {_KEY} {_FAULT}); return inner(x) + key[x & 3]; }}
int third(int x) {{ asm volatile({_ALTERNATIVE} {_UNWIND}); consume(&zeros[x]); return printk(__func__); }}
int fourth(int x) {{
  if (__builtin_expect(x > 99, 0)) {{ rare(x); printk("odd"); x = rare(3); }}
  return observe(&x);
}}
int (*operations[])(int) = {{first, inner, fourth}};
int wide(void) {{ return consume(L"wide") + "0123456789"[counter & 7]; }}
"""
FIXED = (
    SOURCE.replace("x > 5", "x > 6")
    .replace("rare(3)", "rare(4)")
    .replace("return printk(__func__)", 'printk("new"); return printk(__func__)')
    .replace("int second(int x) {", "int second(int x) { x = fresh(x);")
    .replace(
        "int second(", "static noinline int fresh(int x) { static int n; return consume(&n) + x; }\nint second("
    )
)


class Pair(NamedTuple):
    """Two objects that differ, undamaged, and the text of the original's symbols."""

    original: bytes
    fixed: bytes
    symbols: bytes


class Ground:
    """A folder with good pairs of objects, where damaged copies of them are compared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._pairs = [
            _pair(folder / str(number), flags) for number, flags in enumerate((SECTIONS, (), (*SECTIONS, "-g")))
        ]

    def outcome(self, case: int) -> str:
        """What becomes of a case: ``built``, ``refused``, ``same``, or the error's message behind ``error``."""
        chance = random.Random(case)  # noqa: S311 - the same every time
        good = chance.choices(self._pairs, (3, 2, 1))[0]
        # One in eight damages the list of symbols, each object comes to harm in about half of the others.
        which = chance.choice(((2,), (0,), (0,), (0,), (1,), (1,), (0, 1), (0, 1)))
        texts = [damaged(text, chance) if place in which else text for place, text in enumerate(good)]
        paths = [self.folder / name for name in ("original.o", "fixed.o", "symbols")]
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text)
        return compared(*paths)


def compared(original: Path, fixed: Path, symbols: Path) -> str:
    """How a comparison ends, as the command would have it."""
    try:
        report, content = object_diff(
            original, fixed, running=listed(VMLINUX, symbols), exports=None, sizes=SIZES, name="fix"
        )
    except KmendError as error:
        return f"error {error}"
    if report.objections:
        return "refused"
    return "built" if content else "same"


def symbols_of(path: Path) -> bytes:
    """What readelf prints of an object's symbols."""
    return subprocess.run(["readelf", "--symbols", "--wide", path], capture_output=True, check=True).stdout


def _pair(folder: Path, flags: tuple[str, ...]) -> Pair:
    before = compile_c(folder / "original", SOURCE, flags=flags)
    after = compile_c(folder / "fixed", FIXED, flags=flags)
    return Pair(before.read_bytes(), after.read_bytes(), symbols_of(before))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """One damaged copy of an object, or of a text."""
    kind = chance.randrange(10 if data.startswith(c.MAGIC) else 3)
    if kind == 0:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    if kind == 1:
        for _ in range(chance.randrange(1, 40)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == 2:
        at = chance.randrange(len(data))
        changed[at : at + chance.randrange(1, 200)] = chance.randbytes(chance.randrange(0, 200))
    else:
        for _ in range(chance.choice((1, 1, 1, 2, 5))):
            _alter_a_field(changed, data, chance)
    return bytes(changed)


def _alter_a_field(changed: bytearray, data: bytes, chance: random.Random) -> None:
    """An odd number in the file's header, a section header, a symbol or a relocation."""
    table, count = struct.unpack_from("<Q", data, 40)[0], struct.unpack_from("<H", data, 60)[0]
    rows = [struct.unpack_from(c.SECTION_HEADER, data, table + 64 * number) for number in range(count)]
    kind = chance.choice((0, c.SHT_PROGBITS, c.SHT_PROGBITS, c.SHT_SYMTAB, c.SHT_RELA, c.SHT_RELA))
    if kind in {c.SHT_SYMTAB, c.SHT_RELA}:
        row = chance.choice([one for one in rows if one[1] == kind])
        at = row[4] + 24 * chance.randrange(row[5] // 24)
        fields = _SYMBOL if kind == c.SHT_SYMTAB else _RELOCATION
    elif kind:
        at, fields = table + 64 * chance.randrange(count), _SECTION
    else:
        at, fields = 0, _HEADER
    offset, width = chance.choice(fields)
    old = int.from_bytes(data[at + offset : at + offset + width], "little")
    odd = chance.choice((*_ODD, old + 1, old - 1, old ^ 1 << chance.randrange(8 * width), chance.randrange(count)))
    changed[at + offset : at + offset + width] = (odd % (1 << 8 * width)).to_bytes(width, "little")


def limited(work: Callable[[int], str], cases: Sequence[int], *, each: int = 250) -> Iterator[tuple[int, str]]:
    """Every case with what ``work`` says of it, run in child processes within SECONDS and MEMORY.

    A child that ends by itself or is ended by a limit is told as the outcome of the case that it had in hand; the
    next child goes on behind it.
    """
    left = list(cases)
    while left:
        part = left[:each]
        outcomes = list(_in_a_child(work, part))
        yield from zip(part, outcomes, strict=False)
        left = left[len(outcomes) :]


def _in_a_child(work: Callable[[int], str], cases: Sequence[int]) -> Iterator[str]:
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(mine)
        _confine()
        with os.fdopen(theirs, "w") as out:
            _work_through(work, cases, out.write, out.flush)
        os._exit(0)
    os.close(theirs)
    told = 0
    with os.fdopen(mine) as lines:
        for told, line in enumerate(lines, start=1):  # noqa: B007 - counted for below
            yield line.rstrip("\n")
    status = os.waitpid(child, 0)[1]
    if told < len(cases):
        yield f"killed: {os.waitstatus_to_exitcode(status)}"


def _confine() -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _work_through(
    work: Callable[[int], str], cases: Sequence[int], write: Callable[[str], object], flush: Callable[[], None]
) -> None:
    for case in cases:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, _STUCK)
        try:
            outcome = work(case)
        except BaseException as error:  # noqa: BLE001 - that there is none is what is tested
            outcome = f"raised: {type(error).__name__}: {error}"
        write(outcome.replace("\n", " ") + "\n")
        flush()
