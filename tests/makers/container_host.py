"""A made container host: the files of /proc, /sys and /etc that facts are read from, and containers in them."""

import json
from pathlib import Path
from typing import Any

from makers.machine import make_notes

RELEASE = "6.1.0-42-cloud-amd64"
VERSION = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.159-1 (2025-12-30)"
BUILD_ID = "00112233445566778899aabbccddeeff00112233"
ALL_CAPABILITIES = (1 << 41) - 1
DOCKER_CAPABILITIES = 0xA80425FB


class ContainerHost:
    """A folder that looks like the root of a running Debian host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("proc/sys/kernel/osrelease", RELEASE)
        self.write("proc/sys/kernel/version", VERSION)
        self.write("proc/sys/kernel/arch", "x86_64")
        self.write("proc/sys/kernel/hostname", "made-host")
        self.write("proc/sys/kernel/unprivileged_userns_clone", "1")
        self.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda1 ro module_blacklist=dccp quiet")
        self.write("proc/stat", "cpu 0 0\nbtime 1767225600\n")
        self.write("proc/modules", "overlay 163840 2 - Live 0x0\nnf_tables 290816 1 nft_compat, Live 0x0\n")
        self.write("sys/kernel/notes", make_notes(BUILD_ID))
        self.write(
            f"boot/config-{RELEASE}", '# made\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_NAME="x"\n# CONFIG_C is not set\n'
        )
        self.write("etc/hostname", "made-host")
        self.write("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
        self.write(
            "etc/passwd", "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1000::/home/anna:/bin/sh\nbroken:line\n"
        )
        self.write("etc/group", "root:x:0:\ndocker:x:999:anna,ben\n")
        self.write("var/lib/dpkg/status", status(("linux-image-" + RELEASE, "6.1.159-1"), ("runc", "1.1.5+ds1-1")))
        self.process(1, name="systemd", cgroup="/init.scope")

    def write(self, path: str, content: str | bytes) -> Path:
        """A file with this content."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    def link(self, path: str, target: str) -> None:
        """A link that says this."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.symlink_to(target)

    def process(
        self,
        pid: int,
        *,
        name: str,
        cgroup: str = "/",
        exe: str = "",
        arguments: tuple[str, ...] = (),
        parent: int = 1,
        uid: int = 0,
        capabilities: int = ALL_CAPABILITIES,
        bounding: int | None = None,
        seccomp: int = 0,
        own: tuple[str, ...] = (),
        inside: int = 0,
    ) -> None:
        """What /proc shows of a process; ``own`` are the namespaces that it does not share with process 1."""
        mask = capabilities if bounding is None else bounding
        folder = f"proc/{pid}"
        nspid = f"NSpid:\t{pid}" + (f"\t{inside}" if inside else "")
        self.write(
            f"{folder}/status",
            f"Name:\t{name}\nState:\tS (sleeping)\nPid:\t{pid}\nPPid:\t{parent if pid != 1 else 0}\n"
            f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\nGid:\t{uid}\t{uid}\t{uid}\t{uid}\n{nspid}\n"
            f"CapInh:\t0\nCapPrm:\t{capabilities:016x}\nCapEff:\t{capabilities:016x}\nCapBnd:\t{mask:016x}\n"
            f"NoNewPrivs:\t0\nSeccomp:\t{seccomp}\n",
        )
        self.write(f"{folder}/cgroup", f"0::{cgroup}\n")
        self.write(f"{folder}/cmdline", "\0".join(arguments) + ("\0" if arguments else ""))
        self.write(f"{folder}/uid_map", "         0          0 4294967295\n")
        self.write(f"{folder}/gid_map", "         0          0 4294967295\n")
        self.write(f"{folder}/mountinfo", "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n")
        self.write(f"{folder}/attr/current", "docker-default (enforce)\n" if own else "unconfined\n")
        if exe:
            self.link(f"{folder}/exe", exe)
        for number, kind in enumerate(("user", "net", "pid", "mnt", "ipc", "uts", "cgroup", "time")):
            inode = 4026531835 + number + (pid * 10 if kind in own else 0)
            self.link(f"{folder}/ns/{kind}", f"{kind}:[{inode}]")

    def container(self, key: str, *, pid: int, made: dict[str, Any] | None = None, engine: str = "moby") -> None:
        """A running container of containerd: a bundle, and a first process in namespaces of its own."""
        folder = f"run/containerd/io.containerd.runtime.v2.task/{engine}/{key}"
        self.write(f"{folder}/config.json", json.dumps(bundle() if made is None else made))
        self.write(f"{folder}/init.pid", str(pid))
        self.process(
            pid,
            name="sh",
            cgroup=f"/system.slice/docker-{key}.scope",
            exe="/bin/busybox",
            capabilities=DOCKER_CAPABILITIES,
            seccomp=2,
            own=("net", "pid", "mnt", "ipc", "uts", "cgroup"),
            inside=1,
        )
        self.write(
            f"proc/{pid}/mountinfo",
            "700 600 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/a:/b,upperdir=/c\n"
            "701 700 254:1 /srv/my\\040data /data ro,relatime - ext4 /dev/vda1 rw\n",
        )


def status(*packages: tuple[str, str]) -> str:
    """A dpkg status file with these packages, and one that was removed."""
    installed = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
        for name, version in packages
    ]
    gone = "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    return "\n".join([*installed, gone])


def identity(number: int) -> str:
    """A container's id."""
    return f"{number:064x}"


