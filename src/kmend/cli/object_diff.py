"""``kmend object-diff``: what differs between two objects, and an object with just that."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import click

from kmend.build.object_diff import LINUX_6_1, SIZE_NAMES, Report, Result
from kmend.build.object_diff import object_diff as differ
from kmend.build.view import Export, KernelView, read_symvers
from kmend.cli.build import show_objections
from kmend.elf.readelf import listed
from kmend.elf.running import VMLINUX
from kmend.elf.tables import STRUCTURES
from kmend.kernels import store
from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.linux.modules import module_name
from kmend.model import wire

_REFUSED = 2
_SAME = 3
_FILE = click.Path(path_type=Path)
_MODULE = re.compile(r"[A-Za-z0-9_]{1,55}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
_SIZE = re.compile(r"(\w+)=(\d{1,4})")


@click.command("object-diff")
@click.argument("original", type=_FILE, metavar="ORIG.o")
@click.argument("fixed", type=_FILE, metavar="FIXED.o")
@click.option(
    "--object", "linked_into", required=True, metavar="vmlinux|MODULE", help="What ORIG.o is linked into."
)
@click.option(
    "--symtab", required=True, type=_FILE, metavar="FILE",
    help="Text of `readelf --symbols --wide` of the running vmlinux or .ko (or of ORIG.o, to compare by itself).",
)  # fmt: skip
@click.option("--symvers", type=_FILE, metavar="FILE", help="The kernel's Module.symvers: who exports what.")
@click.option("--name", required=True, help="Of the livepatch: letters, digits, dash and underscore.")
@click.option(
    "--struct-size", "given", metavar="NAME=BYTES,…", default="",
    help="Sizes of the structures that special sections are made of: "
    + ", ".join(sorted(SIZE_NAMES))
    + ". Those not given come from the BTF of the kit (with --kernel), else they are Linux 6.1's on x86-64.",
)  # fmt: skip
@click.option("--kernel", "release", metavar="RELEASE", help="Take sizes and exports from this kernel's kit.")
@click.option("-o", "--out", required=True, type=_FILE, metavar="OUT.o", help="Where the object goes.")
@click.option("--json", "report_file", type=_FILE, metavar="REPORT", help="Where the report goes.")
def object_diff(
    original: Path,
    fixed: Path,
    *,
    linked_into: str,
    symtab: Path,
    symvers: Path | None,
    name: str,
    given: str,
    release: str | None,
    out: Path,
    report_file: Path | None,
) -> int:
    """Find what differs between ORIG.o and FIXED.o, and take it into an object of its own.

    Both are compiled by the same command from one source file, without and with a fix, with -ffunction-sections
    and -fdata-sections. An OUT.o or REPORT of an earlier run is removed first.

    Exit codes: 0 built, 1 wrong input or an error, 2 cannot be livepatched (objections), 3 no functional change.
    """
    inputs = [original, fixed, symtab, *([symvers] if symvers else [])]
    _clear([out, *([report_file] if report_file else [])], inputs)
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for a livepatch.", hint="Letters, digits, - and _; at most 48.")
    running = listed(_object_name(linked_into), symtab)
    view = KernelView(store.load(release)) if release else None
    result = differ(
        original,
        fixed,
        running=running,
        exports=_exports(symvers, view),
        sizes=_sizes(given, view),
        name=name,
    )
    return _leave(result, out, report_file)


def _clear(results: list[Path], inputs: list[Path]) -> None:
    """Make sure that what stands there afterwards is from this run."""
    places = [one.resolve() for one in results]
    if len(set(places)) < len(places):
        raise InputError(f"{results[0]} cannot be both the object and the report.")
    for path, place in zip(results, places, strict=True):
        if place in {one.resolve() for one in inputs}:
            raise InputError(f"{path} is an input; the result needs another name.")
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no ordinary file.")
    for path in results:
        path.unlink(missing_ok=True)


def _object_name(given: str) -> str:
    name = module_name(given)
    if not _MODULE.fullmatch(name):
        raise InputError(f"{given!r} is no name of a module.", hint=f"Say {VMLINUX}, or a name as lsmod shows it.")
    return name


def _exports(symvers: Path | None, view: KernelView | None) -> Mapping[str, Export] | None:
    if symvers is not None:
        return read_symvers(symvers)
    return view.exports if view is not None else None


def _sizes(given: str, view: KernelView | None) -> Mapping[str, int]:
    """Known sizes, those that were given first."""
    known = dict(view.sizes if view is not None else LINUX_6_1)
    seen: set[str] = set()
    for word in given.split(",") if given else ():
        match = _SIZE.fullmatch(word.strip())
        if match is None or match[1] not in SIZE_NAMES or int(match[2]) == 0:
            raise InputError(
                f"--struct-size: {word!r} is not a known structure and its bytes.",
                hint=f"Known are {', '.join(sorted(SIZE_NAMES))}; for example jump_entry=16,alt_instr=12.",
            )
        if match[1] in seen:
            raise InputError(f"--struct-size: {match[1]} is given twice.")
        seen.add(match[1])
        known[match[1]] = int(match[2])
    return {name: size for name, size in known.items() if name in STRUCTURES}


def _leave(result: Result, out: Path, report_file: Path | None) -> int:
    """Write what was found, the report last, and say it."""
    report = result.report
    if result.content:
        write_atomic(out, result.content)
    if report_file is not None:
        try:
            write_atomic(report_file, wire.dump(_plain(report)))
        except OSError:
            out.unlink(missing_ok=True)  # nothing is left of a run that failed
            raise
    if report.objections:
        show_objections(report.objections, as_json=False)
        return _REFUSED
    if not result.content:
        click.echo("No functional change.")
        return _SAME
    for function in report.functions:
        reason = report.reasons[function.name]
        click.echo(f"changed  {function.name}: {reason.difference}" + (f" ({reason.line})" if reason.line else ""))
    for name in report.new:
        click.echo(f"new      {name}")
    for callback in report.callbacks:
        click.echo(f"calls    {callback.function} as {callback.kind}")
    click.echo(f"left in  {out}")
    return 0


def _plain(report: Report) -> dict[str, object]:
    """The report as JSON: named tuples as objects, an unknown line as null."""
    plain: dict[str, object] = wire.plain(report)
    for key in ("callbacks", "functions", "klp_symbols"):
        plain[key] = [one._asdict() for one in getattr(report, key)]
    plain["reasons"] = {
        function: {"difference": reason.difference, "line": reason.line or None}
        for function, reason in report.reasons.items()
    }
    return plain
