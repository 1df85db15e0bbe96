"""The agent's verbs as people and monitoring call them: texts, JSON, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kmend.agent import sync
from kmend.cli.agent.verb import agent
from kmend.kit.errors import InputError
from makers.repository import flip_bit

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/reference/agent.md").read_text()


def run(machine, *words):
    """Exit code and standard output of a verb."""
    found = CliRunner().invoke(
        agent, ["--machine-root", str(machine.root), *words], standalone_mode=False, catch_exceptions=True
    )
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    code = found.exit_code if isinstance(found.exception, SystemExit) else found.return_value
    return code, found.stdout


def test_check(machine):
    """10 when available, 0 when loaded; as a plugin 1 and 0."""
    assert run(machine, "check") == (10, "available: livepatch 1 closes 2 CVEs\n")
    assert run(machine, "check", "--nagios") == (1, "KMEND WARNING - available: livepatch 1 closes 2 CVEs\n")
    sync.update(machine.host())
    assert run(machine, "check") == (0, "up-to-date: livepatch 1 is loaded\n")
    assert run(machine, "check", "--nagios") == (0, "KMEND OK - up-to-date: livepatch 1 is loaded\n")


def test_check_as_a_plugin_when_something_is_wrong(machine, made):
    """An altered file is critical, an absent repository or a broken file of settings unknown; one line each."""
    flip_bit(made.entry_path())
    code, text = run(machine, "check", "--nagios")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("KMEND CRITICAL - ")
    (machine.root / "etc/kmend/agent.toml").write_text("soak = 1")
    code, text = run(machine, "check", "--nagios")
    assert code == 3
    assert text.startswith("KMEND UNKNOWN - ")
    code, text = run(machine, "check", "--nagios", "--json")
    assert (code, json.loads(text)["error"]["kind"]) == (3, "InputError")


def test_status(machine):
    """Text, JSON and plugin say the same."""
    sync.update(machine.host())
    code, text = run(machine, "status")
    assert code == 0
    assert re.search(
        r"^livepatch  kmend_1 \(enabled, closes CVE-2026-52928, CVE-2026-72379\)$", text, re.MULTILINE
    )
    assert re.search(r"^last look  .* UTC, available: ", text, re.MULTILINE)
    code, text = run(machine, "status", "--json")
    assert (code, json.loads(text)["phase"]) == (0, "applied")
    code, text = run(machine, "status", "--nagios")
    assert code == 0
    assert text == (
        "KMEND OK - 6.1.0-47-cloud-amd64 livepatch 1 (closes 2 CVEs) | livepatch=1 cves_closed=2 held_back=0\n"
    )


def test_patch_info(machine):
    """Of what is offered, of nothing, and of what is loaded."""
    code, text = run(machine, "patch-info")
    assert (code, text) == (0, "no livepatch of kmend is loaded.\n")
    code, text = run(machine, "patch-info", "--offered")
    assert code == 0
    assert "published 20" in text
    assert "CVE-2026-52928, CVE-2026-72379: af_unix: reject SIOCATMARK" in text
    sync.update(machine.host())
    code, text = run(machine, "patch-info", "--json")
    assert json.loads(text)["livepatch"]["number"] == 1
    assert "vmlinux:unix_ioctl" in run(machine, "patch-info")[1]


def test_patch_info_of_something_unknown(machine):
    """What the agent did not load is not guessed."""
    machine.foreign("kmend_7")
    assert "what is in it is not known here" in run(machine, "patch-info")[1]


def test_uname(machine):
    """The effective version."""
    sync.update(machine.host())
    assert run(machine, "uname") == (0, "6.1.0-47-cloud-amd64 livepatch 1 (closes 2 CVEs)\n")
    assert json.loads(run(machine, "uname", "--json")[1]) == {
        "effective_version": "6.1.0-47-cloud-amd64 livepatch 1 (closes 2 CVEs)"
    }


def test_info(machine):
    """Settings stand in it."""
    (machine.root / "etc/kmend/agent.toml").write_text("delay_hours = 2\n")
    code, text = run(machine, "info")
    assert code == 0
    assert "setting    delay_hours = 2" in text


def test_doctor(machine, tmp_path, monkeypatch):
    """Exit 1 when something is wrong, and the archive is there."""
    monkeypatch.setattr("kmend.linux.services.journal", lambda units, *, lines: None)
    monkeypatch.setattr("kmend.linux.services.unit_state", lambda name: "inactive")
    code, text = run(machine, "doctor", "--out", str(tmp_path / "d.tar.gz"))
    assert code == 1
    assert re.search(r"^problem +units: kmend-agent.service is inactive", text, re.MULTILINE)
    assert (tmp_path / "d.tar.gz").exists()


def test_reboot_required(machine, tmp_path):
    """2 with the reason when nobody can tell; wrong options and broken hosts are never 1."""
    code, text = run(machine, "reboot-required")
    assert code == 2
    assert text.startswith("unknown: there is no dpkg here")
    assert json.loads(run(machine, "reboot-required", "--json")[1])["need"] == "unknown"
    assert run(machine, "reboot-required", "--no-such-option")[0] == 2
    assert run(machine, "reboot-required", "--sentinel")[0] == 2
    (machine.root / "var/lib/dpkg").mkdir(parents=True)
    (machine.root / "var/lib/dpkg/status").touch()
    sentinel = tmp_path / "needed"
    sentinel.touch()
    assert run(machine, "reboot-required", "--sentinel", str(sentinel))[0] == 1
    assert not sentinel.exists()
    (machine.root / "proc/sys/kernel/osrelease").unlink()
    assert run(machine, "reboot-required")[0] == 2


@pytest.mark.parametrize(
    ("down", "text"), [(True, "in order"), (False, "not being shut down"), (None, "not answer")]
)
def test_note_shutdown(machine, monkeypatch, down, text):
    """What kmend-orderly.service runs: only a real shutdown leaves a mark, with the id of this boot."""
    monkeypatch.setattr("kmend.linux.services.going_down", lambda: down)
    code, said = run(machine, "note-shutdown")
    assert code == 0
    assert text in said
    mark = machine.host().paths.orderly
    assert mark.exists() is bool(down)
    if down:
        assert mark.read_text() == "00000001-0000-0000-0000-000000000000\n"


def test_a_broken_file_of_settings(machine):
    """Every verb that needs it says so."""
    (machine.root / "etc/kmend/agent.toml").write_text("soak = 1")
    for verb in ("check", "update", "status", "info", "fetch", "unload", "uname"):
        with pytest.raises(InputError, match="unknown soak"):
            run(machine, verb)
    assert run(machine, "reboot-required")[0] == 2


def test_the_page_has_every_verb():
    """And no other."""
    listed = set(re.findall(r"^\| `([a-z-]+)[ `]", PAGE.split("## Verbs")[1].split("##")[0], re.MULTILINE))
    assert listed == {name for name, command in agent.commands.items() if not command.hidden}


def test_the_schema_is_in_step():
    """docs/reference/agent.schema.json is what packaging/make-agent-schema prints now."""
    done = subprocess.run(
        [sys.executable, ROOT / "packaging/make-agent-schema"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.stdout == (ROOT / "docs/reference/agent.schema.json").read_text()


def fits(value, schema, schemas):  # noqa: PLR0911 - one for each kind of schema
    """Whether a value fits the small part of JSON Schema that is used here."""
    if "$ref" in schema:
        return fits(value, schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if "anyOf" in schema:
        return any(fits(value, one, schemas) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    if schema["type"] in kinds:
        return isinstance(value, kinds[schema["type"]])
    if schema["type"] == "array":
        return isinstance(value, list) and all(fits(one, schema["items"], schemas) for one in value)
    known = schema.get("properties", {})
    if not isinstance(value, dict) or not set(schema.get("required", [])) <= set(value):
        return False
    if "properties" not in schema:
        return all(fits(one, schema["additionalProperties"], schemas) for one in value.values())
    return set(value) <= set(known) and all(fits(value[name], known[name], schemas) for name in value)


def test_status_names_other_users_of_ftrace(machine):
    """Who traces what is shown, and what cannot be livepatched meanwhile; without tracefs nothing is claimed."""
    assert "traced" not in run(machine, "status")[1]
    tracing = machine.root / "sys/kernel/tracing"
    tracing.mkdir(parents=True)
    (tracing / "enabled_functions").write_text("".join(f"name_{n} (1) R\n" for n in range(25)) + "sent (1) R I\n")
    said = run(machine, "status")[1]
    assert "traced     26 by others than livepatches: name_0, name_1," in said
    assert said.rstrip().partition("name_19")[2].startswith(", …; cannot be livepatched meanwhile: sent")
    assert json.loads(run(machine, "status", "--json")[1])["traced"]["count"] == 26


ANSWERS = [
    ("leave", "Left"),
    ("status", "HostStatus"),
    ("info", "HostInfo"),
    ("check", "Decision"),
    ("fetch", "Decision"),
    ("patch-info", "PatchInfo"),
    ("uname", "EffectiveVersion"),
    ("reboot-required", "RebootAnswer"),
    ("unload", "Unloaded"),
]


@pytest.mark.parametrize(("verb", "noun"), ANSWERS)
def test_answers_fit_the_schema(machine, verb, noun):
    """What the verbs print is what the schema promises."""
    sync.update(machine.host())
    machine.foreign("kpatch_1")
    if verb == "unload":
        sync.unload_now(machine.host(), hold=True)
    schema = json.loads((ROOT / "docs/reference/agent.schema.json").read_text())
    assert schema["verbs"][verb] == {"$ref": f"#/$defs/{noun}"}
    value = json.loads(run(machine, verb, "--json")[1])
    assert fits(value, schema["verbs"][verb], schema["$defs"])
    assert not fits(value | {"more": 1}, schema["verbs"][verb], schema["$defs"])
