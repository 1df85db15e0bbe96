"""Livepatches of a real kernel, built by the command line; and everything that it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmend.build.view import KernelView
from kmend.elf import constants as c
from kmend.elf.reader import ElfFile
from kmend.model import wire
from kmend.model.fix import ObjectionCode
from kmend.model.kernel import Kit
from kmend.model.livepatch import Livepatch
from makers.folders import make_diff, make_fix, write_fix
from makers.kallsyms import kernel_symbols
from makers.objects import warnings_of

pytestmark = pytest.mark.kit

KMEND = Path(sys.executable).with_name("kmend")
CMDLINE = ("fs/proc/cmdline.c", "seq_putc(m, '\\n');", 'seq_puts(m, " kmend\\n");')
NFT = (
    "net/netfilter/nf_tables_api.c",
    "\tif (info->nlh->nlmsg_flags & NLM_F_DUMP) {",
    '\tif (!nla)\n\t\tpr_warn_once("%s: nothing\\n", __func__);\n\tif (info->nlh->nlmsg_flags & NLM_F_DUMP) {',
)


def build(kit: Kit, out: Path, *folders: Path, release: str = "", cache: Path | None = None) -> tuple[int, str]:
    """Run ``kmend build`` and return its exit code and what it said."""
    env = {**os.environ, **({"XDG_CACHE_HOME": str(cache)} if cache else {})}
    done = subprocess.run(
        [KMEND, "build", "--kernel", release or kit.kernel.release, "-o", out, *folders],
        capture_output=True, text=True, check=False, env=env, cwd=out.parent,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def built(kit: Kit, out: Path, *folders: Path) -> tuple[Livepatch, ElfFile]:
    """A livepatch that must come out: its manifest and its module."""
    code, said = build(kit, out, *folders)
    assert code == 0, said
    assert warnings_of(out / "livepatch.ko") == ""
    return manifest(out), ElfFile(out / "livepatch.ko")


def manifest(out: Path) -> Livepatch:
    """What livepatch.json says."""
    return wire.load(Livepatch, (out / "livepatch.json").read_bytes(), what="manifest")


@pytest.fixture(scope="module")
def one_line(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the one-line fix."""
    return make_fix(tmp_path_factory.mktemp("fixes") / "one-line", kit.source, CMDLINE)


