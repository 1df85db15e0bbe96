"""Mitigations: what can be switched off, what that breaks, and files that go again."""

from dataclasses import replace

import pytest

from kmend.exposure.dropins import held, plan, remove, text, write
from kmend.exposure.mitigations import block_of, sysctl_of
from kmend.kit.errors import InputError
from kmend.model.exposure import CveExposure, Verdict
from kmend.model.facts import BlockedModule, LoadedModule, Setting
from makers.exposures import SEEN
from makers.facts import NOW, facts, modules


def exposed(number=1000, *, files=("net/tipc/socket.c",), objects=("tipc",), verdict=Verdict.OPEN, title="fix it"):
    """A CVE on a host."""
    return CveExposure(
        cve=f"CVE-2026-{number}",
        title=title,
        verdict=verdict,
        severity="high",
        score=7.8,
        vector="",
        rationale="",
        exploited_since="",
        files=files,
        objects=objects,
        evidence=(SEEN,),
    )


URING = {"files": ("io_uring/net.c",), "objects": ("vmlinux",)}


def test_a_module_is_blocked_and_let_in_again(tmp_path):
    """The file says what it is for; the record in it is all that is kept."""
    one = plan(facts(), exposed(), held=(), now=NOW)
    assert (one.blocks, one.breaks) == (("tipc",), ())
    assert write(tmp_path, one) == ""
    file = tmp_path / "etc/modprobe.d/kmend-CVE-2026-1000.conf"
    assert file.read_text().endswith("\ninstall tipc /bin/false\n")
    assert held(tmp_path) == (one,)
    assert remove(tmp_path, one, others=(one,)) == ""
    assert not file.exists()
    assert held(tmp_path) == ()


def test_a_sysctl_is_set_and_set_back(tmp_path, monkeypatch):
    """At once on the running host; the second CVE keeps it until that one is closed too."""
    monkeypatch.setattr("kmend.exposure.dropins._path", lambda _, name: tmp_path / name)
    running = tmp_path / "kernel.io_uring_disabled"
    running.write_text("0\n")
    made = []
    for number in (1000, 1001):
        one = plan(facts(), exposed(number, **URING), held=made, now=NOW)
        assert (one.sysctl, one.value, one.was) == ("kernel.io_uring_disabled", "2", "0")
        made.append(one)
    running.write_text("2\n")
    for one in made:
        write(tmp_path, one)
    assert held(tmp_path) == tuple(made)
    monkeypatch.setattr("kmend.exposure.dropins._set", lambda _, name, value: (tmp_path / name).write_text(value))
    remove(tmp_path, made[0], others=made)
    assert running.read_text() == "2\n"
    remove(tmp_path, made[1], others=made[1:])
    assert running.read_text() == "0"


def test_what_somebody_changed_since_stays(tmp_path, monkeypatch):
    """A sysctl that no longer has the mitigation's value is not ours to set back."""
    monkeypatch.setattr("kmend.exposure.dropins._path", lambda _, name: tmp_path / name)
    monkeypatch.setattr("kmend.exposure.dropins._set", lambda *_: pytest.fail("was set"))
    (tmp_path / "kernel.io_uring_disabled").write_text("1\n")
    remove(tmp_path, plan(facts(), exposed(**URING), held=(), now=NOW), others=())


@pytest.mark.parametrize(
    ("changes", "host", "why"),
    [
        ({"objects": ("vmlinux",), "files": ("mm/mmap.c",)}, {}, "built into the kernel"),
        ({"objects": ("tipc", "vmlinux")}, {}, "built into the kernel"),
        ({"objects": ("nf_tables",)}, {}, "is loaded"),
        ({"objects": ("nowhere",)}, {}, "not installed"),
        ({"objects": ("helper",)}, {"needs": (("overlay", "helper"),)}, "overlay is loaded and needs it"),
        ({}, {"at_boot": ("tipc",)}, "at boot"),
        ({}, {"built_in": ("tipc",)}, "built into the kernel"),
        (
            {},
            {"blocked": (BlockedModule(name="tipc", by_alias_only=False, source="/etc/modprobe.d/x.conf"),)},
            "blocks it already",
        ),
        ({"objects": ()}, {}, "not known which module"),
        ({"verdict": Verdict.CLOSED_BY_LIVEPATCH}, {}, "closed by livepatch"),
        ({"verdict": Verdict.NOT_BUILT}, {}, "not built"),
    ],
)
def test_what_cannot_be_switched_off_is_refused(changes, host, why):
    """Built in, in use, not there, or not open: and the reason."""
    with pytest.raises(InputError, match=why):
        plan(facts(modules=modules(**host)), exposed(**changes), held=(), now=NOW)


