"""Unified diffs, read strictly: what a fix may change, and where exactly each of its hunks stands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from unidiff.errors import UnidiffParseError
from unidiff.patch import PatchedFile, PatchSet

from kmend.kit.errors import InputError

_PATH = re.compile(r"[A-Za-z0-9_+@=,-][A-Za-z0-9_.+@=,-]*(?:/[A-Za-z0-9_+@=,-][A-Za-z0-9_.+@=,-]*)*")
_REFUSED = (
    (
        re.compile(r"(GIT binary patch|Binary files? .* differ|Binary file .* has changed)$"),
        "changes a binary file",
    ),
    (re.compile(r"(rename|copy) (from|to) "), "renames or copies a file"),
    (re.compile(r"deleted file mode "), "deletes a file"),
    (re.compile(r"(old|new) mode "), "changes a file's mode"),
    (re.compile(r"new file mode (?!100644$)"), "adds something that is not an ordinary source file"),
    (
        re.compile(r"index [0-9a-f]+\.\.[0-9a-f]+ (?!100644$)"),
        "touches a symbolic link or a program, not a source file",
    ),
)
_HINT = (
    "Make it with `git diff` or `diff -u a/FILE b/FILE`; a fix only changes or adds C source files and headers."
)
_DEV_NULL = "/dev/null"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """One hunk: what it expects and what it puts there. Lines carry their newline."""

    number: int
    """Counted from 1 in its file."""
    line: int
    """Line of its header in the diff, counted from 1."""
    last: int
    """Line of its last line in the diff, counted from 1."""
    start: int
    """Where it says that it stands: 0-based line of the old file."""
    body: tuple[tuple[str, str], ...]
    """Pairs of " ", "-" or "+" and the line."""

    @property
    def old(self) -> tuple[str, ...]:
        """The lines that must be there: context and removed lines."""
        return tuple(text for sign, text in self.body if sign != "+")

    @property
    def new(self) -> tuple[str, ...]:
        """The lines that are there afterwards."""
        return tuple(text for sign, text in self.body if sign != "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDiff:
    """The hunks of one file; ``creates`` when the file is new."""

    path: str
    creates: bool
    hunks: tuple[Hunk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """Old lines ``start`` to ``end`` (0-based, end excluded) become ``lines``."""

    start: int
    end: int
    lines: tuple[str, ...]
    hunk: Hunk


def split_lines(text: str) -> list[str]:
    """Lines with their newline, cut at line feeds only (str.splitlines also cuts at form feeds)."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


def parse(diff: str, *, what: str) -> tuple[FileDiff, ...]:
    """The files that a diff changes, in its order.

    Args:
        diff: A unified diff with ``a/`` and ``b/`` before its paths; text around it (a mail's) is skipped.
        what: Where the diff is from, for the errors.

    Raises:
        InputError: It is empty, damaged or changes nothing, or does more than change and add source files.
    """
    _refuse_extras(diff, what)
    try:
        parsed = PatchSet(diff)
    except (UnidiffParseError, ValueError) as error:
        raise InputError(f"{what} is not a whole unified diff: {error}".rstrip(), hint=_HINT) from None
    files = tuple(_file(entry, what) for entry in parsed)
    if not files:
        raise InputError(f"{what} holds no changes.", hint=_HINT)
    _refuse_leftovers(files, diff, what)
    _refuse_double(files, what)
    if all(hunk.old == hunk.new for file in files for hunk in file.hunks):
        raise InputError(f"{what} changes nothing: it puts back the same lines that it takes out.", hint=_HINT)
    return files


def _refuse_extras(diff: str, what: str) -> None:
    """What unidiff reads past, or makes sense of, and a fix must not do."""
    if "\0" in diff:
        raise InputError(f"{what} holds binary data.", hint=_HINT)
    for number, line in enumerate(diff.split("\n"), 1):
        for pattern, deed in _REFUSED:
            if pattern.match(line):
                raise InputError(f"{what}, line {number}, {deed}: {line.strip()}", hint=_HINT)


def _file(entry: PatchedFile, what: str) -> FileDiff:
    creates = entry.source_file == _DEV_NULL
    if entry.target_file == _DEV_NULL:
        raise InputError(f"{what} deletes {entry.source_file}.", hint=_HINT)
    new = _path(entry.target_file, "b/", what)
    if not creates and _path(entry.source_file, "a/", what) != new:
        raise InputError(f"{what} renames {entry.source_file} to {entry.target_file}.", hint=_HINT)
    hunks = tuple(_hunks(entry))
    if not hunks:
        raise InputError(f"{what} names {new} but changes nothing in it.", hint=_HINT)
    for hunk in hunks:
        if not creates and not hunk.old:
            raise InputError(
                f"{what}, line {hunk.line}: a hunk of {new} has no context, so nothing shows where it belongs.",
                hint="Make the diff with three lines of context (the default of git diff and diff -u).",
            )
    return FileDiff(path=new, creates=creates, hunks=hunks)


def _path(name: str, prefix: str, what: str) -> str:
    path = name.removeprefix(prefix)
    if path == name or not _PATH.fullmatch(path):
        raise InputError(
            f"{what} names a file that is not allowed: {name!r} (expected {prefix} and a path in the source).",
            hint=_HINT,
        )
    return path


