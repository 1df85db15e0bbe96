"""From a Patchset to a livepatch module: the steps, in order."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmend import __version__
from kmend.build import fixes as fix_folders
from kmend.build import loader, module
from kmend.build.callbacks import NewCallbacks, callback_sets, in_order
from kmend.build.cautions import cautions
from kmend.build.check import objections as objections_to
from kmend.build.check import without_old_starts
from kmend.build.compare import Difference, compare
from kmend.build.compile import Compiled, compile_all
from kmend.build.extract import Extraction
from kmend.build.module import NewFunction
from kmend.build.resolve import Resolver, block_of, moved, not_built
from kmend.build.tree import Tree, prepare
from kmend.build.verify import Proof, prove
from kmend.build.view import KernelView
from kmend.elf.objects import ObjectCode, Piece
from kmend.elf.running import Block, Running
from kmend.exposure.units import units
from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError
from kmend.kit.files import scratch, sha256_of, sync_folder, write_atomic
from kmend.kit.progress import Progress
from kmend.model import wire
from kmend.model.fix import Caution, Fix, Objection, ObjectionCode, Patchset
from kmend.model.kernel import Kit
from kmend.model.livepatch import FixRecord, Livepatch, ReplacedFunction

MODULE_FILE = "livepatch.ko"
MANIFEST_FILE = "livepatch.json"
PROBES = "probes"
_OURS = {MODULE_FILE, MANIFEST_FILE, PROBES, "labreport.json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One affected object on its way: what differs, and where the running code is."""

    compiled: Compiled
    difference: Difference
    running: Running
    block: Block | None


def build(patchset: Patchset, kit: Kit, *, out: Path, progress: Progress) -> Livepatch | tuple[Objection, ...]:
    """Build the livepatch of a Patchset and leave it in a folder: module, manifest, probes.

    Args:
        patchset: What to build.
        kit: Of the patchset's kernel.
        out: The folder; it appears (or is replaced) only when everything has succeeded.
        progress: Told about each step.

    Returns:
        The manifest, or every Objection that was found.

    Raises:
        InputError: A fix cannot be read or applied.
        BugError: The finished module would not load.
    """
    _check_out(out)
    with scratch(cache_root() / "build") as work:
        progress.step("Applying the fixes beside the source")
        files = fix_folders.apply(patchset.fixes, source=kit.source, into=work / "overlay")
        tree = prepare(kit, progress=progress)
        compiled, objections = compile_all(
            files,
            tree=tree,
            overlay=work / "overlay",
            units=lambda: units(kit, progress=progress),
            progress=progress,
        )
        if objections:
            return tuple(objections)
        view = KernelView(kit)
        progress.step("Proving the recompiled originals equal to the running code")
        parts, objections = _parts(compiled, view, place=", ".join(files))
        functions, proven = _prove(parts)
        objections += proven
        if objections:
            return tuple(objections)
        progress.step("Taking the changed functions out")
        extractions, objections = _extract(parts, view)
        if objections:
            return tuple(objections)
        progress.step("Linking the livepatch and reading it back")
        callbacks = in_order(
            [(part.running.name, one.linked_names) for part, one in zip(parts, extractions, strict=True)],
            patchset.fixes,
        )
        known = tuple(one for part in parts for one in cautions(part.difference, place=part.compiled.target))
        return _finish(
            patchset,
            tree,
            view,
            functions,
            extractions,
            callbacks=callbacks,
            known=known,
            work=work,
            out=out,
        )


