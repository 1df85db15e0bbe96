"""The agent's Debian package: what is in it, and that Debian's own tools install, upgrade, remove and purge it."""

import gzip
import hashlib
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kmend import __version__
from kmend.agent.config import Paths
from kmend.agent.settings import KEYS, Settings, load_settings
from kmend.cli.agent.verb import agent

ROOT = Path(__file__).parents[3]
MAKER = ROOT / "packaging/make-agent-deb"
# Later than any file that is made here, so that nothing but the maker sets the times.
EPOCH = 2_000_000_000
UNITS = ("kmend-agent.service", "kmend-orderly.service")
WANTED = "etc/systemd/system/multi-user.target.wants"
LIVEPATCH = "sys/kernel/livepatch/kmend_7"


def make(folder, **env):
    """Make the package as `make deb` does."""
    words = [sys.executable, MAKER, folder]
    environ = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **env}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environ)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package."""
    folder = tmp_path_factory.mktemp("deb")
    done = make(folder)
    assert done.returncode == 0, done.stderr
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def unpacked(package, tmp_path_factory):
    """Its files."""
    folder = tmp_path_factory.mktemp("unpacked")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
    return folder


@pytest.fixture
def maker():
    """The script as a module."""
    loader = importlib.machinery.SourceFileLoader("make_agent_deb", str(MAKER))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_agent_deb", loader))
    write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = write
    return module


def field(package, name):
    """One control field."""
    words = ["dpkg-deb", "-f", package, name]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def listed(package):
    """Path → (mode, owner, time) of everything in it."""
    words = ["dpkg-deb", "-c", package]
    shown = subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"})
    rows = [line.split(maxsplit=5) for line in shown.stdout.splitlines()]
    return {row[5].removeprefix("."): (row[0], row[1], f"{row[3]} {row[4]}") for row in rows}


def test_control_fields(package):
    """Its name, version and architecture, and the Python that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert package.name == f"kmend-agent_{__version__}-1_all.deb"
    assert field(package, "Package") == "kmend-agent"
    assert field(package, "Version") == f"{__version__}-1"
    assert field(package, "Architecture") == "all"
    assert field(package, "Depends") == f"python3 ({project['requires-python'].replace('>=', '>= ')})"
    assert 1000 < int(field(package, "Installed-Size")) < 4000
    assert all(len(line) <= 80 for line in field(package, "Description").splitlines())


def test_contents(package):
    """The program, the units and the settings, all root's, only the program executable, times by the epoch."""
    files = listed(package)
    day = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%d %H:%M")
    assert {(owner, moment) for _, owner, moment in files.values()} == {("root/root", day)}
    modes = {path: mode for path, (mode, *_) in files.items() if not path.endswith("/")}
    assert modes.pop("/usr/bin/kmend-agent") == "-rwxr-xr-x"
    assert set(modes.values()) == {"-rw-r--r--"}
    assert {mode for path, (mode, *_) in files.items() if path.endswith("/")} == {"drwxr-xr-x"}
    outside = {path for path in modes if not path.startswith("/usr/share/doc/kmend-agent/")}
    outside.remove("/usr/share/man/man8/kmend-agent.8.gz")
    assert outside == {"/etc/kmend/agent.toml", *(f"/usr/lib/systemd/system/{unit}" for unit in UNITS)}


def test_sums_and_settings_in_the_control_part(package, unpacked, tmp_path):
    """agent.toml is the only settings file; every other file has its sum."""
    subprocess.run(["dpkg-deb", "-e", package, tmp_path], check=True)
    assert (tmp_path / "conffiles").read_text() == "/etc/kmend/agent.toml\n"
    sums = dict(reversed(line.split("  ")) for line in (tmp_path / "md5sums").read_text().splitlines())
    files = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert set(sums) == files - {"etc/kmend/agent.toml"}
    for name, digest in sums.items():
        assert hashlib.md5((unpacked / name).read_bytes(), usedforsecurity=False).hexdigest() == digest
    for script in ("postinst", "prerm", "postrm"):
        assert (tmp_path / script).stat().st_mode & 0o777 == 0o755
        subprocess.run(["sh", "-n", tmp_path / script], check=True)


def test_the_units_are_the_ones_in_packaging_and_find_the_program(unpacked):
    """What the units start is in the package."""
    for name in UNITS:
        unit = unpacked / "usr/lib/systemd/system" / name
        assert unit.read_bytes() == (ROOT / "packaging" / name).read_bytes()
        started = re.findall(r"^Exec(?:Start|Stop)=(\S*kmend\S*)", unit.read_text(), re.MULTILINE)
        assert started == ["/usr/bin/kmend-agent"]