def _hunks(entry: PatchedFile) -> Iterator[Hunk]:
    for number, hunk in enumerate(entry, 1):
        body: list[tuple[str, str]] = []
        last = 0
        for line in hunk:
            if line.line_type == "\\" and body:
                sign, text = body[-1]
                body[-1] = (sign, text.removesuffix("\n"))
            elif line.line_type in (" ", "+", "-"):
                body.append((line.line_type, line.value))
                last = line.diff_line_no or last
        # A hunk that takes out nothing names the line *after* which it stands.
        start = hunk.source_start - (1 if hunk.source_length else 0)
        header = (hunk[0].diff_line_no or 1) - 1
        yield Hunk(number=number, line=header, last=last, start=start, body=tuple(body))


def _refuse_leftovers(files: tuple[FileDiff, ...], diff: str, what: str) -> None:
    """A hunk that goes on after its stated length was edited by hand or damaged; the rest would be lost."""
    lines = diff.split("\n")
    for file in files:
        for hunk in file.hunks:
            after = hunk.last
            while after < len(lines) and lines[after].startswith("\\"):
                after += 1
            rest = lines[after] if after < len(lines) else ""
            if rest[:1] in ("+", "-", " ") and not rest.startswith(("--- ", "-- ")) and rest != "--":
                raise InputError(
                    f"{what}, line {after + 1}: hunk {hunk.number} of {file.path} exceeds its stated length.",
                    hint="The diff was edited by hand or damaged; make it anew.",
                )


def _refuse_double(files: tuple[FileDiff, ...], what: str) -> None:
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise InputError(f"{what} changes {file.path} in two places of its own; join them.", hint=_HINT)
        seen.add(file.path)


def place(file: FileDiff, lines: Sequence[str], *, what: str) -> tuple[tuple[Edit, ...], tuple[int, ...]]:
    """Where a diff's hunks stand in a file, exactly: every context and removed line equal, never fuzz.

    A hunk may stand at another line than it says when there is one such place only.

    Args:
        file: The diff of one file.
        lines: The old file's lines with newlines.
        what: Name of the diff, for the errors.

    Returns:
        The edits in the old file's line numbers, ascending; and each hunk's offset in lines.

    Raises:
        InputError: A hunk does not apply, or fits several places.
    """
    edits: list[Edit] = []
    offsets: list[int] = []
    begin = offset = 0
    for hunk in file.hunks:
        at = _find(hunk, lines, begin, hunk.start + offset)
        if isinstance(at, str):
            raise InputError(
                f"{what} does not apply: hunk {hunk.number} of {file.path} (line {hunk.line} of the diff) {at}",
                hint="Bring the fix to this kernel's source: `kmend kernel show` says where it lies.",
            )
        offset = at - hunk.start
        begin = at + len(hunk.old)
        offsets.append(offset)
        edits.extend(_edits(hunk, at))
    return tuple(edits), tuple(offsets)


def _find(hunk: Hunk, lines: Sequence[str], begin: int, preferred: int) -> int | str:
    """The 0-based line where the hunk stands, or why there is none."""
    old = hunk.old
    if preferred >= begin and tuple(lines[preferred : preferred + len(old)]) == old:
        return preferred
    first = old[0]
    places = [
        at
        for at in range(begin, len(lines) - len(old) + 1)
        if lines[at] == first and tuple(lines[at : at + len(old)]) == old
    ]
    if len(places) == 1:
        return places[0]
    if places:
        numbers = ", ".join(str(at + 1) for at in places[:5])
        return f"is not at line {preferred + 1} and fits {len(places)} other places (lines {numbers})."
    return _difference(hunk, lines, begin, preferred)


def _difference(hunk: Hunk, lines: Sequence[str], begin: int, preferred: int) -> str:
    """What stands at the likeliest place instead of what the hunk expects."""
    new = hunk.new
    for at in range(len(lines) - len(new) + 1):
        if new and lines[at] == new[0] and tuple(lines[at : at + len(new)]) == new:
            return f"is already in this source, at line {at + 1}."
    old = hunk.old

    def likeness(at: int) -> tuple[int, int]:
        equal = sum(one == two for one, two in zip(old, lines[at : at + len(old)], strict=False))
        return equal, -abs(at - preferred)

    at = max(range(begin, max(begin + 1, len(lines))), key=likeness)
    for step, expected in enumerate(old):
        found = lines[at + step] if at + step < len(lines) else None
        if found != expected:
            there = f"found {found.rstrip()!r}" if found is not None else "the file ends before it"
            return f"expects {expected.rstrip()!r} at line {at + step + 1}, but {there}."
    return f"overlaps the hunk before it, at line {at + 1}."


def _edits(hunk: Hunk, at: int) -> Iterator[Edit]:
    """The hunk's runs of changed lines, without the context between them."""
    position = start = at
    added: list[str] = []
    for sign, text in (*hunk.body, (" ", "")):
        if sign == " ":
            if added or position > start:
                yield Edit(start=start, end=position, lines=tuple(added), hunk=hunk)
            position += 1
            start, added = position, []
        elif sign == "-":
            position += 1
        else:
            added.append(text)


def edited(lines: Sequence[str], edits: Sequence[Edit]) -> list[str]:
    """The lines after the edits, which are ascending and do not overlap."""
    result: list[str] = []
    position = 0
    for edit in edits:
        result += lines[position : edit.start]
        result += edit.lines
        position = edit.end
    return result + list(lines[position:])
