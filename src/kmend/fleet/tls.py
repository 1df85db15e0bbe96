"""A certificate that the server makes itself, for those who have none yet: clients pin its fingerprint."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kmend.kit.errors import InputError
from kmend.kit.files import write_atomic

_VALID = timedelta(days=3650)
_NEWER = timedelta(hours=1)
"""Begins a little before now: clients' clocks differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """Where a certificate and its key lie."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate as 64 lower-case hex digits.

        Raises:
            InputError: The file is no certificate.
        """
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(_first(self.certificate))).hexdigest()


def given_certificate(certificate: Path, key: Path) -> Certificate:
    """A certificate that somebody else made, if it and its key can be used.

    Raises:
        InputError: They cannot be read, or do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one too
        reason = error.strerror or str(error)
        raise InputError(
            f"{certificate} and {key} cannot be used as certificate and key: {reason}.",
            hint="Both have to be PEM files, the key without a passphrase.",
        ) from None
    return Certificate(certificate=certificate, key=key)


def self_made_certificate(folder: Path, *, names: Sequence[str], now: datetime) -> Certificate:
    """The certificate that the server made itself; a new one when there is none, or it has expired.

    Args:
        folder: Where it is kept.
        names: Host names and addresses that it is good for.
        now: The time.
    """
    kept = Certificate(certificate=folder / "certificate.pem", key=folder / "key.pem")
    if not _good(kept, now):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The key first: a certificate without its key would look complete.
        write_atomic(kept.key, private, mode=0o600)
        write_atomic(kept.certificate, _sign(key, names, now).public_bytes(serialization.Encoding.PEM))
    return kept


def _good(kept: Certificate, now: datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(kept.certificate.read_bytes())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(kept.certificate, kept.key)
    except (OSError, ValueError):
        return False
    return certificate.not_valid_after_utc > now


def _sign(key: ec.EllipticCurvePrivateKey, names: Sequence[str], now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kmend fleet")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _NEWER)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([_alternative(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _first(path: Path) -> str:
    """The first certificate of a file, which is the server's own; the others lead to its authority."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = path.read_text(errors="replace")
    if begin not in text or end not in text:
        raise InputError(f"{path} is no certificate in PEM.")
    return text[text.index(begin) : text.index(end) + len(end)] + "\n"
