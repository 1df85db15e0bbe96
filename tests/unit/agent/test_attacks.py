"""The attacks that the TUF specification lists (section 1.5.2), against the agent, over HTTP.

The host runs livepatch 1; its owner has published livepatch 2, and the attacker sits between them. Each attack
must leave livepatch 1 in the kernel and say what is wrong; the same host then takes livepatch 2 from the
untampered repository. What the attacker holds beyond the network is said where a test uses a key.
"""

import copy
import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace

import pytest
from tuf.api.metadata import Metadata
from tuf.ngclient._internal import trusted_metadata_set

from kmend.agent import config, sync
from kmend.agent.decide import Verdict
from kmend.agent.settings import Settings
from kmend.kit.errors import TrustError
from kmend.trust import layout
from kmend.trust.download import Limits
from kmend.trust.refusal import Refusal
from makers.nouns import KERNEL, OTHER_KERNEL
from makers.repository import SimulatedRepository
from makers.web import answers, cut, drips, endless, web_server

PATIENT = Limits(connect=5, silence=5, total=20)
HASTY = Limits(connect=5, silence=0.2, total=0.2)
WITHHELD = (Refusal.UNREACHABLE, Refusal.CUT, Refusal.TOO_SLOW)
MANY = 2**31


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """No proxy."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def web(made):
    """The only web server that the host knows."""
    with web_server(made.repo) as server:
        yield server


@pytest.fixture
def victim(machine, made, web):
    """A host that runs livepatch 1; everything but the root has changed since, livepatch 2 is new."""
    config.enrol(machine.host().paths, root_json=made.root, repo=web.address, channel="edge", now=made.now)
    assert sync.update(machine.host()).applied
    made.copy("yesterday")
    made.rotate("stable")
    made.publish(2)
    return machine


@pytest.fixture
def mirror(victim, made, web):
    """What the web server serves from now on: a copy of the repository that can be tampered with."""
    forged = copy.copy(made)
    forged.repo = made.copy("mirror")
    web.honest(forged.repo)
    return forged


def refused(victim, reason, says, *, limits=PATIENT):
    """An update fails, for one of these reasons and with these words; nothing was loaded, livepatch 1 stays."""
    loaded = list(victim.loaded)
    with pytest.raises(TrustError, match=says) as caught:
        sync.update(victim.host(), limits=limits)
    assert caught.value.reason in ([reason] if isinstance(reason, str) else reason)
    assert caught.value.hint
    assert victim.loaded == loaded
    assert victim.livepatches() == ["kmend_1"]


def takes_livepatch_2(victim, made, web):
    """The counterpart: from its owner's repository the very same host takes livepatch 2."""
    web.honest(made.repo)
    assert sync.update(victim.host(), limits=PATIENT).applied
    assert victim.loaded[1:] == [("kmend_2", made.module_path(2).read_bytes())]
    assert victim.livepatches() == ["kmend_2"]


# Arbitrary software installation


def test_arbitrary_module(victim, made, mirror, web):
    """Other bytes of the same length under the module's name."""
    path = mirror.module_path(2)
    path.write_bytes(b"E" * path.stat().st_size)
    refused(victim, Refusal.ALTERED, r"kmend_2\.ko is not the file that was signed")
    takes_livepatch_2(victim, made, web)


def test_arbitrary_repository(victim, made, web, tmp_path):
    """A whole repository, perfectly signed, by keys of the attacker's own."""
    thief = SimulatedRepository(tmp_path / "thief")
    thief.publish(2)
    web.honest(thief.repo)
    refused(victim, Refusal.WRONG_KEY, "not signed by enough of the trusted keys")
    takes_livepatch_2(victim, made, web)


def test_arbitrary_unsigned_metadata(victim, made, mirror, web):
    """No signature at all is not a signature."""
    path = mirror.path("timestamp")
    path.write_text(json.dumps({**json.loads(path.read_text()), "signatures": []}))
    refused(victim, Refusal.WRONG_KEY, "timestamp")
    takes_livepatch_2(victim, made, web)


# Endless data


@pytest.mark.parametrize(
    "file",
    ["2.root.json", "timestamp.json", "*.snapshot.json", "*.targets.json", "*.edge.json", "*.entry.json", "*.ko"],
)
def test_endless_data(victim, made, web, file):
    """Whichever file does not end: it is cut off near the length that is allowed."""
    web.acts = {f"*/{file}": endless}
    refused(victim, Refusal.TOO_LONG, "longer than allowed")
    assert web.sent < 16 << 20
    takes_livepatch_2(victim, made, web)


# Extraneous dependencies


def test_extraneous_dependency_instead(victim, made, mirror, web):
    """With the keys of channel, snapshot and timestamp: livepatch 2 that needs the old, signed module instead."""
    mirror.rewrite_entry(
        lambda entry: replace(entry, module_target=entry.module_target.replace("kmend_2", "kmend_1"))
    )
    refused(victim, Refusal.INCONSISTENT, r"kmend_1\.ko does not belong to the rest.*expected .*kmend_2\.ko")
    made.refresh(days=4)
    takes_livepatch_2(victim, made, web)


