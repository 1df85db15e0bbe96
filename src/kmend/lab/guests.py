"""The Debian guest of the host profile: made once, kept in the cache, the same for every kernel."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import tarfile
from collections.abc import Mapping
from pathlib import Path

from kmend.kit.cache import cache_root
from kmend.kit.errors import MachineError
from kmend.kit.files import lock, need_space, scratch, sync_folder
from kmend.kit.progress import Progress
from kmend.kit.run import run
from kmend.lab.debian import CONTAINERS, DebianGuest, container_args, debian_machine
from kmend.lab.guest import Guest
from kmend.lab.programs import compile_static, own_source
from kmend.model.kernel import Kit

_SUITE = "bookworm"
_PACKAGES = (
    *("systemd-sysv", "docker.io", "containerd", "runc", "apparmor", "iptables", "nftables", "iproute2"),
    *("kmod", "udev", "procps", "python3", "python3-cryptography", "ca-certificates"),
)
_EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
_DISK_SIZE = "3G"
_NEEDED = 3_000_000_000
_IMAGE_TAR = "usr/lib/kmend/container.tar"

# What a host that lives for minutes does without, and what costs seconds under software emulation.
_MASKED = (
    *("apparmor.service", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty.target"),
    *("getty-static.service", "nftables.service", "proc-sys-fs-binfmt_misc.automount"),
    *("remote-fs.target", "systemd-binfmt.service", "systemd-firstboot.service"),
    *("systemd-journal-flush.service", "systemd-logind.service", "systemd-networkd.service"),
    *("systemd-networkd-wait-online.service", "systemd-pstore.service", "systemd-random-seed.service"),
    *("systemd-repart.service", "systemd-sysusers.service", "systemd-tmpfiles-clean.timer"),
    *("systemd-udevd.service", "systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
    *("systemd-udev-trigger.service", "systemd-update-utmp.service"),
    *("systemd-update-utmp-runlevel.service", "systemd-user-sessions.service"),
)

_SERVICE = """\
[Unit]
Description=kmend lab: the guest's end of the control channel
DefaultDependencies=no

[Service]
ExecStart=/run/kmend/guest serve
Environment=HOME=/root
Restart=always
OOMScoreAdjust=-900
# A command's children may outlive it, as on any host.
KillMode=process

[Install]
WantedBy=sysinit.target
"""

_DOCKER = json.dumps(
    {"iptables": False, "ip6tables": False, "userland-proxy": False, "storage-driver": "overlay2"}, indent=1
)

_CONTAINERD = """\
version = 2
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing"]
"""


def _settings() -> dict[str, str]:
    """Files of the guest: path → content."""
    return {
        "etc/hostname": "lab\n",
        "etc/fstab": "",
        "etc/docker/daemon.json": _DOCKER,
        "etc/containerd/config.toml": _CONTAINERD,
        "etc/systemd/system/kmend-guest.service": _SERVICE,
    }


def recipe_hash() -> str:
    """Identity of the guest: 16 hex digits over everything that decides what is in it."""
    containers = {name: container_args(name) for name in CONTAINERS}
    parts = (_SUITE, _PACKAGES, _EXCLUDED, _DISK_SIZE, _MASKED, _settings(), own_source("beat"), containers, 1)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def host_disk(kit: Kit, *, accelerator: str, progress: Progress, cache: Path | None = None) -> Path:
    """The guest's disk (raw, ext4): from the cache, or made now (about two minutes).

    Args:
        kit: The kernel that boots it once to import the container image; the disk does not depend on it.
        accelerator: For that boot.
        progress: Hears of it.
        cache: Instead of ``$XDG_CACHE_HOME/kmend``.

    Raises:
        MachineError: Not root, no space, or mmdebstrap failed.
        LostGuest: The first boot failed.
    """
    check_rights(cache)
    disk = _disk(cache)
    parent = disk.parent.parent
    with lock(parent / f"{recipe_hash()}.lock", what="making the lab's guest", wait=True):
        if not disk.exists():
            need_space(parent, size=_NEEDED, what="Making the lab's Debian guest")
            with scratch(parent, prefix="making-") as folder:
                fresh = _bare_disk(folder, progress)
                _first_boot(kit, fresh, folder=folder, accelerator=accelerator, progress=progress)
                _keep(fresh, disk)
    return disk


def own_host_disk(disk: Path, copy: Path) -> None:
    """Copy the guest's disk for one host that keeps what it writes, with a journal: this one may crash."""
    run(["cp", "--sparse=always", "--reflink=auto", disk, copy], timeout=300)
    run(["tune2fs", "-j", copy], timeout=60)


