"""Whether a kernel contains the code that a CVE record speaks of. Pure but for looking at two source trees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kmend.exposure.records import CveRecord
from kmend.exposure.units import Units
from kmend.model.update import CveState

_NO_CODE = frozenset((".rst", ".txt", ".yaml", ".dts", ".dtsi", ".json", ".sh", ".py"))
_NO_CODE_IN = ("Documentation/", "tools/", "scripts/", "samples/", "LICENSES/", "rust/")
# Linked into the image as data or handed to user space: they have no unit in vmlinux, and cannot be livepatched.
_APART = ("arch/x86/entry/vdso/", "arch/x86/boot/", "arch/x86/realmode/", "arch/x86/purgatory/")
_MACHINE = "x86"


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """What one CVE's files are to one kernel."""

    state: CveState
    """``FIX`` when the differences of ``sources`` are what is to be built."""
    code: str
    reason: str
    objects: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Files that this kernel is built from, and headers that it may use, that differ between the source trees."""


def concern(record: CveRecord, units: Units, *, old: Path, new: Path) -> Concern:
    """What a CVE is to the kernel built from ``old``, where ``new`` is a source tree that closes it.

    "Not built" is said only when none of the code that the record names can be in the kernel; what cannot be told
    is ``UNKNOWN``.
    """
    code = [_as_here(file, units, old=old, new=new) for file in record.files if not is_no_code(file)]
    sources = tuple(file for file in code if file in units.objects or file in units.included)
    objects = tuple(sorted({name for file in sources for name in _objects(file, units)}))
    headers = tuple(file for file in code if file.endswith(".h") and _may_be_used(file, units))
    refusal = _refusal(code, units, old=old, new=new)
    if refusal is not None:
        return Concern(
            state=refusal.state, code=refusal.code, reason=refusal.reason, objects=objects, sources=sources
        )
    differing = tuple(file for file in (*sources, *headers) if differs(file, old, new))
    if differing:
        return Concern(state=CveState.FIX, code="", reason="", objects=objects, sources=differing)
    if not sources:
        return _not_there(code, old, new)
    return Concern(
        state=CveState.REFUSED,
        code="no-difference",
        reason=f"{_few(sources)} do not differ between the two sources: fixed before, or in another file.",
        objects=objects,
    )


def _as_here(file: str, units: Units, *, old: Path, new: Path) -> str:
    """The file that a record means: of that name in a folder of that name, where mainline has moved it since."""
    if (old / file).exists() or (new / file).exists():
        return file
    tail = PurePosixPath(file).parts[-2:]
    alike = [known for known in units.objects if PurePosixPath(known).parts[-2:] == tail]
    return alike[0] if len(alike) == 1 else file


def _objects(file: str, units: Units) -> tuple[str, ...]:
    roots = units.included.get(file, (file,))
    return tuple(name for root in roots for name in units.objects.get(root, ()))


def _refusal(code: list[str], units: Units, *, old: Path, new: Path) -> Concern | None:
    """Why no fix of C files can close it; None when nothing stands against it."""
    apart = [file for file in code if file.startswith(_APART)]
    if apart:
        return _refused("apart", f"{_few(apart)} are in the kernel's image, but not code of the running kernel.")
    assembler = [
        file for file in code if file in units.objects and not file.endswith(".c") and differs(file, old, new)
    ]
    if assembler:
        return _refused("assembler", f"{_few(assembler)} are written in assembler.")
    return None


def _refused(code: str, reason: str) -> Concern:
    return Concern(state=CveState.REFUSED, code=code, reason=reason)


def _not_there(code: list[str], old: Path, new: Path) -> Concern:
    nowhere = [file for file in code if not (old / file).exists() and not (new / file).exists()]
    if nowhere and len(nowhere) == len(code):
        return Concern(
            state=CveState.UNKNOWN,
            code="no-such-file",
            reason=f"Neither source has {_few(nowhere)}: the code may be elsewhere in this series.",
        )
    reason = f"{_few(code)} are not built in this kernel." if code else "Its files hold no kernel code."
    return Concern(state=CveState.NOT_BUILT, code="not-built", reason=reason)


def is_no_code(file: str) -> bool:
    """Whether a file holds no code of a kernel: documentation, tools, the build system."""
    path = PurePosixPath(file)
    return path.suffix in _NO_CODE or file.startswith(_NO_CODE_IN) or path.name.startswith(("Kconfig", "Makefile"))


def _may_be_used(header: str, units: Units) -> bool:
    """Whether code of this kernel could include a header: not another machine's, nor that of an unbuilt folder."""
    parts = PurePosixPath(header).parts
    if parts[0] == "arch" and parts[1:2] != (_MACHINE,):
        return False
    if parts[0] == "include" or parts[:3] == ("arch", _MACHINE, "include"):
        return True
    if "include" in parts:
        return _is_built("/".join(parts[: parts.index("include")]), units)
    return _is_built(str(PurePosixPath(header).parent), units)


def _is_built(folder: str, units: Units) -> bool:
    return any(file.startswith(f"{folder}/") for file in units.objects)


def differs(file: str, old: Path, new: Path) -> bool:
    """Whether a file is not the same in both trees; one that only one tree has differs."""
    before, after = old / file, new / file
    if before.is_file() and after.is_file():
        return before.read_bytes() != after.read_bytes()
    return before.is_file() != after.is_file()


def _few(files: list[str] | tuple[str, ...]) -> str:
    return ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")  # noqa: PLR2004
