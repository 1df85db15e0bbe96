"""What can be switched off until a livepatch comes: modules and sysctls, and what that breaks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kmend.exposure.reach.entries import entry_of
from kmend.exposure.units import VMLINUX
from kmend.model.facts import Facts


class Block(NamedTuple):
    """A module that could be kept from being loaded."""

    module: str
    possible: bool
    reason: str
    """Why not, or where it stands."""
    breaks: tuple[str, ...]
    """Known users, in words."""


class Switch(NamedTuple):
    """A sysctl that shuts the code off."""

    name: str
    value: str
    breaks: str


# Modules that engines, CNI plugins and rootless containers load, by how their names begin.
# Sources: Docker "check-config.sh"; Kubernetes "Virtual IPs and Service Proxies"; the CNI plugins' documentation.
_NEEDED = (
    (("overlay", "fuse", "btrfs", "dm_thin_pool", "dm_snapshot", "zfs"), "storage of container engines"),
    (("veth", "bridge", "br_netfilter", "macvlan", "ipvlan", "8021q", "tun", "tap"), "container networks"),
    (("vxlan", "geneve", "ipip", "ip_gre", "wireguard", "openvswitch", "sit", "fou"), "overlay networks (CNI)"),
    (
        ("nf_", "nft_", "nfnetlink", "xt_", "ip_tables", "ip6_tables", "iptable_", "ip6table_", "ipt_", "ip6t_",
         "x_tables", "ip_set", "ip_vs", "ebtable"),
        "published ports, network policies, Kubernetes services",
    ),
    (("sch_", "cls_", "act_"), "bandwidth limits and eBPF data paths (CNI)"),
    (("esp4", "esp6", "xfrm"), "encrypted networks (CNI)"),
    (("virtio", "nvme", "ext4", "xfs", "vfat", "jbd2", "scsi_mod", "sd_mod"), "disks, and so the next boot"),
    (("kvm", "vhost", "vsock", "vmw_vsock"), "containers in virtual machines (Kata)"),
    (("kmend_", "livepatch"), "livepatching"),
    (("loop", "squashfs", "iso9660"), "images and snaps"),
    (("nfs", "cifs", "ceph", "rbd", "iscsi", "libiscsi", "9p"), "volumes on the network"),
)  # fmt: skip
_SWITCHES = {
    "io_uring": Switch(
        "kernel.io_uring_disabled", "2", "every program that uses io_uring (it falls back or fails)"
    ),
    "BPF": Switch(
        "kernel.unprivileged_bpf_disabled", "1", "bpf(2) without CAP_BPF; it stays so until the next boot"
    ),
    "perf events": Switch("kernel.perf_event_paranoid", "3", "perf without privileges"),
    "line disciplines": Switch("dev.tty.ldisc_autoload", "0", "line disciplines for users (SLIP, PPP, GSM)"),
}
STOPS_LIVEPATCHING = frozenset(("kernel.modules_disabled",))
"""Never written: nothing could be loaded any more."""


def block_of(facts: Facts, objects: Iterable[str]) -> tuple[Block, ...]:
    """For each object of a CVE whether a block keeps its code out."""
    return tuple(_block(facts, name) for name in objects)


def _block(facts: Facts, name: str) -> Block:
    breaks = tuple(what for begins, what in _NEEDED if name.startswith(begins))
    against = next(_against(facts, name), "")
    return Block(name, possible=not against, reason=against or "it is not loaded", breaks=breaks)


def _against(facts: Facts, name: str) -> Iterator[str]:
    """Why a block would not help, or would not hold."""
    modules = facts.modules
    loaded = next((one for one in modules.loaded if one.name == name), None)
    if name == VMLINUX or name in modules.built_in:
        yield "its code is built into the kernel"
    if loaded is not None:
        count = f" ({loaded.users} uses: {', '.join(loaded.holders) or 'sockets, mounts or the like'})"
        yield f"it is loaded{count if loaded.users else ''}, and a block holds only when it is not"
    if modules.available is not None and name not in modules.available:
        yield "it is not installed"
    needing = _needing(facts, name)
    if needing:
        yield f"{', '.join(needing[:3])} is loaded and needs it"
    held = next((one for one in modules.blocked if one.name == name and not one.by_alias_only), None)
    if held is not None and not held.source.startswith("/etc/modprobe.d/kmend-CVE-"):
        yield f"{held.source} blocks it already"
    if name in modules.at_boot:
        yield "the host loads it at boot (modules-load.d)"


def _needing(facts: Facts, name: str) -> tuple[str, ...]:
    loaded = {one.name for one in facts.modules.loaded}
    return tuple(one[0] for one in facts.modules.needs if name in one[1:] and one[0] in loaded)


def sysctl_of(facts: Facts, files: Iterable[str]) -> Switch | None:
    """The sysctl that shuts off the code of some files: only where one does for all, and does not hold already."""
    entries = {entry_of(file).name for file in files if not file.endswith(".h")}
    if len(entries) != 1:
        return None
    switch = _SWITCHES.get(entries.pop())
    if switch is None:
        return None
    return None if _is_shut(facts, switch) else switch


def _is_shut(facts: Facts, switch: Switch) -> bool:
    """Whether it is as it should be already, other than by our own doing, or this kernel has no such sysctl."""
    value = facts.sysctl(switch.name)
    if value is None:
        return True
    if any("kmend-CVE-" in one.source for one in facts.configured_sysctls if one.name == switch.name):
        return False
    stricter = value.isdecimal() and switch.value != "0" and int(value) >= int(switch.value)
    return stricter or value == switch.value
