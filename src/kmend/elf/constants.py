"""Numbers of the ELF format (System V ABI, x86-64 supplement) and of the kernel's livepatch ABI."""

from __future__ import annotations

MAGIC = b"\x7fELF\x02\x01\x01"
"""64 bit, little endian, version 1: all that x86-64 kernels use."""
EM_X86_64 = 62
ET_REL = 1
ET_EXEC = 2

SHT_PROGBITS = 1
SHT_SYMTAB = 2
SHT_STRTAB = 3
SHT_RELA = 4
SHT_NOTE = 7
SHT_NOBITS = 8
SHT_GROUP = 17
SHT_SYMTAB_SHNDX = 18

SHF_WRITE = 0x1
SHF_ALLOC = 0x2
SHF_EXECINSTR = 0x4
SHF_MERGE = 0x10
SHF_STRINGS = 0x20
SHF_INFO_LINK = 0x40
SHF_LINK_ORDER = 0x80
SHF_RELA_LIVEPATCH = 0x00100000
"""Relocations that livepatch resolves (Documentation/livepatch/module-elf-format.rst)."""

SHN_UNDEF = 0
SHN_ABS = 0xFFF1
SHN_COMMON = 0xFFF2
SHN_LORESERVE = 0xFF00
SHN_XINDEX = 0xFFFF
SHN_LIVEPATCH = 0xFF20

STB_LOCAL = 0
STB_GLOBAL = 1
STB_WEAK = 2
STT_NOTYPE = 0
STT_OBJECT = 1
STT_FUNC = 2
STT_SECTION = 3
STT_FILE = 4

R_X86_64_NONE = 0
R_X86_64_64 = 1
R_X86_64_PC32 = 2
R_X86_64_PLT32 = 4
R_X86_64_32 = 10
R_X86_64_32S = 11
R_X86_64_PC64 = 24

RELOCATION_SIZES = {
    R_X86_64_64: 8,
    R_X86_64_PC32: 4,
    R_X86_64_PLT32: 4,
    R_X86_64_32: 4,
    R_X86_64_32S: 4,
    R_X86_64_PC64: 8,
}
"""Bytes that each relocation type of kernel code fills; other types are not used by x86-64 kernels."""

PC_RELATIVE = frozenset({R_X86_64_PC32, R_X86_64_PLT32, R_X86_64_PC64})

HEADER = "<16sHHIQQQIHHHHHH"
SECTION_HEADER = "<IIQQQQIIQQ"
SYMBOL = "<IBBHQQ"
RELA = "<QQq"
