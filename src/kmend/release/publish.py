"""What a release does: init, publish, promote, refresh. Each decides first and writes last."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from kmend.kit.errors import InputError, KmendError
from kmend.kit.files import scratch
from kmend.kit.progress import Progress
from kmend.model import wire
from kmend.model.exposure import KernelFiles
from kmend.model.host import ChannelEntry
from kmend.model.kernel import Kernel
from kmend.model.lab import LabReport
from kmend.model.livepatch import Livepatch
from kmend.release.ceremony import forget_retired, root_versions
from kmend.release.keyring import TARGETS, load_keyring
from kmend.release.metadata import Contents, add_targets, empty_contents, roles_due
from kmend.release.module_signature import CERTIFICATE, load_module_signer, verify_module
from kmend.release.repository import (
    Place,
    ReadBack,
    commit,
    load_contents,
    read_entry,
    read_target,
    writing,
)
from kmend.trust import layout
from kmend.trust.module_file import split_signature
from kmend.trust.repository import open_repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What `kmend build` and `kmend lab run` left in a folder."""

    livepatch: Livepatch
    report: LabReport
    report_text: bytes
    module: bytes


def read_built(folder: Path) -> Built:
    """The folder's livepatch.ko, livepatch.json and labreport.json.

    Raises:
        InputError: One is missing or cannot be read.
    """
    content = {}
    for name, maker in (
        ("livepatch.ko", "kmend build"),
        ("livepatch.json", "kmend build"),
        ("labreport.json", "kmend lab run"),
    ):
        try:
            content[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            raise InputError(f"{folder} has no {name}.", hint=f"`{maker}` leaves it there.") from None
    return Built(
        livepatch=wire.load(Livepatch, content["livepatch.json"], what=str(folder / "livepatch.json")),
        report=wire.load(LabReport, content["labreport.json"], what=str(folder / "labreport.json")),
        report_text=content["labreport.json"],
        module=content["livepatch.ko"],
    )


def reasons_against(built: Built) -> list[str]:
    """Why this must not be published; empty when nothing speaks against it. Pure."""
    livepatch, report = built.livepatch, built.report
    reasons = []
    if split_signature(built.module)[1]:
        reasons.append("livepatch.ko is signed already; publish it as it was built")
    elif hashlib.sha256(built.module).hexdigest() != livepatch.sha256 or len(built.module) != livepatch.size:
        reasons.append("livepatch.ko is not the module that livepatch.json describes")
    if report.livepatch_sha256 != livepatch.sha256:
        reasons.append("the lab report is about another module file")
    if report.livepatch_number != livepatch.number:
        reasons.append(f"the lab report is about livepatch {report.livepatch_number}, not {livepatch.number}")
    if report.kernel.build_id != livepatch.kernel.build_id:
        reasons.append(
            f"the lab report is about another kernel ({report.kernel.release}, {report.kernel.build_id})"
        )
    if not report.passed:
        reasons.append(f"the lab did not pass it: {report.failure or 'no reason given'}")
    if report.passed and (failed := [step.name for step in report.steps if not step.passed]):
        reasons.append(f"the lab report says that it passed, but not its steps {', '.join(failed)}")
    if livepatch.number < 1:
        reasons.append("its number is below 1")
    return reasons


def init_repository(repo: Path, keys: Path, *, now: datetime) -> None:
    """Make an empty, signed repository.

    Raises:
        InputError: There is one already, or no keys.
    """
    keyring = load_keyring(keys)
    place = Place(repo=repo, keys=keys, keyring=keyring)
    with writing(repo):
        if (place.metadata / "timestamp.json").exists():
            raise InputError(f"{repo} is a repository already.")
        contents = empty_contents(keyring, now=now)
        roles = {TARGETS, *keyring.channels}
        check = _reader(place, channel=keyring.channels[0], expected=None)
        commit(place, contents, roles=roles, files={}, now=now, read_back=check, first=True)


def publish(
    folder: Path,
    *,
    repo: Path,
    keys: Path,
    channel: str,
    now: datetime,
    progress: Progress,
    kernel_files: Path | None = None,
) -> ChannelEntry:
    """Sign what `kmend build` left and publish it; returns what the channel holds from now on.

    ``kernel_files`` (of `kmend kernel files`) goes along, so that hosts learn which code their kernel contains.

    Raises:
        InputError: Something speaks against it; nothing was changed.
    """
    progress.step("Checking the livepatch and its lab report")
    load_keyring(keys).check_channel(channel)
    built = read_built(folder)
    livepatch = built.livepatch
    layout.check_build_id(livepatch.kernel.build_id)
    layout.check_module(livepatch.module)
    if reasons := reasons_against(built):
        raise InputError(
            f"Livepatch {livepatch.number} is not published: {'; '.join(reasons)}.",
            hint="Run `kmend lab run` for exactly this module, and publish when it has passed.",
        )
    progress.step("Signing the module")
    signed = load_module_signer(keys).sign(built.module)
    verify_module(signed, keys / CERTIFICATE)
    reports = {
        layout.report_target(channel, livepatch.kernel.build_id, number=livepatch.number): built.report_text
    }
    if kernel_files is not None:
        target = layout.files_target(channel, livepatch.kernel.build_id)
        reports[target] = _read_files(kernel_files, livepatch.kernel.build_id)
    return _release(
        livepatch, signed, repo=repo, keys=keys, channel=channel, extra=reports, now=now, progress=progress
    )


def promote(
    kernel: str,
    *,
    source: str,
    to: str,
    repo: Path,
    keys: Path,
    now: datetime,
    progress: Progress,
    number: int | None = None,
) -> ChannelEntry:
    """Offer in one channel what another one offers: the same signed bytes; returns the new entry.

    Args:
        kernel: Release or build id.
        source: Channel that has it.
        to: Channel that gets it.
        repo: The repository's folder.
        keys: The keys folder.
        now: From when expiries count.
        progress: Told about the steps.
        number: An earlier number of the source channel instead of its newest.

    Raises:
        InputError: There is no such livepatch, or the channel has this number or a higher one.
    """
    progress.step(f"Looking up what {source} holds")
    place = Place(repo=repo, keys=keys, keyring=load_keyring(keys))
    place.keyring.check_channel(to)
    contents = load_contents(place)
    entry = _find(place, contents, kernel, channel=source, number=number)
    module = read_target(repo, contents, entry.module_target)
    build_id = entry.livepatch.kernel.build_id
    report = read_target(repo, contents, layout.report_target(source, build_id, number=entry.livepatch.number))
    if module is None or report is None:
        raise InputError(f"{source} does not list the files of livepatch {entry.livepatch.number} any more.")
    reports = {layout.report_target(to, build_id, number=entry.livepatch.number): report}
    files = read_target(repo, contents, layout.files_target(source, build_id))
    if files is not None:
        reports[layout.files_target(to, build_id)] = files
    return _release(
        entry.livepatch, module, repo=repo, keys=keys, channel=to, extra=reports, now=now, progress=progress
    )


def refresh(repo: Path, keys: Path, *, now: datetime) -> set[str]:
    """Renew what is due: signatures past half of their lifetime, and everything that a change of keys asks for.

    Returns:
        The roles that were signed anew (snapshot and timestamp among them); empty when nothing was due.
    """
    with writing(repo):
        place = Place(repo=repo, keys=keys, keyring=load_keyring(keys))
        contents = load_contents(place)
        newest = place.newest_root
        due = roles_due(contents, place.keyring, root=newest, now=now)
        if not due and place.published_root.version == newest.version:
            return set()
        check = _reader(place, channel=place.keyring.channels[0], expected=None)
        _commit(place, contents, roles=set(), files={}, now=now, read_back=check)
        return due | {"snapshot", "timestamp"}


def _commit(
    place: Place,
    contents: Contents,
    *,
    roles: set[str],
    files: dict[str, bytes],
    now: datetime,
    read_back: ReadBack,
) -> None:
    """Publish a changed state; what is due anyway goes along, and replaced keys are done with afterwards."""
    due = roles_due(contents, place.keyring, root=place.newest_root, now=now) & {TARGETS, *contents.channels}
    commit(place, contents, roles=roles | due, files=files, now=now, read_back=read_back)
    forget_retired(place.keys, place.keyring)


def _release(
    livepatch: Livepatch,
    signed: bytes,
    *,
    repo: Path,
    keys: Path,
    channel: str,
    extra: dict[str, bytes],
    now: datetime,
    progress: Progress,
) -> ChannelEntry:
    """Put a signed module into a channel, if its number is higher than what is there."""
    with writing(repo):
        place = Place(repo=repo, keys=keys, keyring=load_keyring(keys))
        place.keyring.check_channel(channel)
        contents = load_contents(place)
        _check_number(place, contents, livepatch, channel)
        entry, files = _files(livepatch, signed, channel, now=now)
        add_targets(contents, channel, files | extra)
        progress.step("Writing, and reading back as a host would")
        check = _reader(place, channel=channel, expected=entry)
        _commit(place, contents, roles={channel}, files=files | extra, now=now, read_back=check)
        check(repo)
    return entry


def _read_files(path: Path, build_id: str) -> bytes:
    """The list of a kernel's files, made sure to be of that kernel."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    found = wire.load(KernelFiles, content, what=str(path))
    if found.kernel.build_id != build_id:
        raise InputError(
            f"{path} is of another kernel ({found.kernel.release}, {found.kernel.build_id}).",
            hint="`kmend kernel files RELEASE` writes it anew.",
        )
    return content


def _check_number(place: Place, contents: Contents, livepatch: Livepatch, channel: str) -> None:
    target = layout.entry_target(channel, livepatch.kernel.build_id)
    held = read_entry(place.repo, contents, target)
    if held is not None and livepatch.number <= held.livepatch.number:
        raise InputError(
            f"{channel} already offers livepatch {held.livepatch.number} for {held.livepatch.kernel.release}, "
            f"so number {livepatch.number} cannot follow it.",
            hint="Livepatches are cumulative and only go up: build it with a higher number.",
        )


def _files(
    livepatch: Livepatch, signed: bytes, channel: str, *, now: datetime
) -> tuple[ChannelEntry, dict[str, bytes]]:
    build_id = livepatch.kernel.build_id
    entry = ChannelEntry(
        livepatch=livepatch,
        module_target=layout.module_target(channel, build_id, module=livepatch.module),
        module_sha256=hashlib.sha256(signed).hexdigest(),
        published=now.astimezone(UTC),
    )
    text = wire.dump(entry).encode()
    return entry, {
        entry.module_target: signed,
        layout.entry_target(channel, build_id): text,
        layout.numbered_entry_target(channel, build_id, number=livepatch.number): text,
    }


def _find(place: Place, contents: Contents, kernel: str, *, channel: str, number: int | None) -> ChannelEntry:
    """The one livepatch that a channel holds for a kernel named by release or build id."""
    place.keyring.check_channel(channel)
    listed = contents.channels[channel].signed.targets
    found = []
    for path in sorted(listed):
        wanted = "entry.json" if number is None else f"{number}.json"
        if path.split("/")[-1] == wanted and (entry := read_entry(place.repo, contents, path)):
            found.append(entry)
    matches = [
        entry for entry in found if kernel in {entry.livepatch.kernel.release, entry.livepatch.kernel.build_id}
    ]
    if len(matches) == 1:
        return matches[0]
    what = f"{channel} holds no livepatch {'' if number is None else f'{number} '}for the kernel {kernel}."
    if matches:
        what = f"{kernel} names {len(matches)} kernels in {channel}; give the build id."
    named = f" numbered {number}" if number is not None else ""
    known = ", ".join(sorted({entry.livepatch.kernel.release for entry in found})) or "nothing"
    raise InputError(what, hint=f"{channel} holds livepatches{named} for: {known}.")


def _reader(place: Place, *, channel: str, expected: ChannelEntry | None) -> ReadBack:
    """Reads a state back as two hosts would: one enrolled with the very first root, and one enrolled now."""
    roots = root_versions(place.keys, place.keyring)

    def check(folder: Path) -> None:
        for version in sorted({1, place.keyring.root_version}):
            with scratch(place.repo, prefix=".kmend-") as cache:
                _read_once(folder, channel, cache / "seen", root=roots[version], expected=expected)

    return check


def _read_once(folder: Path, channel: str, cache: Path, *, root: bytes, expected: ChannelEntry | None) -> None:
    repository = open_repository(str(folder), channel=channel, pinned_root=root, cache=cache)
    kernel = expected.livepatch.kernel if expected else Kernel(release="", version="", build_id="0" * 40)
    entry = repository.offered(kernel)
    if entry != expected:
        raise KmendError("What a host would read is not what was to be published. Nothing was published.")
    repository.fetch(kernel)