def test_extraneous_dependency_as_well(victim, mirror, web):
    """With the same keys: an entry that asks for more modules. Only its own is fetched and loaded."""
    entry = json.loads(mirror.entry_path().read_text())
    first = entry["module_target"].replace("kmend_2", "kmend_1")
    entry |= {"depends": [first], "requires": first}
    web.asked.clear()
    mirror.put(layout.entry_target("edge", KERNEL.build_id), json.dumps(entry).encode())
    assert sync.update(victim.host(), limits=PATIENT).applied
    assert victim.loaded[1:] == [("kmend_2", mirror.module_path(2).read_bytes())]
    assert len([path for path in web.asked if path.endswith(".ko")]) == 1


# Fast-forward


@pytest.mark.parametrize("role", ["timestamp", "snapshot"])
def test_fast_forward_without_keys(victim, made, mirror, web, role):
    """A huge version number breaks the signature, so that it is never remembered."""
    path = mirror.path(role)
    document = json.loads(path.read_text())
    document["signed"]["version"] = MANY
    path.write_text(json.dumps(document))
    refused(victim, (Refusal.WRONG_KEY, Refusal.TOO_LONG), role)
    takes_livepatch_2(victim, made, web)


def test_fast_forward_with_stolen_keys(victim, made, mirror, web):
    """With the keys of timestamp and snapshot the host can be held back, until its owner replaces those keys."""
    old = mirror.path("snapshot")
    mirror.resign("snapshot", change=_forward)
    content = old.rename(old.with_name(f"{MANY}.snapshot.json")).read_bytes()
    mirror.resign("timestamp", change=partial(_forward, names=content))
    assert sync.check(victim.host(), limits=PATIENT).offered == 2
    web.honest(made.repo)
    refused(victim, Refusal.ROLLED_BACK, "older than what this host has already seen")
    made.rotate("snapshot")
    made.rotate("timestamp")
    made.refresh()
    takes_livepatch_2(victim, made, web)


def _forward(signed, names=None):
    signed.version = MANY
    if names:
        signed.snapshot_meta.version = MANY
        signed.snapshot_meta.hashes, signed.snapshot_meta.length = None, len(names)


# Indefinite freeze


def test_freeze(victim, made, web, monkeypatch):
    """A mirror that stands still is believed while its timestamp holds, and no longer."""
    web.honest(made.folder / "yesterday")
    days_pass(monkeypatch, 6)
    assert sync.update(victim.host(), limits=PATIENT).decision.verdict == Verdict.UP_TO_DATE
    days_pass(monkeypatch, 8)
    refused(victim, Refusal.EXPIRED, "timestamp.*expired")
    made.refresh(days=8)
    takes_livepatch_2(victim, made, web)


def days_pass(monkeypatch, days):
    """Let the clock that signatures are compared with go on."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=days)

    monkeypatch.setattr(trusted_metadata_set, "datetime", SimpleNamespace(datetime=Later, timezone=timezone))


# Malicious mirrors preventing updates


@pytest.mark.parametrize("file", ["timestamp.json", "*.edge.json", "*.entry.json", "*.ko"])
@pytest.mark.parametrize("act", [answers(404), answers(503), cut, drips], ids=["404", "503", "cut", "drips"])
def test_mirror_that_withholds(victim, made, web, act, file):
    """The host says that it got nothing, keeps what it has, and takes the update from another mirror."""
    web.acts = {f"*/{file}": act}
    refused(victim, WITHHELD, "could not be fetched|was cut on the way|came too slowly", limits=HASTY)
    with web_server(made.repo) as other:
        elsewhere = victim.host(settings=Settings(repository=other.address))
        assert sync.update(elsewhere, limits=PATIENT).applied
    assert victim.livepatches() == ["kmend_2"]


# Mix-and-match


@pytest.mark.parametrize("role", ["snapshot", "targets", "edge"])
def test_mix_and_match(victim, made, mirror, web, role):
    """Yesterday's file of one role, properly signed, among today's of the others."""
    shutil.copy(_of_yesterday(made).path(role), mirror.path(role))
    refused(victim, Refusal.INCONSISTENT, "does not belong to the rest")
    takes_livepatch_2(victim, made, web)


def test_mix_and_match_of_module_and_entry(victim, made, mirror, web):
    """Yesterday's signed module under the name of today's."""
    shutil.copy(mirror.module_path(1), mirror.module_path(2))
    refused(victim, (Refusal.ALTERED, Refusal.CUT, Refusal.TOO_LONG), r"kmend_2\.ko")
    takes_livepatch_2(victim, made, web)


def _of_yesterday(made):
    old = copy.copy(made)
    old.repo = made.folder / "yesterday"
    return old


# Rollback


def test_rollback(victim, made, web):
    """Yesterday's repository, whole, once the host has seen today's."""
    assert sync.check(victim.host(), limits=PATIENT).offered == 2
    web.honest(made.folder / "yesterday")
    refused(victim, Refusal.ROLLED_BACK, "older than what this host has already seen")
    takes_livepatch_2(victim, made, web)


def test_rollback_under_a_fresh_timestamp(victim, made, web):
    """With timestamp's key: yesterday's snapshot under a new timestamp."""
    assert sync.check(victim.host(), limits=PATIENT).offered == 2
    seen = Metadata.from_file(str(made.path("timestamp"))).signed.version
    old = _of_yesterday(made)
    old.resign("timestamp", change=lambda signed: setattr(signed, "version", seen + 1))
    web.honest(old.repo)
    refused(victim, Refusal.ROLLED_BACK, "older than what this host has already seen.*snapshot")
    takes_livepatch_2(victim, made, web)


# Wrong software installation


def test_wrong_software_of_another_kernel(victim, made, web):
    """The signed entry and module of another kernel under the names of this one's."""
    made.publish(2, kernel=OTHER_KERNEL)
    mirror = copy.copy(made)
    mirror.repo = made.copy("mirror")
    web.honest(mirror.repo)
    ours, others = (mirror.repo / "targets/edge" / kernel.build_id for kernel in (KERNEL, OTHER_KERNEL))
    other = next(others.glob("*.entry.json"))
    for path in ours.glob("*.entry.json"):
        shutil.copy(other, path)
    refused(victim, (Refusal.ALTERED, Refusal.CUT, Refusal.TOO_LONG), r"entry\.json")
    takes_livepatch_2(victim, made, web)


