"""Every way in which a repository can lie, and that each is refused for the right reason."""

import hashlib
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from kmend.kit.errors import BugError, InputError, MachineError, TrustError
from kmend.kit.progress import Silent
from kmend.release.publish import promote
from kmend.trust import layout
from kmend.trust.proof import VerifiedLivepatch
from kmend.trust.refusal import Refusal
from kmend.trust.repository import check_root, fetch
from makers.nouns import KERNEL, OTHER_KERNEL
from makers.repository import SimulatedRepository, flip_bit, flip_signature_bit


@pytest.fixture
def made(tmp_path, template):
    """A repository with one livepatch in edge."""
    return SimulatedRepository(tmp_path, template=template)


def read(made, *, source=None, kernel=KERNEL, cache="seen"):
    """Fetch as a host would."""
    return fetch(
        str(source or made.repo),
        channel="edge",
        kernel=kernel,
        pinned_root=made.root,
        cache=made.folder / cache,
    )


def refusal(made, **options):
    """The reason that fetching is refused with; the message must say something too."""
    with pytest.raises(TrustError) as caught:
        read(made, **options)
    assert len(caught.value.message) > 20
    assert caught.value.hint
    return caught.value.reason


def test_what_was_published_is_fetched(made):
    """The proof holds the signed module's very bytes."""
    verified = read(made)
    assert verified.content == made.module_path().read_bytes()
    assert verified.livepatch.number == 1
    assert hashlib.sha256(verified.content).hexdigest() == verified.entry.module_sha256


def test_nobody_else_makes_the_proof(made):
    """A VerifiedLivepatch that trust did not seal cannot be made."""
    verified = read(made)
    with pytest.raises(BugError):
        VerifiedLivepatch(entry=verified.entry, channel="edge", content=b"", seal=object())


def test_a_kernel_without_livepatch_is_offered_nothing(made):
    """Nothing offered is a value, not an error."""
    assert read(made, kernel=OTHER_KERNEL) is None


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_bit_of_the_module(made, place):
    """A module that differs in one bit, first or last, is refused."""
    flip_bit(made.module_path(), place=place)
    assert refusal(made) == Refusal.ALTERED


def test_one_bit_of_the_entry(made):
    """A manifest that differs in one bit is refused."""
    flip_bit(made.entry_path())
    assert refusal(made) == Refusal.ALTERED


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "edge"])
def test_one_bit_of_any_metadata(made, role):
    """Metadata that differs in one bit of its signature is refused."""
    flip_signature_bit(made.path(role))
    expected = Refusal.WRONG_KEY if role == "timestamp" else Refusal.INCONSISTENT
    assert refusal(made) == expected


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "edge"])
def test_cut_metadata(made, role):
    """Half a metadata file is refused."""
    path = made.path(role)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert refusal(made) in {Refusal.UNREADABLE, Refusal.INCONSISTENT}


def test_expired_timestamp(made):
    """A repository that nobody keeps fresh is refused."""
    made.resign("timestamp", change=lambda signed: setattr(signed, "expires", made.now - timedelta(days=1)))
    assert refusal(made) == Refusal.EXPIRED


def test_expired_root(made):
    """A root that has run out is refused, whatever it signed."""
    made.now -= timedelta(days=400)
    made.rotate("root")
    made.now += timedelta(days=400)
    shutil.copy(made.keys / "root/2.root.json", made.repo / "metadata")
    assert refusal(made) == Refusal.EXPIRED


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "edge"])
def test_another_key(made, role):
    """Metadata signed by a stranger's key is refused, even under the right key's id."""
    made.resign(role, key="stranger")
    expected = Refusal.WRONG_KEY if role == "timestamp" else Refusal.INCONSISTENT
    assert refusal(made) == expected


def test_another_key_all_the_way_down(made):
    """A thief of snapshot's and timestamp's keys cannot speak for a channel."""
    made.resign("edge", key="stranger")
    made.relink()
    assert refusal(made) == Refusal.WRONG_KEY


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "edge"])
def test_revoked_key(made, role):
    """After a key was replaced, what the old one signs is refused."""
    old = made.copy("old")
    made.rotate(role)
    made.refresh()
    assert read(made).livepatch.number == 1
    for version in made.repo.glob("metadata/*.root.json"):
        shutil.copy(version, old / "metadata")
    expected = {Refusal.WRONG_KEY, Refusal.ROLLED_BACK}
    assert refusal(made, source=old) in expected
    if role == "timestamp":
        assert refusal(made, source=old, cache="fresh") == Refusal.WRONG_KEY


def test_revoked_root_key(made):
    """A root signed with the help of a replaced root key is not followed."""
    signer = made.signer("root")
    made.rotate("root", key="root-1")
    made.rotate("root", key="root-2")
    made.refresh()
    path = made.path("root")

    def forge(signed):
        signed.version += 1

    made.resign("root", change=forge)
    path.rename(path.with_name("4.root.json"))
    shutil.copy(made.keys / "root/3.root.json", path)
    assert signer.public_key.keyid
    assert refusal(made) == Refusal.WRONG_KEY


