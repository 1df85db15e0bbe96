"""Proves that a recompiled original is the code that the host runs, function by function.

The recompiled object has every function in a section of its own, so all its references are relocations; the
running code is linked. Both are walked instruction by instruction: bytes must be equal, every relocated field
must point to where the running code points, and a jump may be shorter in the running code (a tail jump within
one section) as long as it goes to the same place.
"""

from __future__ import annotations

from typing import NamedTuple

from kmend.elf import constants as c
from kmend.elf.code import Instruction, decode
from kmend.elf.objects import Content, Piece, Reference, Undefined
from kmend.elf.reader import Symbol
from kmend.elf.running import Block, Foreign, Literal, Place, Running
from kmend.model.fix import Objection, ObjectionCode

_NEAR_JUMP = (5, 6)  # bytes of jmp rel32 and jcc rel32


class Proof(NamedTuple):
    """What was compared and found equal: bytes of code, and relocated fields resolved (the rest is masked)."""

    bytes_proven: int
    fields_resolved: int
    fields_masked: int


class _Difference(Exception):  # noqa: N818 - not an error: control flow within this file
    """The first place at which the two differ."""

    def __init__(self, at: int, ours: str, theirs: str, cause: str) -> None:
        super().__init__(at)
        self.at = at
        self.ours = ours
        self.theirs = theirs
        self.cause = cause


class _Walk(NamedTuple):
    piece: Piece
    symbol: Symbol
    running: Running
    block: Block | None


def prove(piece: Piece, *, running: Running, block: Block | None, place: str) -> Proof | Objection:
    """Compare one recompiled function with the running one.

    Args:
        piece: The function as recompiled, without the fix.
        running: What the host runs.
        block: The source file's local symbols in there.
        place: How to name the object in an objection.

    Returns:
        What was proven, or an Objection with the first differing instruction and the likely cause.
    """
    symbol = running.find_piece(piece, block)
    if symbol is None:
        return _objection(
            place, piece, f"{running.name} has no function of this name.", "It may not be built into this kernel."
        )
    if piece.bind == c.STB_WEAK and symbol.bind != c.STB_WEAK:
        return _objection(
            place, piece, f"{running.name} has another function in place of this weak one.",
            "Leave it out: this code is not what runs. Fix the function that overrides it, if need be.",
        )  # fmt: skip
    try:
        return _compare(_Walk(piece, symbol, running, block))
    except _Difference as found:
        return _objection(
            place,
            piece,
            f"the recompiled original differs from {running.name} at +{found.at:#x}: {found.cause}.",
            "Compare compiler, config and source version with those that built the kernel "
            "(`kmend kernel show`), and fetch the kit again if they should be equal.",
            evidence=(f"recompiled  +{found.at:#x}: {found.ours}", f"running     +{found.at:#x}: {found.theirs}"),
        )


def _objection(place: str, piece: Piece, reason: str, advice: str, evidence: tuple[str, ...] = ()) -> Objection:
    return Objection(
        code=ObjectionCode.MISMATCH,
        place=f"{place}: {piece.name}",
        reason=f"{piece.name}: {reason}",
        advice=advice,
        evidence=evidence,
    )


def _compare(walk: _Walk) -> Proof:
    theirs = walk.running.code(walk.symbol)
    fields = {reference.offset: reference for reference in walk.piece.references}
    moved: dict[int, int] = {}
    jumps: list[tuple[Instruction, Instruction]] = []
    resolved = masked = equal = 0
    for mine, other in _pairs(decode(walk.piece.code), decode(theirs)):
        moved[mine.offset] = other.offset
        inside = [fields[at] for at in range(mine.offset, mine.end) if at in fields]
        if mine.size != other.size:
            _same_shortened_jump(walk, mine, other, inside)
            resolved += 1
            continue
        equal += _same_bytes(walk.piece.code, theirs, mine, other, inside)
        for reference in inside:
            if _same_target(walk, reference, mine, other):
                resolved += 1
            else:
                masked += 1
        if not inside and mine.is_branch and mine.target() is not None:
            jumps.append((mine, other))
    _same_inner_jumps(walk, jumps, moved, len(theirs))
    return Proof(equal, resolved, masked)


def _pairs(mine: list[Instruction], theirs: list[Instruction]) -> list[tuple[Instruction, Instruction]]:
    if len(mine) != len(theirs):
        both = list(zip(mine, theirs, strict=False))
        for one, other in both:
            if one.mnemonic != other.mnemonic:
                raise _Difference(
                    one.offset, one.text, other.text, "another instruction stands there (other source or compiler)"
                )
        last = both[-1][0].end if both else 0
        raise _Difference(last, f"{len(mine)} instructions", f"{len(theirs)} instructions", "the lengths differ")
    return list(zip(mine, theirs, strict=True))


def _same_bytes(
    code: bytes, running: bytes, mine: Instruction, other: Instruction, inside: list[Reference]
) -> int:
    """Number of equal bytes outside of relocated fields and of branch distances, which are compared by target."""
    left = bytearray(code[mine.offset : mine.end])
    right = bytearray(running[other.offset : other.end])
    hidden = [(one.offset - mine.offset, c.RELOCATION_SIZES[one.type]) for one in inside]
    if not inside and mine.is_branch and mine.target() is not None:
        width = 1 if mine.size == 2 else 4  # noqa: PLR2004 - rel8 or rel32
        hidden.append((mine.size - width, width))
    for at, width in hidden:
        left[at : at + width] = right[at : at + width] = bytes(width)
    if left != right:
        cause = "another instruction stands there"
        if mine.mnemonic == other.mnemonic:
            cause = "an operand differs (another constant, structure offset or register)"
        raise _Difference(mine.offset, mine.text, other.text, cause)
    return len(left) - sum(width for _, width in hidden)


