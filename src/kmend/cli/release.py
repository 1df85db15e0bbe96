"""``kmend release``: publish livepatches into channels of a signed repository."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from kmend.cli.output import show_json
from kmend.cli.progress import shown
from kmend.model.host import ChannelEntry
from kmend.release import publish as steps
from kmend.release.status import ReleaseStatus, release_status

_FOLDER = click.Path(path_type=Path, file_okay=False)
_repo_option = click.option("--repo", type=_FOLDER, required=True, help="The repository's folder.")
_keys_option = click.option("--keys", type=_FOLDER, required=True, help="Folder made by `kmend keys init`.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def release() -> None:
    """Publish livepatches into channels of a signed repository (plain files for any web server)."""


@release.command("init")
@click.argument("repo", type=_FOLDER)
@_keys_option
@_json_option
def init_verb(repo: Path, keys: Path, as_json: bool) -> None:
    """Make an empty, signed repository in REPO."""
    steps.init_repository(repo, keys, now=_now())
    _say({"repository": str(repo)}, f"{repo} is ready: serve it with any static web server.", as_json=as_json)


@release.command("publish")
@click.argument("folder", type=_FOLDER)
@_repo_option
@_keys_option
@click.option("--channel", default="edge", show_default=True, help="Where to publish it.")
@click.option(
    "--kernel-files",
    type=click.Path(path_type=Path, dir_okay=False),
    help="What `kmend kernel files` wrote, signed along: hosts learn which code their kernel contains.",
)
@_json_option
def publish_verb(
    folder: Path, *, repo: Path, keys: Path, channel: str, kernel_files: Path | None, as_json: bool
) -> None:
    """Sign and publish what `kmend build` and `kmend lab run` left in FOLDER."""
    with shown() as progress:
        entry = steps.publish(
            folder,
            repo=repo,
            keys=keys,
            channel=channel,
            now=_now(),
            progress=progress,
            kernel_files=kernel_files,
        )
    _show_entry(entry, channel, as_json=as_json)


@release.command("promote")
@click.option("--from", "source", default="edge", show_default=True, help="The channel that has it.")
@click.option("--to", default="stable", show_default=True, help="The channel that gets it.")
@click.option("--kernel", required=True, metavar="RELEASE|BUILD_ID", help="The kernel that it is for.")
@click.option("--number", type=int, help="An earlier livepatch than the newest.")
@_repo_option
@_keys_option
@_json_option
def promote_verb(
    *, source: str, to: str, kernel: str, number: int | None, repo: Path, keys: Path, as_json: bool
) -> None:
    """Offer in one channel what another one offers."""
    with shown() as progress:
        entry = steps.promote(
            kernel, source=source, to=to, repo=repo, keys=keys, now=_now(), progress=progress, number=number
        )
    _show_entry(entry, to, as_json=as_json)


@release.command("refresh")
@_repo_option
@_keys_option
@_json_option
def refresh_verb(repo: Path, keys: Path, as_json: bool) -> None:
    """Renew signatures before they expire, and take changed keys out to the hosts; for a daily timer."""
    renewed = sorted(steps.refresh(repo, keys, now=_now()))
    text = f"Renewed: {', '.join(renewed)}." if renewed else "Nothing is due."
    _say({"renewed": renewed}, text, as_json=as_json)


@release.command("status")
@_repo_option
@_keys_option
@_json_option
def status_verb(repo: Path, keys: Path, as_json: bool) -> None:
    """Show what each channel offers for each kernel, and when signatures expire."""
    status = release_status(repo, keys, now=_now())
    if as_json:
        show_json(status)
    else:
        _show_status(status)


def _show_status(status: ReleaseStatus) -> None:
    print(f"{'CHANNEL':<10}{'KERNEL':<28}{'BUILD ID':<14}{'NUMBER':<8}CVES")
    for offer in status.offers:
        print(
            f"{offer.channel:<10}{offer.kernel_release:<28}{offer.build_id[:12]:<14}{offer.number:<8}"
            f"{', '.join(offer.cves) or '-'}"
        )
    if not status.offers:
        print("(nothing is published yet)")
    print(f"\n{'SIGNED FILE':<14}{'VERSION':<9}{'EXPIRES':<22}STATE")
    for role in status.roles:
        state = "EXPIRED" if role.expired else "renew soon" if role.due else "ok"
        print(f"{role.role:<14}{role.version:<9}{role.expires:%Y-%m-%d %H:%M} UTC  {state}")


def _show_entry(entry: ChannelEntry, channel: str, *, as_json: bool) -> None:
    livepatch = entry.livepatch
    text = (
        f"{channel} offers livepatch {livepatch.number} for {livepatch.kernel.release} "
        f"(build id {livepatch.kernel.build_id[:12]}…), signed and read back: "
        f"{', '.join(livepatch.cves) or 'no CVE'}."
    )
    _say(entry, text, as_json=as_json)


def _say(value: object, text: str, *, as_json: bool) -> None:
    if as_json:
        show_json(value)
    else:
        print(text)


def _now() -> datetime:
    return datetime.now(tz=UTC)
