"""Fix, Patchset, Objection and Caution."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from kmend.model.kernel import Kernel

CVE_ID = re.compile(r"CVE-\d{4}-\d{4,}")
"""The id of one CVE: year and number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """One source repair, as it stands in a fix folder (fix.toml, fix.patch, probe.c if there is one)."""

    name: str
    cves: tuple[str, ...]
    title: str
    diff: str
    """Unified diff against the kernel's source tree, paths with ``a/`` and ``b/``."""
    origin: str
    """Upstream commit or distribution version that the diff comes from."""
    reasoning: str = ""
    reviewer: str = ""
    probe: str = ""
    """C source of a harmless program: exit 0 fixed, 1 vulnerable, anything else could not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patchset:
    """The ordered, cumulative fixes for one Kernel; a higher number replaces every lower one."""

    kernel: Kernel
    number: int
    fixes: tuple[Fix, ...]


class ObjectionCode(StrEnum):
    """Why a Fix cannot be livepatched as it is; docs/reference/objections.md has a page for each."""

    NO_CHANGE = "no-change"
    NOT_BUILT = "not-built"
    MISMATCH = "mismatch"
    CHANGED_DATA = "changed-data"
    INIT_CODE = "init-code"
    NOT_TRACEABLE = "not-traceable"
    MODULE_STATIC_KEY = "module-static-key"
    UNRESOLVED_SYMBOL = "unresolved-symbol"
    AMBIGUOUS_SYMBOL = "ambiguous-symbol"
    UNSUPPORTED_SECTION = "unsupported-section"
    UNSUPPORTED_FILE = "unsupported-file"
    REMOVED_STATIC = "removed-static"
    NEW_CALLBACK = "new-callback"
    CHANGED_LAYOUT = "changed-layout"
    COMPILE_FAILED = "compile-failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """An expected "no" of the builder."""

    code: ObjectionCode
    place: str
    """Object, function or file, e.g. ``fs/proc/cmdline.o: cmdline_proc_show+0x12``."""
    reason: str
    advice: str
    evidence: tuple[str, ...] = field(default=())
    """Lines to look at, e.g. the first differing instruction on both sides."""


class CautionCode(StrEnum):
    """What may go wrong with a livepatch that was built; docs/reference/cautions.md has a page for each."""

    MAY_STALL = "may-stall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """What to know about a livepatch before it is applied: no refusal."""

    code: CautionCode
    place: str
    """Object and function, e.g. ``kernel/workqueue.o: worker_thread``."""
    reason: str
    advice: str
