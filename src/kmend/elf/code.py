"""x86-64 instructions, through capstone: where each ends, where branches go."""

from __future__ import annotations

import re
from typing import NamedTuple

import capstone

_DECODER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_DECODER.skipdata = True
_DETAILED = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_DETAILED.skipdata = True
_DETAILED.detail = True
_SHORT = 2
_FROM_HERE = re.compile(r"\[rip(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")

ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
"""Registers of a function's first arguments, in their order (System V ABI, x86-64)."""
_ARGUMENT_OF = {
    **{name: f"r{name[-2:]}" for name in ("rdi", "edi", "di", "rsi", "esi", "si")},
    "dil": "rdi", "sil": "rsi",
    **{f"{size}{letter}x": f"r{letter}x" for letter in "dc" for size in ("r", "e", "")},
    **{f"{letter}{half}": f"r{letter}x" for letter in "dc" for half in "lh"},
    **{f"r{number}{size}": f"r{number}" for number in (8, 9) for size in ("", "d", "w", "b")},
}  # fmt: skip
_COPY = re.compile(r"mov r\w+, r\w+")
_MOVE_NUMBER = range(0xB8, 0xC0)  # mov $imm32,%r32


class Instruction(NamedTuple):
    """One instruction; ``offset`` counts from the start of the code it was decoded from."""

    offset: int
    size: int
    mnemonic: str
    operands: str

    @property
    def end(self) -> int:
        """Offset of the next instruction."""
        return self.offset + self.size

    @property
    def text(self) -> str:
        """As a disassembler prints it."""
        return f"{self.mnemonic} {self.operands}".strip()

    @property
    def is_branch(self) -> bool:
        """A call or jump (direct or not)."""
        return self.mnemonic.removeprefix("bnd ").startswith(("j", "call", "loop", "xbegin"))

    def target(self) -> int | None:
        """Offset that a direct branch goes to, as encoded (before relocation); None for all others."""
        if self.is_branch and (self.operands.startswith(("0x", "-0x")) or self.operands.isdigit()):
            value = int(self.operands, 0)
            return value - (1 << 64) if value >= 1 << 63 else value
        return None

    def pointed_to(self) -> int | None:
        """Offset that a RIP-relative operand points to, as encoded; None when there is none."""
        match = _FROM_HERE.search(self.operands)
        if match is None:
            return None
        distance = int(match[2] or "0", 0)
        return self.end + (-distance if match[1] == "-" else distance)


def decode(code: bytes) -> list[Instruction]:
    """Decode code from its first byte; bytes that are no instruction come as ``.byte``."""
    return [Instruction(*fields) for fields in _DECODER.disasm_lite(code, 0)]


class Use(NamedTuple):
    """An instruction, and what it does to the registers of ARGUMENTS, in whatever width.

    ``is_number`` says that it does nothing but put a number of 32 bits, its last four bytes, into one of them,
    ``is_copy`` that it does nothing but copy one of them into another.
    """

    instruction: Instruction
    reads: frozenset[str]
    writes: frozenset[str]
    is_number: bool = False
    is_copy: bool = False


def uses(code: bytes) -> list[Use]:
    """Decode code and say of each instruction what it does to the registers of arguments."""
    return [_use(one) for one in _DETAILED.disasm(code, 0)]


def _use(one: capstone.CsInsn) -> Use:
    instruction = Instruction(one.address, one.size, one.mnemonic, one.op_str)
    if one.id == 0:  # no instruction: data among code
        return Use(instruction, frozenset(ARGUMENTS), frozenset(ARGUMENTS))
    reads, writes = (
        frozenset(_ARGUMENT_OF[name] for name in map(one.reg_name, side) if name in _ARGUMENT_OF)
        for side in one.regs_access()
    )
    is_number = one.opcode[0] in _MOVE_NUMBER and one.size - one.imm_offset == 4 == one.imm_size  # noqa: PLR2004
    is_copy = len(reads) == len(writes) == 1 and _COPY.fullmatch(instruction.text) is not None
    return Use(instruction, reads, writes, is_number, is_copy)


def is_short(instruction: Instruction) -> bool:
    """A two-byte branch with an 8-bit distance."""
    return instruction.size == _SHORT and instruction.is_branch
