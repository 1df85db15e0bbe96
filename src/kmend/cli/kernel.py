"""``kmend kernel``: which kernels can be had, and their kits on this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.exposure.presence import kernel_files
from kmend.exposure.units import units
from kmend.kernels import compiler, prune, store
from kmend.kit.errors import InputError, SourceError
from kmend.kit.files import write_atomic
from kmend.linux.versions import series_of
from kmend.model import wire
from kmend.model.kernel import Kit, OfferedKernel

_STALE_DAYS = 7
_GIGABYTE = 1e9
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One line of the list."""

    release: str
    version: str
    series: str
    flavour: str
    state: str
    """fetched, damaged, available or incomplete."""
    offered: bool
    size: int
    """Bytes to download for a full kit; 0 when it is not offered."""
    missing: tuple[str, ...]


@click.group()
def kernel() -> None:
    """Kernels that can be had now, and their kits on this machine."""


@kernel.command("list")
@click.option("--series", help="Only this series, e.g. 6.1.")
@click.option("--flavour", help="Only this flavour, e.g. cloud-amd64.")
@click.option("--all", "everything", is_flag=True, help="Also kernels of which a piece is missing, and which.")
@_json
def list_(series: str | None, flavour: str | None, everything: bool, as_json: bool) -> None:
    """Kernels that the configured package sources offer now, with everything that a kit needs."""
    offered = store.offered()
    rows = [
        row
        for row in _rows(offered)
        if series in {None, row.series}
        and flavour in {None, row.flavour}
        and (everything or row.state != "incomplete")
    ]
    if not everything and not any(offer.complete for offer in offered):
        raise _none_complete(offered)
    if as_json:
        show_json(rows)
    else:
        _show_rows(rows)
    _say_when_stale()


@kernel.command()
@click.argument("release")
@click.option("--package-version", default="", help="A certain package version; otherwise the newest.")
@_json
def fetch(release: str, package_version: str, as_json: bool) -> None:
    """Download a kernel's kit, without root and without installing anything.

    After an interruption, the same command goes on where it was.
    """
    with shown() as progress:
        kit = store.fetch(release, version=package_version, progress=progress)
    if as_json:
        show_json(kit)
        return
    click.echo(f"The kit of {release} ({kit.kernel.version}) is ready in {kit.folder}.")
    advice = _compiler_advice(kit)
    if advice:
        click.echo(advice)


@kernel.command()
@click.argument("release")
@_json
def show(release: str, as_json: bool) -> None:
    """A kit's pieces and sizes, its build id, and whether this machine has its compiler."""
    kit = store.load(release)
    if as_json:
        show_json({"kit": kit, "sizes": _sizes(kit), "compiler_installed": compiler.installed(kit.compiler)})
        return
    click.echo(f"{click.style(kit.kernel.release, bold=True)}  {kit.kernel.version}")
    click.echo(f"  build id  {kit.kernel.build_id}")
    click.echo(f"  compiler  {kit.compiler}")
    click.echo(f"            {_compiler_advice(kit) or 'installed on this machine'}")
    for name, size in _sizes(kit).items():
        path: Path = getattr(kit, name)
        place = path.relative_to(kit.folder) if path.is_relative_to(kit.folder) else path
        click.echo(f"  {name.replace('_', ' '):<14}{_megabytes(size):>10}  {place}")
    click.echo(f"  in {kit.folder}")


@kernel.command("files")
@click.argument("release")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
def files_(release: str, out: Path) -> None:
    """Write which source files a kernel contains, once per kernel; `kmend exposure --kernel-files` reads it."""
    kit = store.load(release)
    with shown() as progress:
        found = kernel_files(kit, units(kit, progress=progress))
    write_atomic(out, wire.dump(found))
    click.echo(f"{out}: {len(found.objects):,} source files of {kit.kernel.release} ({kit.kernel.version}).")


