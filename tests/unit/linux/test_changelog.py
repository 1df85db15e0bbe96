"""Debian's kernel changelog: which CVEs a version closed."""

import gzip

import pytest

from kmend.kit.errors import InputError
from kmend.linux import changelog

TEXT = """\
linux (6.1.192-2) bookworm-security; urgency=high

  * ext4: fix NULL folio dereference in mballoc (Closes: #1154101)

 -- Salvatore Bonaccorso <carnil@debian.org>  Mon, 16 Nov 2026 11:17:40 +0100

linux (6.1.192-1) bookworm-security; urgency=high

  * New upstream stable update:
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.191
    - io_uring/io-wq: don't hide a link from cancellations (CVE-2026-99255)
    - smb: client: fix OOB read/write from unvalidated DataOffset in
      coalesce_t2() (CVE-2026-89633)
    https://www.kernel.org/pub/linux/kernel/v6.x/ChangeLog-6.1.192
    - [amd64] Mitigations Transitive Scheduler Attacks (TSA) (CVE-2024-36350,
      CVE-2024-36357)
      + x86/bugs: Rename MDS machinery to something more generic

  [ Ben Hutchings ]
  * xen/netback: don't call kfree_skb() with interrupts disabled (XSA-424,
    CVE-2022-42328, CVE-2022-42329)

 -- Salvatore Bonaccorso <carnil@debian.org>  Sat, 14 Nov 2026 11:17:40 +0100

linux (6.1.190-1) bookworm-security; urgency=high

  * New upstream stable update:
    - net: fix something else (CVE-2026-10000)

 -- Salvatore Bonaccorso <carnil@debian.org>  Sat, 07 Nov 2026 11:17:40 +0100
"""


@pytest.fixture
def items():
    """The items of the changelog above."""
    return tuple(changelog.parse(TEXT.splitlines()))


def test_an_item_has_its_subject_version_and_cves(items):
    """The CVEs leave the subject; a bug number stays."""
    assert items[0] == changelog.ChangelogItem(
        version="6.1.192-2", subject="ext4: fix NULL folio dereference in mballoc (Closes: #1154101)", cves=()
    )
    assert items[2].subject == "io_uring/io-wq: don't hide a link from cancellations"
    assert items[2].cves == ("CVE-2026-99255",)


def test_items_may_run_over_lines(items):
    """Subjects and lists of CVEs are joined."""
    by_subject = {item.subject: item.cves for item in items}
    assert by_subject["smb: client: fix OOB read/write from unvalidated DataOffset in coalesce_t2()"] == (
        "CVE-2026-89633",
    )
    assert by_subject["[amd64] Mitigations Transitive Scheduler Attacks (TSA)"] == (
        "CVE-2024-36350",
        "CVE-2024-36357",
    )
    assert by_subject["xen/netback: don't call kfree_skb() with interrupts disabled"] == (
        "CVE-2022-42328",
        "CVE-2022-42329",
    )


def test_addresses_names_and_dates_are_no_part_of_an_item(items):
    """What stands between the items ends the one before."""
    words = " ".join(item.subject for item in items)
    assert "http" not in words
    assert "Ben Hutchings" not in words
    assert "Salvatore" not in words
    assert "New upstream stable update:" in [item.subject for item in items]


def test_between_leaves_out_the_older_and_takes_the_newer(items):
    """What the older version closed was closed before."""
    done = changelog.between(items, "6.1.190-1", "6.1.192-1")
    assert {item.version for item in done} == {"6.1.192-1"}
    assert changelog.cves_closed(done) == (
        "CVE-2022-42328",
        "CVE-2022-42329",
        "CVE-2024-36350",
        "CVE-2024-36357",
        "CVE-2026-89633",
        "CVE-2026-99255",
    )
    assert changelog.between(items, "6.1.192-2", "6.1.192-2") == ()


def test_a_rebuild_counts_with_what_it_was_made_from():
    """6.12.107-1 was in 6.12.107-1~deb12u1, though Debian's order of versions says it is newer."""
    lines = []
    for number in (117, 107):
        lines += [f"linux-6.12 (6.12.{number}-1~deb12u1) bookworm-security; urgency=high", "", "  * Rebuild", ""]
        lines += [
            f"linux (6.12.{number}-1) trixie-security; urgency=high",
            "",
            f"  * fix (CVE-2026-10{number})",
            "",
        ]
    items = tuple(changelog.parse(lines))
    done = changelog.between(items, "6.12.107-1~deb12u1", "6.12.117-1~deb12u1")
    assert changelog.cves_closed(done) == ("CVE-2026-10117",)


def test_the_signed_image_speaks_of_the_version_that_was_signed():
    """Its own version has a plus sign; the package has the version of the source."""
    lines = [
        "linux-signed-amd64 (6.1.170+3) bookworm; urgency=high",
        "",
        "  * Sign kernel from linux 6.1.170-3",
        "",
    ]
    lines += ["  * net: fix it (CVE-2026-10000)"]
    assert [item.version for item in changelog.parse(lines)] == ["6.1.170-3", "6.1.170-3"]


@pytest.mark.parametrize(("older", "newer"), [("6.1.1-1", "6.1.192-2"), ("6.1.190-1", "6.1.200-1")])
def test_a_version_that_the_changelog_does_not_know_is_an_error(items, older, newer):
    """No guess is made from the version numbers."""
    with pytest.raises(InputError, match="does not know"):
        changelog.between(items, older, newer)


def test_the_wrong_way_round_is_an_error(items):
    """An empty answer would read as nothing to fix."""
    with pytest.raises(InputError, match="older than"):
        changelog.between(items, "6.1.192-2", "6.1.190-1")


def test_a_file_is_read_compressed_or_not(tmp_path, items):
    """Packages hold it compressed."""
    plain, packed = tmp_path / "changelog", tmp_path / "changelog.gz"
    plain.write_text(TEXT)
    packed.write_bytes(gzip.compress(TEXT.encode()))
    assert changelog.read(plain) == changelog.read(packed) == items


@pytest.mark.parametrize("content", [b"", b"no changelog\n", gzip.compress(TEXT.encode())[:40]])
def test_another_file_is_refused(tmp_path, content):
    """Empty, foreign and cut files are errors, not empty answers."""
    path = tmp_path / "changelog.gz"
    path.write_bytes(content)
    with pytest.raises(InputError):
        changelog.read(path)
    with pytest.raises(InputError):
        changelog.read(tmp_path / "missing")
