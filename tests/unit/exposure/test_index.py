"""All records at once: what is kept in the cache, and records that are damaged."""

import json
import shutil

import pytest

from kmend.exposure.index import read_all
from kmend.exposure.kev import read
from kmend.kit.errors import InputError
from kmend.kit.progress import Silent
from makers.exposures import cna_record, cve, write_cna

VECTOR = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"


class Steps(Silent):
    """Remembers the steps."""

    def __init__(self):
        self.seen = []

    def step(self, text):
        """Remember it."""
        self.seen.append(text)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """Two records; the cache lies beside them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return write_cna(tmp_path / "vulns", cve(1000, vector=VECTOR), cve(1001, "fs/a.c"))


def test_what_is_kept_says_the_same(clone):
    """The second look reads no record, and finds every field again."""
    first, second = Steps(), Steps()
    made, again = read_all(clone, progress=first), read_all(clone, progress=second)
    assert made == again
    assert (len(first.seen), second.seen) == (1, [])
    one = made.records[0]
    assert (one.cve, one.files, one.score, one.vector) == ("CVE-2026-1000", ("net/tipc/socket.c",), 7.8, VECTOR)
    assert one.rationale == "AV:L - from a process.\nC:H - all of it."
    assert one.affected == cve(1000).affected


def test_any_change_is_seen(clone):
    """A record that is changed, added or removed, is read."""
    before = read_all(clone, progress=Silent())
    write_cna(clone, cve(1001, "fs/changed.c"))
    changed = read_all(clone, progress=Silent())
    assert changed.records[1].files == ("fs/changed.c",)
    write_cna(clone, cve(1002))
    assert len(read_all(clone, progress=Silent()).records) == 3
    (clone / "cve/published/2026/CVE-2026-1002.json").unlink()
    left = read_all(clone, progress=Silent())
    assert left.records == changed.records != before.records


def test_archives_say_the_same_as_the_clone(clone, tmp_path):
    """By their size and time."""
    shutil.make_archive(str(tmp_path / "a"), "zip", clone)
    assert read_all(tmp_path / "a.zip", progress=Silent()).records == read_all(clone, progress=Silent()).records


def test_a_damaged_index_is_made_anew(clone, tmp_path):
    """Whatever stands in it; and only the last few are kept."""
    made = read_all(clone, progress=Silent())
    (kept,) = (tmp_path / "cache/kmend/records").glob("index-*.json")
    for content in (
        b"",
        b"{",
        b"[]",
        b'{"recipe": 1, "records": [["x"]], "unread": []}',
        b"\xff",
        b'{"recipe": 0}',
    ):
        kept.write_bytes(content)
        assert read_all(clone, progress=Silent()) == made
    for number in range(6):
        write_cna(clone, cve(2000 + number))
        read_all(clone, progress=Silent())
    assert len([*kept.parent.glob("index-*.json")]) == 4


def broken(**changes):
    """A record whose CNA part is changed."""
    made = cna_record(cve(1001))
    made["containers"]["cna"] |= changes
    return made


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "7",
        "[" * 100_000,
        broken(title=7),
        broken(affected=7),
        broken(affected=[7]),
        broken(affected=[{"programFiles": [7], "versions": []}]),
        broken(affected=[{"programFiles": ["../../etc/shadow"]}]),
        broken(affected=[{"programFiles": ["a.c"], "versions": [{"version": "1"}]}]),
        broken(affected=[{"programFiles": ["a.c"], "versions": 7}]),
        broken(metrics=[{"cvssV3_1": {"baseSeverity": "HIGH", "baseScore": 99}}]),
        broken(metrics=[{"cvssV3_1": {"baseSeverity": "HIGH", "baseScore": 9, "vectorString": "\x1b[2J"}}]),
        broken(metrics=7),
        broken(descriptions=7),
    ],
)
def test_one_damaged_record_harms_no_other(clone, content):
    """It is named with the reason, and the others are judged."""
    text = content if isinstance(content, str) else json.dumps(content)
    (clone / "cve/published/2026/CVE-2026-1001.json").write_text(text)
    found = read_all(clone, progress=Silent())
    assert [one.cve for one in found.records] == ["CVE-2026-1000"]
    assert [one.cve for one in found.unread] == ["CVE-2026-1001"]
    assert found.unread[0].why
    assert read_all(clone, progress=Silent()) == found


def test_a_place_without_records_is_refused(tmp_path, monkeypatch):
    """An empty folder, or none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError):
            read_all(path, progress=Silent())
    (tmp_path / "vulns/cve/published/2026").mkdir(parents=True)
    with pytest.raises(InputError, match="no published"):
        read_all(tmp_path / "vulns", progress=Silent())


def test_known_exploited(tmp_path):
    """CVE and day; other kinds of ids are left out."""
    path = tmp_path / "kev.json"
    rows = [{"cveID": "CVE-2024-1086", "dateAdded": "2024-05-30"}, {"cveID": "X", "dateAdded": "2024-05-30"}]
    path.write_text(json.dumps({"vulnerabilities": rows}))
    assert read(path) == {"CVE-2024-1086": "2024-05-30"}


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"vulnerabilities": [7]}', '{"vulnerabilities": 7}', "[" * 99999]
)
def test_other_files_are_not_that_list(tmp_path, content):
    """A clear refusal."""
    (tmp_path / "kev.json").write_text(content)
    with pytest.raises(InputError, match="known exploited"):
        read(tmp_path / "kev.json")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "none.json")
