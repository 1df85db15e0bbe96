"""Verbs of the agent that only look: check, status, info, patch-info, uname, doctor, reboot-required.

Exit codes: `check` ends with 10 when a livepatch is available; `check` and `status` with --nagios with 0 OK,
1 WARNING, 2 CRITICAL, 3 UNKNOWN; `doctor` with 1 when it found a problem; `reboot-required` with 0 needed,
1 not needed, 2 could not tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from kmend.agent import doctor as examining
from kmend.agent import reboot, sync, view
from kmend.agent.apply import Host
from kmend.agent.config import Paths
from kmend.agent.decide import Verdict
from kmend.agent.health import health, health_of_check, health_of_error
from kmend.cli.agent import texts
from kmend.cli.agent.answer import Answer, answer_with, host_of, json_option
from kmend.kit.errors import KmendError

AVAILABLE = 10
_nagios_option = click.option(
    "--nagios", is_flag=True, help="One line and the exit codes of a Nagios plugin: 0 to 3."
)


@click.command("check")
@_nagios_option
@json_option
@click.pass_obj
def check(machine: Path, *, nagios: bool, as_json: bool) -> int:
    """Say whether a livepatch is available; exit 0 nothing to do, 10 available, 1 could not tell."""

    def work() -> Answer:
        decision = sync.check(host_of(machine))
        text = f"{decision.verdict}: {decision.because}"
        if nagios:
            level = health_of_check(decision.verdict)
            return Answer(decision, texts.nagios_text(level, [text]), level)
        wanted = decision.verdict in {Verdict.AVAILABLE, Verdict.BLOCKED}
        return Answer(decision, text, AVAILABLE if wanted else 0)

    return answer_with(work, as_json=as_json, on_error=_as_plugin if nagios else None)


@click.command("status")
@_nagios_option
@json_option
@click.pass_obj
def status(machine: Path, *, nagios: bool, as_json: bool) -> int:
    """Show what the kernel runs now, and what the agent remembers."""

    def work() -> Answer:
        found = view.status(host_of(machine))
        if not nagios:
            return Answer(found, texts.status_text(found))
        how = health(found, now=datetime.now(tz=UTC))
        reasons = how.reasons or (view.effective_version(found),)
        return Answer(found, texts.nagios_text(how.level, reasons, texts.figures(found)), how.level)

    return answer_with(work, as_json=as_json, on_error=_as_plugin if nagios else None)


@click.command("info")
@json_option
@click.pass_obj
def info(machine: Path, *, as_json: bool) -> int:
    """Show the enrolment, the settings, the signed versions seen last, and the loaded livepatch in full."""

    def work() -> Answer:
        found = view.info(host_of(machine))
        return Answer(found, texts.info_text(found))

    return answer_with(work, as_json=as_json)


@click.command("patch-info")
@click.option(
    "--offered", is_flag=True, help="Of what the repository has for this host, instead of what is loaded."
)
@json_option
@click.pass_obj
def patch_info(machine: Path, *, offered: bool, as_json: bool) -> int:
    """Show what is in the livepatch: CVEs, fixes, replaced functions."""

    def work() -> Answer:
        found = sync.offered(host_of(machine)) if offered else view.patch_info(host_of(machine))
        return Answer(found, texts.patch_text(found))

    return answer_with(work, as_json=as_json)


@click.command("uname")
@json_option
@click.pass_obj
def uname(machine: Path, *, as_json: bool) -> int:
    """Print the effective version: the kernel's release and the livepatch on top of it."""

    def work() -> Answer:
        text = view.effective_version(view.status(host_of(machine)))
        return Answer(view.EffectiveVersion(effective_version=text), text)

    return answer_with(work, as_json=as_json)


@click.command("doctor")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the archive.")
@json_option
@click.pass_obj
def doctor(machine: Path, *, out: Path | None, as_json: bool) -> int:
    """Look for what is wrong, and write an archive for support without secrets; exit 1 when something is wrong."""

    def work() -> Answer:
        found = examining.examine(Host(root=machine), out or examining.default_archive(Paths(root=machine)))
        return Answer(found, texts.diagnosis_text(found), 0 if found.well else 1)

    return answer_with(work, as_json=as_json)


class _OrUnknown(click.Command):
    """A command whose exit code 1 has a meaning of its own: wrong options end with 2, like all else that fails."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.show()
            raise SystemExit(int(reboot.Need.UNKNOWN)) from None


@click.command("reboot-required", cls=_OrUnknown)
@click.option(
    "--sentinel",
    type=click.Path(path_type=Path),
    help="A file of kmend's own to keep in step: there when needed, gone when not.",
)
@json_option
@click.pass_obj
def reboot_required(machine: Path, *, sentinel: Path | None, as_json: bool) -> int:
    """Say whether a reboot is needed despite livepatches; exit 0 needed, 1 not, 2 could not tell."""

    def work() -> Answer:
        try:
            answer = reboot.reboot_required(host_of(machine))
            if sentinel:
                reboot.write_sentinel(sentinel, answer)
        except KmendError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever happened, 1 would mean that none is needed
            answer = reboot.unknown(f"{type(error).__name__}: {error}")
        return Answer(answer, f"{answer.need}: {answer.because}", answer.code)

    def unsure(error: KmendError) -> Answer:
        answer = reboot.unknown(error.message)
        return Answer(answer, f"{answer.need}: {answer.because}", answer.code)

    return answer_with(work, as_json=as_json, on_error=unsure)


VERBS: Sequence[click.Command] = (check, status, info, patch_info, uname, doctor, reboot_required)


def _as_plugin(error: KmendError) -> Answer:
    level = health_of_error(error)
    return Answer(None, texts.nagios_text(level, [error.message]), int(level))
