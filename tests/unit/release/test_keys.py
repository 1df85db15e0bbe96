"""Keys: made whole or not at all, kept private, replaced under the eyes of the hosts."""

import stat
import subprocess

import pytest
from cryptography import x509

from kmend.kit.errors import InputError, KmendError
from kmend.release import ceremony
from kmend.release.keyring import load_keyring
from kmend.release.keystore import no_passphrase
from kmend.release.module_signature import CERTIFICATE, load_module_signer, verify_module
from kmend.trust.module_file import split_signature
from kmend.trust.repository import check_root, fetch
from makers.nouns import KERNEL, NOW
from makers.repository import SimulatedRepository


def make(folder, **options):
    """Small keys, without a passphrase unless asked for."""
    settings = {"now": NOW, "passphrase": None, "module_key_bits": 2048} | options
    return ceremony.init_keys(folder, **settings)


def test_what_init_leaves(tmp_path):
    """Private keys are 0600, root metadata holds, one key per role and channel, nothing else is left."""
    keyring = make(tmp_path / "keys")
    private = sorted((tmp_path / "keys/private").iterdir())
    assert [path.stem for path in private] == [
        "channel-edge-1",
        "channel-stable-1",
        "module-signing",
        "root-1",
        "root-2",
        "root-3",
        "snapshot-1",
        "targets-1",
        "timestamp-1",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert check_root((tmp_path / "keys/root.json").read_bytes())[0] == 1
    assert keyring.channels == ("edge", "stable")
    assert load_keyring(tmp_path / "keys") == keyring
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_root_keys_are_encrypted(tmp_path):
    """With a passphrase root keys, and only they, are encrypted; a wrong passphrase is told."""
    keys = tmp_path / "keys"
    make(keys, passphrase=b"correct horse")
    encrypted = {path.stem for path in (keys / "private").iterdir() if b"ENCRYPTED" in path.read_bytes()}
    assert encrypted == {"root-1", "root-2", "root-3"}
    with pytest.raises(InputError, match="needs its passphrase"):
        ceremony.rotate(keys, "timestamp", now=NOW, passphrase=no_passphrase)
    with pytest.raises(InputError, match="cannot be opened"):
        ceremony.rotate(keys, "timestamp", now=NOW, passphrase=lambda _: b"wrong")
    after = ceremony.rotate(keys, "timestamp", now=NOW, passphrase=lambda _: b"correct horse")
    assert after.root_version == 2


@pytest.mark.parametrize(
    "options",
    [{"threshold": 4}, {"threshold": 0}, {"channels": ()}, {"channels": ("root",)}, {"channels": ("../x",)}],
)
def test_plans_that_make_no_sense(tmp_path, options):
    """Nothing is left of a plan that cannot work."""
    with pytest.raises(InputError):
        make(tmp_path / "keys", **options)
    assert list(tmp_path.iterdir()) == []


def test_keys_are_never_overwritten(tmp_path):
    """A folder in use is refused and left alone."""
    make(tmp_path / "keys")
    before = (tmp_path / "keys/private/root-1.pem").read_bytes()
    with pytest.raises(InputError, match="in use"):
        make(tmp_path / "keys")
    assert (tmp_path / "keys/private/root-1.pem").read_bytes() == before


def test_root_keys_kept_elsewhere(tmp_path):
    """Too few root keys at hand are told; files from elsewhere help."""
    keys = tmp_path / "keys"
    make(keys)
    for name in ("root-1", "root-2"):
        (keys / f"private/{name}.pem").rename(tmp_path / f"{name}.pem")
    with pytest.raises(InputError, match="Too few root keys"):
        ceremony.rotate(keys, "targets", now=NOW, passphrase=no_passphrase)
    assert load_keyring(keys).root_version == 1
    assert not (keys / "private/targets-2.pem").exists()
    (tmp_path / "stick.pem").write_bytes(b"")
    with pytest.raises(InputError, match="No key is called stick"):
        ceremony.rotate(keys, "targets", now=NOW, passphrase=no_passphrase, elsewhere=[tmp_path / "stick.pem"])
    after = ceremony.rotate(
        keys, "targets", now=NOW, passphrase=no_passphrase, elsewhere=[tmp_path / "root-2.pem"]
    )
    assert after.root_version == 2


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp", "edge", "root"])
def test_hosts_follow_a_change_of_keys(tmp_path, template, role):
    """A host that was enrolled before the change reads on, before and after the repository follows."""
    made = SimulatedRepository(tmp_path, template=template)

    def number():
        return fetch(
            str(made.repo), channel="edge", kernel=KERNEL, pinned_root=made.root, cache=tmp_path / "seen"
        ).livepatch.number

    assert number() == 1
    made.rotate(role, **({"key": "root-2"} if role == "root" else {}))
    assert number() == 1
    made.refresh()
    assert number() == 1
    made.publish(2)
    assert number() == 2
    private = {path.stem for path in (made.keys / "private").iterdir()}
    keyring = load_keyring(made.keys)
    assert private == {record.name for keys in keyring.roles for record in keys.keys} | {"module-signing"}


def test_publishing_takes_a_change_of_keys_along(tmp_path, empty_template):
    """A publish after a rotation needs no refresh before it."""
    made = SimulatedRepository(tmp_path, template=empty_template)
    made.rotate("timestamp")
    made.rotate("targets")
    made.publish(1)
    assert made.refresh() == set()


def test_a_role_is_not_changed_twice_before_it_went_out(tmp_path, empty_template):
    """A second change would leave hosts without a signature that they know."""
    made = SimulatedRepository(tmp_path, template=empty_template)
    made.rotate("snapshot")
    with pytest.raises(InputError, match="not gone out"):
        made.rotate("snapshot")


@pytest.fixture
def module(tmp_path):
    """A real ELF file with what modinfo looks for."""
    source = tmp_path / "m.c"
    source.write_text(
        'static const char a[] __attribute__((section(".modinfo"), used)) = "name=kmend_1";\n'
        'static const char b[] __attribute__((section(".modinfo"), used)) = "livepatch=Y";\n'
    )
    subprocess.run(["gcc", "-c", source, "-o", tmp_path / "m.ko"], check=True)
    return tmp_path / "m.ko"


def test_module_signature_is_what_the_kernels_tools_read(tmp_path, module):
    """Modinfo names the signer, the key's serial number and the hash; OpenSSL verifies it."""
    make(tmp_path / "keys")
    signer = load_module_signer(tmp_path / "keys")
    signed = signer.sign(module.read_bytes())
    (tmp_path / "signed.ko").write_bytes(signed)
    shown = subprocess.run(
        ["/usr/sbin/modinfo", tmp_path / "signed.ko"], capture_output=True, text=True, check=True
    ).stdout
    serial = x509.load_pem_x509_certificate((tmp_path / "keys" / CERTIFICATE).read_bytes()).serial_number
    assert "signer:         kmend module signing key" in shown
    assert "sig_hashalgo:   sha256" in shown
    digits = f"{serial:X}"
    assert (digits if len(digits) % 2 == 0 else f"0{digits}") in shown.replace(":", "")
    verify_module(signed, tmp_path / "keys" / CERTIFICATE)
    assert split_signature(signed)[0] == module.read_bytes()


def test_a_module_signature_that_does_not_hold(tmp_path, module):
    """An altered module, no signature, another key: each fails; signing twice is refused."""
    make(tmp_path / "keys")
    make(tmp_path / "other")
    signer = load_module_signer(tmp_path / "keys")
    signed = signer.sign(module.read_bytes())
    altered = signed[:50] + bytes([signed[50] ^ 1]) + signed[51:]
    for content, keys in ((altered, "keys"), (module.read_bytes(), "keys"), (signed, "other")):
        with pytest.raises(KmendError, match="does not verify"):
            verify_module(content, tmp_path / keys / CERTIFICATE)
    with pytest.raises(InputError, match="signed already"):
        signer.sign(signed)


@pytest.mark.parametrize("length", [0, 1 << 31, 10**6])
def test_a_signature_trailer_that_lies(length):
    """A length beyond the file, or none, counts as not signed."""
    import struct  # noqa: PLC0415

    content = b"module" + struct.pack(">BBBBB3xI", 0, 0, 2, 0, 0, length) + b"~Module signature appended~\n"
    assert split_signature(content) == (content, b"")