def test_the_program_runs_by_itself_with_debians_python(unpacked, tmp_path):
    """Its first line keeps the environment and other libraries out."""
    program = unpacked / "usr/bin/kmend-agent"
    assert program.read_bytes().split(b"\n", 1)[0] == b"#!/usr/bin/python3 -IS"
    (tmp_path / "click.py").write_text("raise SystemExit('not this one')")
    environ = {"PYTHONPATH": str(tmp_path), "PATH": "/nowhere", "LC_ALL": "C.UTF-8"}
    for word, said in (("--version", __version__), ("--help", "update")):
        words = [program, word]
        done = subprocess.run(words, check=True, capture_output=True, text=True, env=environ, cwd=tmp_path)
        assert said in done.stdout


def test_the_settings_change_nothing(unpacked):
    """As installed the file says nothing that is not the default anyway."""
    assert load_settings(unpacked / "etc/kmend/agent.toml") == Settings()


def test_the_settings_show_every_key(unpacked, tmp_path):
    """Each key is there once, in order; without its # it is valid, and where it says Default it is the default."""
    text = (unpacked / "etc/kmend/agent.toml").read_text()
    lines = re.findall(r"^#((\w+) = .+)$", text, re.MULTILINE)
    assert sorted(key for _, key in lines) == sorted(KEYS)
    for line, key in lines:
        (tmp_path / "one.toml").write_text(line)
        above = re.search(rf"^# .*(Defaults?|Examples?):\n(?:#\w.*\n)*?#{key} = ", text, re.MULTILINE)
        assert above, key
        assert (load_settings(tmp_path / "one.toml") == Settings()) == above[1].startswith("Default"), key


def test_the_terms_of_every_library_are_there(unpacked):
    """The copyright file names kmend's licence and each library that the program carries."""
    text = (unpacked / "usr/share/doc/kmend-agent/copyright").read_text()
    assert "/usr/share/common-licenses/GPL-2" in text
    locked = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", (ROOT / "requirements-agent.txt").read_text(), re.MULTILINE)
    assert len(locked) > 5
    for name, version in locked:
        assert f"\n{name.replace('-', '_')} {version}, LICENSE" in text
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION" not in text, "Debian has that text already"


def test_the_manual_page_has_every_verb_and_option(unpacked):
    """It is made from the program, and says nothing about what is hidden."""
    text = gzip.decompress((unpacked / "usr/share/man/man8/kmend-agent.8.gz").read_bytes()).decode()
    for verb, command in agent.commands.items():
        marked = verb.replace("-", "\\-")
        assert (f"\n.B {marked}\n" in text) == (not command.hidden)
    assert "\n.B \\-\\-despite\\-quarantine\n" in text
    assert text.isascii()


def test_the_manual_page_escapes_what_would_be_a_request(maker):
    """A line that begins with a dot or an apostrophe is text."""
    assert maker.plain(".SH a-b\n'c\\d") == "\\&.SH a\\-b\n\\&'c\\ed"


