"""What the compiler itself says of a file: each function's assembly, the numbering of names and labels left aside.

Made from ``gcc -S`` and nothing else, to be compared with what kmend finds in objects.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from makers.objects import COMPILER, KERNEL_FLAGS, PRELUDE, SECTIONS

_KIND = re.compile(r"^\s*\.type\s+(\S+), @(function|object)", re.MULTILINE)
_LABEL = re.compile(r"^([\w.$]+):\s*(.*)$")
_WORD = re.compile(r"(?<![\w%.])[.A-Za-z_][\w.]*")
_OWN_CONTENT = re.compile(r"^(\.LC\d+|CSWTCH\.\d+|C\.\d+\.\d+|__func__\.\d+)$")
_NO_TARGET = re.compile(r"^\.L(COLD|HOT|F)")
_NUMBER = re.compile(r"\.\d+(?=\.|$)")
_DATA = (".string", ".ascii", ".byte", ".value", ".long", ".quad", ".zero")
_COLD = ".cold"


def compile_to_assembly(folder: Path, text: str) -> Path:
    """``file.s`` of a C text; assembling it gives the object that compiling would."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file.c").write_text(PRELUDE + text)
    subprocess.run(
        [COMPILER, *KERNEL_FLAGS, *SECTIONS, "-S", "-o", "file.s", "file.c"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return folder / "file.s"


def assemble(source: Path) -> Path:
    """The object beside an assembly file."""
    subprocess.run([COMPILER, "-c", "-o", source.with_suffix(".o"), source], check=True)
    return source.with_suffix(".o")


def has_aliases(source: Path) -> bool:
    """Whether the compiler has made one function of two that are alike."""
    return ".set\t" in source.read_text()


def functions_of(source: Path) -> dict[str, list[str]]:
    """Every function's code in comparable form, cold part included, by its name without numbers.

    A list, since the compiler may have made several clones whose names differ in a number only.
    """
    text = source.read_text()
    kinds = dict(_KIND.findall(text))
    code: dict[str, list[str]] = {}
    content: dict[str, list[str]] = {}
    into: list[str] | None = None
    in_code = False
    for line in text.splitlines():
        label = _LABEL.match(line)
        name = label[1] if label else ""
        if name in kinds or name.startswith(".LC"):
            in_code = kinds.get(name) == "function"
            into = (code if in_code else content).setdefault(name.removesuffix(_COLD) if in_code else name, [])
            continue
        rest = label[2] if label and name.isdigit() else line.strip()
        is_directive = rest.startswith(".") and not label
        if into is not None and is_directive != in_code and not _NO_TARGET.match(name):
            into.append(rest)
    found: dict[str, list[str]] = {}
    for name, lines in code.items():
        found.setdefault(_NUMBER.sub(".", name), []).append(_plain(lines, content))
    return found


def _plain(lines: list[str], content: dict[str, list[str]]) -> str:
    """Code with labels numbered from its start, constants in place of their labels, and names without numbers."""
    labels: dict[str, str] = {}

    def word(match: re.Match[str]) -> str:
        name = match[0]
        if name in content and _OWN_CONTENT.match(name):
            return f"<{' '.join(line for line in content[name] if line.startswith(_DATA))}>"
        if name.startswith(".L"):
            return labels.setdefault(name, f".L{len(labels)}")
        return _NUMBER.sub(".", name)

    return "\n".join(_WORD.sub(word, line) for line in lines)