def bundle(**changes: Any) -> dict[str, Any]:
    """A config.json such as Docker gives to runc; ``changes`` replace parts of ``process``, ``linux``, the top."""
    made: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sh", "-c", "secret"],
            "capabilities": {
                name: ["CAP_CHOWN", "CAP_NET_RAW"] for name in ("bounding", "effective", "permitted")
            },
            "apparmorProfile": "docker-default",
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
            {
                "destination": "/data",
                "type": "bind",
                "source": "/srv/data",
                "options": ["rbind", "rprivate", "ro"],
            },
        ],
        "linux": {
            "cgroupsPath": "system.slice:docker:made",
            "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc", "cgroup")],
            "maskedPaths": ["/proc/kcore"],
            "devices": [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}],
            "resources": {
                "devices": [
                    {"allow": False, "access": "rwm"},
                    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
                    {"allow": True, "type": "c", "major": 136, "access": "rwm"},
                ],
                "memory": {"limit": 67108864},
                "cpu": {"shares": 512, "quota": 50000, "period": 100000},
                "pids": {"limit": 100},
            },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [
                    {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0}]},
                    {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                ],
            },
        },
    }
    for name in ("process", "linux"):
        made[name].update(changes.pop(name, {}))
    return {**made, **changes}


def inspected(name: str, **changes: Any) -> dict[str, Any]:
    """What Docker answers about a container; ``changes`` replace parts of ``HostConfig``, ``Config``, the top."""
    made: dict[str, Any] = {
        "Name": f"/{name}",
        "Created": "2026-01-02T03:04:05.123456789Z",
        "Image": "sha256:" + "a" * 64,
        "AppArmorProfile": "docker-default",
        "State": {"Status": "running", "Pid": 0, "StartedAt": "2026-01-02T03:04:06Z"},
        "Config": {"Image": "debian:12", "User": "", "Env": ["PASSWORD=geheim"], "Labels": {"team": "web"}},
        "HostConfig": {
            "Privileged": False,
            "NetworkMode": "default",
            "Memory": 0,
            "NanoCpus": 0,
            "CpuShares": 0,
            "PidsLimit": None,
            "ReadonlyRootfs": False,
            "SecurityOpt": None,
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5},
            "Runtime": "runc",
            "PidMode": "",
            "CapAdd": None,
            "MaskedPaths": ["/proc/kcore"],
            "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
        },
        "Mounts": [
            {"Type": "bind", "Source": "/srv/data", "Destination": "/data", "RW": False, "Propagation": "rprivate"}
        ],
        "NetworkSettings": {
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": None},  # noqa: S104
        },
    }
    for part in ("HostConfig", "Config", "State"):
        made[part].update(changes.pop(part, {}))
    return {**made, **changes}
