"""How the difference of two files is cut, and what of it needs what."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmend.build.changes import Change
from kmend.build.renames import renamed_members, with_old_names
from kmend.build.taking import again, begun, named_in
from kmend.exposure.records import CveRecord
from kmend.model.fix import Objection, ObjectionCode
from makers.update import update_of

USER = "drivers/user.c"
HEADER = "drivers/user.h"
STRUCT = "struct box {\n\tint a;\n\tint lid;\n\tlong b;\n};\n"


def names(changes: frozenset[Change] | tuple[Change, ...]) -> set[str]:
    """All that some changes touch."""
    return {name for change in changes for name in change.names}


def refused(place: str, *lines: str) -> tuple[Objection, ...]:
    """What the builder says when a file does not compile."""
    return (Objection(code=ObjectionCode.COMPILE_FAILED, place=place, reason="r", advice="a", evidence=lines),)


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (STRUCT.replace("lid", "cover"), [("lid", "cover")]),
        (STRUCT.replace("int lid", "long cover"), []),
        (STRUCT.replace("\tint lid;\n", "") + "", []),
        (STRUCT.replace("\tint lid;\n\tlong b;\n", "\tlong b;\n\tint cover;\n"), []),
        (STRUCT.replace("\tint lid;\n", "\tint lid;\n\tint cover;\n"), []),
        (STRUCT.replace("lid", "cover[4]"), []),
    ],
)
def test_only_a_member_of_the_same_type_and_place_was_renamed(after: str, found: list[tuple[str, str]]) -> None:
    """One that was added, moved or given another type is another member."""
    assert renamed_members(STRUCT, after) == found


def test_whole_words_get_their_old_name() -> None:
    """Longer words in which a name stands do not."""
    assert with_old_names("a->cover + uncover(cover_all)", {"cover": "lid"}) == "a->lid + uncover(cover_all)"
    assert with_old_names("a->cover", {}) == "a->cover"


def test_code_is_taken_over_with_the_names_that_members_have_now(tmp_path: Path) -> None:
    """The structure, of which the kernel holds data, stays as it is."""
    body = "(struct box *x)\n{\n\treturn x->lid;\n}\n"
    code = f'#include "user.h"\nint f{body}int g{body}'
    fixed = code.replace("x->lid", "x->cover").replace("return x->cover;", "return x ? x->cover : 0;", 1)
    update = update_of(
        tmp_path, {HEADER: STRUCT, USER: code}, {HEADER: STRUCT.replace("lid", "cover"), USER: fixed}
    )
    taking = begun(update, [USER])
    assert names(taking.changes) == {"f"}
    assert "+\treturn x ? x->lid : 0;\n" in update.diff(taking.changes)


def test_a_new_name_that_a_file_knew_already_stays(tmp_path: Path) -> None:
    """It may be another thing's."""
    code = '#include "user.h"\nint cover;\nint f(struct box *x)\n{\n\treturn x->lid;\n}\n'
    update = update_of(
        tmp_path,
        {HEADER: STRUCT, USER: code},
        {HEADER: STRUCT.replace("lid", "cover"), USER: code.replace("x->lid", "x->cover")},
    )
    assert "+\treturn x->cover;\n" in update.diff(begun(update, [USER]).changes)


def test_items_in_the_place_of_others_come_and_go_each_by_itself(tmp_path: Path) -> None:
    """Also where a diff finds lines that both have."""
    update = update_of(
        tmp_path,
        {USER: "int a;\n", HEADER: "static inline void gone(int *x)\n{\n\t*x = 1;\n}\n"},
        {USER: "int a;\n", HEADER: "/* What is new. */\nstatic inline int come(int x)\n{\n\treturn x;\n}\n"},
    )
    found = {frozenset(change.names): change for change in update.of([HEADER])}
    assert found.keys() == {frozenset({"gone"}), frozenset({"come"})}
    assert found[frozenset({"gone"})].gone == {"gone"}
    alone = update.diff([found[frozenset({"come"})]])
    assert "-static" not in alone
    assert "+static inline int come(int x)\n" in alone
    both = update.diff(update.of([HEADER]))
    assert "-static inline void gone(int *x)\n" in both


def test_a_new_file_is_included_only_by_who_needs_something_of_it(tmp_path: Path) -> None:
    """The line that includes it is a change of its own."""
    old = {
        HEADER: "#define A 1\n",
        USER: '#include "user.h"\nint f(void)\n{\n\treturn 1;\n}\nint g(void)\n{\n\treturn 1;\n}\n',
    }
    new = {
        HEADER: '#include "more.h"\n#define A 1\n',
        "drivers/more.h": "#define MORE 7\n",
        USER: old[USER].replace("return 1", "return MORE", 1),
    }
    update = update_of(tmp_path, old, new)
    taking = begun(update, [USER])
    assert set(taking.files) == {USER, HEADER, "drivers/more.h"}
    without = update_of(tmp_path / "b", old, new | {USER: old[USER].replace("return 1", "return 2", 1)})
    assert set(begun(without, [USER]).files) == {USER}


