"""kmend keys, kmend release and kmend agent as they are typed."""

import json

import pytest

from makers.machine import FakeMachine
from makers.nouns import KERNEL, make_built


@pytest.fixture
def released(tmp_path, type_in):
    """Keys, a repository and livepatch 1 in both channels, all made by typing."""
    keys, repo = tmp_path / "keys", tmp_path / "repo"
    make_built(tmp_path / "built")
    places = ("--repo", repo, "--keys", keys)
    for words in (
        ("keys", "init", keys, "--no-passphrase", "--module-key-bits", "2048"),
        ("release", "init", repo, "--keys", keys),
        ("release", "publish", tmp_path / "built", *places),
        ("release", "promote", "--kernel", KERNEL.release, *places),
    ):
        code, _, err = type_in(*words)
        assert code == 0, err
    return places


def test_from_keys_to_an_enrolled_host(tmp_path, type_in, released):
    """The whole way by typing: the host says that a livepatch is available with exit code 10."""
    machine = FakeMachine(tmp_path / "machine")
    agent = ("agent", "--machine-root", machine.root)
    code, _, err = type_in(*agent, "init", "--root", tmp_path / "keys/root.json", "--repo", tmp_path / "repo")
    assert code == 0, err
    code, out, _ = type_in(*agent, "check", "--json")
    assert code == 10
    assert json.loads(out)["offered"] == 1
    code, out, _ = type_in(*agent, "uname")
    assert (code, out) == (0, f"{KERNEL.release}\n")
    code, out, _ = type_in(*agent, "status")
    assert "channel    stable" in out


def test_status(type_in, released):
    """Both channels and every signed file are listed, as text and as JSON."""
    code, out, _ = type_in("release", "status", *released)
    assert code == 0
    assert out.count(KERNEL.release) == 2
    code, out, _ = type_in("release", "status", "--json", *released)
    assert {offer["channel"] for offer in json.loads(out)["offers"]} == {"edge", "stable"}


def test_publishing_twice_is_refused(tmp_path, type_in, released):
    """One clear message, exit code 1."""
    code, _, err = type_in("release", "publish", tmp_path / "built", *released)
    assert code == 1
    assert "already offers livepatch 1" in err
    assert "Traceback" not in err


def test_rotate_and_refresh(tmp_path, type_in, released):
    """A changed key goes out with the next refresh; after that nothing is due."""
    code, out, _ = type_in("keys", "rotate", tmp_path / "keys", "timestamp")
    assert code == 0
    assert "timestamp-2" in out
    assert "timestamp" in type_in("release", "refresh", *released)[1]
    assert type_in("release", "refresh", *released)[1] == "Nothing is due.\n"


def test_no_passphrase_is_said_loudly(tmp_path, type_in):
    """Unencrypted root keys come with a warning; without terminal and passphrase nothing is made."""
    code, _, err = type_in("keys", "init", tmp_path / "a", "--no-passphrase", "--module-key-bits", "2048")
    assert code == 0
    assert "NOT encrypted" in err
    code, _, err = type_in("keys", "init", tmp_path / "b")
    assert code == 1
    assert "passphrase" in err
    assert not (tmp_path / "b").exists()


def test_passphrase_from_a_file_and_from_the_environment(tmp_path, type_in, monkeypatch):
    """Both are taken; an empty one is refused."""
    (tmp_path / "secret").write_text("correct horse\n")
    words = ("keys", "init", tmp_path / "a", "--module-key-bits", "2048", "--passphrase-file", tmp_path / "secret")
    assert type_in(*words)[0] == 0
    monkeypatch.setenv("KMEND_KEYS_PASSPHRASE", "correct horse")
    assert type_in("keys", "rotate", tmp_path / "a", "snapshot")[0] == 0
    monkeypatch.setenv("KMEND_KEYS_PASSPHRASE", "wrong")
    code, _, err = type_in("keys", "rotate", tmp_path / "a", "targets")
    assert code == 1
    assert "Wrong passphrase?" in err
    monkeypatch.setenv("KMEND_KEYS_PASSPHRASE", "")
    code, _, err = type_in("keys", "rotate", tmp_path / "a", "targets")
    assert code == 1
    assert "empty" in err
    assert "(encrypted)" in type_in("keys", "list", tmp_path / "a")[1]


@pytest.mark.parametrize("channel", ["root", "targets", "nosuch", "../edge"])
def test_only_channels_hold_livepatches(channel, released, tmp_path, type_in):
    """Another role of the repository, or a name that nobody knows, is one clear message."""
    make_built(tmp_path / "next", 2)
    for words in (
        ("publish", tmp_path / "next", "--channel", channel),
        ("promote", "--kernel", KERNEL.release, "--from", channel),
        ("promote", "--kernel", KERNEL.release, "--to", channel),
    ):
        code, out, err = type_in("release", *words, *released)
        assert (code, out) == (1, "")
        assert f"error: There is no channel '{channel}'.\nhint: There are: edge, stable." in err


def test_a_keys_folder_that_is_not_there(released, tmp_path, type_in):
    """The message names the folder and how to make one, not some file in it."""
    nowhere = tmp_path / "nowhere"
    code, _, err = type_in("release", "publish", tmp_path / "built", "--repo", released[1], "--keys", nowhere)
    assert code == 1
    assert f"error: {nowhere} is not a folder of keys" in err
    assert f"kmend keys init {nowhere}" in err


@pytest.mark.parametrize("days", ["0", "-3", "366", "99999999"])
def test_signatures_hold_for_a_sensible_time(days, tmp_path, type_in):
    """A signature that has expired when it is made would shut every host out."""
    code, _, err = type_in("keys", "init", tmp_path / "keys", "--no-passphrase", "--timestamp-days", days)
    assert code == 1
    assert "1<=x<=365" in err
    assert not (tmp_path / "keys").exists()


def test_a_passphrase_file_that_is_no_text(tmp_path, type_in):
    """It is named, and no keys are made."""
    (tmp_path / "secret").write_bytes(b"\xff\xfe\n")
    code, _, err = type_in("keys", "init", tmp_path / "keys", "--passphrase-file", tmp_path / "secret")
    assert code == 1
    assert "is not a text file" in err
    assert not (tmp_path / "keys").exists()
