"""The agent as one file on a real kernel: it loads, replaces, refuses and unloads real livepatches."""

import difflib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kmend.build.builder import build
from kmend.build.plan import plan
from kmend.kit.progress import Silent
from kmend.lab.accelerator import accelerator
from kmend.lab.initramfs import cpio, link, program
from kmend.lab.machine import MachinePlan, boots, read_console
from kmend.model import wire
from kmend.model.fix import Fix
from kmend.model.lab import LabReport
from makers.guest_python import plain, python_files
from makers.nouns import make_report
from makers.repository import SimulatedRepository, flip_bit

pytestmark = pytest.mark.vm
ROOT = Path(__file__).parents[2]
DONE = "### all done ###"
AGENT = "python3 -I -S /kmend-agent.pyz"
ENROL = f"{AGENT} init --root /repo/root.json --channel edge --repo"
HTTP = "http://127.0.0.1:8000"

STEPS = {
    "enrol": f"{ENROL} {HTTP}/one",
    "check-before": f"{AGENT} check",
    "update": f"{AGENT} update --soak 1",
    "effect": "cat /proc/cmdline",
    "uname": f"{AGENT} uname",
    "check-after": f"{AGENT} check",
    "altered": f"{ENROL} {HTTP}/altered >/dev/null; {AGENT} update --json",
    "replace": f"{ENROL} {HTTP}/two >/dev/null; {AGENT} update --soak 1",
    "replaced-effect": "cat /proc/cmdline",
    "modules": "cut -d' ' -f1 /proc/modules",
    "rolled-back": f"{ENROL} {HTTP}/one >/dev/null; {AGENT} update --json",
    "air-gap": f"{ENROL} /repo/two >/dev/null; {AGENT} check",
    "killed": f"{AGENT} unload --no-hold >/dev/null; {AGENT} update --soak 60 & "
    "until grep -q soaking /var/lib/kmend/state.json; do sleep 0.2; done; kill -9 $!; "
    f"{AGENT} update --soak 1; grep phase /var/lib/kmend/state.json",
    "unload": f"{AGENT} unload",
    "unloaded-effect": "cat /proc/cmdline",
    "held-back": f"{AGENT} check",
    "unknown-key": "echo 1 > /sys/module/module/parameters/sig_enforce; "
    f"{AGENT} update --despite-quarantine --json",
    "full-disk": "mount -t tmpfs -o size=40k full /var/lib; dd if=/dev/zero of=/var/lib/fill bs=1k 2>/dev/null; "
    f"{AGENT} update --despite-quarantine --json",
    "nothing-loaded": "cut -d' ' -f1 /proc/modules; ls /sys/kernel/livepatch",
}


@pytest.fixture(scope="module")
def outcome(kit, tmp_path_factory):
    """Boots once and runs every step: name → (exit code, output)."""
    folder = tmp_path_factory.mktemp("agent")
    repositories = make_repositories(kit, folder)
    initrd = folder / "initrd"
    initrd.write_bytes(cpio(guest_files(repositories, folder)))
    machine = MachinePlan(
        image=kit.image,
        initrd=initrd,
        accelerator=accelerator(kit, Silent()),
        folder=folder / "vm",
        memory_mb=1024,
        command_line=("loglevel=3",),
    )
    assert boots(machine, word=DONE, timeout=600), read_console(machine.folder)[-3000:]
    return parse(read_console(machine.folder))


def make_repositories(kit, folder):
    """Two real livepatches, published one after the other: the states one, two, and two with one altered bit."""
    made = SimulatedRepository(folder / "release")
    served = folder / "served"
    for number, name in ((1, "one"), (2, "two")):
        publish_real(made, kit, number)
        shutil.copytree(made.repo, served / name)
    shutil.copytree(made.repo, served / "altered")
    flip_bit(next((served / "altered").glob("targets/edge/*/*.kmend_2.ko")))
    (served / "root.json").write_bytes(made.root)
    return served


def publish_real(made, kit, number):
    """Build a livepatch of /proc/cmdline for this very kernel and publish it."""
    out = made.folder / f"real-{number}"
    livepatch = build(plan([visible_fix(kit, number)], kit.kernel, number=number), kit, out=out, progress=Silent())
    assert not isinstance(livepatch, tuple), livepatch
    report: LabReport = make_report(livepatch)
    (out / "labreport.json").write_text(wire.dump(report))
    made.publish_folder(out)


