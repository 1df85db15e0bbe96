"""Callbacks of fixes: what counts as a declaration, their order, and how the livepatch runs several of them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kmend.build.callbacks import Callback, NewCallbacks, callbacks_in, in_order, objections_to_callbacks
from kmend.build.check import objections
from kmend.build.module import NewFunction, glue_text
from kmend.elf.objects import ObjectCode
from kmend.model.fix import ObjectionCode
from makers.fixes import make_fix
from makers.objects import compile_c, make_difference

STRUCT = """
struct klp_object;
struct klp_callbacks { int (*pre)(struct klp_object *); void (*post)(struct klp_object *),
  (*pre_un)(struct klp_object *), (*post_un)(struct klp_object *); char enabled; };
int work(int x) { return consume(&x); }
"""
FUNCTIONS = (
    "static int up(struct klp_object *o) { return 0; }\nstatic void down(struct klp_object *o) { observe(o); }\n"
)
SECTION = 'used in_section(".kmend.callbacks")'


def test_each_member_is_a_callback(tmp_path: Path) -> None:
    """Named by the members of struct klp_callbacks; no section counts as unsupported for it."""
    sets = (
        f"static const struct klp_callbacks one {SECTION} = {{ up, down, down, down }};\n"
        f"static const struct klp_callbacks two {SECTION} = {{ .pre = up }};\n"
    )
    difference = make_difference(tmp_path, STRUCT, STRUCT + FUNCTIONS + sets)
    assert objections(difference, place="file.o") == ()
    assert sorted(callbacks_in(difference.fixed)) == [
        Callback("post_patch", "down"), Callback("post_unpatch", "down"), Callback("pre_patch", "up"),
        Callback("pre_patch", "up"), Callback("pre_unpatch", "down"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        f"static int (*mine)(struct klp_object *) {SECTION} = up;",
        f"static const struct klp_callbacks mine[2] {SECTION} = {{ {{ up }}, {{ up }} }};",
        f"static int number; static void *mine[5] {SECTION} = {{ &number }};",
        f"static void *mine[5] {SECTION} = {{ 0, 0, 0, 0, down }};",
        f"static void *mine[5] {SECTION} = {{ (char *)up + 4 }};",
        f'static void *mine[5] {SECTION} = {{ "text" }};',
    ],
)
def test_other_things_in_the_section_are_refused(tmp_path: Path, data: str) -> None:
    """A pointer alone, an array, data, a member that is the kernel's own, the middle of a function, a text."""
    code = ObjectCode(compile_c(tmp_path, STRUCT + FUNCTIONS + data))
    (found,) = objections_to_callbacks(code, place="file.o")
    assert found.code is ObjectionCode.UNSUPPORTED_SECTION
    assert found.place == "file.o: mine"


def test_the_order_is_that_of_the_fixes(tmp_path: Path) -> None:
    """Whatever the order of files and of declarations in them."""
    parts = []
    for file, names in (("a", ("later", "second")), ("b", ("first",))):
        sets = "".join(f"const struct klp_callbacks {name} {SECTION} = {{ up }};\n" for name in names)
        code = ObjectCode(compile_c(tmp_path / file, STRUCT + FUNCTIONS + sets))
        parts.append(("vmlinux", {code.data[name]: f".kmend.{file}.{name}" for name in names}))
    fixes = [
        make_fix(f"+static const struct klp_callbacks {name} __used = {{\n" + " unlike later\n")
        for name in ("first", "second", "later")
    ]
    found = in_order(parts, fixes)
    assert [one.symbol for one in found] == [".kmend.b.first", ".kmend.a.second", ".kmend.a.later"]


