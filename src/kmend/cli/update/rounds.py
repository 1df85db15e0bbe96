"""One round of ``kmend update watch``: each kernel in care, from a new version to a published livepatch.

Nothing is done twice, and nothing is lost when a round is killed. ``RELEASE/state.json`` says which version was
worked off, and is replaced only when the livepatch lies ready; before that, the work of `update build` goes on
where it was. Whether something is published is not remembered but read from the repository. An error leaves the
state as it was, so that the next round tries again.
"""

from __future__ import annotations

import logging
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from kmend.cli.update.steps import PLAN, build_plan, make_plan, read_plan, save_plan
from kmend.cli.update.together import FOLDER
from kmend.cli.update.watch_config import CHANNEL, WatchConfig
from kmend.kernels import store
from kmend.kit.errors import InputError, KmendError
from kmend.kit.files import file_problem, write_atomic
from kmend.kit.progress import Progress
from kmend.kit.run import run
from kmend.lab.reporting import REPORT
from kmend.linux.versions import series_of
from kmend.model import wire
from kmend.model.host import ChannelEntry
from kmend.model.kernel import Kit
from kmend.model.livepatch import Livepatch
from kmend.model.update import Outcome, UpdateReport
from kmend.model.watch import KernelWatch, WatchOutcome, WatchReport
from kmend.release import status
from kmend.release.publish import publish

log = logging.getLogger(__name__)

STATUS = "watch.json"
STATE = "state.json"
READY = "ready"
_PULL_LIMIT = 1800

