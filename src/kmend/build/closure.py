"""Which changes of an update need each other: a fix is what the CVE's files change, and what that calls for."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from kmend.build.changes import INCLUDE, SEARCHED, Change, applied, changes, included_as
from kmend.build.derive import file_diff, source_lines
from kmend.build.items import plain, words
from kmend.build.renames import Renamed, renamed, types_of, with_old_names
from kmend.build.sources import Sources
from kmend.exposure.concern import differs
from kmend.exposure.units import Units
from kmend.kit.cache import cache_root
from kmend.kit.files import scratch
from kmend.kit.progress import Progress


def differing(units: Units, sources: Sources) -> tuple[str, ...]:
    """The .c files that the kernel is built from, and all headers that they may see, that differ; sorted."""
    files = {file for file in (*units.objects, *units.included) if file.endswith(".c")}
    folders = {posixpath.dirname(file) for file in files}
    folders |= {f"{folder}/include" for folder in folders}
    for base in SEARCHED[:2]:
        folders |= {os.path.relpath(folder, sources.new) for folder, _, _ in os.walk(sources.new / base)}
    for folder in folders:
        if (sources.new / folder).is_dir():
            files |= {
                f"{folder}/{one.name}" for one in os.scandir(sources.new / folder) if one.name.endswith(".h")
            }
    return tuple(
        sorted(
            file for file in files if (sources.new / file).is_file() and differs(file, sources.old, sources.new)
        )
    )


class Update:
    """All changes between two source versions that concern one kernel, and what each needs."""

    def __init__(self, by_file: Mapping[str, tuple[Change, ...]], sources: Sources) -> None:
        self.by_file = by_file
        self.sources = sources
        self._needs: dict[Change, frozenset[Change]] = {}
        self._old_words: dict[str, frozenset[str]] = {}
        self._seen: dict[str, frozenset[str]] = {}
        self._direct: dict[str, tuple[str, ...]] = {}
        self._there: dict[str, bool] = {}

    @classmethod
    def between(cls, units: Units, sources: Sources, *, progress: Progress) -> Update:
        """Read all differences; about 15 s for two versions half a year apart."""
        files = differing(units, sources)
        progress.step("Cutting the update into its changes")
        found: dict[str, tuple[Change, ...]] = {}
        for done, file in enumerate(files, 1):
            progress.amount(done, len(files), unit="files")
            found[file] = changes(file, old=sources.old, new=sources.new)
        found |= _with_old_names(cls(found, sources))
        return cls(found, sources)

    @cached_property
    def _givers(self) -> Mapping[str, list[Change]]:
        """Word → changes that define it anew."""
        found = defaultdict(list)
        for change in self._all():
            for word in change.gives:
                found[word].append(change)
        return found

    @cached_property
    def _members(self) -> Mapping[str, list[Change]]:
        """Word → changes that may bring it as a member of a structure."""
        found = defaultdict(list)
        for change in self._all():
            for word in change.members:
                found[word].append(change)
        return found

    @cached_property
    def _interfaces(self) -> Mapping[str, list[Change]]:
        """Name → changes by which it is called otherwise."""
        found = defaultdict(list)
        for change in self._all():
            for name in change.interfaces:
                found[name].append(change)
        return found

    @cached_property
    def _mentions(self) -> Mapping[str, list[Change]]:
        """Word → changes that bring or take away a line with it."""
        found = defaultdict(list)
        for change in self._all():
            for word in change.added | change.removed:
                found[word].append(change)
        return found

    def _all(self) -> Iterable[Change]:
        return (change for part in self.by_file.values() for change in part)

    def of(self, files: Iterable[str]) -> frozenset[Change]:
        """All changes of some files."""
        return frozenset(change for file in files for change in self.by_file.get(file, ()))

    def givers(self, word: str, file: str) -> frozenset[Change]:
        """The changes that define a word for a file."""
        found = (one for one in self._givers.get(word, ()) if self._reaches(one, word, file))
        return frozenset(more for one in found for more in self._with_includes(one, file))

    def takers(self, word: str, file: str) -> frozenset[Change]:
        """The changes that take a word away from what a file sees."""
        found = self._mentions.get(word, ())
        return frozenset(one for one in found if word in one.gone and self._is_of(one, file))

    def retyped(self, word: str, file: str) -> frozenset[Change]:
        """The changes of types that a file sees in which a word stands."""
        return frozenset(one for one in self._mentions.get(word, ()) if one.types and self._is_of(one, file))

    def of_name(self, name: str, file: str) -> frozenset[Change]:
        """A file's own changes of an item."""
        return frozenset(one for one in self.by_file.get(file, ()) if name in one.names)

    def members(self, word: str, file: str) -> frozenset[Change]:
        """The changes that may bring a member of that name to a structure that a file knows."""
        return frozenset(one for one in self._members.get(word, ()) if self._reaches(one, word, file))

    def changed_interfaces(self, name: str, file: str) -> frozenset[Change]:
        """The changes by which a name is called otherwise, as far as a file is concerned."""
        return frozenset(one for one in self._interfaces.get(name, ()) if self._is_of(one, file))

    def needs(self, change: Change) -> frozenset[Change]:
        """What must be taken together with a change."""
        if change not in self._needs:
            self._needs[change] = frozenset(self._needed(change)) - {change}
        return self._needs[change]

    def _needed(self, change: Change) -> Iterable[Change]:
        yield from (one for one in self.by_file[change.path] if one.is_surrounding)
        for word in change.added:
            for one in self._givers.get(word, ()):
                if self._is_needed(one, word, change.path):
                    yield from self._with_includes(one, change.path)
        for word in change.accessed:
            for one in self._members.get(word, ()):
                if self._is_needed(one, word, change.path):
                    yield from self._with_includes(one, change.path)
        for word in change.added | change.removed:
            yield from (one for one in self._interfaces.get(word, ()) if self._is_of(one, change.path))
        for name in change.interfaces:
            yield from (one for one in self._mentions.get(name, ()) if self._is_of(change, one.path))
        yield from self._bereft(change)
        for include in change.includes:
            yield from self._creating(include, change.path)

    def _with_includes(self, giver: Change, file: str) -> Iterable[Change]:
        """A change; when it makes a new file, also the new lines by which another file comes to include that."""
        yield giver
        if not giver.creates:
            return
        for path in self.visible(file):
            for change in self.by_file.get(path, ()):
                meant = (one for name in change.includes for one in included_as(name, quoted=True, file=path))
                known = (one for one in meant if one in self.by_file)
                if not change.names and any(giver.path in self.visible(one) for one in known):
                    yield change

    def _is_needed(self, giver: Change, word: str, file: str) -> bool:
        """Whether a file needs a change for a new word: not when it, being another's, was known there before."""
        if giver.path == file:
            return True
        return word not in self._words(file) and self._reaches(giver, word, file)

    def _bereft(self, change: Change) -> Iterable[Change]:
        """The changes that stop using what this one takes away."""
        for name in change.gone:
            yield from (
                one
                for one in self._mentions.get(name, ())
                if name in one.removed and self._is_of(change, one.path)
            )
        for name in change.lost_members:
            yield from (
                one
                for one in self._mentions.get(name, ())
                if name in one.no_more_accessed and self._is_of(change, one.path)
            )

    def _is_of(self, giver: Change, file: str) -> bool:
        """Whether a file sees what another one (or itself) defines in headers or as global functions."""
        if giver.path == file:
            return True
        if giver.path.endswith(".h"):
            return giver.path in self.visible(file)
        # A function of another .c file is known by its prototype.
        return bool(giver.names & giver.interfaces) and any(
            one.path.endswith(".h") and one.path in self.visible(file)
            for name in giver.interfaces
            for one in self._interfaces[name]
        )

    def _reaches(self, giver: Change, word: str, file: str) -> bool:
        if giver.path == file:
            return True
        if giver.path.endswith(".h"):
            return giver.path in self.visible(file)
        return word in giver.exported

    def _creating(self, include: str, file: str) -> Iterable[Change]:
        for path in included_as(include, quoted=True, file=file):
            for one in self.by_file.get(path, ()):
                if one.creates:
                    yield one

    def _words(self, file: str) -> frozenset[str]:
        if file not in self._old_words:
            path = self.sources.old / file
            text = path.read_text(errors="surrogateescape") if path.is_file() else ""
            self._old_words[file] = words(plain(text))
        return self._old_words[file]

    def visible(self, file: str) -> frozenset[str]:
        """A file and all headers that it includes in the newer source, also by way of each other."""
        if file not in self._seen:
            found = {file}
            queue = [file]
            while queue:
                for path in self._included(queue.pop()):
                    if path not in found:
                        found.add(path)
                        queue.append(path)
            self._seen[file] = frozenset(found)
        return self._seen[file]

    def _included(self, file: str) -> tuple[str, ...]:
        if file not in self._direct:
            path = self.sources.new / file
            text = path.read_text(errors="surrogateescape") if path.is_file() else ""
            meant = (included_as(name, quoted=mark == '"', file=file) for mark, name in INCLUDE.findall(text))
            first = (next(filter(self._is_new_file, paths), "") for paths in meant)
            self._direct[file] = tuple(path for path in first if path)
        return self._direct[file]

    def knows_only_old(self, member: Renamed, file: str) -> bool:
        """Whether a member is what a new name means in a file: nothing that the file sees had that name before."""
        seen = self.visible(file)
        return {member.old_file, member.new_file} <= seen and not any(
            member.new in self._words(one) for one in seen
        )

    def _is_new_file(self, path: str) -> bool:
        if path not in self._there:
            self._there[path] = (self.sources.new / path).is_file()
        return self._there[path]

    def closed(self, start: Collection[Change], *, without: Collection[Change] = ()) -> frozenset[Change]:
        """Some changes with all that they need; those that need one of ``without`` are left out themselves."""
        held = set(without)
        while True:
            taken = set(start) - held
            queue = list(taken)
            while queue:
                more = self.needs(queue.pop()) - taken
                taken |= more
                queue += more
            spoiled = {one for one in taken - held if self.needs(one) & held}
            if not spoiled and not taken & held:
                return frozenset(taken)
            held |= spoiled

    def diff(self, chosen: Collection[Change]) -> str:
        """The unified diff that makes some changes to the older source."""
        parts = []
        for path in sorted({change.path for change in chosen}):
            mine = [change for change in chosen if change.path == path]
            if any(change.creates for change in mine):
                parts.append(_creation(path, mine[0]))
                continue
            before = source_lines(self.sources.old, path)
            parts.append(file_diff(self.sources.old, path, before, applied(before, mine)))
        return "".join(parts)


def _with_old_names(update: Update) -> dict[str, tuple[Change, ...]]:
    """The changes of the files that use members under names which are all that is new about them."""
    sources = update.sources
    typed = [path for path, part in update.by_file.items() if any(one.types for one in part)]
    found = tuple(
        renamed(
            {path: types_of(sources.old / path) for path in typed},
            {path: types_of(sources.new / path) for path in typed},
        )
    )
    again: dict[str, tuple[Change, ...]] = {}
    with scratch(cache_root() / "build") as folder:
        for path, part in update.by_file.items():
            spoken = frozenset[str]().union(*(one.added for one in part))
            names = {one.new: one.old for one in found if one.new in spoken and update.knows_only_old(one, path)}
            if names:
                text = (sources.new / path).read_text(errors="surrogateescape")
                put = folder / path
                put.parent.mkdir(parents=True, exist_ok=True)
                put.write_text(with_old_names(text, names), errors="surrogateescape")
                again[path] = changes(path, old=sources.old, new=folder)
    return again


def _creation(path: str, change: Change) -> str:
    lines = [line for hunk in change.hunks for line in hunk.lines]
    body = "".join(f"+{line}" for line in lines)
    return f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n{body}"
