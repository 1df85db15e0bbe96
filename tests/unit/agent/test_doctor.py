"""The doctor finds what is wrong, works on broken hosts, and takes no secret along."""

import tarfile

import pytest

from kmend.agent import sync
from kmend.agent.doctor import UNITS, Outcome, examine
from kmend.agent.redact import redacted
from makers.machine import FakeMachine


@pytest.fixture(autouse=True)
def no_journal(monkeypatch):
    """This machine's own journal is not asked."""
    monkeypatch.setattr("kmend.linux.services.journal", lambda units, *, lines: "token=SECRET1 started")


def outcomes(found):
    """What was looked at, and how it is."""
    return {one.what: one.outcome for one in found.symptoms}


def contents(path):
    """Names and texts in the archive."""
    with tarfile.open(path) as archive:
        return {
            member.name.removeprefix("kmend-doctor/"): archive.extractfile(member).read().decode()
            for member in archive.getmembers()
        }


def test_a_host_that_is_well(machine, tmp_path):
    """All looks are fine, and the archive is for root only."""
    machine.around.units = dict.fromkeys(UNITS, "active")
    tracing = machine.root / "sys/kernel/tracing"
    tracing.mkdir(parents=True)
    (tracing / "enabled_functions").write_text("unix_ioctl (1) R I klp_ftrace_handler\nschedule (1) trampoline\n")
    sync.update(machine.host())
    (machine.root / "sys/kernel/livepatch/kmend_1/vmlinux/unix_ioctl,1").mkdir(parents=True)
    found = examine(machine.host(), tmp_path / "out.tar.gz")
    assert found.well
    assert set(outcomes(found).values()) == {Outcome.OK}
    assert "1 functions are traced by others" in next(one.detail for one in found.symptoms if one.what == "others")
    assert (tmp_path / "out.tar.gz").stat().st_mode & 0o777 == 0o600
    texts = contents(tmp_path / "out.tar.gz")
    assert '"phase": "applied"' in texts["status.json"]
    assert "livepatch: enabling patch 'kmend_1'" in texts["kernel-log"]


def test_a_host_where_all_is_wrong(tmp_path):
    """Not enrolled, broken settings and state, no units: each is named, and the archive is written."""
    fake = FakeMachine(tmp_path / "machine")
    for name, text in (("etc/kmend/agent.toml", "soak = 1"), ("var/lib/kmend/state.json", "{half")):
        (fake.root / name).parent.mkdir(parents=True, exist_ok=True)
        (fake.root / name).write_text(text)
    fake.foreign("kpatch_1")
    (fake.root / "sys/kernel/tracing").mkdir()
    (fake.root / "sys/kernel/tracing/enabled_functions").touch()
    (fake.root / "dev/kmsg").unlink()
    found = examine(fake.host(), tmp_path / "out.tar.gz")
    assert not found.well
    wrong = {what for what, outcome in outcomes(found).items() if outcome == Outcome.PROBLEM}
    assert wrong == {"others", "settings", "enrolment", "memory", "repository", "kernel log", "units"}
    assert "{half" in contents(tmp_path / "out.tar.gz")["state.json"]


def test_what_cannot_be_told(machine, tmp_path):
    """No tracefs and no systemd are unknown, not a problem."""
    machine.around.units = dict.fromkeys(UNITS)
    found = examine(machine.host(), tmp_path / "out.tar.gz")
    assert found.well
    unknown = {what for what, outcome in outcomes(found).items() if outcome == Outcome.UNKNOWN}
    assert unknown == {"others", "units"}


def test_no_secret_leaves(machine, tmp_path):
    """Whatever file it stands in."""
    (machine.root / "etc/kmend/agent.toml").write_text(
        'repository = "https://user:SECRET2@repo.example/x?sig=SECRET3"\n# password = "SECRET4"\n'
    )
    (machine.root / "etc/kmend/credential").write_text("SECRET5")
    (machine.root / "proc/cmdline").write_text("ro luks.key=SECRET6 panic=10 kmend=off\n")
    machine.log("audit: SECRET7 has logged in")
    machine.log("livepatch: token=SECRET8")
    found = examine(machine.host(), tmp_path / "out.tar.gz")
    texts = contents(tmp_path / "out.tar.gz")
    everything = "\n".join([*texts.values(), *(one.detail for one in found.symptoms)])
    assert "SECRET" not in everything
    assert "panic=10 kmend=off" in texts["command-line"]
    assert "repo.example/x" in texts["agent.toml"]


@pytest.mark.parametrize(
    "text",
    [
        "https://u:SECRET@h/p",
        "http://SECRET@h:80/",
        "https://u:SECRET@x@h/p",
        "https://h/p?X-Amz-Signature=SECRET&a=b",
        "token: SECRET",
        '{"api_token": "SECRET, and more SECRET"}',
        "KMEND_PASSWORD=SECRET",
        "client_secret = 'SECRET'",
        "Authorization: Bearer SECRET.SECRET",
        "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\nSECRET",
    ],
)
def test_redacted(text):
    """Each kind of secret is gone."""
    assert "SECRET" not in redacted(text)


@pytest.mark.parametrize(
    "text", ["https://h/p/a.ko", "livepatch 3 closes 2 CVEs", "phase: applied", "6.1.0-47 @ 12:00"]
)
def test_what_is_kept(text):
    """Harmless text stays as it is."""
    assert redacted(text) == text
