"""Whether a reboot is needed: by what is installed, what the distribution asks for, and what is live-patched."""

import gzip
from dataclasses import replace

import pytest

from kmend.agent import sync
from kmend.agent.reboot import NewerKernel, RebootFacts, decide_reboot, reboot_required, write_sentinel
from kmend.linux.packages import Wish
from kmend.model import wire
from kmend.model.look import NotHere
from makers.nouns import KERNEL

NEWER = NewerKernel(release="6.1.0-56-cloud-amd64", version="6.1.192-2", cves=("CVE-2026-1111", "CVE-2026-2222"))
FACTS = RebootFacts(running=KERNEL, newer=(), problems=(), wish=None, livepatch=None, closed=())
KERNEL_WISH = Wish(packages=("linux-image-6.1.0-56-cloud-amd64",))

CASES = {
    "nothing newer": ({}, 1, "is the newest installed"),
    "newer, nothing loaded": ({"newer": (NEWER,)}, 0, "CVE-2026-1111, CVE-2026-2222, and no livepatch is loaded"),
    "newer, half closed": (
        {"newer": (NEWER,), "livepatch": 3, "closed": ("CVE-2026-1111",)},
        0,
        "closes CVE-2026-2222, and livepatch 3 does not",
    ),
    "newer, all closed": (
        {"newer": (NEWER,), "livepatch": 3, "closed": NEWER.cves, "wish": KERNEL_WISH},
        1,
        "livepatch 3 closes all 2 CVEs",
    ),
    "newer, closes nothing": ({"newer": (replace(NEWER, cves=()),)}, 1, "closes no CVE"),
    "newer, the rest is in code that is not here": (
        {"newer": (NEWER,), "livepatch": 3, "closed": ("CVE-2026-1111",), "not_here": ("CVE-2026-2222",)},
        1,
        "livepatch 3 closes all 1 CVEs",
    ),
    "newer, all in code that is not here": (
        {"newer": (NEWER,), "not_here": NEWER.cves},
        1,
        "closes no CVE of what this kernel contains",
    ),
    "newer, some in code that is not here": (
        {"newer": (NEWER,), "not_here": ("CVE-2026-2222",)},
        0,
        "closes CVE-2026-1111, and no livepatch",
    ),
    "unknown livepatch": ({"newer": (NEWER,), "livepatch": 3, "closed": None}, 2, "nobody here knows"),
    "somebody else's livepatch": (
        {"newer": (NEWER,), "others": "somebody's kpatch_1"},
        2,
        "whether somebody's kpatch_1 closes CVE-2026-1111, CVE-2026-2222",
    ),
    "somebody else's beside one that is enough": (
        {"newer": (NEWER,), "livepatch": 3, "closed": NEWER.cves, "others": "somebody's kpatch_1"},
        1,
        "livepatch 3 closes all 2 CVEs",
    ),
    "another package": ({"wish": Wish(packages=("libc6", *KERNEL_WISH.packages))}, 0, "replaces: libc6"),
    "another package, all closed": (
        {"newer": (NEWER,), "livepatch": 3, "closed": NEWER.cves, "wish": Wish(packages=("dbus",))},
        0,
        "replaces: dbus",
    ),
    "a wish without a reason": ({"wish": Wish(packages=())}, 2, "does not say why"),
    "a kernel that cannot be compared": ({"problems": ("no changelog",)}, 2, "no changelog"),
    "the same beside an open one": ({"problems": ("no changelog",), "newer": (NEWER,)}, 0, "CVE-2026-1111"),
    "the same beside a closed one": (
        {"problems": ("no changelog",), "newer": (NEWER,), "livepatch": 3, "closed": NEWER.cves},
        2,
        "no changelog",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_decision(name):
    """Needed, not needed, could not tell; each with its reason."""
    change, code, words = CASES[name]
    answer = decide_reboot(replace(FACTS, **change))
    assert answer.code == code
    assert words in answer.because
    assert (answer.need == "needed") is (code == 0)


CHANGELOG = """\
linux (6.1.192-2) bookworm-security; urgency=high

  * net: fix one (CVE-2026-52928)
  * [arm64] fix another (CVE-2026-99999)
  * [amd64] fix a third (CVE-2026-72379)

 -- A Person <a@example.org>  Mon, 16 Nov 2026 11:17:40 +0100

linux (6.1.170-3) bookworm-security; urgency=high

  * net: fix what is closed already (CVE-2026-10000)

 -- A Person <a@example.org>  Sat, 07 Nov 2026 11:17:40 +0100

linux (6.1.100-1) bookworm-security; urgency=high

  * net: fix something old (CVE-2024-10000)

 -- A Person <a@example.org>  Sat, 07 Nov 2024 11:17:40 +0100
"""


def install(machine, release, version, *, changelog=CHANGELOG, boot=True):
    """A kernel package as dpkg leaves it."""
    status = machine.root / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True, exist_ok=True)
    with status.open("a") as file:
        file.write(f"Package: linux-image-{release}\nStatus: install ok installed\n")
        file.write(f"Description: Linux\n more words: here\nVersion: {version}\n\n")
    (machine.root / "boot").mkdir(exist_ok=True)
    if boot:
        (machine.root / f"boot/vmlinuz-{release}").touch()
    if changelog:
        _, found, rest = changelog.partition(f"linux ({version})")
        folder = machine.root / f"usr/share/doc/linux-image-{release}"
        folder.mkdir(parents=True)
        (folder / "changelog.gz").write_bytes(gzip.compress((found + rest).encode()))


def wish(machine, *packages):
    """The distribution asks for a reboot."""
    (machine.root / "run").mkdir(exist_ok=True)
    (machine.root / "run/reboot-required").touch()
    (machine.root / "run/reboot-required.pkgs").write_text("".join(f"{name}\n" for name in packages))


def test_a_patched_host_needs_none(machine):
    """The livepatch closes what the new kernel closes for this architecture; before it is loaded one is needed."""
    install(machine, KERNEL.release, KERNEL.version)
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2")
    wish(machine, "linux-image-6.1.0-56-cloud-amd64")
    answer = reboot_required(machine.host())
    assert (answer.code, answer.open) == (0, ("CVE-2026-52928", "CVE-2026-72379"))
    sync.update(machine.host())
    answer = reboot_required(machine.host())
    assert answer.code == 1
    assert "livepatch 1 closes all 2 CVEs" in answer.because
    wish(machine, "linux-image-6.1.0-56-cloud-amd64", "libc6")
    assert reboot_required(machine.host()).code == 0
    assert (machine.root / "run/reboot-required").exists()


def test_code_that_is_not_here_does_not_count(machine):
    """As the look at this very kernel has it; one at another kernel, or a damaged one, says nothing."""
    install(machine, KERNEL.release, KERNEL.version)
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2")
    path = machine.host().paths.not_here
    both = ("CVE-2026-52928", "CVE-2026-72379")
    for content, code, still in (
        (wire.dump(NotHere(build_id=KERNEL.build_id, cves=both[:1])), 0, both[1:]),
        (wire.dump(NotHere(build_id="5e" * 20, cves=both)), 0, both),
        ("{", 0, both),
        (wire.dump(NotHere(build_id=KERNEL.build_id, cves=both)), 1, ()),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        answer = reboot_required(machine.host())
        assert (answer.code, answer.open) == (code, still)


def test_an_older_kernel_does_not_count(machine):
    """One that is kept for emergencies is not newer, and neither is one that is not in /boot."""
    install(machine, KERNEL.release, KERNEL.version)
    install(machine, "6.1.0-30-cloud-amd64", "6.1.100-1")
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2", boot=False)
    answer = reboot_required(machine.host())
    assert answer.code == 1
    assert "newest installed" in answer.because


def test_what_cannot_be_known(machine):
    """No dpkg, no changelog, or one that does not know the running kernel: could not tell, with the reason."""
    answer = reboot_required(machine.host())
    assert (answer.code, answer.need) == (2, "unknown")
    assert "no dpkg" in answer.because
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2", changelog="")
    answer = reboot_required(machine.host())
    assert answer.code == 2
    assert "cannot be read" in answer.because
    install(machine, "6.9.0-1-cloud-amd64", "6.9-1", changelog=CHANGELOG.replace("6.1.170-3", "6.1.169-1"))
    assert reboot_required(machine.host()).code == 2


def test_a_livepatch_of_unknown_content(machine):
    """What somebody else loaded under kmend's name closes nobody knows what."""
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2")
    machine.load("kmend_9", b"")
    machine.clock.sleep(1)
    machine.clock.sleep(1)
    assert reboot_required(machine.host()).code == 2


def test_a_livepatch_that_is_being_switched_in(machine):
    """It may close all of them in a moment: no reason to reboot now, and none not to."""
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2")
    assert reboot_required(machine.host()).code == 0
    machine.load("kmend_9", b"")
    answer = reboot_required(machine.host())
    assert answer.code == 2
    assert "kmend_9, which is being switched" in answer.because


def test_somebody_elses_livepatch(machine):
    """What it closes is in no manifest here."""
    install(machine, "6.1.0-56-cloud-amd64", "6.1.192-2")
    machine.load("kpatch_1", b"")
    machine.clock.sleep(1)
    machine.clock.sleep(1)
    answer = reboot_required(machine.host())
    assert answer.code == 2
    assert "somebody's kpatch_1" in answer.because


def test_the_sentinel(tmp_path):
    """There when needed, gone when not, as it was when nobody can tell."""
    path = tmp_path / "run/kmend/reboot-required"
    needed = decide_reboot(replace(FACTS, newer=(NEWER,)))
    unsure = decide_reboot(replace(FACTS, problems=("x",)))
    write_sentinel(path, unsure)
    assert not path.exists()
    write_sentinel(path, needed)
    write_sentinel(path, unsure)
    assert "CVE-2026-1111" in path.read_text()
    write_sentinel(path, decide_reboot(FACTS))
    assert not path.exists()
    write_sentinel(path, decide_reboot(FACTS))
