"""``kmend trust``: the verifying half of kmend by itself, for developers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from kmend.trust import client as steps

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group()
def trust() -> None:
    """Verify signed repositories as the agent does, without loading anything; for developers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """The options that stand before the command."""

    seen: Path
    metadata: str | None
    target: str | None
    targets: str | None
    folder: Path | None


@trust.group()
@click.option("--metadata-dir", type=_FOLDER, required=True, help="Folder for the metadata that is trusted.")
@click.option("--metadata-url", help="Address or folder of the repository's metadata.")
@click.option("--target-name", help="The file to download, as the repository calls it.")
@click.option("--target-base-url", help="Address or folder of the repository's targets.")
@click.option("--target-dir", type=_FOLDER, help="Where downloaded files go.")
@click.pass_context
def client(
    context: click.Context,
    *,
    metadata_dir: Path,
    metadata_url: str | None,
    target_name: str | None,
    target_base_url: str | None,
    target_dir: Path | None,
) -> None:
    """A TUF client for any repository, with the command line that the tuf-conformance suite drives.

    Exit code 0, or 1 with a message; then nothing that failed to verify was kept.
    """
    context.obj = _Places(
        seen=metadata_dir, metadata=metadata_url, target=target_name, targets=target_base_url, folder=target_dir
    )


@client.command("init")
@click.argument("trusted_root", type=_FILE)
@click.pass_obj
def init_verb(places: _Places, trusted_root: Path) -> None:
    """Start from TRUSTED_ROOT, a root.json; asks nobody."""
    steps.init(places.seen, trusted_root.read_bytes())


@client.command("refresh")
@click.pass_obj
def refresh_verb(places: _Places) -> None:
    """Bring the top-level metadata up to what the repository has."""
    steps.refresh(places.seen, _given(places.metadata, "--metadata-url"))


@client.command("download")
@click.pass_obj
def download_verb(places: _Places) -> None:
    """Refresh, and download one file unless it is there already; prints where it is."""
    if places.folder is None:
        raise click.UsageError("download needs --target-dir.")
    wanted = steps.Wanted(
        name=_given(places.target, "--target-name"),
        address=_given(places.targets, "--target-base-url"),
        folder=places.folder,
    )
    print(steps.fetch(places.seen, _given(places.metadata, "--metadata-url"), wanted=wanted))


def _given(value: str | None, option: str) -> str:
    if not value:
        raise click.UsageError(f"This command needs {option}.")
    return value
