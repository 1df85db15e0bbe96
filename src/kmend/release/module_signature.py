"""Signs kernel modules as the kernel's own scripts/sign-file does: a detached PKCS#7 message, appended.

The key is separate from all TUF keys: hosts under Secure Boot or with ``module.sig_enforce`` enrol its
certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat, load_pem_private_key, pkcs7
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kmend.kit.errors import InputError, KmendError, ProgramError
from kmend.kit.files import write_atomic
from kmend.kit.run import run
from kmend.release.keystore import encryption, private_path
from kmend.trust.module_file import join_signature, split_signature

KEY_NAME = "module-signing"
CERTIFICATE = "module-signing.crt"
CERTIFICATE_DER = "module-signing.der"
_YEARS = 10


@dataclass(frozen=True, slots=True)
class ModuleSigner:
    """The module signing key with its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    def sign(self, module: bytes) -> bytes:
        """The module with its signature appended; the same module gives the same bytes.

        Raises:
            InputError: It is signed already.
        """
        if split_signature(module)[1]:
            raise InputError(
                "The module is signed already.", hint="Publish livepatch.ko as `kmend build` left it."
            )
        options = pkcs7.PKCS7Options
        message = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(module)
            .add_signer(self.certificate, self.key, SHA256())
            .sign(
                Encoding.DER,
                [options.DetachedSignature, options.Binary, options.NoAttributes, options.NoCerts],
            )
        )
        return join_signature(module, message)


def make_module_key(folder: Path, *, bits: int, now: datetime) -> None:
    """Make the RSA key and its certificate, with the fields that the kernel's own build gives its own."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption(None))
    certificate = _certificate(key, now)
    write_atomic(private_path(folder, KEY_NAME), pem, mode=0o600)
    write_atomic(folder / CERTIFICATE, certificate.public_bytes(Encoding.PEM))
    write_atomic(folder / CERTIFICATE_DER, certificate.public_bytes(Encoding.DER))


def _certificate(key: rsa.RSAPrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kmend module signing key")])
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, SHA256())
    )


def load_module_signer(folder: Path) -> ModuleSigner:
    """The module signing key of a keys folder.

    Raises:
        InputError: Key or certificate is missing or cannot be read.
    """
    path = private_path(folder, KEY_NAME)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate((folder / CERTIFICATE).read_bytes())
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"The module signing key in {folder} cannot be read: {error}.") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InputError(f"{path} is not an RSA key, which is what kernels read.")
    return ModuleSigner(key, certificate)


def verify_module(content: bytes, certificate: Path) -> None:
    """Check a signed module with the openssl program: whoever signed does not check its own work.

    Raises:
        KmendError: It is not signed by the key of this certificate.
    """
    module, message = split_signature(content)
    with TemporaryDirectory(prefix="kmend-") as scratch:
        files = {"module": module, "message": message}
        for name, data in files.items():
            Path(scratch, name).write_bytes(data)
        try:
            run(
                [
                    *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-noverify", "-no_check_time"),
                    *("-in", Path(scratch, "message"), "-content", Path(scratch, "module")),
                    *("-certfile", certificate, "-nointern", "-out", "/dev/null"),
                ],
                timeout=60,
            )
        except ProgramError as error:
            raise KmendError(
                f"The module's signature does not verify with {certificate}: {error.output or error.message}"
            ) from None