def test_the_changelog_is_debians_form(unpacked, tmp_path):
    """dpkg-parsechangelog, where it is installed, reads it; version, moment and points come from CHANGELOG.md."""
    path = unpacked / "usr/share/doc/kmend-agent/changelog.Debian.gz"
    assert path.read_bytes()[4:8] == bytes(4), "gzip's own time is left out"
    text = gzip.decompress(path.read_bytes()).decode()
    assert text.startswith(f"kmend-agent ({__version__}-1) ")
    assert text.count("\n  * ") == len(re.findall(r"^- ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    if shutil.which("dpkg-parsechangelog"):
        (tmp_path / "changelog").write_text(text)
        words = ["dpkg-parsechangelog", "-l", tmp_path / "changelog", "-S", "Timestamp"]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (f"{EPOCH}\n", "")


def test_released_versions_have_entries_of_their_own(maker, monkeypatch):
    """A released version has its own day; a long point is wrapped."""
    monkeypatch.setattr(maker, "__version__", "0.2.0")
    monkeypatch.setattr(maker, "VERSION", "0.2.0-1")
    long = "- " + "word " * 20 + "\n  more\n"
    text = maker.debian_changelog(
        f"# C\n\n## Unreleased\n\n- new\n\n## 0.1.0 (2026-12-01)\n\n{long}", datetime.fromtimestamp(EPOCH, UTC)
    )
    first, second = text.split("kmend-agent (")[1:]
    assert first.startswith("0.2.0-1) UNRELEASED;")
    assert second.startswith("0.1.0-1) unstable;")
    assert second.rstrip().endswith("Tue, 01 Dec 2026 00:00:00 +0000")
    assert "word\n    word" in second
    assert "word more\n" in second


@pytest.mark.parametrize("text", ["# C\n", "# C\n\n## 0.0.9 (2026-12-01)\n\n- old\n", "# C\n\n## Soon\n\n- x\n"])
def test_a_changelog_that_does_not_fit(maker, text):
    """No entry for this version, or a heading that nobody understands: no package."""
    with pytest.raises(SystemExit, match=r"CHANGELOG\.md"):
        maker.debian_changelog(text, datetime.fromtimestamp(EPOCH, UTC))


def test_the_same_bytes_every_time(package, tmp_path):
    """Made again elsewhere, with another umask, group, time zone and hash seed, the package is the same."""
    (tmp_path / "again").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "again", 0, 1)
        (tmp_path / "again").chmod(0o2755)
    before = os.umask(0o077)
    try:
        done = make(tmp_path / "again", PYTHONHASHSEED="7", TZ="Asia/Tokyo")
    finally:
        os.umask(before)
    assert done.returncode == 0, done.stderr
    (again,) = (tmp_path / "again").iterdir()
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(package.read_bytes()).digest()


def test_a_moment_that_is_none(tmp_path):
    """SOURCE_DATE_EPOCH must be seconds; nothing is left behind."""
    done = make(tmp_path / "out", SOURCE_DATE_EPOCH="yesterday")
    assert done.returncode == 1
    assert "SOURCE_DATE_EPOCH is 'yesterday'" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_manual_names_the_file_that_make_deb_leaves(package):
    """What is to be typed on the host, and the make target, are there."""
    manual = (ROOT / "docs/howto/agent.md").read_text()
    assert set(re.findall(r"kmend-agent_\d\S*\.deb", manual)) == {package.name}
    assert "\nmake deb\n" in manual
    assert re.search(r"^deb:.*\n\t.*packaging/make-agent-deb$", (ROOT / "Makefile").read_text(), re.MULTILINE)


class Dpkg:
    """dpkg on a root folder of its own; its scripts get DPKG_ROOT and touch nothing else."""

    def __init__(self, root):
        """An empty system."""
        self.root = root
        for folder in ("var/lib/dpkg/updates", "var/lib/dpkg/info", "run", "etc"):
            (root / folder).mkdir(parents=True)
        (root / "var/lib/dpkg/status").touch()

    def __call__(self, *words):
        """Run dpkg and give back what it and the scripts said."""
        forced = ["--force-script-chrootless", "--force-not-root", "--force-depends", "--force-bad-path"]
        args = ["dpkg", f"--root={self.root}", *forced, f"--log={self.root}/dpkg.log", *words]
        environ = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(args, capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def put(self, name, content=""):
        """A file on that system."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def has(self, name):
        """Whether something is there, be it a link to nowhere."""
        return os.path.lexists(self.root / name)


@pytest.fixture
def dpkg(tmp_path):
    """A system without the agent."""
    return Dpkg(tmp_path / "system")


def kept_paths(root):
    """Every file that the agent keeps, whatever is added to Paths; one in each of its folders."""
    paths = Paths(root=root)
    every = {getattr(paths, name) for name, value in vars(Paths).items() if isinstance(value, property)}
    folders = {paths.seen, paths.copy}
    inside = {folder / "inside" for folder in folders}
    return (every - folders - {paths.library, paths.switch, paths.settings}) | inside


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


FAKE = """#!/bin/sh
echo "${0##*/} $*" >> /said
[ "$*" != "is-active kmend-agent.service" ] || cat /active
"""
PROGRAMS = ("systemctl", "deb-systemd-helper", "deb-systemd-invoke")
APPLETS = ("sh", "cat", "echo", "rm", "rmdir", "touch")


class Booted:
    """A system in which systemd seems to run, in a folder: its programs only note what they are asked for."""

    def __init__(self, root, *, package, programs=PROGRAMS):
        """Busybox, the programs, the package's scripts."""
        self.root = root
        for folder in ("bin", "dev", "run/systemd/system", "etc/kmend", "var/lib/kmend"):
            (root / folder).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        for program in programs:
            (root / "bin" / program).write_text(FAKE)
            (root / "bin" / program).chmod(0o755)
        (root / "active").write_text("active\n")
        subprocess.run(["dpkg-deb", "-e", package, root / "scripts"], check=True)

    def __call__(self, script, *words):
        """Run a script; what it asked systemd for."""
        (self.root / "said").write_text("")
        inside = ["chroot", self.root, "/bin/sh", f"/scripts/{script}", *words]
        args = inside if os.geteuid() == 0 else ["unshare", "--map-root-user", *inside]
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(args, capture_output=True, text=True, check=False, env=environ)
        assert done.returncode == 0, done.stderr
        return (self.root / "said").read_text().splitlines()


def may_chroot():
    """Whether this user may run something in another root folder."""
    if os.geteuid() == 0:
        words = ["chroot", "/", "/bin/busybox", "true"]
    else:
        words = ["unshare", "--map-root-user", "chroot", "/", "/bin/busybox", "true"]
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    try:
        return subprocess.run(words, capture_output=True, check=False, env=environ).returncode == 0
    except OSError:
        return False


needs_chroot = pytest.mark.skipif(not may_chroot(), reason="no other root folder may be entered here")


@pytest.fixture
def booted(tmp_path, package):
    """A running system, enrolled."""
    made = Booted(tmp_path / "booted", package=package)
    (made.root / "etc/kmend/agent.json").touch()
    return made


STARTED = "deb-systemd-invoke start kmend-orderly.service kmend-agent.service"


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


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian_finds_no_error(package):
    """Debian's own checker."""
    done = subprocess.run(["lintian", "--fail-on", "error", package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
