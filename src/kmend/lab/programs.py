"""The C programs that run in the guest: compiled static, so that they run in an initramfs and in any container."""

from __future__ import annotations

from pathlib import Path

from kmend.kit.errors import InputError, ProgramError
from kmend.kit.files import scratch
from kmend.kit.run import run

_COMPILER = "gcc-12"
_FOLDER = Path(__file__).parent / "guest"


def own_source(name: str) -> str:
    """The source of one of the lab's own programs: ``guest`` or ``beat``."""
    return (_FOLDER / f"{name}.c").read_text()


def compile_static(source: str, *, name: str, folder: Path) -> bytes:
    """Compile C source and return the static program.

    Raises:
        InputError: It does not compile.
    """
    with scratch(folder, prefix="compile-") as place:
        file = place / f"{name}.c"
        file.write_text(source)
        try:
            run([_COMPILER, "-static", "-O2", "-w", "-o", place / name, file], timeout=120)
        except ProgramError as error:
            if error.code is None:
                raise
            raise InputError(
                f"The program {name}.c does not compile:\n{error.output}",
                hint=f"Try it with: {_COMPILER} -static -O2 {name}.c",
            ) from None
        return (place / name).read_bytes()
