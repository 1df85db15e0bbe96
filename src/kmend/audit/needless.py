"""Which kernel modules nothing on this host needs: loaded ones, and ones that load by themselves when asked for.

A module is needed when something uses it now or used it on an earlier day, when hardware, a mount or a boot
configuration asks for it, when a needed module needs it, or when engines and network plugins may ask for it at any
time. What is left can be kept out by a file for modprobe.d.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate

from kmend.audit.check import Case
from kmend.model.facts import Alias, ModuleFacts

_PROTECTED = re.compile(
    # Networks of containers, and packet filters
    r"bridge|br_netfilter|stp|llc|garp|mrp|8021q|veth|vxlan|geneve|udp_tunnel|ip6_udp_tunnel|ipip|ip_gre|gre|ip_tunnel|"
    r"tunnel[46]|ip6_tunnel|sit|wireguard|macvlan|macvtap|ipvlan|ipvtap|dummy|tun|tap|ifb|vrf|bonding|team(_.*)?|"
    r"nf_.*|nft_.*|nfnetlink.*|xt_.*|x_tables|ip6?_tables|ip6?table_.*|ipt_.*|ip6t_.*|arp_tables|arptable_.*|ebt.*|"
    r"ip_set.*|ip_vs.*|sch_.*|cls_.*|act_.*|em_.*|openvswitch|(inet|tcp|udp|unix|netlink|raw)_diag|af_packet(_diag)?|"
    r"esp[46].*|ah[46]|xfrm.*|af_key|tls|tcp_.*|unix|ipv6|bpf.*|cgroup.*|"
    # Storage of engines, and file systems that are nobody's danger here
    r"overlay|aufs|fuse|cuse|virtiofs|9p.*|loop|dm_.*|nbd|erofs|squashfs|ext4|xfs|btrfs|v?fat|isofs|nls_.*|efivarfs|"
    # Virtual machines and their devices
    r"vhost.*|kvm.*|vsock.*|vmw_vsock.*|virtio.*|"
    # The system: cryptography, formats of programs, processors, livepatches
    r"binfmt_misc|configfs|autofs4|algif_.*|af_alg|crypto.*|aes.*|sha\d.*|ghash.*|gcm|ccm|cbc|ctr|cmac|seqiv|echainiv|"
    r"authenc.*|libcrc32c|crc.*|livepatch_.*|kmend_.*|klp_.*|softdog|iTCO.*|msr|cpuid|rng_core|hw_random"
)
_ON_DEMAND = re.compile(r"(net-pf-|fs-|tty-ldisc-|devname:|char-major-|block-major-|can-proto-|binfmt-|net-\d)")

RARE: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "dccp",
            "dccp_ipv4",
            "dccp_ipv6",
            "sctp",
            "rds",
            "rds_tcp",
            "tipc",
            "ax25",
            "netrom",
            "rose",
            "x25",
            "lapb",
            "decnet",
            "econet",
            "ipx",
            "appletalk",
            "psnap",
            "p8023",
            "p8022",
            "can",
            "can_raw",
            "can_bcm",
            "can_isotp",
            "can_j1939",
            "atm",
            "phonet",
            "pn_pep",
            "caif",
            "caif_socket",
            "ieee802154",
            "ieee802154_socket",
            "af_802154",
            "nfc",
            "rxrpc",
            "kcm",
            "smc",
            "qrtr",
            "l2tp_core",
            "l2tp_ip",
            "l2tp_ip6",
            "l2tp_ppp",
            "pppoe",
            "pppox",
            "mctp",
            "batman_adv",
            "bluetooth",
            "af_rxrpc",
        ),
        "a network protocol that any user may ask for",
    ),
    **dict.fromkeys(
        ("n_hdlc", "n_gsm", "slip", "ppp_async", "ppp_synctty", "mkiss", "6pack", "slcan"),
        "a line discipline that any user of a terminal may ask for",
    ),
    **dict.fromkeys(
        (
            "cramfs",
            "freevxfs",
            "jffs2",
            "hfs",
            "hfsplus",
            "udf",
            "ufs",
            "sysv",
            "minix",
            "qnx4",
            "qnx6",
            "befs",
            "bfs",
            "efs",
            "adfs",
            "affs",
            "hpfs",
            "jfs",
            "nilfs2",
            "ocfs2",
            "gfs2",
            "reiserfs",
            "romfs",
            "omfs",
            "orangefs",
            "f2fs",
            "coda",
            "afs",
            "ksmbd",
            "ntfs3",
            "exfat",
            "ubifs",
            "vboxsf",
        ),
        "a file system whose images can be made to harm",
    ),
    **dict.fromkeys(("firewire_core", "firewire_ohci", "firewire_sbp2", "thunderbolt"), "a bus that reads memory"),
    **dict.fromkeys(
        ("usb_storage", "uas", "floppy", "pcspkr", "joydev", "vivid"), "a device that servers do not have"
    ),
}
"""Modules that servers with containers hardly ever need, and why they are a danger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What is needed here and why, and what is not."""

    why: Mapping[str, str]
    """Needed module → reason."""
    idle: tuple[str, ...]
    """Loaded, and needed by nothing."""
    on_demand: tuple[str, ...]
    """Not loaded, needed by nothing, and loaded by the kernel when somebody asks."""
    blocked: tuple[str, ...]
    """Needed by nothing, and kept out already."""


def needs(case: Case) -> Needs:
    """Which modules are needed here; empty where the modules of the host were not seen."""
    facts = case.facts.modules
    why = _reasons(case)
    _with_dependencies(why, facts)
    blocked = {one.name for one in facts.blocked if not one.by_alias_only}
    loaded = {one.name for one in facts.loaded}
    available = set(facts.available or ())
    askable = {
        one.module for one in facts.aliases if _ON_DEMAND.match(one.pattern) and one.module in available
    } | (available & set(RARE))
    free = available - set(why) - loaded
    return Needs(
        why=why,
        idle=tuple(sorted(loaded - set(why))),
        on_demand=tuple(sorted(one for one in askable & free if one not in blocked)),
        blocked=tuple(sorted(blocked - set(why))),
    )


def used_now(case: Case) -> frozenset[str]:
    """Modules that something uses at this moment: what is worth remembering for later days."""
    return frozenset(name for name, reason in _in_use(case))


def modprobe_file(case: Case, names: Iterable[str]) -> str:
    """A file for modprobe.d that keeps modules out, by alias and by name."""
    facts = case.facts
    lines = [
        f"# Kernel modules that nothing on {_comment(facts.host or 'this host')} needs, by `kmend audit modules`",
        f"# of {facts.collected.date().isoformat()}, kernel {_comment(facts.kernel.release)}. Loaded ones",
        "# stay until they are removed (modprobe -r) or the host boots. To take it back, remove this file.",
    ]
    # A name that modprobe.d could read as more than a name is no module's.
    for name in sorted(name for name in set(names) if re.fullmatch(r"[\w-]+", name, re.ASCII)):
        reason = RARE.get(name, "")
        lines += ["", *([f"# {reason}"] if reason else []), f"blacklist {name}", f"install {name} /bin/false"]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    return re.sub(r"[^\w.+~-]", "?", text)


def _reasons(case: Case) -> dict[str, str]:
    facts = case.facts.modules
    why: dict[str, str] = {}
    for name, reason in _in_use(case):
        why.setdefault(name, reason)
    for name in case.used_modules:
        why.setdefault(name, "was in use on an earlier day")
    for name in facts.at_boot:
        why.setdefault(name, "is loaded at boot (modules-load.d)")
    for name in {*(facts.available or ()), *(one.name for one in facts.loaded)}:
        if _PROTECTED.fullmatch(name):
            why.setdefault(name, "may be asked for by engines, network plugins or the system")
    return why


def _in_use(case: Case) -> Iterable[tuple[str, str]]:
    facts = case.facts.modules
    for one in facts.loaded:
        if one.users:
            yield one.name, f"is in use ({one.users})"
        elif one.holders:
            yield one.name, f"is used by {', '.join(one.holders)}"
    kinds = {mount.kind for mount in case.facts.mounts}
    kinds |= {mount.kind for container in case.facts.containers for mount in container.mounts}
    by_alias = _plain_aliases(facts.aliases)
    for kind in kinds:
        for name in {kind, *by_alias.get(f"fs-{kind}", ())}:
            yield name, f"a {kind} file system is mounted"
    yield from _hardware(facts)
    for patch in case.facts.kernel.livepatches:
        yield patch.module, "is a livepatch"
        for name in patch.objects:
            yield name, f"is changed by the livepatch {patch.module}"


def _plain_aliases(aliases: Iterable[Alias]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for one in aliases:
        found[one.pattern].add(one.module)
    return found


def _hardware(facts: ModuleFacts) -> Iterable[tuple[str, str]]:
    """Modules that hardware asks for. One pattern for each bus and first letters keeps the work small."""
    by_bus: dict[str, list[Alias]] = defaultdict(list)
    for one in facts.aliases:
        if ":" in one.pattern and not one.pattern.startswith("devname:"):
            by_bus[one.pattern.partition(":")[0]].append(one)
    present: dict[str, list[str]] = defaultdict(list)
    for modalias in facts.hardware:
        present[modalias.partition(":")[0]].append(modalias)
    for bus, modaliases in present.items():
        text = "\n".join(modaliases)
        for one in by_bus.get(bus, ()):
            # Most patterns fail at their first letters: a plain search is far quicker than the pattern itself.
            head = re.split(r"[*?\[]", one.pattern, maxsplit=1)[0]
            if head in text and any(re.match(translate(one.pattern), modalias) for modalias in modaliases):
                yield one.module, "hardware asks for it"


def _with_dependencies(why: dict[str, str], facts: ModuleFacts) -> None:
    needed_by = {one[0]: one[1:] for one in facts.needs}
    for one in facts.loaded:
        for holder in one.holders:
            needed_by[holder] = (*needed_by.get(holder, ()), one.name)
    waiting = list(why)
    while waiting:
        name = waiting.pop()
        for other in needed_by.get(name, ()):
            if other not in why:
                why[other] = f"is needed by {name}"
                waiting.append(other)
