"""The agent's Debian package on a system: installed, upgraded, removed and purged by Debian's own tools."""

import shutil

import pytest

from makers.packages import Booted, Dpkg, kept_paths, make_package, may_chroot

UNITS = ("kmend-agent.service", "kmend-orderly.service")
WANTED = "etc/systemd/system/multi-user.target.wants"
LIVEPATCH = "sys/kernel/livepatch/kmend_7"
STARTED = "deb-systemd-invoke start kmend-orderly.service kmend-agent.service"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package."""
    return make_package(tmp_path_factory.mktemp("deb"))


@pytest.fixture
def dpkg(tmp_path):
    """A system without the agent."""
    return Dpkg(tmp_path / "system")


@pytest.fixture
def enrolled(dpkg, package):
    """A system with the agent, enrolled, with everything that it remembers and a livepatch in the kernel."""
    dpkg("--install", package)
    for path in kept_paths(dpkg.root):
        dpkg.put(path.relative_to(dpkg.root))
    (dpkg.root / LIVEPATCH).mkdir(parents=True)
    return dpkg


needs_helper = pytest.mark.skipif(not shutil.which("deb-systemd-helper"), reason="deb-systemd-helper is missing")


@needs_helper
def test_install(dpkg, package):
    """Both units are enabled, and a host that is not enrolled is told what to do instead of being started."""
    said = dpkg("--install", package)
    assert "not enrolled, so the service is not started" in said
    assert "kmend-agent init --root root.json" in said
    for unit in UNITS:
        assert dpkg.has(f"{WANTED}/{unit}")
    shown = dpkg("--verify", "kmend-agent")
    assert shown == ""


@needs_helper
def test_upgrade_keeps_what_the_owner_decided(enrolled, package):
    """A unit that was disabled stays disabled, and agent.toml stays as it was edited."""
    enrolled.put("etc/kmend/agent.toml", "delay_hours = 24\n")
    (enrolled.root / WANTED / UNITS[0]).unlink()
    said = enrolled("--install", package)
    assert "not enrolled" not in said
    assert not enrolled.has(f"{WANTED}/{UNITS[0]}")
    assert enrolled.has(f"{WANTED}/{UNITS[1]}")
    assert (enrolled.root / "etc/kmend/agent.toml").read_text() == "delay_hours = 24\n"
    assert enrolled.has("var/lib/kmend/state.json")


def test_upgrade_of_a_service_that_was_stopped_by_hand(enrolled, package):
    """It stays stopped, once."""
    enrolled.put("run/kmend-agent.stopped-by-hand")
    assert "was stopped before and stays so" in enrolled("--install", package)
    assert "was stopped before" not in enrolled("--install", package)


def test_removal_keeps_livepatch_and_state_and_says_so(enrolled):
    """The program goes; the livepatch stays in the kernel, which is said with the way to take it out."""
    said = enrolled("--remove", "kmend-agent")
    assert "the livepatch kmend_7 stays in the kernel" in said
    assert "/sys/kernel/livepatch/kmend_7/enabled" in said
    assert enrolled.has(LIVEPATCH)
    assert not enrolled.has("usr/bin/kmend-agent")
    for kept in ("etc/kmend/agent.toml", "etc/kmend/agent.json", "var/lib/kmend/state.json"):
        assert enrolled.has(kept)


def test_purge_forgets_everything_of_the_agent(enrolled):
    """Enrolment, settings, state and links are gone, the two folders too."""
    enrolled.put("var/lib/kmend/.state.json.abc")
    enrolled("--purge", "kmend-agent")
    for gone in ("etc/kmend", "var/lib/kmend", *(f"{WANTED}/{unit}" for unit in UNITS)):
        assert not enrolled.has(gone), gone


def test_purge_leaves_what_is_not_the_agents(enrolled):
    """The watcher's settings and work folders, and the owner's kill switch, stay; the switch is named."""
    others = ("etc/kmend/watch.toml", "etc/kmend/disabled", "var/lib/kmend/repo/timestamp.json")
    for other in others:
        enrolled.put(other)
    said = enrolled("--purge", "kmend-agent")
    assert "/etc/kmend/disabled stays" in said
    assert all(enrolled.has(other) for other in others)
    assert sorted(path.name for path in (enrolled.root / "etc/kmend").iterdir()) == ["disabled", "watch.toml"]
    assert [path.name for path in (enrolled.root / "var/lib/kmend").iterdir()] == ["repo"]


needs_chroot = pytest.mark.skipif(not may_chroot(), reason="no other root folder may be entered here")


@pytest.fixture
def booted(tmp_path, package):
    """A running system, enrolled."""
    made = Booted(tmp_path / "booted", package=package)
    (made.root / "etc/kmend/agent.json").touch()
    return made


@needs_chroot
def test_an_enrolled_host_is_started(booted):
    """First the units are read anew, then both are started."""
    said = booted("postinst", "configure")
    assert said[-2:] == ["systemctl --system daemon-reload", STARTED]


@needs_chroot
def test_a_host_that_is_not_enrolled_is_not_started(booted):
    """Enabled only."""
    (booted.root / "etc/kmend/agent.json").unlink()
    said = booted("postinst", "configure")
    assert "deb-systemd-helper enable kmend-agent.service" in said
    assert not [line for line in said if " start " in line]


@needs_chroot
def test_an_upgrade_stops_and_starts(booted):
    """The agent's file is not replaced under it; a failed service is started again as well."""
    for state in ("active", "activating", "failed"):
        (booted.root / "active").write_text(f"{state}\n")
        assert booted("prerm", "upgrade", "9.9")[-1] == "deb-systemd-invoke stop kmend-agent.service"
        assert booted("postinst", "configure", "0.1.0-1")[-1] == STARTED