Published = Sequence[tuple[str, ChannelEntry]]
"""Channel and entry of every livepatch that was published for a kernel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Care:
    """One kernel, and what its turn is done with."""

    kit: Kit
    config: WatchConfig
    folder: Path
    progress: Progress


def one_round(config: WatchConfig, *, progress: Progress) -> WatchReport:
    """Look after every kernel once; an error with one does not stop the others. watch.json says how it went."""
    begun = _now()
    problems = _renewed(config, progress) if config.renew else ()
    kernels = tuple(_turn(release, config, progress) for release in config.kernels)
    report = WatchReport(begun=begun, ended=_now(), problems=problems, kernels=kernels)
    write_atomic(config.out / STATUS, wire.dump(report))
    return report


def _now() -> datetime:
    return datetime.now(tz=UTC)


def _renewed(config: WatchConfig, progress: Progress) -> tuple[str, ...]:
    """Bring up to date what the sources offer and what the CVE records say; what went wrong with that."""
    progress.step("Renewing the package lists")
    problems = [_problem(store.renew)]
    for clone in (config.cve_records, config.git):
        if clone is not None and (clone / ".git").exists():
            progress.step(f"Renewing {clone}")
            problems.append(_problem(partial(_pull, clone)))
    for problem in filter(None, problems):
        progress.note(problem)
    return tuple(filter(None, problems))


def _pull(clone: Path) -> None:
    run(["git", "-C", clone, "pull", "--quiet", "--ff-only"], timeout=_PULL_LIMIT)


def _problem(work: Callable[[], None]) -> str:
    try:
        work()
    except KmendError as error:
        return f"{error.message} {error.hint}".strip()
    return ""


def _turn(release: str, config: WatchConfig, progress: Progress) -> KernelWatch:
    """What becomes of one kernel."""
    folder = config.out / release
    try:
        # Fetched at once, not when it is needed: old kernels leave the mirrors when new ones arrive.
        kit = store.fetch(release, progress=progress)
        row = _looked_after(_Care(kit=kit, config=config, folder=folder, progress=progress))
        _keep(row, folder)
    except KmendError as error:
        row = _failed(_state(folder, release), error)
    except OSError as error:
        row = _failed(_state(folder, release), file_problem(error))
    except Exception as error:  # what kmend stumbles over with one kernel must not stop the others
        log.exception("Kernel %s", release)
        row = _failed(_state(folder, release), KmendError(f"{type(error).__name__}: {error}"))
    progress.note(f"{release}: {row.outcome}: {row.reason} {row.advice}".strip())
    return row


def _failed(row: KernelWatch, error: KmendError) -> KernelWatch:
    return replace(row, outcome=WatchOutcome.FAILED, reason=error.message, advice=error.hint, at=_now())


def _keep(row: KernelWatch, folder: Path) -> None:
    write_atomic(folder / STATE, wire.dump(row))


def _state(folder: Path, release: str) -> KernelWatch:
    """What was found last; a file that cannot be read counts as none, which only costs work."""
    path = folder / STATE
    if path.is_file():
        with suppress(InputError):
            return wire.load(KernelWatch, path.read_bytes(), what=str(path))
    return _blank(release)


def _blank(release: str) -> KernelWatch:
    return KernelWatch(
        release=release,
        kernel=None,
        newest="",
        worked_off="",
        outcome=WatchOutcome.CURRENT,
        reason="",
        advice="",
        fates={},
        number=0,
        sha256="",
        cves=(),
        folder="",
        at=_now(),
    )


def _looked_after(care: _Care) -> KernelWatch:
    kernel = care.kit.kernel
    row = _state(care.folder, kernel.release)
    if row.kernel is not None and row.kernel.build_id != kernel.build_id:
        row = _blank(kernel.release)  # another kernel of the same name
    row = replace(row, kernel=kernel, newest=store.newest_source(series_of(kernel.version)), at=_now())
    is_new = store.is_newer(row.newest, row.worked_off or kernel.version)
    if is_new or _is_unfit(care, row):
        row = _worked_off(care, row, version=row.newest if is_new else row.worked_off)
        _keep(row, care.folder)
    if not row.worked_off:
        return replace(
            row, outcome=WatchOutcome.CURRENT, reason=f"Nothing newer than {kernel.version} is offered.", advice=""
        )
    return _let_out(care, row) if row.sha256 else row


def _held(care: _Care) -> Published:
    return status.published(care.config.repo, care.config.keys, build_id=care.kit.kernel.build_id)


def _is_unfit(care: _Care, row: KernelWatch) -> bool:
    """Whether what lies ready cannot go out: its number was taken by another one, or it can be proven now."""
    held = _held(care)
    if not row.sha256 or _is_among(row.sha256, held):
        return False
    return row.number <= _highest(held) or (care.config.lab != "none" and not _is_proven(row))


def _is_among(sha256: str, held: Published) -> bool:
    return any(entry.livepatch.sha256 == sha256 for _, entry in held)


def _highest(held: Published) -> int:
    return max((entry.livepatch.number for _, entry in held), default=0)


def _worked_off(care: _Care, row: KernelWatch, *, version: str) -> KernelWatch:
    """The row once a version is planned, built and proven, and its livepatch lies in ``ready``."""
    care.progress.note(f"{row.release}: working off {version}")
    _plan(care, version)
    held = _held(care)
    number = _highest(held) + 1
    _drop_unfit(care, number, held)
    report = _build(care, number)
    fates = Counter(str(one.outcome) for one in report.cves)
    done = replace(row, worked_off=version, fates=dict(fates), number=0, sha256="", cves=(), folder="")
    if report.together is None or not report.together.fixes:
        failed = any(one.outcome is Outcome.FAILED for one in report.results)
        return replace(
            done,
            outcome=WatchOutcome.FAILED if failed else WatchOutcome.NOTHING,
            reason=f"No livepatch came of {version}, which closes {len(report.cves)} CVEs.",
            advice=f"{care.folder / 'report.html'} says why.",
        )
    livepatch = _livepatch(care.folder / FOLDER)
    ready = _make_ready(care.folder, f"{livepatch.number}-{version}")
    return replace(
        done,
        outcome=WatchOutcome.WAITS,
        number=livepatch.number,
        sha256=livepatch.sha256,
        cves=livepatch.cves,
        folder=str(ready),
        reason=f"Livepatch {livepatch.number} lies ready.",
        advice="",
    )


def _plan(care: _Care, version: str) -> None:
    """plan.json for this version; one that an earlier run left is taken as it is."""
    with suppress(InputError):
        if read_plan(care.folder / PLAN, care.kit.kernel).to_version == version:
            return
    config = care.config
    made, fixes = make_plan(
        care.kit,
        version,
        records=config.cve_records,
        clone=config.git,
        more=[config.advisories] if config.advisories else [],
        progress=care.progress,
    )
    save_plan(made, fixes, care.folder)


def _build(care: _Care, number: int) -> UpdateReport:
    """Build and prove; errors of kmend or the machine get a second chance."""

    def work() -> UpdateReport:
        return build_plan(
            care.kit,
            care.folder / PLAN,
            jobs=care.config.jobs,
            lab=care.config.lab,
            number=number,
            progress=care.progress,
        )

    report = work()
    return work() if any(one.code in {"error", "crash"} for one in report.results) else report


def _drop_unfit(care: _Care, number: int, held: Published) -> None:
    """Remove a cumulative livepatch of another kernel, or with a number that cannot be published any more."""
    folder = care.folder / FOLDER
    if not (folder / "livepatch.json").is_file():
        return
    made = _livepatch(folder)
    same_kernel = made.kernel.build_id == care.kit.kernel.build_id
    if not (same_kernel and (made.number == number or _is_among(made.sha256, held))):
        shutil.rmtree(folder)


def _livepatch(folder: Path) -> Livepatch:
    path = folder / "livepatch.json"
    return wire.load(Livepatch, path.read_bytes(), what=str(path))


def _make_ready(folder: Path, name: str) -> Path:
    """A copy of the cumulative livepatch that later work does not touch; those of earlier versions go."""
    source, ready = folder / FOLDER, folder / READY
    shutil.rmtree(ready, ignore_errors=True)
    for path in sorted(source.rglob("*")):
        if path.is_file():
            write_atomic(ready / name / path.relative_to(source), path.read_bytes())
    return ready / name


def _let_out(care: _Care, row: KernelWatch) -> KernelWatch:
    """Publish what lies ready, unless something speaks for waiting."""
    held = _held(care)
    if _is_among(row.sha256, held):
        return _is_out(row)
    reasons = reasons_to_wait(row, held, approval=care.config.approval)
    config = care.config
    if reasons:
        words = ("kmend", "release", "publish", row.folder, "--repo", str(config.repo), "--keys", str(config.keys))
        prove = "" if _is_proven(row) else f"{shlex.join(('kmend', 'lab', 'run', row.folder))}, then "
        return replace(
            row,
            outcome=WatchOutcome.WAITS,
            reason=f"{'; '.join(reasons)}.",
            advice=f"To let it out: {prove}{shlex.join(words)}",
        )
    publish(
        Path(row.folder), repo=config.repo, keys=config.keys, channel=CHANNEL, now=_now(), progress=care.progress
    )
    return _is_out(row)


def _is_out(row: KernelWatch) -> KernelWatch:
    reason = f"Livepatch {row.number} is out; it closes {len(row.cves)} of {sum(row.fates.values())} CVEs."
    return replace(row, outcome=WatchOutcome.PUBLISHED, reason=reason, advice="")


def _is_proven(row: KernelWatch) -> bool:
    return (Path(row.folder) / REPORT).is_file()


def reasons_to_wait(row: KernelWatch, held: Published, *, approval: str) -> list[str]:
    """Why what lies ready is not published without a person; empty when it may be."""
    reasons = []
    if not _is_proven(row):
        reasons.append("No VM has proven it")
    if approval == "person":
        reasons.append("A person has to approve it")
    if lost := _lost(row, held):
        reasons.append(f"It would open again what {CHANNEL} closes now: {', '.join(lost)}")
    return reasons


def _lost(row: KernelWatch, held: Published) -> list[str]:
    """CVEs that the channel's livepatch closes and this one does not."""
    offered = [entry.livepatch for channel, entry in held if channel == CHANNEL]
    return sorted(set(offered[-1].cves) - set(row.cves)) if offered else []
