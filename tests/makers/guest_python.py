"""Debian's Python and the agent, as files of an initramfs."""

import re
import stat
import subprocess
from pathlib import Path

from kmend.lab.initramfs import program

PYTHON = Path("/usr/bin/python3.11")
LIBRARY = Path("/usr/lib/python3.11")
LEFT_OUT = {
    "test",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "tkinter",
    "turtledemo",
    "pydoc_data",
    "unittest",
    "__pycache__",
}


def python_files():
    """Path → mode and content: the interpreter, what it loads, and the standard library."""
    files = {"usr/bin/python3": program(PYTHON.read_bytes())}
    modules = [LIBRARY / "lib-dynload" / f"{name}.cpython-311-x86_64-linux-gnu.so" for name in ("_ssl", "_ctypes")]
    for path in shared_libraries(PYTHON, *modules):
        files[str(path).lstrip("/")] = program(path.read_bytes())
    for path in [*LIBRARY.rglob("*.py"), *LIBRARY.glob("lib-dynload/*.so")]:
        if not LEFT_OUT & set(path.parts):
            files[str(path).lstrip("/")] = plain(path.read_bytes())
    return files


def plain(content):
    """A file that is no program."""
    return stat.S_IFREG | 0o644, content


def shared_libraries(*programs):
    """Every library that these load, where the loader looks for it."""
    shown = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    return sorted({Path(path) for path in re.findall(r"(/\S+\.so\S*) \(0x", shown)})