@needs_chroot
def test_an_upgrade_leaves_a_stopped_service_alone(booted):
    """Who stopped the service by hand does not find it started by an upgrade, failed or not."""
    (booted.root / "active").write_text("inactive\n")
    for words in (("configure", "0.1.0-1"), ("abort-upgrade", "9.9")):
        booted("prerm", "upgrade", "9.9")
        assert STARTED not in booted("postinst", *words)
    assert booted("postinst", "configure", "0.1.0-1")[-1] == STARTED, "an installation after a removal starts it"


@needs_chroot
def test_a_removal_stops_both(booted):
    """The agent first."""
    assert booted("prerm", "remove") == ["deb-systemd-invoke stop kmend-agent.service kmend-orderly.service"]
    assert booted("postrm", "remove") == ["systemctl --system daemon-reload"]


@needs_chroot
def test_without_debians_tools(tmp_path, package):
    """The program systemctl is enough; a unit that was disabled is not enabled by an upgrade."""
    bare = Booted(tmp_path / "bare", package=package, programs=("systemctl",))
    (bare.root / "etc/kmend/agent.json").touch()
    units = "kmend-orderly.service kmend-agent.service"
    enabled = f"systemctl --quiet --root=/ enable {units}"
    begun = ["systemctl --system daemon-reload", f"systemctl start {units}"]
    assert bare("postinst", "configure") == [enabled, *begun]
    assert bare("postinst", "configure", "0.1.0-1") == begun
    assert bare("prerm", "remove") == ["systemctl stop kmend-agent.service kmend-orderly.service"]


@needs_chroot
def test_without_systemd(tmp_path, package):
    """Nothing to ask: the scripts succeed all the same."""
    bare = Booted(tmp_path / "bare", package=package, programs=())
    (bare.root / "run/systemd/system").rmdir()
    (bare.root / "etc/kmend/agent.json").touch()
    for words in (("postinst", "configure"), ("prerm", "upgrade", "9"), ("prerm", "remove"), ("postrm", "purge")):
        assert bare(*words) == []
    assert not (bare.root / "etc/kmend").exists()