def test_rolled_back(made):
    """A mirror that serves yesterday's state is refused once today's was seen."""
    old = made.copy("old")
    made.publish(2)
    assert read(made).livepatch.number == 2
    assert refusal(made, source=old) == Refusal.ROLLED_BACK
    assert read(made).livepatch.number == 2


def test_rollback_is_remembered_per_host(made):
    """A host that never saw today's state cannot know, and takes yesterday's while it has not expired."""
    old = made.copy("old")
    made.publish(2)
    assert read(made, source=old, cache="new host").livepatch.number == 1


@pytest.mark.parametrize("role", ["snapshot", "targets", "edge"])
def test_mixed_from_two_versions(made, role):
    """A repository with one file of an older version among newer ones is refused."""
    old = made.path(role).read_bytes()
    made.publish(2)
    made.rotate("targets")
    made.refresh()
    made.path(role).write_bytes(old)
    assert refusal(made) == Refusal.INCONSISTENT


def test_module_of_another_number(made):
    """The module of one livepatch under the name of another is refused."""
    first = made.module_path(1).read_bytes()
    made.publish(2)
    made.module_path(2).write_bytes(first)
    assert refusal(made) in {Refusal.ALTERED, Refusal.CUT}


def test_endless_module(made):
    """A download that does not end is cut off at the signed length."""
    with made.module_path().open("ab") as file:
        file.write(bytes(1 << 20))
    assert refusal(made) == Refusal.TOO_LONG


def test_endless_timestamp(made):
    """Metadata without a signed length has a limit too."""
    made.path("timestamp").write_bytes(bytes(1 << 20))
    assert refusal(made) == Refusal.TOO_LONG


def test_cut_module(made):
    """A module that ends too early is refused."""
    path = made.module_path()
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(made) == Refusal.CUT


def test_missing_module(made):
    """A mirror that lacks the module is not trusted to lack it."""
    made.module_path().unlink()
    assert refusal(made) == Refusal.UNREACHABLE


def test_no_repository_at_all(made):
    """An empty folder is no repository."""
    (made.folder / "empty").mkdir()
    assert refusal(made, source=made.folder / "empty") == Refusal.UNREACHABLE


def test_another_repository(made, tmp_path):
    """A repository with a root of its own is refused, though it is perfectly signed."""
    other = SimulatedRepository(tmp_path / "other")
    other.publish(1)
    assert refusal(made, source=other.repo) == Refusal.WRONG_KEY


def test_build_id_of_another_kernel(made):
    """An entry that lies where this kernel's belongs, but is for another one, is refused."""
    made.rewrite_entry(lambda entry: replace(entry, livepatch=replace(entry.livepatch, kernel=OTHER_KERNEL)))
    assert refusal(made) == Refusal.OTHER_KERNEL


def test_module_outside_of_the_channel(made):
    """An entry cannot point into another channel, though the very same module is there."""
    promote(
        KERNEL.release,
        source="edge",
        to="stable",
        repo=made.repo,
        keys=made.keys,
        now=made.now,
        progress=Silent(),
    )
    made.rewrite_entry(lambda entry: replace(entry, module_target=entry.module_target.replace("edge", "stable")))
    assert refusal(made) == Refusal.INCONSISTENT


def test_module_that_the_manifest_was_not_made_for(made):
    """The signed module, without its signature, must be the module that was built."""
    made.rewrite_entry(lambda entry: replace(entry, livepatch=replace(entry.livepatch, sha256="0" * 64)))
    assert refusal(made) == Refusal.INCONSISTENT


def test_a_channel_cannot_speak_for_another(made):
    """A target that a channel's role lists outside its own prefix is not found."""
    target = layout.entry_target("stable", KERNEL.build_id)
    content = made.entry_path().read_bytes()
    made.put(target, content)
    seen = made.folder / "seen"
    found = fetch(str(made.repo), channel="stable", kernel=KERNEL, pinned_root=made.root, cache=seen)
    assert found is None


def test_full_disk(made, monkeypatch):
    """When what was seen cannot be kept, nothing is trusted, and the message says why."""

    def full(*args, **options):
        raise OSError(28, "No space left on device", "seen/timestamp.json")

    monkeypatch.setattr("tuf.ngclient.updater.tempfile.NamedTemporaryFile", full)
    with pytest.raises(MachineError, match="disk is full"):
        read(made)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"signed": {"_type": "targets"}}'])
def test_pinning_something_else(content):
    """Only root metadata can be pinned."""
    with pytest.raises(InputError):
        check_root(content)


def test_pinning_a_root_that_its_keys_did_not_sign(made, tmp_path):
    """A root with broken signatures, or one that was changed after signing, cannot be pinned."""
    path = tmp_path / "root.json"
    path.write_bytes(made.root)
    flip_signature_bit(path)
    for content in (path.read_bytes(), made.root.replace(b'"threshold":2', b'"threshold":1')):
        assert content != made.root
        with pytest.raises(InputError):
            check_root(content)


def test_an_address_that_is_none(made):
    """Neither ftp nor nothing is a repository."""
    for source in ("ftp://example.org/x", ""):
        with pytest.raises(InputError):
            fetch(source, channel="edge", kernel=KERNEL, pinned_root=made.root, cache=made.folder / "seen")
