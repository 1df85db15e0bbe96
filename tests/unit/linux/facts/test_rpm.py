"""rpm's database: of the real rpm, and of whoever made the image."""

import shutil
import sqlite3
import struct
import subprocess
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.linux.facts.rpm import rpm
from makers.rpm import GOOD, STRING, header

SPEC = """\
Name: {name}
Version: {version}
Release: 1.el9
{epoch}
Summary: A made package
License: none
BuildArch: noarch
%description
Nothing.
{more}
%files
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """The file that the real rpm leaves after two installations, with a log beside it as long as it is open."""
    if shutil.which("rpmbuild") is None:
        pytest.skip("Debian's rpm is not here")
    folder = tmp_path_factory.mktemp("rpm")
    for name, version, epoch, more in (
        ("kmend-made", "1.2~rc1", "Epoch: 3", "%package libs\nSummary: x\n%description libs\nx\n%files libs"),
        ("plain", "7", "", ""),
    ):
        spec = folder / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version=version, epoch=epoch, more=more))
        define = ["--define", f"_topdir {folder}", "--define", "_build_id_links none"]
        subprocess.run(["rpmbuild", "-bb", *define, spec], check=True, capture_output=True)
    packages = sorted(folder.rglob("RPMS/**/*.rpm"))
    assert len(packages) == 3
    install = ["rpm", "--dbpath", folder / "db", "--define", "_db_backend sqlite", "--root", folder / "root"]
    (folder / "root").mkdir()
    subprocess.run([*install, "-i", "--justdb", "--nodeps", *packages], check=True, capture_output=True)
    return next(folder.rglob("rpmdb.sqlite")).read_bytes()


def test_what_the_real_rpm_installed(database):
    """Name, epoch, version and release, and the source that a package was built from."""
    found = {one.name: (one.version, one.source, one.origin) for one in rpm(database)}
    assert found == {
        "kmend-made": ("3:1.2~rc1-1.el9", "kmend-made", "rpm"),
        "kmend-made-libs": ("3:1.2~rc1-1.el9", "kmend-made", "rpm"),
        "plain": ("7-1.el9", "plain", "rpm"),
    }


def made(tmp_path, *rows, schema="CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB)", wal=False):
    """The bytes of a database."""
    file = tmp_path / "made.sqlite"
    file.unlink(missing_ok=True)
    connection = sqlite3.connect(file)
    if wal:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.executescript(schema)
    if rows:
        connection.executemany("INSERT INTO Packages (blob) VALUES (?)", [(row,) for row in rows])
    connection.commit()
    connection.close()
    return file.read_bytes()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A good one of fifty rows."""
    return made(tmp_path_factory.mktemp("many"), *[GOOD] * 50)


@pytest.mark.parametrize("wal", [False, True])
def test_a_made_one(tmp_path, wal):
    """With a write-ahead log that was written back, too; keys of signers are no packages."""
    key = header(name="gpg-pubkey", version="1", release="2")
    bare = header(name="x", version="1")
    found = rpm(made(tmp_path, GOOD, key, bare, wal=wal))
    assert [(one.name, one.version, one.source) for one in found] == [
        ("bash", "1:5.1-2.el9", "bash"),
        ("x", "1", "x"),
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (b"", "no header"),
        ("text", "no header"),
        (7, "no header"),
        (None, "no header"),
        (struct.pack(">II", 1, 0), "more than it holds"),
        (struct.pack(">II", 2**32 - 1, 2**32 - 1) + bytes(100), "more than it holds"),
        (header(name="x"), "names no package"),
        (header(version="1"), "names no package"),
        (struct.pack(">IIIIII", 1, 0, 1000, STRING, 2**31, 1), "names no package"),
        (header(name=1, version=2), "names no package"),
        (bytes(17 << 20), "damaged"),
    ],
)
def test_rows_that_lie(tmp_path, row, why):
    """None of them is half read: a package that is missing would look like one that has no holes."""
    with pytest.raises(ValueError, match=why):
        rpm(made(tmp_path, GOOD, row))


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE p (blob); CREATE VIEW Packages (blob) AS SELECT blob FROM p",
        "CREATE VIRTUAL TABLE Packages USING fts5(blob)",
        "CREATE TABLE packages_of_another_name (blob); CREATE TEMP TABLE Packages (blob)",
    ],
)
def test_what_is_no_plain_table(tmp_path, schema):
    """It would run what the file says."""
    with pytest.raises(ValueError, match="no table of packages"):
        rpm(made(tmp_path, schema=schema))


def test_work_without_an_end_is_given_up(tmp_path, monkeypatch):
    """However the file brings it about."""
    monkeypatch.setattr("kmend.linux.facts.rpm._MOST_STEPS", 1)
    monkeypatch.setattr("kmend.linux.facts.rpm._STEPS", 1)
    with pytest.raises(ValueError, match="interrupted"):
        rpm(made(tmp_path, *[GOOD] * 100))


def test_too_many_packages(tmp_path, monkeypatch):
    """Memory is not the image's to fill."""
    monkeypatch.setattr("kmend.linux.facts.rpm._MOST_PACKAGES", 10)
    with pytest.raises(ValueError, match="more than 10 packages"):
        rpm(made(tmp_path, *[GOOD] * 11))


@pytest.mark.parametrize("cut", [0, 1, 50, 100, 1000, 4096, 5000])
def test_a_cut_database(tmp_path, cut):
    """An error, or all that is in it; never another exception."""
    with pytest.raises(ValueError, match=r"damaged|no table"):
        rpm(made(tmp_path, *[GOOD] * 200)[:cut])


@given(changes=st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=20))
def test_bytes_that_are_changed(many, changes):
    """Packages, or an error that is foreseen."""
    bad = bytearray(many)
    for place, value in changes:
        bad[place % len(bad)] = value
    with suppress(ValueError):
        assert all(one.name and one.origin == "rpm" for one in rpm(bytes(bad)))
