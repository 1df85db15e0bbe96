"""kmend facts, as a person types it."""

import json
import os

import pytest

from kmend.cli.facts import facts_of
from kmend.kit.errors import InputError
from makers.container_host import ContainerHost, identity, inspected
from makers.fake_engine import VERSION, FakeEngine


def test_says_what_was_seen_and_what_was_not(tmp_path, type_in):
    """The summary names kernel and containers, and lists what could not be looked at."""
    host = ContainerHost(tmp_path / "host")
    os.mkfifo(host.root / "etc/subuid")
    code, out, _ = type_in("facts", "--root", host.root)
    assert code == 0
    assert "6.1.0-42-cloud-amd64" in out
    assert "/etc/subuid: it is no plain file" in out


def test_saved_facts_come_back_as_they_were(tmp_path, type_in):
    """-o saves for the owner's eyes only, and facts_of reads the same facts again."""
    host = ContainerHost(tmp_path / "host")
    file = tmp_path / "facts.json"
    assert type_in("facts", "--root", host.root, "-o", file)[0] == 0
    assert file.stat().st_mode & 0o777 == 0o600
    found = facts_of(file)
    assert found.kernel.release == "6.1.0-42-cloud-amd64"
    assert [user.name for user in found.users] == ["root", "anna"]


def test_json_is_the_saved_form(tmp_path, type_in):
    """--json prints what -o saves."""
    host = ContainerHost(tmp_path / "host")
    code, out, _ = type_in("facts", "--root", host.root, "--json")
    assert code == 0
    assert json.loads(out)["kernel"]["release"] == "6.1.0-42-cloud-amd64"


def test_a_newer_format_is_refused(tmp_path, type_in):
    """Facts of a format that is not known yet would be misread."""
    host = ContainerHost(tmp_path / "host")
    file = tmp_path / "facts.json"
    type_in("facts", "--root", host.root, "-o", file)
    changed = {**json.loads(file.read_text()), "format": 999}
    file.write_text(json.dumps(changed))
    with pytest.raises(InputError, match="format 999"):
        facts_of(file)


def test_names_are_kept_as_data_and_shown_without_escapes(tmp_path, type_in):
    """A name may hold anything; on a terminal it moves nothing."""
    evil = "\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\u202e"
    host = ContainerHost(tmp_path)
    host.process(50, name="dockerd", cgroup="/system.slice/docker.service")
    engine = FakeEngine()
    engine.answers["/version"] = {**VERSION, "Version": evil}
    engine.container(identity(1), inspected(evil, State={"Status": evil}))
    with engine.serving(host.root / "run/docker.sock"):
        code, out, _ = type_in("facts", "--root", host.root)
        _, as_json, _ = type_in("facts", "--root", host.root, "--json")
    assert code == 0
    assert "owned" in out
    assert "\x1b" not in out + as_json
    assert "\u202e" not in out + as_json
    assert json.loads(as_json)["containers"][0]["name"] == evil