def _disk(cache: Path | None) -> Path:
    return (cache or cache_root()) / "guests" / recipe_hash() / "disk.img"


def check_rights(cache: Path | None = None) -> None:
    """Say early that the disk cannot be made: it is not in the cache, and this is not root.

    Raises:
        MachineError: That is so.
    """
    if os.geteuid() != 0 and not _disk(cache).exists():
        raise MachineError(
            "Making the lab's Debian guest needs root (it unpacks packages with their owners).",
            hint="Run this once with sudo -E; later runs use the cached guest without root.",
        )


def _keep(fresh: Path, disk: Path) -> None:
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    disk.parent.mkdir(exist_ok=True)
    fresh.rename(disk)
    sync_folder(disk.parent)


def _bare_disk(folder: Path, progress: Progress) -> Path:
    progress.step("Making the Debian guest (once)")
    tree, disk, extra = folder / "tree", folder / "disk.img", folder / "extra.tar"
    extra.write_bytes(_extra_files(folder))
    run(
        [
            # A process and mount namespace of its own: whatever ends kmend, no child and no mount stays.
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", "--quiet"),
            f"--include={','.join(_PACKAGES)}",
            '--aptopt=APT::Install-Recommends "false"',
            *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
            f"--customize-hook=tar-in {shlex.quote(str(extra))} /",
            *(_SUITE, str(tree), *_apt_sources()),
        ],
        timeout=1800,
        env={"TMPDIR": str(folder)},
    )
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", tree, disk, _DISK_SIZE])
    return disk


def _apt_sources() -> list[str]:
    """This machine's own Debian sources for the guest's suite, as apt lines; without any, mmdebstrap's default."""
    words = "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    listed = run(
        ["apt-get", "indextargets", "--format", words, "Created-By: Packages", "Origin: Debian"], check=False
    )
    return sorted({line for line in listed.text.splitlines() if line.split()[2].startswith(_SUITE)})


def _extra_files(folder: Path) -> bytes:
    """Settings, masks and the container image as one tar."""
    files: dict[str, bytes] = {path: text.encode() for path, text in _settings().items()}
    files[_IMAGE_TAR] = _container_image(folder)
    units = "etc/systemd/system"
    links = {f"{units}/{unit}": "/dev/null" for unit in _MASKED}
    links[f"{units}/sysinit.target.wants/kmend-guest.service"] = "/etc/systemd/system/kmend-guest.service"
    return tar(files, links)


def _container_image(folder: Path) -> bytes:
    beat = compile_static(own_source("beat"), name="beat", folder=folder)
    files = {"bin/busybox": Path("/bin/busybox").read_bytes(), "bin/beat": beat}
    return tar(files, {"bin/sh": "busybox"}, folders=("tmp", "beat", "probes"))


def tar(files: Mapping[str, bytes], links: Mapping[str, str], folders: tuple[str, ...] = ()) -> bytes:
    """A tar archive owned by root; programs under bin/ are executable."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        parents = {str(parent) for path in (*files, *links, *folders) for parent in Path(path).parents} - {"."}
        for path in sorted({*parents, *folders}):
            archive.addfile(_entry(path, tarfile.DIRTYPE, 0o755))
        for path, content in files.items():
            entry = _entry(path, tarfile.REGTYPE, 0o755 if path.startswith("bin/") else 0o644)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for path, target in links.items():
            entry = _entry(path, tarfile.SYMTYPE, 0o777)
            entry.linkname = target
            archive.addfile(entry)
    return out.getvalue()


def _entry(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = kind, mode
    return entry


def _first_boot(kit: Kit, disk: Path, *, folder: Path, accelerator: str, progress: Progress) -> None:
    """Import the container image and create the containers, so that later boots only start them."""
    progress.step("Preparing the guest's containers (once)")
    with debian_machine(kit, folder, disk=disk, accelerator=accelerator, keep_changes=True) as vm:
        guest = DebianGuest(vm)
        guest.wait_docker()
        guest.must(["docker", "import", f"/{_IMAGE_TAR}", "kmend-lab"], timeout=300)
        for name in CONTAINERS:
            guest.must(["docker", "create", *container_args(name)], timeout=120)
        guest.must(["docker", "start", *CONTAINERS], timeout=120)
        guest.must(["sh", "-c", f"rm -f /{_IMAGE_TAR}; sync"])
        guest.run(["systemctl", "poweroff"])
        _expect_power_off(guest)


def _expect_power_off(guest: Guest) -> None:
    if not guest.machine.wait_end(timeout=180):
        raise MachineError("The lab's guest did not shut down after its first boot.", hint="Try again.")
