"""The source with some files changed, as the compiler sees it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kmend.build.farm import plant
from kmend.build.includes import Includes, includes

TREE = {
    "include/linux/a.h": "old_a\n",
    "include/linux/b.h": "#include <linux/a.h>\n",
    "fs/one/one.c": '#include "one.h"\n',
    "fs/one/one.h": '#include "../common/shared.h"\n',
    "fs/common/shared.h": "old_shared\n",
    "fs/two/two.c": "#include <linux/b.h>\n",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small source tree."""
    for path, text in TREE.items():
        place = tmp_path / "source" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path / "source"


def preprocessed(folder: Path, file: str) -> str:
    """What the compiler reads."""
    words = ["gcc", "-E", "-P", f"-I{folder}/include", str(folder / file)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_the_compiler_reads_the_changed_header(source: Path, tmp_path: Path) -> None:
    """Also from an unchanged one; everything else is the original's."""
    plant(tmp_path / "farm", {"include/linux/a.h": "new_a\n"}, source=source)
    assert preprocessed(tmp_path / "farm", "fs/two/two.c") == "new_a"
    assert preprocessed(tmp_path / "farm", "fs/one/one.c") == "old_shared"
    assert preprocessed(source, "fs/two/two.c") == "old_a"


def test_an_include_that_begins_upwards_finds_the_changed_header(source: Path, tmp_path: Path) -> None:
    """A linked folder's ``..`` would be the original's."""
    plant(tmp_path / "farm", {"fs/common/shared.h": "new_shared\n"}, source=source)
    assert preprocessed(tmp_path / "farm", "fs/one/one.c") == "new_shared"


def test_new_files_and_folders_appear(source: Path, tmp_path: Path) -> None:
    """A fix may bring a header."""
    plant(tmp_path / "farm", {"include/new/c.h": "c\n", "fs/two/two.c": "#include <new/c.h>\n"}, source=source)
    assert preprocessed(tmp_path / "farm", "fs/two/two.c") == "c"
    assert not (source / "include/new").exists()


def test_who_may_read_a_header(source: Path) -> None:
    """By name, through other headers, upwards, and itself."""
    found = includes(source)
    assert found.reach("include/linux/a.h") == {"include/linux/a.h", "include/linux/b.h", "fs/two/two.c"}
    assert found.reach("fs/common/shared.h") == {"fs/common/shared.h", "fs/one/one.h", "fs/one/one.c"}
    assert found.upwards(["fs/common/shared.h", "include/linux/a.h"]) == {"fs/one/one.h"}


def test_headers_of_one_name_are_told_apart() -> None:
    """The folders in the line must fit, and what stands beside goes first."""
    lines = [("x.c", "net/sock.h"), ("y.c", "linux/sock.h"), ("fs/z.c", "sock.h"), ("drivers/d.c", "sock.h")]
    found = Includes(lines, {"fs/sock.h"}.__contains__)
    assert found.direct("include/net/sock.h") == {"x.c", "drivers/d.c"}
    assert found.direct("fs/sock.h") == {"fs/z.c", "drivers/d.c"}
