"""``kmend agent``: keep this host's kernel at what its channel offers. Also the whole of kmend-agent.pyz.

Exit codes: 0 done, or nothing to do; 1 refused, failed or could not tell; 10 (only `check`) one is available.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from kmend import __version__
from kmend.agent import config, sync, view, watching
from kmend.agent.apply import Host
from kmend.agent.config import Paths
from kmend.agent.decide import Verdict
from kmend.agent.settings import load_settings
from kmend.cli.main import run_command
from kmend.cli.output import Seconds, show_json
from kmend.kit.errors import InputError, KmendError

AVAILABLE = 10
_json_option = click.option("--json", "as_json", is_flag=True, help="Answer as JSON, errors too.")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a verb says: a noun for programs, text for people, an exit code."""

    value: object
    text: str
    code: int = 0


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--machine-root", "machine", type=click.Path(path_type=Path), default="/", hidden=True)
@click.pass_context
def agent(context: click.Context, machine: Path) -> None:
    """Keep this host's kernel at what its channel offers: verified, applied, watched, reverted when in doubt."""
    context.obj = machine


@agent.command("init")
@click.option("--root", "root_file", type=click.Path(path_type=Path), required=True, help="root.json to pin.")
@click.option("--repo", required=True, help="Address of the repository: http(s)://…, file://… or a folder.")
@click.option("--channel", default="stable", show_default=True, help="The stream to follow.")
@click.option("--force", is_flag=True, help="Trust another root than the one pinned before.")
@_json_option
@click.pass_obj
def init_verb(machine: Path, *, root_file: Path, repo: str, channel: str, force: bool, as_json: bool) -> int:
    """Enrol this host: pin a root and follow a channel."""

    def work() -> _Answer:
        host = Host(root=machine)
        made = config.enrol(
            host.paths, root_json=_read(root_file), repo=repo, channel=channel, now=host.clock.now(), force=force
        )
        return _Answer(made, f"Enrolled: {made.repo}, channel {channel}, root {made.root_sha256[:12]}….")

    return _answer(work, as_json=as_json)


@agent.command("check")
@_json_option
@click.pass_obj
def check_verb(machine: Path, *, as_json: bool) -> int:
    """Say whether a livepatch is available; exit 0 nothing to do, 10 available, 1 could not tell."""

    def work() -> _Answer:
        decision = sync.check(_host(machine))
        wanted = decision.verdict in {Verdict.AVAILABLE, Verdict.BLOCKED}
        return _Answer(decision, f"{decision.verdict}: {decision.because}", AVAILABLE if wanted else 0)

    return _answer(work, as_json=as_json)


@agent.command("fetch")
@_json_option
@click.pass_obj
def fetch_verb(machine: Path, *, as_json: bool) -> int:
    """Bring this host's own copy up to date, for update_policy local and local-first; loads nothing."""

    def work() -> _Answer:
        decision = sync.fetch_copy(_host(machine))
        kept = "" if decision.verdict == Verdict.SWITCHED_OFF else "The copy is up to date. "
        return _Answer(decision, f"{kept}{decision.verdict}: {decision.because}")

    return _answer(work, as_json=as_json)


@agent.command("update")
@click.option("--soak", type=Seconds(), help="Seconds to watch after loading; default: soak_minutes (15).")
@click.option(
    "--timeout",
    type=Seconds(),
    help="Seconds for the transition, then it is reverted; default: transition_seconds (60).",
)
@click.option("--despite-quarantine", is_flag=True, help="Load even what is held back on this host.")
@_json_option
@click.pass_obj
def update_verb(
    machine: Path, *, soak: float | None, timeout: float | None, despite_quarantine: bool, as_json: bool
) -> int:
    """Fetch, verify and load what the channel offers."""

    def work() -> _Answer:
        host = _host(machine, soak=soak, timeout=timeout)
        done = sync.update(host, despite_quarantine=despite_quarantine)
        if not done.applied:
            return _Answer(done, f"{done.decision.verdict}: {done.decision.because}")
        replaced = f", replacing {', '.join(done.replaced)}" if done.replaced else ""
        text = f"Livepatch {done.decision.offered} is loaded{replaced}: transition {done.transition_ms:.0f} ms"
        return _Answer(done, f"{text}, closes {', '.join(done.decision.cves) or 'no CVE'}.")

    return _answer(work, as_json=as_json)


@agent.command("status")
@_json_option
@click.pass_obj
def status_verb(machine: Path, *, as_json: bool) -> int:
    """Show what the kernel runs now, and what the agent remembers."""

    def work() -> _Answer:
        found = view.status(_host(machine))
        return _Answer(found, _status_text(found))

    return _answer(work, as_json=as_json)


@agent.command("info")
@_json_option
@click.pass_obj
def info_verb(machine: Path, *, as_json: bool) -> int:
    """Show the enrolment, the signed versions seen last, and the loaded livepatch in full."""

    def work() -> _Answer:
        found = view.info(_host(machine))
        return _Answer(found, _info_text(found))

    return _answer(work, as_json=as_json)