def test_a_block_of_ours_is_no_reason_against_another():
    """Two CVEs in one module have a file each, so that one that is closed does not open the other."""
    ours = BlockedModule(name="tipc", by_alias_only=False, source="/etc/modprobe.d/kmend-CVE-2026-1.conf")
    assert plan(facts(modules=modules(blocked=(ours,))), exposed(), held=(), now=NOW).blocks == ("tipc",)


@pytest.mark.parametrize(
    "name", ["overlay", "veth", "nf_tables", "xt_addrtype", "vxlan", "fuse", "tun", "sch_htb"]
)
def test_what_engines_and_networks_need_is_named(name):
    """Rootless containers, CNI and livepatching do not stop without being told."""
    (found,) = block_of(facts(modules=modules(loaded=(), available=(name,))), (name,))
    assert found.possible
    assert found.breaks


def test_switches_that_hold_already_are_none():
    """Nor those that this kernel does not have, nor those for a part of the files."""
    assert sysctl_of(facts(), ("io_uring/net.c",)).value == "2"
    assert sysctl_of(facts(sysctls={"kernel.io_uring_disabled": "2"}), ("io_uring/net.c",)) is None
    assert sysctl_of(facts(), ("io_uring/net.c", "mm/mmap.c")) is None
    assert sysctl_of(facts(), ("mm/mmap.c",)) is None
    assert sysctl_of(facts(), ("kernel/bpf/verifier.c",)) is None
    without = tuple(one for one in facts().sysctls if "io_uring" not in one.name)
    assert sysctl_of(replace(facts(), sysctls=without), ("io_uring/net.c",)) is None
    ours = Setting(name="kernel.io_uring_disabled", value="2", source="/etc/sysctl.d/99-kmend-CVE-2026-1.conf")
    host = replace(facts(sysctls={"kernel.io_uring_disabled": "2"}), configured_sysctls=(ours,))
    assert sysctl_of(host, ("io_uring/net.c",)) is not None


def test_titles_cannot_write_lines(tmp_path):
    """A title with line breaks or escapes stays in its comment."""
    one = plan(facts(), exposed(title="x\ninstall ext4 /bin/false\x1b[2J"), held=(), now=NOW)
    lines = text(one).splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["install tipc /bin/false"]
    assert "\x1b" not in text(one)
    write(tmp_path, one)
    assert held(tmp_path) == (one,)


@pytest.mark.parametrize(
    "content", ["", "# kmend: {", "# kmend: []", "# kmend: {}", "install x /bin/false", "\x00"]
)
def test_files_of_others_are_left_alone(tmp_path, content):
    """What is no record, or a copy under another name, is not ours to take out."""
    folder = tmp_path / "etc/modprobe.d"
    folder.mkdir(parents=True)
    (folder / "kmend-CVE-2026-5.conf").write_text(content)
    (folder / "kmend-CVE-2026-6.conf").write_text(text(plan(facts(), exposed(), held=(), now=NOW)))
    assert held(tmp_path) == ()


def test_a_module_that_is_loaded_but_unused_says_how_to_go_on():
    """It is named with the way out."""
    host = modules(loaded=(LoadedModule(name="tipc", size=1, users=0),))
    with pytest.raises(InputError) as caught:
        plan(facts(modules=host), exposed(), held=(), now=NOW)
    assert "modprobe -r" in caught.value.hint