@kernel.command("prune")
@click.argument("releases", nargs=-1)
@click.option("--keep", type=click.IntRange(min=0), help="Remove all kits but the newest KEEP.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_json
def prune_(releases: tuple[str, ...], keep: int | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove kits, sources that no kit refers to, and what interrupted runs left.

    Without RELEASES and --keep, kits stay.
    """
    removals = prune.plan(releases, keep=keep)
    if not as_json:
        for removal in removals:
            click.echo(f"  {removal.kind:<9}{_megabytes(removal.size):>10}  {removal.path}")
    if removals and not dry_run:
        _agree(yes)
    freed = 0 if dry_run else prune.carry_out(removals)
    if as_json:
        show_json({"removed": removals, "freed": freed, "dry_run": dry_run})
    elif not removals:
        click.echo("There is nothing to remove.")
    elif dry_run:
        click.echo(f"Would free {_megabytes(sum(removal.size for removal in removals))}.")
    else:
        click.echo(f"Freed {_megabytes(freed)}.")


def _rows(offered: Sequence[OfferedKernel]) -> list[_Row]:
    states = {release: _state_here(release) for release in store.releases()}
    rows = [_row_of(offer, states) for offer in offered]
    listed = {(row.release, row.version) for row in rows}
    for release, (state, version) in states.items():
        if (release, version) not in listed:
            rows.append(
                _Row(
                    release=release,
                    version=version or "?",
                    series=series_of(release),
                    flavour="",
                    state=state,
                    offered=False,
                    size=0,
                    missing=(),
                )
            )
    return rows


def _row_of(offer: OfferedKernel, states: dict[str, tuple[str, str]]) -> _Row:
    state, version = states.get(offer.release, ("", ""))
    return _Row(
        release=offer.release,
        version=offer.version,
        series=offer.series,
        flavour=offer.flavour,
        state=state if version == offer.version else "available" if offer.complete else "incomplete",
        offered=True,
        size=offer.size,
        missing=offer.missing,
    )


def _state_here(release: str) -> tuple[str, str]:
    try:
        return "fetched", store.load(release).kernel.version
    except InputError:
        return "damaged", store.version_of(release)


def _show_rows(rows: Sequence[_Row]) -> None:
    if not rows:
        click.echo("No such kernel is offered with everything that a kit needs (see --all).", err=True)
        return
    wide, long = max(len(row.release) for row in rows), max(len(row.version) for row in rows)
    click.echo(click.style(f"{'KERNEL':<{wide}}  {'VERSION':<{long}}  {'DOWNLOAD':>9}  STATE", bold=True))
    colours = {"fetched": "green", "damaged": "red", "incomplete": "yellow"}
    for row in rows:
        state = click.style(row.state, fg=colours.get(row.state))
        remark = (
            f", lacks {', '.join(row.missing)}" if row.missing else "" if row.offered else ", no longer offered"
        )
        size = _megabytes(row.size) if row.size else "-"
        click.echo(f"{row.release:<{wide}}  {row.version:<{long}}  {size:>9}  {state}{remark}")


def _none_complete(offered: Iterable[OfferedKernel]) -> SourceError:
    lacking = {
        name.rpartition("-")[2] if name.endswith("-dbg") else name for offer in offered for name in offer.missing
    }
    what = "debug symbols (packages that end in -dbg)" if "dbg" in lacking else "headers or source"
    return SourceError(
        f"The package sources offer kernels, but none with everything that a kit needs: there are no {what}.",
        hint=f"{store.pieces_hint()} `kmend kernel list --all` shows what is missing.",
    )


def _say_when_stale() -> None:
    age = store.lists_age()
    if age is not None and age > _STALE_DAYS * 86400:
        click.echo(
            f"note: the package lists are {age / 86400:.0f} days old. {store.renew_hint()}",
            err=True,
        )


def _compiler_advice(kit: Kit) -> str:
    """What is to be done about the compiler, or "" when this machine has the very same."""
    found = compiler.installed(kit.compiler)
    if found == kit.compiler:
        return ""
    program = kit.compiler.partition(" ")[0]
    if not found:
        return f"Its compiler is not installed here; builds need {program} of exactly that version."
    return f"Another compiler is installed here ({found}); builds need exactly {kit.compiler}."


def _sizes(kit: Kit) -> dict[str, int]:
    names = ("image", "modules", "vmlinux", "debug_modules", "source", "config", "headers", "symvers")
    paths = {name: getattr(kit, name) for name in names}
    return {name: prune.size_of(path) if path.is_dir() else path.stat().st_size for name, path in paths.items()}


def _agree(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(
            "Nothing was removed: there is nobody to ask.", hint="Add --yes, or --dry-run to only look."
        )
    click.confirm("Remove these?", abort=True)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < _GIGABYTE else f"{size / _GIGABYTE:,.2f} GB"