@agent.command("unload")
@click.option("--no-hold", is_flag=True, help="Let the next update load it again.")
@click.option("--timeout", type=Seconds(), help="Seconds for the transition; default: transition_seconds (60).")
@_json_option
@click.pass_obj
def unload_verb(machine: Path, *, no_hold: bool, timeout: float | None, as_json: bool) -> int:
    """Take kmend's livepatch out of the kernel, and hold it back from now on."""

    def work() -> _Answer:
        gone = sync.unload_now(_host(machine, timeout=timeout), hold=not no_hold)
        held = (
            "" if no_hold or not gone else " Held back from now on; `update --despite-quarantine` loads it again."
        )
        text = f"Taken out: {', '.join(gone)}.{held}" if gone else "No livepatch of kmend is loaded."
        return _Answer({"unloaded": gone, "held_back": bool(gone) and not no_hold}, text)

    return _answer(work, as_json=as_json)


@agent.command("uname")
@_json_option
@click.pass_obj
def uname_verb(machine: Path, *, as_json: bool) -> int:
    """Print the kernel's release and the livepatch on top of it."""

    def work() -> _Answer:
        text = view.effective_version(view.status(_host(machine)))
        return _Answer({"effective_version": text}, text)

    return _answer(work, as_json=as_json)


@agent.command("note-shutdown", hidden=True)
@_json_option
@click.pass_obj
def note_shutdown_verb(machine: Path, *, as_json: bool) -> int:
    """Remember that the host is being shut down in order; for kmend-orderly.service."""

    def work() -> _Answer:
        down = watching.note_shutdown(Host(root=machine))
        text = (
            "Noted: this shutdown is in order." if down else "The host is not being shut down; nothing is noted."
        )
        return _Answer(
            {"going_down": down}, "systemd does not answer; nothing is noted." if down is None else text
        )

    return _answer(work, as_json=as_json)


def main() -> None:
    """Entry point of kmend-agent.pyz: the same verbs without the word agent."""
    command = click.version_option(__version__, prog_name="kmend-agent")(agent)
    sys.exit(run_command(command))


def _host(machine: Path, *, soak: float | None = None, timeout: float | None = None) -> Host:
    """The machine with its owner's settings, and what the command line says instead.

    Raises:
        InputError: agent.toml cannot be used.
    """
    settings = load_settings(Paths(root=machine).settings)
    return Host(
        root=machine,
        settings=settings,
        soak=settings.soak_minutes * 60 if soak is None else soak,
        transition_timeout=settings.transition_seconds if timeout is None else timeout,
    )


def _answer(work: Callable[[], _Answer], *, as_json: bool) -> int:
    """Do a verb's work and say what came of it; with --json an error is JSON too."""
    try:
        answer = work()
    except KmendError as error:
        if not as_json:
            raise
        show_json({"error": _error_fields(error)})
        return error.exit_code
    if as_json:
        show_json(answer.value)
    else:
        print(answer.text)
    return answer.code


def _error_fields(error: KmendError) -> dict[str, str]:
    return {
        "kind": type(error).__name__,
        "reason": str(getattr(error, "reason", "")),
        "message": error.message,
        "hint": error.hint,
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None


def _status_text(found: view.HostStatus) -> str:
    lines = [f"kernel     {found.kernel.release} (build id {found.kernel.build_id[:12]}…)"]
    for livepatch in found.running:
        state = "in transition" if livepatch.in_transition else "enabled" if livepatch.enabled else "disabled"
        cves = "" if livepatch.cves is None else f", closes {', '.join(livepatch.cves) or 'no CVE'}"
        owner = "" if livepatch.ours else ", not kmend's"
        lines.append(f"livepatch  {livepatch.name} ({state}{cves}{owner})")
    if not found.running:
        lines.append("livepatch  none")
    lines.append(f"channel    {found.channel or 'not enrolled'}")
    lines.append(f"agent      {found.phase}{'' if found.agrees else ' - but the kernel says otherwise'}")
    if found.watch:
        blind = f"; not looked at: {', '.join(found.watch.unseen)}" if found.watch.unseen else ""
        lines.append(f"watch      {found.watch.seconds_left:.0f} s left{blind}")
    lines += [f"blocking   {task}" for task in found.blocking]
    if found.stalled:
        lines.append(f"stalled    livepatch {found.stalled.number}, tried {found.stalled.tries} times")
        lines += [f"  by       {task}" for task in found.stalled.tasks]
    if found.note:
        lines.append(f"note       {found.note}")
    if found.switched_off:
        lines.append(f"{found.switched_off.switch:<10} {found.switched_off.because}")
    lines += [f"held back  livepatch {held.number}: {held.reason}" for held in found.quarantined]
    return "\n".join(lines)


def _info_text(found: view.HostInfo) -> str:
    lines = [
        f"repository {found.repository}",
        f"channel    {found.channel}",
        f"root       version {found.pinned_root.version} pinned, sha256 {found.config.root_sha256}",
    ]
    lines += [
        f"seen       {role.role} version {role.version}, expires {role.expires:%Y-%m-%d %H:%M} UTC"
        for role in found.seen
    ]
    lines += [f"setting    {name} = {value}" for name, value in found.settings.items()]
    if found.livepatch:
        lines.append(f"livepatch  {found.livepatch.number}, built by {found.livepatch.builder}")
        lines += [f"  closes   {', '.join(fix.cves) or '-'}: {fix.title}" for fix in found.livepatch.fixes]
        lines += [f"  replaces {function.object}:{function.name}" for function in found.livepatch.functions]
    return "\n".join(lines)
