"""The databases of older rpm: Berkeley DB's by its own tools, ndb's as rpm's own code writes it."""

import shutil
import struct
import subprocess
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmend.linux.facts.rpm import rpm
from kmend.linux.facts.rpm_older import berkeley, ndb
from makers.rpm import GOOD, header

LOAD = shutil.which("db5.3_load")
LONG = [header(name=f"long{number}", version="1", summary="x" * (3000 * number)) for number in range(1, 30)]
"""From such as lie on a page of items up to chains of many pages."""
ROWS = [GOOD, *LONG]


def berkeley_made(folder, rows, *, page=4096, order=1234):
    """The bytes of a hash that Berkeley DB itself has written, with the row that counts, as rpm has it."""
    if LOAD is None:
        pytest.skip("Debian's db5.3-util is not here")
    head = f"VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page}\ndb_lorder={order}\nHEADER=END\n"
    counter = struct.pack("<I", len(rows))
    pairs = [(bytes(4), counter)] + [(struct.pack("<I", at), row) for at, row in enumerate(rows, 1)]
    text = head + "".join(f" {key.hex()}\n {value.hex()}\n" for key, value in pairs) + "DATA=END\n"
    file = folder / "Packages"
    file.unlink(missing_ok=True)
    subprocess.run([LOAD, file], input=text, text=True, check=True, cwd=folder)
    return file.read_bytes()


