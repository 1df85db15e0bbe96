"""docker-bench-security and `kmend audit` look at the same host with a real Docker: every verdict is compared.

The script is not part of this project: KMEND_DOCKER_BENCH names the folder with a checkout of it.
"""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from kmend.kit.progress import Silent
from kmend.lab.host import container_host
from makers.guest_docker import (
    DOCKERFILE_RIGHT,
    DOCKERFILE_WRONG,
    SLEEP,
    build,
    restart_docker,
    shell,
    start_careful,
)
from makers.guest_facts import AGENT, FACTS, facts_of_guest, make_agent
from makers.side_by_side import HOSTS, JUDGED, documented, our_verdicts, their_verdicts

SCRIPT = os.environ.get("KMEND_DOCKER_BENCH", "")
MEASURED = 100
"""Fewer numbers than this mean that the script did not come to its end."""

pytestmark = [
    pytest.mark.vm,
    pytest.mark.long,
    pytest.mark.kit,
    pytest.mark.timeout(6000),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root once"),
    pytest.mark.skipif(not SCRIPT, reason="KMEND_DOCKER_BENCH names no folder with docker-bench-security.sh"),
]

# Files: mode and owner that are wrong, that are right, and that only a comparison of decimals takes for strict.
FILES = (
    ("/lib/systemd/system/docker.service", "0666 1000:0", "0644 0:0", "0622 0:0"),
    ("/lib/systemd/system/docker.socket", "0666 1000:0", "0644 0:0", "0622 0:0"),
    ("/etc/docker", "0777 1000:0", "0755 0:0", "0733 0:0"),
    ("/etc/docker/certs.d/made/ca.crt", "0666 1000:0", "0444 0:0", "0422 0:1000"),
    ("/etc/docker/ca.pem", "0666 1000:0", "0444 0:0", "0422 0:0"),
    ("/etc/docker/cert.pem", "0666 1000:0", "0444 0:0", "0422 0:0"),
    ("/etc/docker/key.pem", "0666 1000:0", "0400 0:0", "0400 0:0"),
    ("/run/docker.sock", "0666 1000:0", "0660 0:docker", "0606 0:docker"),
    ("/etc/docker/daemon.json", "0666 1000:1000", "0644 0:0", "0622 0:0"),
    ("/etc/default/docker", "0666 0:1000", "0644 0:0", "0606 0:0"),
    ("/run/containerd/containerd.sock", "0666 0:1000", "0660 0:0", "0606 0:0"),
)
_WRONG, _RIGHT, _TRAPS = range(3)
CERTIFICATES = {
    f"tls{name}": f"/etc/docker/{path}"
    for name, path in (("cacert", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))
}
DAEMON_WRONG = {
    "log-level": "error",
    "insecure-registries": ["registry.example:5000"],
    "experimental": True,
    "cgroup-parent": "made.slice",
    "storage-driver": "overlay2",
    **CERTIFICATES,
}
DAEMON_RIGHT = {
    "log-level": "info",
    "icc": False,
    "userland-proxy": False,
    "live-restore": True,
    "no-new-privileges": True,
    "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024, "Hard": 4096}},
    "log-driver": "gelf",
    "log-opts": {"gelf-address": "udp://127.0.0.1:12201"},
    "storage-driver": "overlay2",
    **CERTIFICATES,
}
DAEMON_TRAPS = {
    **DAEMON_RIGHT,
    "log-driver": "local",
    "log-opts": {},
    "insecure-registries": ["127.0.0.1:5000"],
}
RULES_WRONG = "-w /srv -p wa\n"
RULES_RIGHT = "".join(
    f"-w {path} -p wa -k docker\n"
    for path in (
        *("/usr/sbin/dockerd", "/run/containerd", "/var/lib/docker", "/etc/docker", "/run/docker.sock"),
        *("/lib/systemd/system/docker.service", "/run/containerd/containerd.sock", "/etc/default/docker"),
        *("/etc/containerd/config.toml", "/usr/bin/containerd", "/usr/bin/containerd-shim"),
        *("/usr/bin/containerd-shim-runc-v1", "/usr/bin/containerd-shim-runc-v2", "/usr/sbin/runc"),
    )
)
# Rules on something in a folder, on a longer name, and one that leaves out what it names: none watches the whole.
RULES_TRAPS = """\
-w /run/containerd/containerd.sock -p wa
-a never,exit -F path=/var/lib/docker
-w /etc/docker/daemon.json -p wa
-w /usr/bin/containerd-shim -p wa
"""
TCP = "[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375\n"
DROP_IN = "/etc/systemd/system/docker.service.d"
LOGINS = """\
RUN /bin/busybox printf '#!/bin/busybox sh\\n/bin/busybox sleep 100000\\n' > /bin/sshd && \
    /bin/busybox chmod 755 /bin/sshd
"""
LOUD = (
    "--privileged --cap-add SYS_ADMIN --device /dev/vda --security-opt seccomp=unconfined "
    "--security-opt apparmor=unconfined --network host --pid host --ipc host --uts host --userns host "
    "-v /etc:/host-etc -v /srv:/srv:shared -v /run/docker.sock:/run/docker.sock "
    "--cgroup-parent elsewhere.slice --restart always"
)
# Only what the engine does not tell where the script asks for it.
QUIET = (
    "--privileged --read-only --memory 64m --cpu-quota 50000 --pids-limit 50 --user 0:0 --restart on-failure "
    "--security-opt no-new-privileges=false --network front -p 127.0.0.1:1024:80 -v /run:/host-run "
    "-v /etc:/host-etc:ro"
)
NO_HEALTH = "FROM right:1\nHEALTHCHECK NONE\n"
PLACES = """
mkdir -p /etc/docker/certs.d/made /etc/audit
cd /etc/docker; touch certs.d/made/ca.crt ca.pem cert.pem key.pem /etc/default/docker
useradd -u 1000 -m anna; groupadd -f docker
"""
SWARM = "docker_swarm_configuration,check_5_1,check_2_15"


