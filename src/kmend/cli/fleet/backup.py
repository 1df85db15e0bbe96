"""``kmend fleet backup`` and ``restore``: on the server's machine, by the database's address, without a token."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from kmend.cli.fleet.options import json_option, say
from kmend.cli.serve import database_address, state_folder
from kmend.fleet.backup import Manifest, back_up, put_back

_FILE = click.Path(path_type=Path, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)
_HINT = "sqlite:///FILE or postgresql://…, also KMEND_DATABASE; else SQLite in the state folder."


def _of_database(verb: Callable[..., None]) -> Callable[..., None]:
    """The options that say which database."""
    verb = click.option("--database", "url", help=_HINT)(verb)
    return click.option("--state", type=_FOLDER, help="The server's state folder.")(verb)


@click.command("backup")
@click.argument("file", type=_FILE)
@_of_database
@click.option("--force", is_flag=True, help="Replace FILE when it is there.")
@json_option
def backup_verb(*, file: Path, state: Path | None, url: str | None, force: bool, as_json: bool) -> None:
    """Write all that the server's database holds into FILE; servers may go on meanwhile.

    PostgreSQL is asked through its own pg_dump (Debian's package postgresql-client). Keep FILE as you keep the
    database: it has no token that could be used, but all that is known of the hosts.
    """
    address = database_address(url, state or state_folder())
    made = back_up(address, file, now=datetime.now(tz=UTC), force=force)
    say(made, f"backup   {file}\n{_about(made)}", as_json=as_json)


@click.command("restore")
@click.argument("file", type=_FILE)
@_of_database
@click.option("--force", is_flag=True, help="Also when the database holds something, which is lost then.")
@json_option
def restore_verb(*, file: Path, state: Path | None, url: str | None, force: bool, as_json: bool) -> None:
    """Put a backup back, all or nothing: ended at any moment, the database is the old one or the new one.

    It is for the same kind of database, of this version's schema or an older one. Stop the servers first, so that
    none of them goes on from what it has just read.
    """
    restored = put_back(database_address(url, state or state_folder()), file, force=force)
    say(restored, f"restored {file}\n{_about(restored)}", as_json=as_json)


def _about(manifest: Manifest) -> str:
    return (
        f"made     {manifest.made:%Y-%m-%d %H:%M} UTC by kmend {manifest.kmend}\n"
        f"database {manifest.database}, schema {manifest.revision}, {manifest.size} bytes\n"
        f"sha256   {manifest.sha256}"
    )