def test_the_constants_of_a_macro_are_those_in_its_body(tmp_path: Path) -> None:
    """Its own parameters are nobody's."""
    update = update_of(
        tmp_path,
        {USER: "int a;\n", HEADER: "#define A 1\n"},
        {USER: "int a;\n", HEADER: "#define A 1\n#define LIST(type, EM) EM(ONE, type) EM(TWO, 2)\n"},
    )
    (change,) = update.of([HEADER])
    assert change.gives == {"LIST", "ONE", "TWO"}


def test_who_cleans_up_by_name_needs_what_says_how(tmp_path: Path) -> None:
    """``__free(box)`` and ``guard(box)`` mean what DEFINE_FREE(box, …) and DEFINE_GUARD(box, …) make."""
    code = '#include "user.h"\nint f(void)\n{\n\tint *x = 0;\n\treturn 1;\n}\n'
    fixed = code.replace("*x", "*x __free(box)").replace("return", "guard(lid)(x);\n\treturn")
    made = "DEFINE_FREE(box, int *, if (_T) drop(_T))\nDEFINE_GUARD(lid, int *, lock(_T), unlock(_T))\n"
    update = update_of(tmp_path, {HEADER: "\n", USER: code}, {HEADER: f"\n{made}", USER: fixed})
    assert names(begun(update, [USER]).changes) == {"f", "DEFINE_FREE_box_int", "DEFINE_GUARD_lid_int"}


def test_what_is_defined_twice_is_taken_away_where_it_was(tmp_path: Path) -> None:
    """A function that moved to another file, and is global there."""
    other = "drivers/other.c"
    moved = "int helper(int x)\n{\n\treturn x;\n}\n"
    rest = "int other(int x)\n{\n\treturn helper(x);\n}\n"
    update = update_of(
        tmp_path,
        {
            USER: "int f(void)\n{\n\treturn 1;\n}\n",
            HEADER: "\n",
            other: f'#include "user.h"\nstatic {moved}\n{rest}',
        },
        {
            USER: f"{moved}\nint f(void)\n{{\n\treturn 2;\n}}\n",
            HEADER: "\nint helper(int x);\n",
            other: f'#include "user.h"\n{rest}',
        },
    )
    taking = begun(update, [USER, HEADER])
    assert other not in taking.files
    line = f"{other}:2:12: error: static declaration of 'helper' follows non-static declaration"
    more = again(update, taking, refused(other, line), [USER, HEADER])
    assert more is not None
    assert other in more.files


def test_a_function_that_does_not_compile_is_taken_as_it_is_then(tmp_path: Path) -> None:
    """It may call a changed function in lines of which the name is no part."""
    other = "drivers/other.c"
    old = "int other(void)\n{\n\tint x;\n\n\treturn one(&x);\n}\n"
    update = update_of(
        tmp_path,
        {USER: "int f(void)\n{\n\treturn 1;\n}\n", other: old},
        {USER: "int f(void)\n{\n\treturn 2;\n}\n", other: old.replace("int x;", "long x;")},
    )
    taking = begun(update, [USER])
    lines = (
        f"{other}: In function 'other':",
        f"{other}:5:9: error: passing argument 1 of 'one' from incompatible pointer type",
    )
    more = again(update, taking, refused(other, *lines), [USER])
    assert more is not None
    assert names(more.changes) == {"f", "other"}


def test_a_record_speaks_of_items_by_name_or_by_what_its_title_writes_as_code(tmp_path: Path) -> None:
    """Common words, and what stands in many places, say nothing."""
    bodies = {"one": "set->nelems++", "two": "dst_of(x)", "three": "lock(x)", "four": "other(x)"}
    old = "".join(f"int {name}(int x)\n{{\n\treturn 0;\n}}\n\n" for name in bodies)
    new = "".join(f"int {name}(int x)\n{{\n\treturn {body};\n}}\n\n" for name, body in bodies.items())
    changes = update_of(tmp_path, {USER: old}, {USER: new}).of([USER])

    def named(title: str, text: str = "") -> tuple[str, ...]:
        found = CveRecord(
            cve="CVE-2026-1000", title=title, text=text, files=(), severity="", score=0.0, repairs=()
        )
        return named_in(found, changes)

    assert named("bump set->nelems before") == ("one",)
    assert named("check dst_of before", "In three() something is wrong.") == ("three", "two")
    assert named("take the lock of x") == ()
    assert named("take lock() earlier", "nelems is not code here") == ("three",)
    assert named("return x_y") == ()