def checkout():
    """The script's files, as a tar archive."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as archive:
        for name in ("docker-bench-security.sh", "functions", "tests"):
            archive.add(Path(SCRIPT) / name, arcname=name)
    return into.getvalue()


@pytest.fixture(scope="module")
def guest(kit, tmp_path_factory):
    """The running host, with both programs that look."""
    with container_host(kit, progress=Silent(), silence=300, limit=5700) as vm:
        vm.put(AGENT, make_agent(tmp_path_factory.mktemp("agent")))
        vm.put("/srv/script.tar", checkout())
        shell(vm, "mkdir /srv/script; tar -C /srv/script -xf /srv/script.tar")
        shell(vm, PLACES)
        yield vm


def set_up(vm, *, settings, rules, files):
    """The daemon's settings, the rules of the audit system, owners and modes."""
    vm.put("/etc/docker/daemon.json", json.dumps(settings, indent=1).encode())
    vm.put("/etc/audit/audit.rules", rules.encode())
    restart_docker(vm)
    for path, *columns in FILES:
        mode, owner = columns[files].split()
        shell(vm, f"chown {owner} {path}; chmod {mode} {path}")


def make_wrong(vm):
    """Wrong in as many numbers as one host can be."""
    shell(vm, f"usermod -aG docker anna; docker rm -f web database queue; mkdir -p {DROP_IN}")
    vm.put(f"{DROP_IN}/tcp.conf", TCP.encode())
    set_up(vm, settings=DAEMON_WRONG, rules=RULES_WRONG, files=_WRONG)
    build(vm, "wrong", DOCKERFILE_WRONG + LOGINS)
    shell(vm, f"docker run -d --name loud {LOUD} wrong:1 {SLEEP}", timeout=300)
    shell(vm, "docker run -d --name plain -p 80:80 -p 16379:6379 --restart always wrong:1 /bin/sshd", timeout=300)


