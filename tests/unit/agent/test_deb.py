"""The agent's Debian package: what is in it, and that it is the same every time."""

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

import pytest

from kmend import __version__
from kmend.agent.settings import KEYS, Settings, load_settings
from kmend.cli.agent.verb import agent
from makers.packages import EPOCH, MAKER, ROOT, make, make_package

UNITS = ("kmend-agent.service", "kmend-orderly.service")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package."""
    return make_package(tmp_path_factory.mktemp("deb"))


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


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian_finds_no_error(package):
    """Debian's own checker."""
    done = subprocess.run(["lintian", "--fail-on", "error", package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
