"""Kbuild's saved compile commands, for another source file and another output."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from kmend.kit.errors import BugError


def replayed(
    command: str,
    *,
    source: Path,
    out: Path,
    root: Path,
    objtool: Sequence[str] = (),
    source_tree: Path | None = None,
) -> list[list[str]]:
    """The saved command for another source file and another output, as argument lists to run in the tree.

    What kbuild does beside compiling and objtool (symbol versions) is left out.

    Args:
        command: As kbuild saved it.
        source: The .c file to compile.
        out: Where the object goes.
        root: Leading folder of ``source`` that ``__FILE__`` must not show.
        objtool: Objtool's command line without the file, to run where kbuild leaves it for later.
        source_tree: The kernel's source, for which ``root`` stands in wherever the command names it.
    """
    found = []
    for part in re.split(r"\s;\s|\s&&\s", command):
        words = shlex.split(part)
        if not words:
            continue
        name = Path(words[0]).name
        if "-c" in words and "-o" in words:
            found.append(_compile_words(words, source, out, root, source_tree or root))
        elif name == "objtool":
            found.append([*words[:-1], str(out)])
    if len(found) == 1 and objtool:
        found.append([*objtool, str(out)])
    if not found or "-c" not in found[0]:
        raise BugError(f"Kbuild's saved command is not understood: {command[:200]}")
    return found


def _compile_words(words: list[str], source: Path, out: Path, root: Path, instead_of: Path) -> list[str]:
    out.parent.mkdir(parents=True, exist_ok=True)
    words = [f"-Wp,-MMD,{out}.d" if word.startswith("-Wp,-MMD,") else word for word in words]
    # The map of __FILE__ keeps naming the original: some texts carry it all the same.
    words = [word if word.startswith("-f") else word.replace(f"{instead_of}/", f"{root}/") for word in words]
    words[words.index("-o") + 1] = str(out)
    # What the file includes by a name in quotes stands beside the original.
    beside = Path(words[-1]).parent
    return [*words[:-1], "-iquote", str(beside), f"-fmacro-prefix-map={root}/=", str(source)]
