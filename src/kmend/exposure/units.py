"""Which source files a kernel was built from, as its own debug information says, and where each went.

The compilation units of DWARF (section 3.1.1 of its standard) name every file that the compiler was given. A .c
file that another one includes has no unit of its own; those come from the source's ``#include "….c"`` lines.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError, MachineError
from kmend.kit.files import write_atomic
from kmend.kit.progress import Progress
from kmend.kit.run import failed, run
from kmend.linux.modules import module_name
from kmend.model import wire
from kmend.model.kernel import Kit

VMLINUX = "vmlinux"
_RECIPE = 1
_AT_ONCE = 40
_UNIT_NAME = re.compile(r"DW_AT_name\s*:\s*(?:\([^)]*\): )?(\S+)")
_FILE = re.compile(r"File: (.+)")
# Where the distribution unpacked its source; assembler units have such names.
_BUILD_FOLDER = re.compile(r"/(?:[^/]+/)*?linux-\d[^/]*/")
_INCLUDE = re.compile(r"""([^:]+):\s*#\s*include\s+"([^"]+\.c)\"""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """The source files of one Kernel."""

    recipe: int
    build_id: str
    objects: dict[str, tuple[str, ...]]
    """Source file → ``vmlinux`` and names of modules that hold it, sorted."""
    included: dict[str, tuple[str, ...]]
    """A .c file without a unit of its own → .c files that include it and are built."""


def units(kit: Kit, *, progress: Progress) -> Units:
    """The source files of a kit's kernel: a minute the first time, at once from the cache afterwards.

    Raises:
        MachineError: readelf or grep is missing, or the kit has no debug information.
    """
    place = cache_root() / "units" / f"{kit.kernel.build_id}.json"
    if place.is_file():
        try:
            known = wire.load(Units, place.read_bytes(), what=str(place))
            if known.recipe == _RECIPE:
                return known
        except InputError:
            pass
    objects = _objects(kit, progress)
    progress.step("Looking for .c files that others include")
    found = Units(
        recipe=_RECIPE,
        build_id=kit.kernel.build_id,
        objects=objects,
        included=_included(kit.source, frozenset(objects)),
    )
    write_atomic(place, wire.dump(found))
    return found


def _objects(kit: Kit, progress: Progress) -> dict[str, tuple[str, ...]]:
    modules = sorted(path for path in kit.debug_modules.rglob("*") if path.name.endswith((".ko", ".ko.debug")))
    batches = [[kit.vmlinux], *(modules[at : at + _AT_ONCE] for at in range(0, len(modules), _AT_ONCE))]
    progress.step("Reading which files this kernel was built from")
    found: dict[str, set[str]] = {}
    with ThreadPoolExecutor(2) as pool:
        for done, pairs in enumerate(pool.map(_units_of, batches), 1):
            progress.amount(done, len(batches), unit="parts")
            for source, name in pairs:
                found.setdefault(source, set()).add(name)
    if not any(VMLINUX in names for names in found.values()):
        raise MachineError(f"{kit.vmlinux} has no debug information.", hint="Fetch the kit anew.")
    return {source: tuple(sorted(names)) for source, names in sorted(found.items())}


def _units_of(files: list[Path]) -> list[tuple[str, str]]:
    done = run(("readelf", "--debug-dump=info", "--dwarf-depth=1", *files), timeout=1800)
    first = VMLINUX if files[0].name.startswith("vmlinux") else module_name(files[0])
    return list(parse(done.text.splitlines(), first))


def parse(lines: Iterable[str], first: str) -> Iterator[tuple[str, str]]:
    """Pairs of source file and object from what readelf prints.

    Args:
        lines: Of ``readelf --debug-dump=info --dwarf-depth=1``.
        first: Object of the lines before any ``File:`` line (readelf names files only when there are several).
    """
    name = first
    for line in lines:
        file, unit = _FILE.match(line), _UNIT_NAME.search(line)
        if file:
            name = module_name(Path(file[1]))
        elif unit:
            yield posixpath.normpath(_BUILD_FOLDER.sub("", unit[1], count=1)), name


def _included(source: Path, built: frozenset[str]) -> dict[str, tuple[str, ...]]:
    words = (
        "grep",
        "-rE",
        "--include=*.c",
        "--include=*.h",
        r'^[[:space:]]*#[[:space:]]*include[[:space:]]+"[^"]*\.c"',
    )
    done = run((*words, "."), cwd=source, check=False, timeout=600)
    if done.code > 1:
        raise failed(done)
    pairs = [pair for line in done.text.splitlines() if (pair := _pair(source, line))]
    found: dict[str, set[str]] = {}
    # An included file may include others; more than three levels do not occur.
    for _ in range(3):
        for includer, name in pairs:
            roots = {includer} if includer in built else found.get(includer, set())
            found.setdefault(name, set()).update(roots)
    return {name: tuple(sorted(roots)) for name, roots in sorted(found.items()) if roots and name not in built}


def _pair(source: Path, line: str) -> tuple[str, str] | None:
    match = _INCLUDE.match(line)
    if match is None:
        return None
    includer = posixpath.normpath(match[1])
    name = posixpath.normpath(posixpath.join(posixpath.dirname(includer), match[2]))
    return (includer, name) if (source / name).is_file() else None
