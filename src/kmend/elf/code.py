"""x86-64 instructions, through capstone: where each ends, where branches go."""

from __future__ import annotations

import re
from typing import NamedTuple

import capstone

_DECODER = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
_DECODER.skipdata = True
_SHORT = 2
_FROM_HERE = re.compile(r"\[rip(?: ([+-]) (0x[0-9a-f]+|\d+))?\]")


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


def is_short(instruction: Instruction) -> bool:
    """A two-byte branch with an 8-bit distance."""
    return instruction.size == _SHORT and instruction.is_branch
