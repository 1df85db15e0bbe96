"""Whether a kernel contains the code that a record speaks of."""

import json

import pytest

from kmend.exposure.concern import Concern, concern
from kmend.exposure.records import parse
from kmend.model.update import CveState
from makers.cve_records import make_units, record, write_tree

UNITS = make_units(
    {"fs/a.c": "vmlinux", "fs/same.c": "vmlinux", "net/b.c": "b", "arch/x86/lib/copy.S": "vmlinux"},
    {"fs/part.c": "fs/a.c"},
)
FILES = (
    *("fs/a.c", "net/b.c", "fs/part.c", "arch/x86/lib/copy.S", "fs/a.h", "include/linux/x.h"),
    *("arch/arm64/include/asm/x.h", "drivers/no/no.c", "drivers/no/no.h", "drivers/no/include/p.h"),
)


@pytest.fixture
def look(tmp_path):
    """Looks at a record with the given files; all files but fs/same.c differ between the trees."""
    old = write_tree(tmp_path / "old", dict.fromkeys((*FILES, "fs/same.c"), False))
    new = write_tree(tmp_path / "new", dict.fromkeys(FILES, True) | {"fs/same.c": False, "fs/fresh.c": True})

    def ask(*files: str) -> Concern:
        one = parse(json.dumps(record("CVE-2026-1000", *files)).encode(), cve="CVE-2026-1000")
        return concern(one, UNITS, old=old, new=new)

    return ask


def test_built_files_that_differ_are_the_fix(look):
    """Files that are not built or not code are left out of it, and so is what does not differ."""
    found = look("fs/a.c", "net/b.c", "fs/same.c", "drivers/no/no.c", "drivers/no/no.h", "tools/x.c", "fs/Kconfig")
    assert found.state is CveState.FIX
    assert (found.sources, found.objects) == (("fs/a.c", "net/b.c"), ("b", "vmlinux"))


@pytest.mark.parametrize(
    ("files", "sources", "objects"),
    [
        (("fs/a.c", "include/linux/x.h"), ("fs/a.c", "include/linux/x.h"), ("vmlinux",)),
        (("drivers/no/no.c", "include/linux/x.h"), ("include/linux/x.h",), ()),
        (("fs/a.h", "drivers/no/no.h"), ("fs/a.h",), ()),
        (("fs/part.c",), ("fs/part.c",), ("vmlinux",)),
        (("moved/net/b.c",), ("net/b.c",), ("b",)),
    ],
)
def test_headers_and_included_files_belong_to_the_fix(look, files, sources, objects):
    """A header that this kernel may use, a file that another includes, a file that mainline has moved since."""
    found = look(*files)
    assert (found.state, found.sources, found.objects) == (CveState.FIX, sources, objects)


@pytest.mark.parametrize(
    ("files", "state", "code"),
    [
        (("drivers/no/no.c", "drivers/no/no.h"), CveState.NOT_BUILT, "not-built"),
        (("drivers/no/no.c", "drivers/no/include/p.h"), CveState.NOT_BUILT, "not-built"),
        (("drivers/no/no.c", "arch/arm64/include/asm/x.h"), CveState.NOT_BUILT, "not-built"),
        (("fs/fresh.c",), CveState.NOT_BUILT, "not-built"),
        (("tools/x.c", "Documentation/x.rst"), CveState.NOT_BUILT, "not-built"),
        (("arch/x86/lib/copy.S",), CveState.REFUSED, "assembler"),
        (("arch/x86/entry/vdso/vma.c",), CveState.REFUSED, "apart"),
        (("fs/same.c",), CveState.REFUSED, "no-difference"),
        (("gone/elsewhere.c",), CveState.UNKNOWN, "no-such-file"),
    ],
)
def test_what_is_no_fix_says_why(look, files, state, code):
    """Not built, refused and not known are three things."""
    found = look(*files)
    assert (found.state, found.code) == (state, code)
    assert found.reason