def make_right(vm):
    """All of it put right, as far as a guest without a second disk can."""
    shell(vm, "docker swarm leave --force; docker rm -f $(docker ps -aq)", timeout=900)
    shell(vm, f"gpasswd -d anna docker; rm -r {DROP_IN}")
    build(vm, "right", DOCKERFILE_RIGHT)
    shell(vm, "docker rmi -f wrong:1 kmend-lab", timeout=900)
    set_up(vm, settings=DAEMON_RIGHT, rules=RULES_RIGHT, files=_RIGHT)
    start_careful(vm)


def make_traps(vm):
    """Right again but for what is easily taken for right, or for wrong."""
    shell(vm, "docker rm -f good; useradd -u 1001 -g docker -M carl", timeout=300)
    set_up(vm, settings=DAEMON_TRAPS, rules=RULES_TRAPS, files=_TRAPS)
    build(vm, "unchecked", NO_HEALTH)
    shell(vm, f"docker run -d --name quiet {QUIET} right:1 {SLEEP}", timeout=300)


def look(vm, folder, *, only=""):
    """What both say of the host as it is now: the script's verdicts, and ours."""
    choice = ["-c", only] if only else []
    script = ["bash", "./docker-bench-security.sh", "-b", "-u", "root", "-l", "/srv/out", *choice]
    vm.must(["env", "-C", "/srv/script", *script], timeout=2400)
    theirs = their_verdicts(vm.get("/srv/out.json"))
    facts_of_guest(vm)
    facts = folder / "facts.json"
    facts.write_bytes(vm.get(FACTS))
    words = [sys.executable, "-m", "kmend", "audit", "--facts", facts, "--json", "--no-learn"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return theirs, our_verdicts(done.stdout)


def differences(host, theirs, ours):
    """(Host, number) → (their verdict, ours), where they are not the same."""
    return {
        (host, number): (verdict, ours[number])
        for number, verdict in theirs.items()
        if verdict in JUDGED and ours[number] is not JUDGED[verdict]
    }


def test_every_verdict_is_the_same_or_a_documented_difference(guest, tmp_path):
    """On four hosts, wrong and right: no verdict differs but those in the reference's table."""
    make_wrong(guest)
    looks = {"wrong": look(guest, tmp_path)}
    shell(guest, "docker swarm init --listen-addr 0.0.0.0:2377 --advertise-addr 10.0.2.15", timeout=300)
    looks["swarm"] = look(guest, tmp_path, only=SWARM)
    make_right(guest)
    looks["right"] = look(guest, tmp_path)
    make_traps(guest)
    looks["traps"] = look(guest, tmp_path)
    assert tuple(looks) == HOSTS

    found, judged = {}, {}
    for host, (theirs, ours) in looks.items():
        assert set(theirs) <= set(ours), "numbers without a check of ours"
        judged |= {(host, number): verdict for number, verdict in theirs.items() if verdict in JUDGED}
        found |= differences(host, theirs, ours)
    numbers = {number for theirs, _ in looks.values() for number in theirs}
    measured = {number for _, number in judged}
    sys.stdout.write(
        f"{len(numbers)} numbers, {len(measured)} of them measured by the script; {len(judged)} verdicts on "
        f"{len(looks)} hosts, {len(judged) - len(found)} the same, {len(found)} not, "
        f"of {len({number for _, number in found})} numbers\n"
    )
    for (host, number), (verdict, our) in found.items():
        sys.stdout.write(f"  {number} on the {host} host: {verdict} there, {our} here\n")
    assert len(numbers) >= MEASURED
    expected = {key: (one.theirs, one.ours) for key, one in documented().items()}
    unexpected = {key: pair for key, pair in found.items() if expected.get(key) != pair}
    gone = {key: (judged.get(key), looks[key[0]][1][key[1]]) for key in expected if key not in found}
    assert (unexpected, gone) == ({}, {})
