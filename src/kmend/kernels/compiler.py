"""Whether this machine has the very compiler that built a kernel."""

from __future__ import annotations

from kmend.kit.errors import ProgramError
from kmend.kit.run import run


def installed(compiler: str) -> str:
    """What this machine's program of that name says of itself, or "" when it is not installed.

    Args:
        compiler: What the kernel says, e.g. ``gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0``; its first word is the
            program. It is the very same compiler when the answer is the same text.
    """
    try:
        lines = run([compiler.partition(" ")[0], "--version"], timeout=30).text.splitlines()
    except ProgramError:
        return ""
    return lines[0] if lines else ""