@pytest.fixture(scope="module")
def first(kit: Kit, one_line: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The livepatch of the one-line fix; what this tree needs is made by now."""
    out = tmp_path_factory.mktemp("first") / "livepatch"
    built(kit, out, one_line)
    return out


def test_one_line(kit: Kit, first: Path) -> None:
    """One function of the kernel is replaced, with every byte of its code proven."""
    livepatch = manifest(first)
    assert livepatch.kernel == kit.kernel
    assert livepatch.cves == ("CVE-2026-1000",)
    (function,) = livepatch.functions
    assert (function.object, function.name, function.position) == ("vmlinux", "cmdline_proc_show", 0)
    assert 0 < function.bytes_proven <= function.size
    assert livepatch.size == (first / "livepatch.ko").stat().st_size


def test_the_same_input_gives_the_same_bytes(kit: Kit, first: Path, one_line: Path, tmp_path: Path) -> None:
    """Module and manifest, wherever they are built."""
    built(kit, tmp_path / "again", one_line)
    for name in ("livepatch.ko", "livepatch.json"):
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes()


def test_a_module_and_two_files_at_once(kit: Kit, tmp_path: Path) -> None:
    """A function of a module that need not be loaded yet, and one of the kernel, from one fix."""
    livepatch, elf = built(kit, tmp_path / "out", make_fix(tmp_path / "two", kit.source, CMDLINE, NFT))
    assert {(one.object, one.name) for one in livepatch.functions} >= {("vmlinux", "cmdline_proc_show")}
    assert {one.object for one in livepatch.functions} == {"vmlinux", "nf_tables"}
    waiting = [one.name for one in elf.sections if one.flags & c.SHF_RELA_LIVEPATCH]
    assert any(name.startswith(".klp.rela.nf_tables.") for name in waiting)
    assert not any("__already_done" in one.name for one in elf.symbols if one.section == c.SHN_LIVEPATCH)


def test_symbols_are_counted_as_the_kernel_counts_them(kit: Kit) -> None:
    """The kernel's own table, decoded from its image, has every name at the same places in the same order."""
    vmlinux = KernelView(kit).vmlinux
    theirs: dict[str, list[int]] = {}
    for name, address in kernel_symbols(vmlinux):
        theirs.setdefault(name, []).append(address)
    assert len(theirs) > 50_000
    ours = {name: [address for _, address in vmlinux.in_kallsyms(name)] for name in theirs}
    assert ours == theirs
    assert sum(len(places) > 1 for places in theirs.values()) > 100


FILE = "fs/proc/cmdline.c"
COMMENT = "/* A comment. */\n#include"
NEWER = "\textern void kmend_no_such(void);\n\tkmend_no_such();\n\tseq_putc(m"
REFUSED: dict[ObjectionCode, tuple[str, str, str]] = {
    ObjectionCode.NO_CHANGE: (FILE, "#include", COMMENT),
    ObjectionCode.NOT_BUILT: ("block/partitions/aix.c", "int ret = 0;", "int ret = 1;"),
    ObjectionCode.UNSUPPORTED_FILE: ("tools/objtool/check.c", "#include", COMMENT),
    ObjectionCode.INIT_CODE: (FILE, 'proc_create_single("cmdline", 0', 'proc_create_single("cmdline", 0400'),
    ObjectionCode.COMPILE_FAILED: (FILE, "seq_putc(m", "seq_putk(m"),
    ObjectionCode.UNRESOLVED_SYMBOL: (FILE, "\tseq_putc(m", NEWER),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_cannot_be_livepatched_is_refused(kit: Kit, tmp_path: Path, code: ObjectionCode) -> None:
    """Exit code 2, the reason and what to do instead, and no output."""
    folder = make_fix(tmp_path / "fix", kit.source, REFUSED[code])
    exit_code, said = build(kit, tmp_path / "out", folder)
    assert exit_code == 2, said
    assert f"[{code}]" in said
    assert "instead:" in said
    assert "Traceback" not in said
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fix"]


def bad_diff(kit: Kit, case: str) -> str:
    """A diff that must not be applied."""
    diff = make_diff(kit.source, *CMDLINE)
    return {
        "does-not-apply": diff.replace("-\tseq_putc", "-\tseq_pull"),
        "needs-fuzz": diff.replace(" \treturn 0;", " \treturn 1;"),
        "binary": "diff --git a/a.c b/a.c\nindex 1..2\nGIT binary patch\nliteral 3\nabc\n\n",
        "traversal": diff.replace("fs/proc/cmdline.c", "../../../etc/cmdline.c"),
        "absolute": diff.replace("a/fs/proc", "/etc").replace("b/fs/proc", "/etc"),
        "empty": "",
        "not-a-diff": "This is a letter.\n",
        "no-such-file": diff.replace("fs/proc/cmdline.c", "fs/proc/nothing.c"),
    }[case]


@pytest.mark.parametrize(
    "case",
    ["does-not-apply", "needs-fuzz", "binary", "traversal", "absolute", "empty", "not-a-diff", "no-such-file"],
)
def test_bad_diffs_are_errors(kit: Kit, tmp_path: Path, case: str) -> None:
    """One clear message, exit code 1, and no output."""
    folder = write_fix(tmp_path / "fix", bad_diff(kit, case))
    _is_one_error(*build(kit, tmp_path / "out", folder))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fix"]


def _is_one_error(code: int, said: str) -> None:
    assert code == 1, said
    assert "Traceback" not in said
    assert sum(line.startswith("error:") for line in said.splitlines()) == 1, said


def test_an_unknown_kernel_is_an_error(kit: Kit, one_line: Path, tmp_path: Path) -> None:
    """The hint says how to get a kit."""
    code, said = build(kit, tmp_path / "out", one_line, release="5.0.0-1-amd64")
    _is_one_error(code, said)
    assert "kmend kernel fetch 5.0.0-1-amd64" in said
    assert not (tmp_path / "out").exists()


def altered_kit(kit: Kit, cache: Path, **fields: object) -> Path:
    """A cache whose kit is the real one but for some fields of its record."""
    folder = cache / "kmend" / "kits" / kit.kernel.release
    folder.mkdir(parents=True)
    for path in kit.folder.iterdir():
        if path.name != "kit.json":
            (folder / path.name).symlink_to(path)
    record = json.loads((kit.folder / "kit.json").read_text())
    (folder / "kit.json").write_text(json.dumps({**record, **fields}))
    (cache / "kmend" / "sources").symlink_to(kit.source.parents[1])
    return cache


@pytest.mark.parametrize("piece", ["vmlinux", "symvers", "headers", "debug_modules", "config"])
def test_a_kit_with_a_missing_piece_is_an_error(kit: Kit, one_line: Path, tmp_path: Path, piece: str) -> None:
    """The message names the piece."""
    pieces = json.loads((kit.folder / "kit.json").read_text())["pieces"]
    for one in pieces:
        if one["name"] == piece:
            one["path"] += ".gone"
    cache = altered_kit(kit, tmp_path / "cache", pieces=pieces)
    code, said = build(kit, tmp_path / "out", one_line, cache=cache)
    _is_one_error(code, said)
    assert ".gone is missing" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("compiler", ["gcc-12 (Debian 12.2.0-13) 12.2.0", "gcc-99 (Debian 99.1.0-1) 99.1.0"])
def test_another_compiler_is_an_error(kit: Kit, one_line: Path, tmp_path: Path, compiler: str) -> None:
    """Older, or not there: the message names the one that is needed."""
    cache = altered_kit(kit, tmp_path / "cache", compiler=compiler)
    code, said = build(kit, tmp_path / "out", one_line, cache=cache)
    _is_one_error(code, said)
    assert compiler in said
    assert "apt-get install gcc-" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_not_replaced(kit: Kit, one_line: Path, tmp_path: Path) -> None:
    """Nor is the livepatch that stood there when a new one is refused."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    _is_one_error(*build(kit, tmp_path / "out", one_line))
    assert (tmp_path / "out" / "letter.txt").read_text() == "mine"
