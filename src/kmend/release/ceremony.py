"""Making and changing keys. Root metadata is signed here; the repository follows with the next release.

A keys folder::

    keyring.json            which key may sign what (public)
    root.json               the newest root metadata: what hosts pin
    root/N.root.json        every version of it
    private/NAME.pem        private keys, mode 0600; root-*.pem can be carried away
    module-signing.crt .der certificate of the module signing key
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata, Root

from kmend.kit.errors import InputError
from kmend.kit.files import lock, scratch, sync_folder, write_atomic
from kmend.release.keyring import (
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TOP_ROLES,
    KeyRecord,
    Keyring,
    Lifetimes,
    RoleKeys,
    load_keyring,
    save_keyring,
    tuf_key,
)
from kmend.release.keystore import Passphrase, find_signers, make_key, no_passphrase, private_path
from kmend.release.module_signature import make_module_key
from kmend.trust.layout import check_channel


def init_keys(
    folder: Path,
    *,
    now: datetime,
    passphrase: bytes | None,
    threshold: int = 2,
    root_keys: int = 3,
    channels: Sequence[str] = ("edge", "stable"),
    lifetimes: Lifetimes | None = None,
    module_key_bits: int = 4096,
) -> Keyring:
    """Make all keys and the first root metadata in a new folder; a kill at any moment leaves no folder at all.

    Args:
        folder: Must not exist, or be empty.
        now: When the keys count as made, and from when expiries count.
        passphrase: Encrypts the root keys; None leaves them in the clear.
        threshold: How many root keys have to sign a change of keys.
        root_keys: How many root keys there are.
        channels: Names of the channels, each with a key of its own.
        lifetimes: How long signatures hold.
        module_key_bits: Size of the RSA key that signs modules.

    Raises:
        InputError: The folder is in use, or the numbers make no sense.
    """
    _check_plan(folder, threshold=threshold, root_keys=root_keys, channels=channels)
    with scratch(folder.absolute().parent, prefix=f".{folder.name}-") as work:
        made = work / "keys"
        made.mkdir(mode=0o700)
        roles = [RoleKeys(role=ROOT, threshold=threshold, keys=_root_keys(made, root_keys, passphrase, now=now))]
        roles += [
            RoleKeys(role=role, threshold=1, keys=(make_key(made, _stem(role), passphrase=None, now=now),))
            for role in (TARGETS, SNAPSHOT, TIMESTAMP, *channels)
        ]
        keyring = Keyring(root_version=1, roles=tuple(roles), lifetimes=lifetimes or Lifetimes())
        make_module_key(made, bits=module_key_bits, now=now)
        secret = no_passphrase if passphrase is None else lambda _: passphrase
        signers = find_signers(made, keyring.role(ROOT).keys, passphrase=secret)
        _write_root(made, _signed_root(keyring, signers, now=now))
        save_keyring(made, keyring)
        _point_root(made, keyring)
        made.replace(folder)
        sync_folder(folder.absolute().parent)
    return keyring


def rotate(
    folder: Path,
    role: str,
    *,
    now: datetime,
    passphrase: Passphrase,
    new_passphrase: bytes | None = None,
    key: str = "",
    elsewhere: Sequence[Path] = (),
) -> Keyring:
    """Replace a role's key; what the old one signs from then on is worth nothing.

    A top role needs a new root version, signed by a threshold of the root keys before and after. For the role
    ``root`` itself ``key`` names the one to replace; without it the root metadata is only renewed. A channel's key
    is delegated by ``targets``, so root keys are not needed. The repository follows with ``renew``.

    Args:
        folder: The keys folder.
        role: A TUF role or a channel.
        now: From when expiries count.
        passphrase: Asked for the passphrases of encrypted root keys.
        new_passphrase: Encrypts a new root key.
        key: Which root key to replace.
        elsewhere: Files ``NAME.pem`` of root keys that are kept outside the folder.

    Raises:
        InputError: No such role or key, or fewer root keys at hand than the threshold asks for.
    """
    with lock(folder / ".lock", what="kmend keys"):
        before = load_keyring(folder)
        after, replaced = _replace_key(folder, before, role, key=key, new_passphrase=new_passphrase, now=now)
        try:
            if role in TOP_ROLES:
                after = replace(after, root_version=before.root_version + 1)
                records = tuple(dict.fromkeys((*before.role(ROOT).keys, *after.role(ROOT).keys)))
                signers = find_signers(folder, records, passphrase=passphrase, elsewhere=elsewhere)
                _write_root(folder, _checked(_signed_root(after, signers, now=now), folder, before))
        except BaseException:
            for record in set(after.role(role).keys) - set(before.role(role).keys):
                private_path(folder, record.name).unlink(missing_ok=True)
            raise
        save_keyring(folder, after)
        _point_root(folder, after)
        if role == ROOT and replaced:
            private_path(folder, replaced.name).unlink(missing_ok=True)
        return after


def forget_retired(folder: Path, keyring: Keyring) -> Keyring:
    """Delete keys that were replaced, once a release has gone out that the new ones signed."""
    names = [record.name for keys in keyring.roles for record in keys.retiring]
    if not names:
        return keyring
    after = replace(keyring, roles=tuple(replace(keys, retiring=()) for keys in keyring.roles))
    save_keyring(folder, after)
    for name in names:
        private_path(folder, name).unlink(missing_ok=True)
    return after


def root_versions(folder: Path, keyring: Keyring) -> dict[int, bytes]:
    """Every root metadata version that is in effect, by number."""
    return {
        version: (folder / "root" / f"{version}.root.json").read_bytes()
        for version in range(1, keyring.root_version + 1)
    }


def _check_plan(folder: Path, *, threshold: int, root_keys: int, channels: Sequence[str]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is in use.", hint="Give a folder that does not exist yet: keys are never overwritten."
        )
    if not 1 <= threshold <= root_keys:
        raise InputError(f"A threshold of {threshold} cannot be met with {root_keys} root keys.")
    if not channels or len(set(channels)) != len(channels):
        raise InputError("Name each channel once, and at least one.")
    for channel in channels:
        check_channel(channel)


def _root_keys(folder: Path, count: int, passphrase: bytes | None, *, now: datetime) -> tuple[KeyRecord, ...]:
    return tuple(
        make_key(folder, f"root-{index}", passphrase=passphrase, now=now) for index in range(1, count + 1)
    )


def _stem(role: str) -> str:
    return f"{role}-1" if role in TOP_ROLES else f"channel-{role}-1"


def _replace_key(
    folder: Path, keyring: Keyring, role: str, *, key: str, new_passphrase: bytes | None, now: datetime
) -> tuple[Keyring, KeyRecord | None]:
    keys = keyring.role(role)
    if role == ROOT and not key:
        return keyring, None
    old = next((record for record in keys.keys if record.name == (key or keys.keys[0].name)), None)
    if old is None:
        names = ", ".join(record.name for record in keys.keys)
        raise InputError(f"The role {role} has no key {key!r}.", hint=f"It has: {names}.")
    if keys.retiring:
        raise InputError(
            f"The last change of {role} has not gone out yet.", hint="Run `kmend release refresh` first."
        )
    name = _next_name(old.name, keys)
    new = make_key(folder, name, passphrase=new_passphrase if role == ROOT else None, now=now)
    records = tuple(new if record == old else record for record in keys.keys)
    retiring = () if role == ROOT else (old,)
    return keyring.with_role(replace(keys, keys=records, retiring=retiring)), old


def _next_name(name: str, keys: RoleKeys) -> str:
    """A name with the next free number; a file left by a killed rotation is not in use and is written over."""
    taken = [int(record.name.rpartition("-")[2]) for record in keys.keys]
    return f"{name.rpartition('-')[0]}-{max(taken) + 1}"


def _signed_root(keyring: Keyring, signers: Sequence[CryptoSigner], *, now: datetime) -> Metadata[Root]:
    root = Root(
        version=keyring.root_version,
        expires=(now + keyring.lifetime(ROOT)).replace(microsecond=0),
        consistent_snapshot=True,
    )
    for role in TOP_ROLES:
        keys = keyring.role(role)
        for record in keys.keys:
            root.add_key(tuf_key(record), role)
        root.roles[role].threshold = keys.threshold
    metadata = Metadata(root)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata


def _checked(root: Metadata[Root], folder: Path, before: Keyring) -> Metadata[Root]:
    """The new root, if hosts will follow from the old one to it."""
    old = Metadata[Root].from_file(str(folder / "root" / f"{before.root_version}.root.json"))
    try:
        for trusted in (old.signed, root.signed):
            trusted.verify_delegate(ROOT, root.signed_bytes, root.signatures)
    except UnsignedMetadataError as error:
        raise InputError(
            f"Too few root keys are at hand to change the root metadata: {error}.",
            hint=f"{before.role(ROOT).threshold} are needed. Give those kept elsewhere with --root-key FILE.",
        ) from None
    return root


def _write_root(folder: Path, root: Metadata[Root]) -> None:
    write_atomic(folder / "root" / f"{root.signed.version}.root.json", root.to_bytes())


def _point_root(folder: Path, keyring: Keyring) -> None:
    """Let ``root.json`` be the version in effect; after the keyring, so that nobody pins one that never was."""
    content = (folder / "root" / f"{keyring.root_version}.root.json").read_bytes()
    write_atomic(folder / "root.json", content)