def test_wrong_software_signed_by_stolen_keys(victim, made, mirror, web):
    """With the keys of channel, snapshot and timestamp: what was built for another kernel."""
    mirror.rewrite_entry(lambda entry: replace(entry, livepatch=replace(entry.livepatch, kernel=OTHER_KERNEL)))
    refused(victim, Refusal.OTHER_KERNEL, f"built for another kernel.*{OTHER_KERNEL.build_id}.*{KERNEL.build_id}")
    made.refresh(days=4)
    takes_livepatch_2(victim, made, web)


# Wrong keys, and key compromise


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "edge"])
def test_wrong_key(victim, made, mirror, web, role):
    """A signature by a key of the attacker's own, under the id of the right key."""
    mirror.resign(role, key="stranger")
    refused(victim, Refusal.WRONG_KEY if role == "timestamp" else Refusal.INCONSISTENT, "trusted keys|the rest")
    takes_livepatch_2(victim, made, web)


def test_keys_of_timestamp_and_snapshot_are_not_enough(victim, made, mirror, web):
    """With both of them a channel cannot be spoken for: its own key is missing."""
    mirror.resign("edge", key="stranger")
    mirror.relink()
    refused(victim, Refusal.WRONG_KEY, "edge")
    made.refresh(days=4)
    takes_livepatch_2(victim, made, web)


def test_a_replaced_key_is_worth_nothing(victim, made, web):
    """A key that was stolen and then replaced signs in vain."""
    stolen = made.signer("timestamp")
    made.rotate("timestamp")
    made.refresh()
    mirror = copy.copy(made)
    mirror.repo = made.copy("mirror")
    mirror.resign("timestamp", signer=stolen, change=lambda signed: setattr(signed, "version", signed.version + 1))
    web.honest(mirror.repo)
    refused(victim, Refusal.WRONG_KEY, "timestamp")
    takes_livepatch_2(victim, made, web)


def test_fewer_root_keys_than_the_threshold(victim, made, web, tmp_path):
    """With one root key of the two that are needed: a new root that names the attacker's keys is not followed."""
    taken_over(made, web, tmp_path, stolen=1)
    refused(victim, Refusal.WRONG_KEY, "root")
    takes_livepatch_2(victim, made, web)


def test_as_many_root_keys_as_the_threshold(victim, made, web, tmp_path):
    """What the threshold is for: with two root keys everything belongs to the attacker, as docs say."""
    thief = taken_over(made, web, tmp_path, stolen=2)
    assert sync.update(victim.host(), limits=PATIENT).applied
    assert victim.loaded[1:] == [("kmend_2", thief.module_path(2).read_bytes())]


def taken_over(made, web, folder, *, stolen):
    """A repository of the attacker's own, whose root follows the pinned one as far as the stolen keys allow."""
    thief = SimulatedRepository(folder / "thief")
    thief.publish(2)
    root = Metadata.from_bytes(thief.root)
    root.signed.version = 2
    root.signatures.clear()
    for signer in (*thief.signers("root"), *made.signers("root")[:stolen]):
        root.sign(signer, append=True)
    (thief.repo / "metadata/2.root.json").write_bytes(root.to_bytes())
    web.honest(thief.repo)
    return thief
