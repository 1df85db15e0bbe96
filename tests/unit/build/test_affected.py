"""Which source files a changed header matters to."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.build import affected as module
from kmend.build.affected import Affected, affected
from kmend.exposure.units import Units

TREE = {
    "include/linux/box.h": (
        "#ifndef BOX_H\n#define BOX_H\n#define BOX_SIZE 4\nstruct box {\n\tint a;\n};\n"
        "static inline int box_open(struct box *box)\n{\n\treturn box->a;\n}\n"
        "static inline int box_shut(struct box *box)\n{\n\treturn -box->a;\n}\n#endif\n"
    ),
    "include/linux/crate.h": (
        "#include <linux/box.h>\n"
        "static inline int crate_open(struct box *box)\n{\n\treturn box_open(box) + 1;\n}\n"
    ),
    "drivers/one.c": "#include <linux/box.h>\nint one(struct box *box)\n{\n\treturn box_open(box);\n}\n",
    "drivers/two.c": "#include <linux/crate.h>\nint two(struct box *box)\n{\n\treturn crate_open(box);\n}\n",
    "drivers/three.c": "#include <linux/box.h>\nint three(struct box *box)\n{\n\treturn box_shut(box);\n}\n",
    "drivers/stranger.c": "int box_open(int x)\n{\n\treturn x;\n}\n",
    "drivers/unbuilt.c": "#include <linux/box.h>\nint four(struct box *box)\n{\n\treturn box_open(box);\n}\n",
    "drivers/part.c": "#include <linux/box.h>\nstatic int part(struct box *box)\n{\n\treturn box_open(box);\n}\n",
    "drivers/whole.c": '#include "part.c"\n',
    "drivers/body.h": "int body(int x)\n{\n\treturn x;\n}\n",
    "drivers/thin.c": '#define body thin_body\n#include "body.h"\n',
    "drivers/fat.c": '#define body fat_body\n#include "body.h"\n',
}
BUILT = ("one", "two", "three", "stranger", "whole", "thin", "fat")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small source tree."""
    for path, text in TREE.items():
        place = tmp_path / "source" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path / "source"


def looked_up(source: Path, file: str, old: str, new: str) -> Affected:
    """What one replacement in one file matters to."""
    assert old in TREE[file]
    overlay = source.with_name("overlay")
    (overlay / file).parent.mkdir(parents=True, exist_ok=True)
    (overlay / file).write_text(TREE[file].replace(old, new, 1))
    units = Units(
        recipe=1,
        build_id="00",
        objects={f"drivers/{name}.c": ("vmlinux",) for name in BUILT},
        included={"drivers/part.c": ("drivers/whole.c",)},
    )
    return affected([file], source=source, overlay=overlay, units=units)


def names(found: Affected) -> set[str]:
    """Bare names of the source files."""
    return {Path(file).stem for file in found.sources}


BOX, OPEN = "include/linux/box.h", "return box->a;"


def test_those_that_use_a_changed_function_are_found(source: Path) -> None:
    """Directly, by way of another header's function, or in a part of them; not those that only share a name."""
    found = looked_up(source, BOX, OPEN, "return box->a + 1;")
    assert names(found) == {"one", "two", "whole"}
    assert not found.objections


def test_a_new_function_matters_to_nobody_yet(source: Path) -> None:
    """Only the fix itself can use it."""
    assert (
        looked_up(source, BOX, "#endif", "static inline int box_new(void)\n{\n\treturn 1;\n}\n#endif").sources
        == ()
    )


def test_code_that_a_header_holds_matters_to_all_that_include_it(source: Path) -> None:
    """Its functions go by other names there."""
    assert names(looked_up(source, "drivers/body.h", "return x;", "return x + 1;")) == {"thin", "fat"}


def test_a_part_of_another_file_matters_to_that(source: Path) -> None:
    """It is compiled there."""
    assert names(looked_up(source, "drivers/part.c", "box_open(box)", "box_open(box) + 1")) == {"whole"}


def test_old_lines_under_new_conditions_matter_to_all_that_read_the_header(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they define may appear or vanish anywhere."""
    change = (BOX, "#define BOX_SIZE 4\n", "#ifdef BIG\n#define BOX_SIZE 4\n#endif\n")
    found = looked_up(source, *change)
    assert found.objections == ()
    assert len(found.sources) > 2
    monkeypatch.setattr(module, "MOST", 2)
    found = looked_up(source, *change)
    assert [one.place for one in found.objections] == [BOX]
    assert "conditions" in found.objections[0].reason


def test_new_lines_under_new_conditions_are_fine(source: Path) -> None:
    """Everything that was there is where it was."""
    more = "#ifdef BIG\n#define BOX_BIG 1\n#else\n#define BOX_BIG 0\n#endif\n#define BOX_SIZE 4\n"
    assert looked_up(source, BOX, "#define BOX_SIZE 4\n", more) == Affected(sources=())


def test_too_many_files_are_refused(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is a new kernel rather than a fix; the reason says how many."""
    monkeypatch.setattr(module, "MOST", 2)
    found = looked_up(source, BOX, OPEN, "return box->a + 1;")
    assert [one.place for one in found.objections] == [BOX]
    assert "3 source files" in found.objections[0].reason
