"""What the gates say, beside what probes in real containers find: open is open, shut is shut."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from kmend.exposure.presence import Place, Presence
from kmend.exposure.reach.judge import Judge
from kmend.kit.progress import Silent
from kmend.lab.host import container_host
from kmend.lab.programs import compile_static
from kmend.model.exposure import Reach
from makers.guest_facts import AGENT, facts_of_guest, make_agent

pytestmark = [
    pytest.mark.vm,
    pytest.mark.kit,
    pytest.mark.timeout(2700),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root once"),
]

ROOT = Path(__file__).parents[2]
CONTAINERS = {
    "plain": (),
    "bare": ("--cap-drop", "ALL", "--user", "65534:65534", "--security-opt", "no-new-privileges"),
    "unfiltered": ("--security-opt", "seccomp=unconfined", "--user", "65534:65534", "--cap-drop", "ALL"),
    "admin": ("--cap-add", "NET_ADMIN"),
    "fuse": ("--device", "/dev/fuse"),
    "all": ("--privileged",),
}
# Asks the containers in the guest, with the module out before each question: one answer per line.
ASK = """
import json, os, subprocess, sys
def loaded(name):
    return name == "vmlinux" or os.path.exists(f"/sys/module/{name}/initstate")
for box, words, holder in json.load(open("/srv/questions.json")):
    subprocess.run(["modprobe", "-qr", holder])
    before = loaded(holder)
    open(f"/srv/gate/{box}/in", "w").write(words + "\\n")
    answer = open(f"/srv/gate/{box}/out").read().strip()
    print(json.dumps([before, answer, loaded(holder)]), flush=True)
