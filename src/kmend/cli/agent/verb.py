"""``kmend agent``: keep this host's kernel at what its channel offers. Also the whole of kmend-agent.pyz.

Exit codes: 0 done, or nothing to do; 1 refused, failed or could not tell. `check`, `status --nagios` and
`reboot-required` have codes of their own: see cli/agent/looking.py.
"""

from __future__ import annotations

import logging
import signal
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import click

from kmend import __version__
from kmend.agent import config, sync, watching
from kmend.agent.apply import Host
from kmend.agent.daemon import Daemon, pet_clock
from kmend.agent.decide import Verdict
from kmend.agent.look import Looker, look_command
from kmend.cli.agent import look, looking, server
from kmend.cli.agent.answer import Answer, answer_with, host_of, json_option
from kmend.cli.main import run_command
from kmend.cli.output import Seconds
from kmend.kit.errors import InputError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--machine-root", "machine", type=click.Path(path_type=Path), default="/", hidden=True)
@click.pass_context
def agent(context: click.Context, machine: Path) -> None:
    """Keep this host's kernel at what its channel offers: verified, applied, watched, reverted when in doubt."""
    context.obj = machine


for command in (*looking.VERBS, *server.VERBS, look.look, look.facts):
    agent.add_command(command)


@agent.command("init")
@click.option("--root", "root_file", type=click.Path(path_type=Path), required=True, help="root.json to pin.")
@click.option("--repo", required=True, help="Address of the repository: http(s)://…, file://… or a folder.")
@click.option("--channel", default="stable", show_default=True, help="The stream to follow.")
@click.option("--force", is_flag=True, help="Trust another root than the one pinned before.")
@json_option
@click.pass_obj
def init_verb(machine: Path, *, root_file: Path, repo: str, channel: str, force: bool, as_json: bool) -> int:
    """Enrol this host: pin a root and follow a channel."""

    def work() -> Answer:
        host = Host(root=machine)
        made = config.enrol(
            host.paths, root_json=_read(root_file), repo=repo, channel=channel, now=host.clock.now(), force=force
        )
        return Answer(made, f"Enrolled: {made.repo}, channel {channel}, root {made.root_sha256[:12]}….")

    return answer_with(work, as_json=as_json)


@agent.command("fetch")
@json_option
@click.pass_obj
def fetch_verb(machine: Path, *, as_json: bool) -> int:
    """Bring this host's own copy up to date, for update_policy local and local-first; loads nothing."""

    def work() -> Answer:
        decision = sync.fetch_copy(host_of(machine))
        kept = "" if decision.verdict == Verdict.SWITCHED_OFF else "The copy is up to date. "
        return Answer(decision, f"{kept}{decision.verdict}: {decision.because}")

    return answer_with(work, as_json=as_json)


@agent.command("update")
@click.option("--soak", type=Seconds(), help="Seconds to watch after loading; default: soak_minutes (15).")
@click.option(
    "--timeout",
    type=Seconds(),
    help="Seconds for the transition, then it is reverted; default: transition_seconds (60).",
)
@click.option("--despite-quarantine", is_flag=True, help="Load even what is held back on this host.")
@json_option
@click.pass_obj
def update_verb(
    machine: Path, *, soak: float | None, timeout: float | None, despite_quarantine: bool, as_json: bool
) -> int:
    """Fetch, verify and load what the channel offers."""

    def work() -> Answer:
        host = host_of(machine, soak=soak, timeout=timeout)
        told = None if as_json else partial(click.echo, err=True)
        done = sync.update(host, despite_quarantine=despite_quarantine, told=told)
        if not done.applied:
            return Answer(done, f"{done.decision.verdict}: {done.decision.because}")
        replaced = f", replacing {', '.join(done.replaced)}" if done.replaced else ""
        text = f"Livepatch {done.decision.offered} is loaded{replaced}: transition {done.transition_ms:.0f} ms"
        return Answer(done, f"{text}, closes {', '.join(done.decision.cves) or 'no CVE'}.")

    return answer_with(work, as_json=as_json)


@agent.command("unload")
@click.option("--no-hold", is_flag=True, help="Let the next update load it again.")
@click.option("--timeout", type=Seconds(), help="Seconds for the transition; default: transition_seconds (60).")
@json_option
@click.pass_obj
def unload_verb(machine: Path, *, no_hold: bool, timeout: float | None, as_json: bool) -> int:
    """Take kmend's livepatch out of the kernel, and hold it back from now on."""

    def work() -> Answer:
        gone = sync.unload_now(host_of(machine, timeout=timeout), hold=not no_hold)
        held = (
            "" if no_hold or not gone else " Held back from now on; `update --despite-quarantine` loads it again."
        )
        text = f"Taken out: {', '.join(gone)}.{held}" if gone else "No livepatch of kmend is loaded."
        return Answer(sync.Unloaded(unloaded=gone, held_back=bool(gone) and not no_hold), text)

    return answer_with(work, as_json=as_json)


@agent.command("run")
@click.pass_obj
def run_verb(machine: Path) -> int:
    """Stay, look at the repository again and again, and do what `update` does; for kmend-agent.service."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("kmend").setLevel(logging.INFO)
    # Being asked to end (SIGTERM is like Ctrl-C here) leaves a watch to the next run, and is no failure.
    with suppress(KeyboardInterrupt):
        looker = Looker(command=look_command(sys.orig_argv))
        Daemon(host=Host(root=machine, clock=pet_clock(), patient=True), looker=looker).run()
    return 0


@agent.command("note-shutdown", hidden=True)
@json_option
@click.pass_obj
def note_shutdown_verb(machine: Path, *, as_json: bool) -> int:
    """Remember that the host is being shut down in order; for kmend-orderly.service."""

    def work() -> Answer:
        down = watching.note_shutdown(Host(root=machine))
        text = (
            "Noted: this shutdown is in order." if down else "The host is not being shut down; nothing is noted."
        )
        return Answer({"going_down": down}, "systemd does not answer; nothing is noted." if down is None else text)

    return answer_with(work, as_json=as_json)


def main() -> None:
    """Entry point of kmend-agent.pyz: the same verbs without the word agent."""
    # Being asked to end is like Ctrl-C: what is being watched is left to the next run.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = click.version_option(__version__, prog_name="kmend-agent")(agent)
    sys.exit(run_command(command))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
