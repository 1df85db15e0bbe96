"""A real kernel's kit, from the real mirrors."""

import gzip
import os
import time

import pytest

from kmend.kernels import compiler, store
from kmend.linux import changelog

pytestmark = pytest.mark.kit


def test_the_kit_holds_one_kernel(kit):
    """Image, modules, debug symbols, headers and source all belong to the same release."""
    release = kit.kernel.release
    assert kit.modules.name == release
    assert release.encode() in kit.image.read_bytes()
    assert f'UTS_RELEASE "{release}"' in (kit.headers / "include/generated/utsrelease.h").read_text()
    version = dict(
        line.split(" = ") for line in (kit.source / "Makefile").read_text().splitlines()[:5] if " = " in line
    )
    assert kit.kernel.version.startswith(f"{version['VERSION']}.{version['PATCHLEVEL']}.{version['SUBLEVEL']}-")


def test_every_module_comes_with_its_debug_symbols(kit):
    """Both folders have the same modules, whatever they are compressed with."""
    shipped = {str(path.relative_to(kit.modules)).partition(".ko")[0] for path in kit.modules.rglob("*.ko*")}
    debug = {
        str(path.relative_to(kit.debug_modules)).partition(".ko")[0] for path in kit.debug_modules.rglob("*.ko")
    }
    assert shipped == debug
    assert len(shipped) > 500
    assert len((kit.modules / "modules.dep").read_text().splitlines()) == len(shipped)


def test_the_build_id_is_one(kit):
    """A SHA-1, as the kernel shows it in /sys/kernel/notes."""
    assert len(bytes.fromhex(kit.kernel.build_id)) == 20


def test_this_machine_has_the_compiler_of_the_kernel(kit):
    """The packages that the set-up installs hold the very compiler."""
    assert compiler.installed(kit.compiler) == kit.compiler


def test_loading_is_quick(kit):
    """A kit is loaded by every command, so that it must take no time."""
    begin = time.monotonic()
    assert store.load(kit.kernel.release) == kit
    assert time.monotonic() - begin < 0.3


def test_the_newest_source_says_which_cves_it_closed(kit):
    """The newer version's source is there, and its changelog counts the CVEs since the kit's version."""
    oldest, newest = store.oldest_and_newest()
    tree = store.source(newest.series, newest.version)
    assert (tree / "Makefile").is_file()
    items = changelog.read(store.changelog(newest.version))
    done = changelog.between(items, oldest.version, newest.version)
    text = gzip.decompress(store.changelog(newest.version).read_bytes()).decode(errors="replace")
    assert done
    assert all(cve in text for cve in changelog.cves_closed(done))
    assert os.path.commonpath([tree, store.changelog(newest.version)]) == str(tree.parent)
