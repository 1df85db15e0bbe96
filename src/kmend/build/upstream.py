"""Fixes from the very upstream commits, read from a git clone of the stable kernel.

A commit's files are merged three ways (its parent, it, the kernel's own source), so that it may stand at other
lines there; where both changed the same lines it is a conflict, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kmend.build.derive import file_diff, source_lines
from kmend.build.unified import split_lines
from kmend.kit.cache import cache_root
from kmend.kit.errors import InputError
from kmend.kit.files import scratch
from kmend.kit.run import Finished, failed, run
from kmend.model.fix import Fix

_MOST_CONFLICTS = 127
"""The largest exit code of git merge-file that counts conflicts; above are errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A git clone that has the stable series' commits; it is only read."""

    path: Path

    def has(self, commit: str) -> bool:
        """Whether the commit and its parent are there."""
        return all(self._git("cat-file", "-e", f"{name}^{{commit}}").code == 0 for name in (commit, f"{commit}^"))

    def files(self, commit: str) -> tuple[str, ...]:
        """Paths that a commit changes, adds or deletes.

        Raises:
            ProgramError: The clone does not have the commit.
        """
        words = ("diff-tree", "--no-commit-id", "--no-renames", "--name-only", "-r", "-z", commit)
        done = self._git(*words)
        if done.code:
            raise failed(done)
        return tuple(name for name in done.text.split("\0") if name)

    def text(self, commit: str, path: str) -> bytes | None:
        """A file as it was at a commit; None where the commit has no such file."""
        done = self._git("cat-file", "blob", f"{commit}:{path}")
        return done.stdout if done.code == 0 else None

    def _git(self, *words: str) -> Finished:
        return run(("git", "-C", self.path, *words), check=False, timeout=120)


def check(path: Path) -> Clone:
    """The clone in a folder.

    Raises:
        InputError: There is none.
    """
    done = run(("git", "-C", path, "rev-parse", "--git-dir"), check=False, timeout=60) if path.is_dir() else None
    if done is None or done.code:
        raise InputError(f"{path} is no git clone.", hint="Name a clone of the stable kernel (linux-stable.git).")
    return Clone(path=path)


def taken_over(
    commit: str, files: Sequence[str], *, clone: Clone, tree: Path, name: str, cve: str, title: str
) -> Fix:
    """The Fix that one commit is for a source tree that it was not made for.

    Args:
        commit: Its hash.
        files: Those of its .c files that the kernel is built from.
        clone: Where the commit is.
        tree: The source tree of the kernel to be fixed; it is only read.
        name: The fix's name.
        cve: What the commit closes.
        title: One line for people.

    Raises:
        InputError: It conflicts with the tree, or the tree has it already.
    """
    diffs = [_merged(commit, path, clone=clone, tree=tree) for path in files]
    if not any(diffs):
        raise InputError(f"The source has commit {commit[:12]} already.")
    return Fix(
        name=name,
        cves=(cve,),
        title=title,
        diff="".join(diffs),
        origin=f"upstream stable commit {commit}",
        reasoning=f"Derived: commit {commit[:12]}, merged into {', '.join(files)}. No person has read it.",
    )


def _merged(commit: str, path: str, *, clone: Clone, tree: Path) -> str:
    ours = source_lines(tree, path)
    before, after = clone.text(f"{commit}^", path), clone.text(commit, path)
    if before is None or after is None:
        raise InputError(f"Commit {commit[:12]} adds or deletes {path}.")
    with scratch(cache_root() / "merge") as folder:
        sides = [folder / "ours", folder / "before", folder / "after"]
        for side, text in zip(sides, ("".join(ours).encode(), before, after), strict=True):
            side.write_bytes(text)
        done = run(("git", "merge-file", "-p", "-q", *sides), check=False, timeout=60)
    if 0 < done.code <= _MOST_CONFLICTS:
        raise InputError(f"Commit {commit[:12]} conflicts with this kernel's {path} in {done.code} places.")
    if done.code:
        raise failed(done)
    try:
        return file_diff(tree, path, ours, split_lines(done.stdout.decode()))
    except UnicodeDecodeError:
        raise InputError(f"{path} of commit {commit[:12]} is not UTF-8 text.") from None
