"""``kmend keys``: make, show and change the keys that sign releases."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from kmend.cli.output import show_json
from kmend.kit.errors import InputError
from kmend.release import ceremony
from kmend.release.keyring import ROOT, KeyRecord, Lifetimes, RoleKeys, load_keyring
from kmend.release.keystore import private_path
from kmend.release.module_signature import CERTIFICATE_DER

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_passphrase_option = click.option(
    "--passphrase-file",
    type=_FILE,
    help="First line: the passphrase of the root keys (else KMEND_KEYS_PASSPHRASE, else asked).",
)


@click.group()
def keys() -> None:
    """Make, show and change the keys that sign releases."""


@keys.command("init")
@click.argument("folder", type=_FOLDER)
@click.option("--threshold", default=2, show_default=True, help="Root keys needed to change keys.")
@click.option("--root-keys", default=3, show_default=True, help="Root keys to make.")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    default=("edge", "stable"),
    show_default=True,
    help="A stream that hosts can follow; may be given several times.",
)
@click.option(
    "--timestamp-days",
    type=click.IntRange(1, 365),
    default=7,
    show_default=True,
    help="How long the freshest signature holds.",
)
@click.option(
    "--module-key-bits",
    type=click.Choice(["2048", "3072", "4096"]),
    default="4096",
    show_default=True,
    help="Size of the RSA key that signs modules.",
)
@_passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave the root keys unencrypted (for trials only).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def init_verb(
    *,
    folder: Path,
    threshold: int,
    root_keys: int,
    channels: tuple[str, ...],
    timestamp_days: int,
    module_key_bits: str,
    passphrase_file: Path | None,
    no_passphrase: bool,
    as_json: bool,
) -> None:
    """Make all keys in FOLDER: root (offline, with a threshold), one per role and channel, one for modules."""
    secret = None if no_passphrase else read_passphrase(passphrase_file, confirm=True)
    made = ceremony.init_keys(
        folder,
        now=_now(),
        passphrase=secret,
        threshold=threshold,
        root_keys=root_keys,
        channels=channels,
        lifetimes=Lifetimes(timestamp=timestamp_days, snapshot=max(14, timestamp_days)),
        module_key_bits=int(module_key_bits),
    )
    if as_json:
        show_json(made)
    else:
        print(f"Keys are in {folder}: {root_keys} root keys, {threshold} of which must sign a change of keys.")
        print(f"  {folder}/root.json is what hosts pin: `kmend agent init --root root.json …`.")
        print(f"  {folder}/{CERTIFICATE_DER}: hosts with Secure Boot enrol it (`mokutil --import`).")
        print(f"Now carry {folder}/private/root-*.pem away, each to a place of its own.")
    if no_passphrase:
        _shout("The root keys are NOT encrypted. Whoever copies enough of them owns every host that trusts them.")


@keys.command("list")
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_verb(folder: Path, as_json: bool) -> None:
    """List the keys: role, name, key id, and where the private half is."""
    keyring = load_keyring(folder)
    if as_json:
        show_json(keyring)
        return
    print(f"{'ROLE':<12}{'KEY':<20}{'KEY ID':<14}{'MADE':<12}PRIVATE HALF")
    for role in keyring.roles:
        for record in (*role.keys, *role.retiring):
            print(
                f"{role.role:<12}{record.name:<20}{record.keyid[:12]:<14}"
                f"{record.created:%Y-%m-%d}  {_whereabouts(folder, role, record)}"
            )
    print(f"Root metadata version {keyring.root_version}, threshold {keyring.role(ROOT).threshold}.")


@keys.command("show")
@click.argument("folder", type=_FOLDER)
@click.argument("role")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show_verb(folder: Path, role: str, as_json: bool) -> None:
    """Show the keys of one ROLE or channel in full."""
    shown = load_keyring(folder).role(role)
    if as_json:
        show_json(shown)
        return
    print(f"{shown.role}: {shown.threshold} of {len(shown.keys)} must sign")
    for record in (*shown.keys, *shown.retiring):
        print(f"  {record.name}\n    key id  {record.keyid}\n    public  {record.public}")
        print(
            f"    made    {record.created:%Y-%m-%d %H:%M} UTC\n    private {_whereabouts(folder, shown, record)}"
        )


@keys.command("rotate")
@click.argument("folder", type=_FOLDER)
@click.argument("role")
@click.option(
    "--key", default="", help="Which root key to replace; without it `rotate root` renews the root metadata."
)
@click.option(
    "--root-key", "elsewhere", type=_FILE, multiple=True, help="File NAME.pem of a root key kept elsewhere."
)
@_passphrase_option
@click.option("--no-passphrase", is_flag=True, help="Leave a new root key unencrypted.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def rotate_verb(
    *,
    folder: Path,
    role: str,
    key: str,
    elsewhere: tuple[Path, ...],
    passphrase_file: Path | None,
    no_passphrase: bool,
    as_json: bool,
) -> None:
    """Replace the key of ROLE (or a channel) and revoke the old one; `kmend release refresh` tells the hosts."""
    secrets: list[bytes] = []

    def ask(name: str) -> bytes:
        if not secrets:
            secrets.append(read_passphrase(passphrase_file, confirm=False, what=f"root keys ({name})"))
        return secrets[0]

    makes_root_key = role == ROOT and key
    after = ceremony.rotate(
        folder,
        role,
        now=_now(),
        passphrase=ask,
        new_passphrase=None if no_passphrase or not makes_root_key else ask("new root key"),
        key=key,
        elsewhere=elsewhere,
    )
    if as_json:
        show_json(after.role(role))
    else:
        names = ", ".join(record.name for record in after.role(role).keys)
        print(f"{role} is now signed by {names}; root metadata version {after.root_version}.")
        print("Run `kmend release refresh` to take it out to the hosts.")


def read_passphrase(file: Path | None, *, confirm: bool, what: str = "root keys") -> bytes:
    """The passphrase from a file, the environment or the terminal, in this order.

    Raises:
        InputError: There is none, or it is too short.
    """
    if file is not None:
        text = _first_line(file)
    elif "KMEND_KEYS_PASSPHRASE" in os.environ:
        text = os.environ["KMEND_KEYS_PASSPHRASE"]
    elif sys.stdin.isatty():
        text = click.prompt(f"Passphrase of the {what}", hide_input=True, confirmation_prompt=confirm, err=True)
    else:
        raise InputError(
            f"The {what} need a passphrase, and there is no terminal to ask for it.",
            hint="Give --passphrase-file FILE, set KMEND_KEYS_PASSPHRASE, or (for trials) --no-passphrase.",
        )
    if not text:
        raise InputError("The passphrase is empty.", hint="--no-passphrase says so on purpose.")
    return text.encode()


def _first_line(file: Path) -> str:
    try:
        return next(iter(file.read_text().splitlines()), "")
    except UnicodeDecodeError:
        raise InputError(f"{file} is not a text file.", hint="Its first line is the passphrase.") from None


def _whereabouts(folder: Path, role: RoleKeys, record: KeyRecord) -> str:
    path = private_path(folder, record.name)
    if not path.exists():
        return "kept elsewhere"
    state = "encrypted" if record.encrypted else "NOT encrypted" if role.role == ROOT else "online"
    return f"{path} ({state}{', retiring' if record in role.retiring else ''})"


def _shout(text: str) -> None:
    click.echo(click.style(f"WARNING: {text}", fg="red", bold=True), err=True)


def _now() -> datetime:
    return datetime.now(tz=UTC)
