"""Which code of a record is in a kernel, by its list of files."""

import pytest

from kmend.exposure.presence import Finder, Presence, kernel_files
from kmend.model import wire
from kmend.model.exposure import KernelFiles
from makers.cve_records import make_units, write_tree
from makers.exposures import FILES


@pytest.mark.parametrize(
    ("named", "presence", "objects"),
    [
        (("net/core/dev.c", "net/tipc/socket.c"), Presence.BUILT_IN, ("tipc", "vmlinux")),
        (("net/tipc/socket.c", "include/net/tipc.h"), Presence.MODULE, ("tipc",)),
        (("include/net/tipc.h",), Presence.HEADER, ()),
        (("net/tipc/core.h",), Presence.HEADER, ()),
        (("drivers/x/x.h",), Presence.ABSENT, ()),
        (("arch/arm64/include/asm/a.h",), Presence.ABSENT, ()),
        (("arch/x86/include/asm/a.h",), Presence.HEADER, ()),
        (("drivers/x/x.c",), Presence.ABSENT, ()),
        (("drivers/x/x.c", "include/linux/x.h"), Presence.REST, ()),
        (("arch/arm64/kernel/setup.c",), Presence.ABSENT, ()),
        (("tools/x.c", "Documentation/y.rst"), Presence.ABSENT, ()),
        (("net/gone/gone.c",), Presence.UNKNOWN, ()),
        ((), Presence.UNKNOWN, ()),
        # Mainline calls it fs/client/inode.c: the one file of that name in a folder of that name is meant.
        (("fs/client/inode.c",), Presence.MODULE, ("cifs",)),
    ],
)
def test_places(named, presence, objects):
    """Built in, module, headers only, not built, or not known; never another machine's file of the same name."""
    found = Finder(FILES).place(named)
    assert (found.presence, found.objects) == (presence, objects)


def test_the_list_is_made_of_a_kit(tmp_path):
    """Files that others include go where those go; what is in the source and not built is listed as well."""
    tree = write_tree(tmp_path / "src", {"a/one.c": False, "a/part.c": False, "b/not.c": False, "a/a.h": False})
    (tree / "a/Makefile").write_text("")
    kit = type("Kit", (), {"source": tree, "kernel": FILES.kernel})
    made = kernel_files(kit, make_units({"a/one.c": "one"}, {"a/part.c": "a/one.c"}))
    assert made.objects == {"a/one.c": ("one",), "a/part.c": ("one",)}
    assert made.sources == {"a": ("a.h", "one.c", "part.c"), "b": ("not.c",)}
    assert wire.load(KernelFiles, wire.dump(made), what="the list") == made