def visible_fix(kit, number):
    """A change that shows in /proc/cmdline."""
    name = "fs/proc/cmdline.c"
    old = (kit.source / name).read_text()
    new = old.replace("\tseq_putc(m, '\\n');", f'\tseq_puts(m, " livepatched={number}\\n");')
    assert new != old
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return Fix(
        name=f"visible-{number}",
        cves=("CVE-2026-00001",),
        title="shows in /proc/cmdline",
        diff="".join(lines),
        origin="test",
    )


def guest_files(repositories, folder):
    """An initramfs: busybox, Debian's Python, the agent, the repositories, and a script with the steps."""
    agent = folder / "kmend-agent.pyz"
    subprocess.run([sys.executable, ROOT / "packaging/make-agent-pyz", agent], check=True, capture_output=True)
    files = python_files() | {
        "init": program(script().encode()),
        "bin/busybox": program(Path("/bin/busybox").read_bytes()),
        "kmend-agent.pyz": program(agent.read_bytes()),
    }
    applets = "sh mount ip sleep cat grep cut ls dd mkdir kill poweroff"
    files |= {f"bin/{name}": link("busybox") for name in applets.split()}
    for path in repositories.rglob("*"):
        if path.is_file():
            files[f"repo/{path.relative_to(repositories)}"] = plain(path.read_bytes())
    return files


def script():
    """The guest's init: each step between markers, with its exit code."""
    lines = [
        "#!/bin/sh",
        "export PATH=/bin:/usr/bin",
        "mkdir -p /proc /sys /dev /tmp /etc /var/lib",
        "mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev; mount -t tmpfs t /tmp",
        "ip link set lo up",
        "cd /repo && python3 -m http.server -b 127.0.0.1 8000 >/dev/null 2>&1 &",
        "until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8000))' 2>/dev/null;",
        "do sleep 0.2; done",
    ]
    for name, command in STEPS.items():
        lines += [f"echo '### {name}'", f"sh -c {shlex.quote(command)} 2>&1", f'echo "### exit $? {name}"']
    return "\n".join([*lines, f"echo '{DONE}'", "poweroff -f", ""])


def parse(console):
    """What each step said."""
    text = console.replace("\r", "")
    pattern = r"^### (\S+)\n(.*?)^### exit (\d+) \1$"
    return {m[1]: (int(m[3]), m[2]) for m in re.finditer(pattern, text, re.MULTILINE | re.DOTALL)}


def test_the_main_job(outcome):
    """Enrol, check says 10, update loads, the kernel behaves differently, check says 0."""
    assert outcome["enrol"][0] == 0
    assert outcome["check-before"][0] == 10
    code, said = outcome["update"]
    assert code == 0, said
    assert re.search(r"transition \d+ ms", said)
    assert "livepatched=1" in outcome["effect"][1]
    assert "livepatch 1 (closes 1 CVE)" in outcome["uname"][1]
    assert outcome["check-after"][0] == 0


def test_an_altered_module_never_reaches_the_kernel(outcome):
    """One bit: refused, and the older livepatch stays."""
    code, said = outcome["altered"]
    assert code == 1
    assert '"reason": "altered"' in said


def test_an_atomic_replace(outcome):
    """The newer livepatch takes over, the older module is gone."""
    code, said = outcome["replace"]
    assert code == 0, said
    assert "replacing kmend_1" in said
    assert "livepatched=2" in outcome["replaced-effect"][1]
    assert outcome["modules"][1].split() == ["kmend_2"]


def test_a_stale_mirror(outcome):
    """An older state of the repository is refused."""
    code, said = outcome["rolled-back"]
    assert code == 1
    assert '"reason": "rolled-back"' in said


def test_a_folder_serves_as_well(outcome):
    """Over an air gap the repository is a folder."""
    assert outcome["air-gap"][0] == 0


def test_a_killed_run_is_taken_over(outcome):
    """Kill -9 while watching: the next run finds the livepatch in place and finishes."""
    code, said = outcome["killed"]
    assert code == 0, said
    assert '"phase": "applied"' in said


def test_unload(outcome):
    """Taken out and held back."""
    assert outcome["unload"][0] == 0
    assert "livepatched" not in outcome["unloaded-effect"][1]
    code, said = outcome["held-back"]
    assert code == 0
    assert "held-back" in said


def test_a_kernel_that_enforces_signatures(outcome):
    """The kernel reads the module's signature and does not have the key; the agent passes its words on."""
    code, said = outcome["unknown-key"]
    assert code == 1
    assert "EKEYREJECTED" in said
    assert "unavailable key" in said


def test_a_full_disk(outcome):
    """Nothing is loaded when the mark before loading cannot be written."""
    code, said = outcome["full-disk"]
    assert code == 1
    assert "disk is full" in said
    assert outcome["nothing-loaded"][1].split() == []