"""


@dataclass(frozen=True)
class Probe:
    """A way into some code, and what tries it."""

    file: str
    holder: str
    words: str
    loads_first: bool = False
    """The kernel brings the module in before it looks at capabilities."""


PROBES = {
    "smc": Probe("net/smc/af_smc.c", "smc", "socket 43 1 0"),
    "sctp": Probe("net/sctp/socket.c", "sctp", "socket 2 1 132"),
    "alg": Probe("crypto/af_alg.c", "af_alg", "socket 38 5 0"),
    "kcm": Probe("net/kcm/kcmsock.c", "kcm", "socket 41 5 0"),
    "own": Probe("net/kcm/kcmsock.c", "kcm", "load /gate/kcm.ko"),
    "vsock": Probe("net/vmw_vsock/af_vsock.c", "vsock", "socket 40 1 0"),
    "key": Probe("net/key/af_key.c", "af_key", "socket 15 3 2", loads_first=True),
    "packet": Probe("net/packet/af_packet.c", "vmlinux", "socket 17 3 0"),
    "ipset": Probe("net/netfilter/ipset/ip_set_core.c", "ip_set", "anyhow ipset"),
    "dummy": Probe("drivers/net/dummy.c", "dummy", "anyhow link dummy"),
    "tun": Probe("drivers/net/tun.c", "tun", "node /tmp/tun 10 200"),
    "fuse": Probe("fs/fuse/dev.c", "fuse", "node /dev/fuse 10 229"),
    "xfs": Probe("fs/xfs/xfs_super.c", "xfs", "fsopen xfs"),
    "ldisc": Probe("drivers/pps/clients/pps-ldisc.c", "pps_ldisc", "discipline 18"),
    "tls": Probe("net/tls/tls_main.c", "tls", "ulp tls"),
    "keys": Probe("security/keys/keyctl.c", "vmlinux", "keyctl"),
    "bpf": Probe("kernel/bpf/syscall.c", "vmlinux", "bpf"),
    "perf": Probe("kernel/events/core.c", "vmlinux", "perf"),
    "io_uring": Probe("io_uring/io_uring.c", "vmlinux", "io_uring"),
}
# What is tried with the host as it comes, and what in addition after each change of it.
AS_IT_COMES = (
    *(("plain", name) for name in PROBES if name != "own"),
    *(("bare", name) for name in ("smc", "key", "packet", "ipset", "tun", "ldisc", "keys")),
    *(
        ("unfiltered", name)
        for name in ("alg", "vsock", "ipset", "dummy", "keys", "bpf", "perf", "io_uring", "fuse")
    ),
    *(("admin", name) for name in ("ipset", "dummy", "key", "tls", "xfs")),
    ("fuse", "fuse"),
    *(("all", name) for name in ("xfs", "bpf", "perf", "keys", "fuse", "key")),
)
CHANGES = (
    (
        "printf 'install kcm /bin/false\\nblacklist smc\\n' > /etc/modprobe.d/made.conf",
        (("plain", "kcm"), ("plain", "own"), ("all", "own"), ("plain", "smc"), ("plain", "alg")),
    ),
    (
        "sysctl -qw kernel.unprivileged_userns_clone=0 dev.tty.ldisc_autoload=0",
        (("unfiltered", "ipset"), ("unfiltered", "dummy"), ("plain", "ldisc"), ("all", "ldisc")),
    ),
    (
        "sysctl -qw kernel.unprivileged_userns_clone=1 user.max_user_namespaces=0 kernel.perf_event_paranoid=1",
        (("unfiltered", "ipset"), ("unfiltered", "perf"), ("plain", "perf")),
    ),
    ("sysctl -qw kernel.modules_disabled=1", (("plain", "alg"), ("all", "xfs"), ("plain", "keys"))),
)
_PROVEN_AT_LEAST = 12


def test_open_is_open_and_shut_is_shut(kit, tmp_path):
    """Each rule against a probe in a container; every kind of gate is met, and never is one unknown."""
    found = []
    with container_host(kit, progress=Silent(), limit=2600) as vm:
        _prepare(vm, tmp_path)
        found += _round(vm, AS_IT_COMES)
        for change, pairs in CHANGES:
            vm.must(["sh", "-ec", change], timeout=120)
            found += _round(vm, pairs)
    (tmp_path / "gates.txt").write_text("".join(f"{line}\n" for line in found))
    wrong = [line for line in found if line[2] != line[4]]
    assert not wrong
    gates = {(line[1], line[3]) for line in found}
    assert len({gate for _, gate in gates if gate}) >= 8
    assert len(gates) >= _PROVEN_AT_LEAST


def _prepare(vm, folder):
    """Containers with the probe as their process, and the collector."""
    program = compile_static((ROOT / "tests/makers/gate.c").read_text(), name="gate", folder=folder)
    vm.put("/srv/probe", program)
    vm.must(["sh", "-ec", "[ -e /dev/fuse ] || mknod -m 666 /dev/fuse c 10 229"])
    for name, words in CONTAINERS.items():
        place = f"/srv/gate/{name}"
        make = f"mkdir -p {place}; install -m 755 /srv/probe {place}/gate; mkfifo -m 666 {place}/in {place}/out"
        vm.must(["sh", "-ec", f"{make}; cp $(modinfo -n kcm) {place}"])
        run = ["docker", "run", "-d", "--name", name, *words, "-v", f"{place}:/gate", "--tmpfs", "/tmp:mode=1777"]
        vm.must([*run, "kmend-lab", "/gate/gate"], timeout=300)
    vm.put(AGENT, make_agent(folder))


def _round(vm, pairs):
    """What the rules say and what the probes find: container, probe, open by rule, gate, open by probe, answer."""
    holders = " ".join(sorted({probe.holder for probe in PROBES.values()} - {"vmlinux"}))
    vm.run(["sh", "-c", f"for one in {holders}; do modprobe -qr $one; done"], timeout=300)
    facts = facts_of_guest(vm)
    questions = [(name, PROBES[which].words, PROBES[which].holder) for name, which in pairs]
    vm.put("/srv/questions.json", json.dumps(questions).encode())
    answers = vm.must(["python3", "-IS", "-c", ASK], timeout=900).splitlines()
    return [_line(facts, pair, json.loads(line)) for pair, line in zip(pairs, answers, strict=True)]


def _line(facts, pair, found):
    (name, which), (before, answer, after) = pair, found
    probe, is_open = PROBES[which], answer == "open"
    place = Place(Presence.MODULE, ((probe.file, (probe.holder,)),))
    (said,) = Judge(facts, only=name).reach((probe.file,), place, from_network=False)
    assert after or not is_open, (name, which, "open without its module")
    # Shut means that the code did not come in either.
    assert before or probe.loads_first or after is is_open, (name, which, answer)
    said_open = {Reach.REACHABLE: True, Reach.UNKNOWN: None}.get(said.reach, False)
    return name, which, said_open, said.gate, is_open, answer