def ndb_made(rows, *, pages=1, gap=0):
    """The bytes of an ndb database: each row behind the last, or with free slots and blocks between them."""
    slots, blobs = [], b""
    for number, row in enumerate(rows, 1):
        slots += [struct.pack("<4sIII", b"Slot", 0, 0, 0)] * gap
        blobs += bytes(16 * gap)
        blob = struct.pack("<4sIII", b"BlbS", number, 7, len(row)) + row
        blob += bytes(-(len(blob) + 12) % 16)
        blob += struct.pack("<II4s", zlib.adler32(blob), len(row), b"BlbE")
        slots.append(struct.pack("<4sIII", b"Slot", number, pages * 256 + len(blobs) // 16, len(blob) // 16))
        blobs += blob
    slots += [struct.pack("<4sIII", b"Slot", 0, 0, 0)] * (pages * 256 - 2 - len(slots))
    return struct.pack("<4s7I", b"RpmP", 0, 1, pages, len(rows) + 1, 0, 0, 0) + b"".join(slots) + blobs


@pytest.fixture(scope="module")
def hashed(tmp_path_factory):
    """A good hash of Berkeley DB's."""
    return berkeley_made(tmp_path_factory.mktemp("hash"), ROWS)


@pytest.mark.parametrize("page", [512, 4096, 65536])
@pytest.mark.parametrize("order", [1234, 4321])
def test_what_berkeley_db_wrote(tmp_path, page, order):
    """Every row, whatever its length, once; without the counter. Of a machine of the other byte order, too."""
    content = berkeley_made(tmp_path, ROWS, page=page, order=order)
    assert sorted(berkeley(content)) == sorted(ROWS)
    assert sorted(one.name for one in rpm(content)) == sorted(["bash", *(f"long{at}" for at in range(1, 30))])


def test_what_berkeley_db_wrote_for_many(tmp_path):
    """Buckets that were split often."""
    rows = [header(name=f"p{number}", version="1", summary="x" * (number % 900)) for number in range(5000)]
    assert sorted(berkeley(berkeley_made(tmp_path, rows))) == sorted(rows)


def test_the_real_rpm_reads_the_same(tmp_path):
    """Debian's rpm can still read such a database: the names are what it says."""
    if shutil.which("rpm") is None:
        pytest.skip("Debian's rpm is not here")
    content = berkeley_made(tmp_path, LONG)
    words = ["rpm", "--dbpath", tmp_path, "--define", "_db_backend bdb_ro", "-qa", "--qf", "%{name}\n"]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    assert len(said) == len(LONG)
    assert sorted(said) == sorted(one.name for one in rpm(content))


@pytest.mark.parametrize(("pages", "gap"), [(1, 0), (1, 3), (4, 9)])
def test_what_ndb_holds(pages, gap):
    """In the order of its slots; those that are free are left out."""
    content = ndb_made(ROWS, pages=pages, gap=gap)
    assert list(ndb(content)) == ROWS
    assert len(rpm(content)) == len(ROWS)


def changed(content, at, form, *values):
    """With other numbers at a place."""
    size = struct.calcsize(form)
    return content[:at] + struct.pack(form, *values) + content[at + size :]


@pytest.mark.parametrize(
    ("at", "form", "value", "why"),
    [
        (20, "<I", 4095, "as rpm makes them"),
        (24, "<B", 1, "as rpm makes them"),
        (25, "<B", 9, "as rpm makes them"),
        (26, "<B", 1, "as rpm makes them"),
        (32, "<I", 2**32 - 1, "cut off"),
    ],
)
def test_a_hash_whose_head_lies(hashed, at, form, value, why):
    """Kinds of files that rpm does not make, and such as end too early."""
    with pytest.raises(ValueError, match=why):
        rpm(changed(hashed, at, form, value))


def pages_of(content, kind):
    """Where the pages of a kind begin."""
    return [at for at in range(0, len(content), 4096) if content[at + 25] == kind]


def test_a_hash_whose_rows_lie(hashed):
    """Chains that go round, end early, leave the file; items that overlap; the same bytes for many rows."""
    chain = next(at for at in pages_of(hashed, 7) if struct.unpack_from("<I", hashed, at + 16)[0])
    for number, why in ((chain // 4096, "not as long|interrupted|longer"), (0, "not as long"), (2**31, "outside")):
        with pytest.raises(ValueError, match=why):
            rpm(changed(hashed, chain + 16, "<I", number))
    for used in (0, 5000):
        with pytest.raises(ValueError, match="interrupted"):
            rpm(changed(hashed, chain + 22, "<H", used))
    items = next(at for at in pages_of(hashed, 13) if struct.unpack_from("<H", hashed, at + 20)[0] >= 2)
    for at, form, value in ((20, "<H", 3), (20, "<H", 60000), (26, "<H", 1), (28, "<H", 5000)):
        with pytest.raises(ValueError, match=r"do not fit|cut off"):
            rpm(changed(hashed, items + at, form, value))
    elsewhere = next(
        at + offset
        for at in pages_of(hashed, 13)
        for offset in struct.unpack_from(f"<{struct.unpack_from('<H', hashed, at + 20)[0]}H", hashed, at + 26)
        if hashed[at + offset] == 3
    )
    with pytest.raises(ValueError, match="longer than it is"):
        rpm(changed(hashed, elsewhere + 8, "<I", 2**31))
    with pytest.raises(ValueError, match="no kind"):
        rpm(changed(hashed, elsewhere, "<B", 4))


@pytest.mark.parametrize(
    ("at", "form", "value", "why"),
    [
        (4, "<I", 1, "version 1"),
        (12, "<I", 0, "cut off"),
        (12, "<I", 2**32 - 1, "cut off"),
        (32, "<I", 0, "a slot is none"),
        (40, "<I", 3, "outside"),
        (40, "<I", 2**32 - 1, "cut off"),
        (44, "<I", 2**32 - 1, "longer than it is"),
        (44, "<I", 1, "cut off"),
        (36, "<I", 9, "not as it was written"),
        (4096, "<I", 0, "not as it was written"),
        (4096 + 12, "<I", 2**32 - 1, "not as it was written"),
        (4096 + 20, "<I", 7, "not as it was written"),
    ],
)
def test_an_ndb_that_lies(at, form, value, why):
    """In its head, its slots and its rows."""
    with pytest.raises(ValueError, match=why):
        rpm(changed(ndb_made(ROWS), at, form, value))


def test_one_blob_for_many_slots():
    """So a small file would be read as a large one."""
    content = ndb_made([LONG[-1]])
    slot = content[32:48]
    with pytest.raises(ValueError, match="longer than it is"):
        rpm(content[:48] + slot * 100 + content[48 + 1600 :])


@given(data=st.data())
def test_bytes_that_are_changed(hashed, data):
    """Packages, or an error that is foreseen; cut off anywhere, too."""
    good = data.draw(st.sampled_from([hashed, ndb_made(ROWS[:5])]))
    bad = bytearray(good[: data.draw(st.integers(0, len(good)))] if data.draw(st.booleans()) else good)
    places = st.tuples(st.integers(0, 2**20) | st.integers(0, 200), st.integers(0, 255))
    for place, value in data.draw(st.lists(places, max_size=20)):
        if bad:
            bad[place % len(bad)] = value
    with suppress(ValueError):
        assert all(one.name and one.origin == "rpm" for one in rpm(bytes(bad)))