def _same_target(walk: _Walk, reference: Reference, mine: Instruction, other: Instruction) -> bool:
    """Whether a relocated field could be resolved; a field that points elsewhere is a difference."""
    at = other.offset + reference.offset - mine.offset
    width = c.RELOCATION_SIZES[reference.type]
    end = other.end if reference.type in c.PC_RELATIVE else None
    found = walk.running.destination(walk.symbol, at, width, end)
    return _agree(walk, reference, found, mine, other)


def _agree(
    walk: _Walk,
    reference: Reference,
    found: Place | Foreign | Literal | None,
    mine: Instruction,
    other: Instruction,
) -> bool:
    target = reference.target
    if found is None:
        return False
    wanted = target.name if isinstance(target, (Piece, Undefined)) else repr(target.data)
    if isinstance(target, Content):
        data = _literal(walk, reference, found)
        if data != target.data:
            raise _Difference(
                mine.offset, f"{mine.text}  # {wanted}", f"{other.text}  # {data!r}", "a literal differs"
            )
        return True
    if isinstance(found, Foreign):
        if (found.name, found.delta) != (wanted, reference.delta):
            raise _Difference(
                mine.offset, f"{mine.text}  # {wanted}+{reference.delta:#x}",
                f"{other.text}  # {found.name}+{found.delta:#x}", "other symbol",
            )  # fmt: skip
        return True
    if isinstance(found, Literal):
        raise _Difference(
            mine.offset, f"{mine.text}  # {wanted}", f"{other.text}  # {found.content.data!r}", "a literal instead"
        )
    if isinstance(target, Piece) and target.is_anonymous:
        return _same_constants(walk, reference, found, mine, other)
    places = _places(walk, target)
    if not places:
        return False
    if (found[0], found[1] - reference.delta) not in places:
        raise _Difference(
            mine.offset,
            f"{mine.text}  # {wanted}+{reference.delta:#x}",
            f"{other.text}  # {found[1]:#x}",
            "it refers to something else (other symbol or other offset)",
        )
    return True


def _literal(walk: _Walk, reference: Reference, found: Place | Foreign | Literal) -> bytes:
    """What the running code has where the literal would begin; nothing when it points elsewhere."""
    if isinstance(found, Foreign):
        return b""
    if isinstance(found, Literal):
        return found.content.data if found.delta == reference.delta else b""
    size = len(reference.target.data) if isinstance(reference.target, Content) else 0
    return walk.running.bytes_at((found[0], found[1] - reference.delta), size)


def _same_constants(
    walk: _Walk, reference: Reference, found: Place, mine: Instruction, other: Instruction
) -> bool:
    """Whether constants without a name could be compared, up to where the first pointer stands among them."""
    target = reference.target
    if not isinstance(target, Piece) or target.is_writable or reference.delta < 0:
        return False
    end = min((one.offset for one in target.references), default=target.size)
    wanted = target.code[reference.delta : end]
    data = walk.running.bytes_at(found, len(wanted))
    # What follows the constant that is meant may lie elsewhere in the running code; its first bytes may not.
    first = min(4, len(wanted))
    if data[:first] != wanted[:first]:
        raise _Difference(
            mine.offset, f"{mine.text}  # {wanted[:first]!r}", f"{other.text}  # {data[:first]!r}",
            "a constant differs",
        )  # fmt: skip
    return data == wanted and bool(wanted)


def _places(walk: _Walk, target: Piece | Undefined) -> list[Place]:
    """Where a target lies in the running code; empty when it has no symbol there."""
    if isinstance(target, Piece) and target is walk.piece:
        return [walk.running.place(walk.symbol)]
    found = (
        walk.running.find(target.name, None)
        if isinstance(target, Undefined)
        else walk.running.find_piece(target, walk.block)
    )
    return [walk.running.place(found)] if found is not None else []


def _same_shortened_jump(walk: _Walk, mine: Instruction, other: Instruction, inside: list[Reference]) -> None:
    """A relocated near jump may be a short one in the linked code; both must go to the same place."""
    alike = mine.mnemonic == other.mnemonic and mine.size in _NEAR_JUMP and other.size == 2  # noqa: PLR2004
    if not (alike and len(inside) == 1 and mine.is_branch):
        raise _Difference(mine.offset, mine.text, other.text, "another instruction stands there")
    at = other.end - 1
    found = walk.running.destination(walk.symbol, at, 1, other.end)
    if not _agree(walk, inside[0], found, mine, other):
        raise _Difference(mine.offset, mine.text, other.text, "the jump's goal could not be resolved")


def _same_inner_jumps(
    walk: _Walk, jumps: list[tuple[Instruction, Instruction]], moved: dict[int, int], size: int
) -> None:
    """Jumps within the function go to the same instruction; the end of the function counts as one."""
    moved[walk.piece.size] = size
    for mine, other in jumps:
        goal = mine.target()
        if goal is None or moved.get(goal) != other.target():
            raise _Difference(mine.offset, mine.text, other.text, "the jump goes elsewhere")
