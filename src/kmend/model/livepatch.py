"""Livepatch: the module's manifest, as in livepatch.json."""

from __future__ import annotations

from dataclasses import dataclass

from kmend.model.fix import Caution
from kmend.model.kernel import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedFunction:
    """One function that the livepatch replaces.

    ``object`` is ``vmlinux`` or the module's name as the kernel writes it (underscores); ``position`` is
    klp_func.old_sympos: 0 where the name is unique, else counted from 1 in kallsyms order.
    """

    object: str
    name: str
    position: int
    size: int
    """Bytes of the original function, as the kernel's symbol table has it."""
    bytes_proven: int
    """Bytes of the recompiled original that were compared with the kernel's own and found equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixRecord:
    """What a manifest keeps of each Fix."""

    name: str
    cves: tuple[str, ...]
    title: str
    origin: str
    sha256: str
    """Of the diff."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Livepatch:
    """The manifest of ``livepatch.ko``."""

    kernel: Kernel
    number: int
    module: str
    """Name of the module as in /sys/module, e.g. ``kmend_3``."""
    sha256: str
    """Of livepatch.ko as built, unsigned; 64 lower-case hex digits."""
    size: int
    fixes: tuple[FixRecord, ...]
    functions: tuple[ReplacedFunction, ...]
    compiler: str
    builder: str
    """kmend and its version."""
    cautions: tuple[Caution, ...] = ()

    @property
    def cves(self) -> tuple[str, ...]:
        """All CVE ids that this livepatch closes, sorted, each once."""
        return tuple(sorted({cve for fix in self.fixes for cve in fix.cves}))
