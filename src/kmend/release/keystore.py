"""Private keys in files: PEM (PKCS#8), mode 0600, with or without a passphrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, SSlibKey

from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic
from kmend.release.keyring import KeyRecord, tuf_key

PRIVATE = "private"
Passphrase = Callable[[str], bytes]
"""Asked for the passphrase of the key with this name."""


def no_passphrase(name: str) -> bytes:
    """A Passphrase for where none can be asked for."""
    raise InputError(
        f"The key {name} is encrypted and needs its passphrase.",
        hint="Give --passphrase-file, or set KMEND_KEYS_PASSPHRASE.",
    )


def private_path(folder: Path, name: str) -> Path:
    """Where a private key lies in a keys folder."""
    return folder / PRIVATE / f"{name}.pem"


def encryption(passphrase: bytes | None) -> KeySerializationEncryption:
    """How a private key is written; None writes it in the clear."""
    return NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)


def make_key(folder: Path, name: str, *, passphrase: bytes | None, now: datetime) -> KeyRecord:
    """Make an Ed25519 key, write its private half, return its record."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption(passphrase))
    path = private_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(path, pem, mode=0o600)
    public = SSlibKey.from_crypto(key.public_key())
    return KeyRecord(
        name=name,
        keyid=public.keyid,
        public=public.keyval["public"],
        created=now,
        encrypted=passphrase is not None,
    )


def load_signer(path: Path, record: KeyRecord, *, passphrase: Passphrase) -> CryptoSigner:
    """What signs with a private key.

    Raises:
        InputError: The file is missing, is another key's, or the passphrase is wrong.
    """
    try:
        pem = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"The private key {record.name} cannot be read: {path}: {error.strerror}.",
            hint="If it is kept elsewhere, give its file with --root-key.",
        ) from None
    secret = passphrase(record.name) if record.encrypted else None
    try:
        return CryptoSigner(load_pem_private_key(pem, secret), tuf_key(record))
    except KeyMismatchError:
        raise InputError(f"{path} is not the private key of {record.name}.") from None
    except (ValueError, TypeError) as error:
        raise InputError(
            f"The private key in {path} cannot be opened: {error}.", hint="Wrong passphrase?"
        ) from None


def find_signers(
    folder: Path, records: Sequence[KeyRecord], *, passphrase: Passphrase, elsewhere: Sequence[Path] = ()
) -> list[CryptoSigner]:
    """Signers for the keys whose private half is at hand: in the folder, or among the files named ``NAME.pem``.

    Raises:
        InputError: A file is named like no key, is another key's, or its passphrase is wrong.
    """
    others = {path.stem: path for path in elsewhere}
    if unknown := sorted(others.keys() - {record.name for record in records}):
        names = ", ".join(f"{record.name}.pem" for record in records)
        raise InputError(
            f"No key is called {', '.join(unknown)}.",
            hint=f"Files keep the names that they were made with: {names}.",
        )
    signers = []
    for record in records:
        path = others.get(record.name, private_path(folder, record.name))
        if path.exists():
            signers.append(load_signer(path, record, passphrase=passphrase))
    return signers