HEADERS = {
    "linux/module.h": """
#define ARRAY_SIZE(a) ((int)(sizeof(a) / sizeof((a)[0])))
#define __init
#define __exit
#define __visible
#define __section(name)
#define KBUILD_MODNAME "kmend_1"
#define MODULE_ARCH_INIT 0
#define THIS_MODULE 0
#define module_init(f)
#define module_exit(f) int init_module(void); int cleanup_module(void);
#define MODULE_LICENSE(text)
#define MODULE_DESCRIPTION(text)
#define MODULE_INFO(tag, text)
#define true 1
struct module { const char *name; int (*init)(void), (*exit)(void); int arch; };
""",
    "linux/livepatch.h": """
struct klp_object;
struct klp_callbacks { int (*pre_patch)(struct klp_object *); void (*post_patch)(struct klp_object *),
  (*pre_unpatch)(struct klp_object *), (*post_unpatch)(struct klp_object *); char post_unpatch_enabled; };
struct klp_func { const char *old_name; void *new_func; unsigned long old_sympos; };
struct klp_object { const char *name; struct klp_func *funcs; struct klp_callbacks callbacks; };
struct klp_patch { void *mod; struct klp_object *objs; char replace; };
int klp_enable_patch(struct klp_patch *patch);
""",
    "linux/rcupdate.h": 'static void rcu_barrier(void) { puts("RCU callbacks are waited for"); }',
    "linux/vermagic.h": "",
}
PROGRAM = """
#include <stdio.h>
#include "%(glue)s"
int result_b;
int init_module(void) { return 0; }
int cleanup_module(void) { return 0; }
#define CALLBACKS(name, result, ...) \\
  static int pre_##name(struct klp_object *o) { puts("pre_patch " #name); return result; } \\
  static void post_##name(struct klp_object *o) { puts("post_patch " #name); } \\
  static void preun_##name(struct klp_object *o) { puts("pre_unpatch " #name); } \\
  static void postun_##name(struct klp_object *o) { puts("post_unpatch " #name); } \\
  const struct klp_callbacks set_##name __asm__(".kmend.0." #name) = __VA_ARGS__;
CALLBACKS(a, 0, { pre_a, post_a, preun_a, postun_a })
CALLBACKS(b, result_b, { pre_b, post_b, preun_b, postun_b })
CALLBACKS(c, 0, { pre_c, post_c, preun_c, postun_c })
CALLBACKS(d, 0, { .post_unpatch = postun_d })
CALLBACKS(e, 0, { pre_e, post_e, preun_e, postun_e })
int new_work(void) { return 0; }
__asm__(".globl \\".kmend.0.work\\"\\n.set \\".kmend.0.work\\", new_work");
int klp_enable_patch(struct klp_patch *patch) { return 0; }
int main(int count, char **words)
{
  struct klp_object *object = &objects[1], *other = &objects[0];
  result_b = count > 1 ? -16 : 0;
  printf("%%s %%s %%d\\n", other->name, other->funcs[0].old_name ? "funcs" : "none", object->name != 0);
  if (object->callbacks.pre_patch(object))
    return 16;
  object->callbacks.post_patch(object);
  object->callbacks.pre_unpatch(object);
  object->callbacks.post_unpatch(object);
  kmend_exit();
  return 0;
}
"""


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated C source around callbacks, compiled as a program that plays the kernel's part."""
    folder = tmp_path_factory.mktemp("glue")
    for name, text in HEADERS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    callbacks = [NewCallbacks(object="vmlinux", symbol=f".kmend.0.{name}") for name in "dabc"]
    callbacks.insert(2, NewCallbacks(object="dummy", symbol=".kmend.0.e"))
    functions = [NewFunction(object="vmlinux", name="work", position=0, symbol=".kmend.0.work")]
    text = glue_text(functions, callbacks, description="A test", namespaces=[])
    (folder / "glue.c").write_text(text)
    (folder / "main.c").write_text(PROGRAM % {"glue": "glue.c"})
    flags = ["-w", "-no-pie", "-fno-pie", "-I", "."]
    subprocess.run(["gcc", *flags, "-o", "main", "main.c"], cwd=folder, check=True)
    return folder / "main"


def test_several_callbacks_run_in_order_and_back(glue: Path) -> None:
    """Setting up in the order of the fixes, tearing down in the opposite one; other objects have their own."""
    done = subprocess.run([glue], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "dummy none 0",
        "pre_patch a", "pre_patch b", "pre_patch c", "post_patch a", "post_patch b", "post_patch c",
        "pre_unpatch c", "pre_unpatch b", "pre_unpatch a",
        "post_unpatch c", "post_unpatch b", "post_unpatch a", "post_unpatch d",
        "RCU callbacks are waited for",
    ]  # fmt: skip


def test_a_failing_pre_patch_undoes_those_before_it(glue: Path) -> None:
    """The error goes to the kernel, which calls nothing more; later fixes are not asked."""
    done = subprocess.run([glue, "fail"], capture_output=True, text=True, check=False)
    assert done.returncode == 16
    assert done.stdout.splitlines()[1:] == ["pre_patch a", "pre_patch b", "post_unpatch a", "post_unpatch d"]