def _check_out(out: Path) -> None:
    """The result replaces a folder as a whole, so it must not hold anything else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file.", hint="Name a folder with -o; it is made when it is not there.")
    if out.is_dir() and (others := sorted({one.name for one in out.iterdir()} - _OURS)):
        raise InputError(
            f"{out} holds other things ({', '.join(others[:3])}); a livepatch needs a folder of its own.",
            hint="Name another folder with -o.",
        )


def _parts(compiled: Sequence[Compiled], view: KernelView, *, place: str) -> tuple[list[_Part], list[Objection]]:
    """The objects that differ, and every Objection to what differs in them."""
    parts: list[_Part] = []
    objections: list[Objection] = []
    starts: list[Objection] = []
    for one in compiled:
        whole = compare(ObjectCode(one.original), ObjectCode(one.fixed), view.sizes)
        difference = without_old_starts(whole, one.touched)
        objections += objections_to(difference, place=one.target)
        if difference is not whole:
            starts += objections_to(whole, place=one.target)
        if difference.changed or difference.new_functions or callback_sets(difference.fixed):
            found = _part(one, difference, view)
            if isinstance(found, Objection):
                objections.append(found)
            else:
                parts.append(found)
    if not objections and not parts and starts:
        return parts, starts
    if not objections and not parts:
        objections.append(
            Objection(
                code=ObjectionCode.NO_CHANGE,
                place=place,
                reason="The fixed source compiles to the same code as the original: nothing changes.",
                advice="Look whether the fix was applied already, or changes only what is not compiled.",
            )
        )
    return parts, objections


def _part(compiled: Compiled, difference: Difference, view: KernelView) -> _Part | Objection:
    running = view.running(compiled.linked_into)
    if running is None:
        return not_built(compiled.target, f"this kernel has no module {compiled.linked_into}")
    block = block_of(difference.original, running, place=compiled.target)
    if isinstance(block, Objection):
        return block
    return _Part(compiled=compiled, difference=difference, running=running, block=block)


def _prove(parts: Sequence[_Part]) -> tuple[dict[Piece, ReplacedFunction], list[Objection]]:
    """Prove every function that is replaced, with its cold part, and find its position."""
    functions: dict[Piece, ReplacedFunction] = {}
    objections: list[Objection] = []
    for part in parts:
        for change in part.difference.changed:
            cold = part.difference.original.functions.get(f"{change.original.name}.cold")
            pieces = [change.original, *([cold] if cold is not None else [])]
            proofs = [
                prove(piece, running=part.running, block=part.block, place=part.compiled.target)
                for piece in pieces
            ]
            refused = [one for one in proofs if isinstance(one, Objection)]
            if refused:
                objections += refused
                continue
            found = _replaced(part, change.original, [one for one in proofs if isinstance(one, Proof)])
            if isinstance(found, Objection):
                objections.append(found)
            else:
                functions[change.fixed] = found
    return functions, objections


def _replaced(part: _Part, original: Piece, proofs: Sequence[Proof]) -> ReplacedFunction | Objection:
    symbol = part.running.find_piece(original, part.block)
    position = part.running.position(symbol) if symbol is not None else None
    if symbol is None or position is None:
        return Objection(
            code=ObjectionCode.UNRESOLVED_SYMBOL,
            place=f"{part.compiled.target}: {original.name}",
            reason=f"The symbol table of the running {part.running.name} does not show {original.name}.",
            advice="Change its callers instead.",
        )
    return ReplacedFunction(
        object=part.running.name,
        name=symbol.name,
        position=position,
        size=symbol.size,
        bytes_proven=sum(proof.bytes_proven for proof in proofs),
    )


def _extract(parts: Sequence[_Part], view: KernelView) -> tuple[list[Extraction], list[Objection]]:
    new_names = frozenset(
        name
        for part in parts
        for piece in part.difference.new_functions
        if piece.bind
        for name in (piece.name, *piece.aliases)
    )
    extractions = [
        Extraction(
            part.difference,
            Resolver(view, part.running, part.block, new_names),
            place=part.compiled.target,
            prefix=str(number),
        )
        for number, part in enumerate(parts)
    ]
    objections = [
        one for part in parts for one in moved(part.difference, part.running, place=part.compiled.target)
    ]
    return extractions, objections + [one for extraction in extractions for one in extraction.objections]


def _finish(
    patchset: Patchset,
    tree: Tree,
    view: KernelView,
    functions: dict[Piece, ReplacedFunction],
    extractions: Sequence[Extraction],
    *,
    callbacks: Sequence[NewCallbacks],
    known: tuple[Caution, ...],
    work: Path,
    out: Path,
) -> Livepatch:
    name = f"kmend_{patchset.number}"
    linked = {piece: symbol for one in extractions for piece, symbol in one.linked_names.items()}
    new = [
        NewFunction(object=old.object, name=old.name, position=old.position, symbol=linked[piece])
        for piece, old in functions.items()
    ]
    content = module.link(
        [one.out for one in extractions],
        new,
        callbacks,
        name=name,
        description=_description(patchset),
        tree=tree,
        view=view,
        work=work,
    )
    made = work / "out"
    write_atomic(made / MODULE_FILE, content)
    replaced = tuple(functions.values())
    loader.simulate(made / MODULE_FILE, replaced, view=view)
    livepatch = Livepatch(
        kernel=patchset.kernel,
        number=patchset.number,
        module=name,
        sha256=sha256_of(made / MODULE_FILE),
        size=len(content),
        fixes=tuple(_record(fix) for fix in patchset.fixes),
        functions=replaced,
        compiler=tree.kit.compiler,
        builder=f"kmend {__version__}",
        cautions=known,
    )
    write_atomic(made / MANIFEST_FILE, wire.dump(livepatch))
    for fix in patchset.fixes:
        if fix.probe:
            write_atomic(made / PROBES / f"{fix.name}.c", fix.probe)
    _put_in_place(made, out)
    return livepatch


def _description(patchset: Patchset) -> str:
    return f"kmend livepatch {patchset.number}: " + ", ".join(fix.name for fix in patchset.fixes)[:200]


def _record(fix: Fix) -> FixRecord:
    return FixRecord(
        name=fix.name,
        cves=fix.cves,
        title=fix.title,
        origin=fix.origin,
        sha256=hashlib.sha256(fix.diff.encode()).hexdigest(),
    )


def _put_in_place(made: Path, out: Path) -> None:
    """Exchange the folder as a whole: what stood there before is complete until the new one is."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with scratch(out.parent, prefix=f".{out.name}.") as beside:
        shutil.copytree(made, beside / "new")
        if out.exists():
            out.rename(beside / "old")
        (beside / "new").rename(out)
    sync_folder(out.parent)
