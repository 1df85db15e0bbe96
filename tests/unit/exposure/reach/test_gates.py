"""Each gate open and shut: what a container can reach of code, by what its host and its engine say."""

from dataclasses import replace

import pytest

from kmend.exposure.presence import Place, Presence
from kmend.exposure.reach.entries import ENTRIES, entry_of
from kmend.exposure.reach.gates import GATES
from kmend.exposure.reach.judge import Judge
from kmend.model.exposure import Reach
from kmend.model.facts import BlockedModule, Device, LoadedModule, Mount, Process, Syscalls
from makers.facts import container, default_filter, facts, modules, no_filter, of_host

ADMIN = ("CAP_NET_ADMIN",)
SYS_ADMIN = ("CAP_SYS_ADMIN",)
OPEN, SHUT, NOT, UNKNOWN = Reach.REACHABLE, Reach.GATED, Reach.NOT_REACHABLE, Reach.UNKNOWN


BY_NAME = container(syscalls=Syscalls(mode="filter", profile="builtin"))
PERFMON = container(syscalls=no_filter(), capabilities=("CAP_PERFMON",))
REFUSES_TIPC = container("c", syscalls=default_filter(refused_families=(30,)))


def reach(file, holder, box, *, host=None, from_network=False):
    """Reach and gate of one container to a file that some object holds."""
    place = Place(Presence.BUILT_IN if holder == "vmlinux" else Presence.MODULE, ((file, (holder,)),))
    (found,) = Judge(host or facts(box)).reach((file,), place, from_network=from_network)
    assert found.containers == (box.title,)
    assert found.evidence
    assert found.gate == "" or found.gate in GATES
    return found.reach, found.gate


def blocked(*, by_alias_only=False, name="tipc"):
    """A line of modprobe.d."""
    return modules(
        blocked=(BlockedModule(name=name, by_alias_only=by_alias_only, source="/etc/modprobe.d/x.conf"),)
    )


def nodes(*found):
    """A container with more devices, each kind, major, minor, and path or access."""
    more = tuple(
        Device(path=path, kind=kind, major=one, minor=two, access="rwm") for path, kind, one, two in found
    )
    return container(devices=(*container().devices, *more))


def mounted(kind):
    """A container with one more mount."""
    return container(mounts=(*container().mounts, Mount(target="/data", source="x", kind=kind, options=("rw",))))


MAY_NOT_MAKE_NODES = replace(nodes(("", "c", 10, 232)), capabilities=())


@pytest.mark.parametrize(
    ("file", "holder", "box", "expected"),
    [
        # Sockets that load their module, and the filter before them.
        ("net/tipc/socket.c", "tipc", container(), (OPEN, "")),
        ("net/tipc/socket.c", "tipc", REFUSES_TIPC, (SHUT, "seccomp")),
        ("net/tipc/udp_media.c", "udp_tunnel", container(), (OPEN, "")),
        ("net/sctp/socket.c", "sctp", container(), (OPEN, "")),
        ("net/vmw_vsock/af_vsock.c", "vsock", container(), (SHUT, "seccomp")),
        ("net/vmw_vsock/af_vsock.c", "vsock", container(syscalls=no_filter()), (OPEN, "")),
        ("crypto/algif_hash.c", "algif_hash", container(), (OPEN, "")),
        ("net/llc/af_llc.c", "llc", container(), (OPEN, "")),
        ("net/llc/af_llc.c", "llc", container(capabilities=()), (SHUT, "capability")),
        ("net/bluetooth/sco.c", "bluetooth", container(), (SHUT, "host-network")),
        ("net/bluetooth/sco.c", "bluetooth", of_host(), (OPEN, "")),
        # What the default profile does where only its name is known.
        ("net/tipc/socket.c", "tipc", BY_NAME, (OPEN, "")),
        ("net/vmw_vsock/af_vsock.c", "vsock", BY_NAME, (UNKNOWN, "seccomp")),
        ("net/tipc/socket.c", "tipc", container(syscalls=Syscalls(mode="filter")), (UNKNOWN, "seccomp")),
        ("net/tipc/socket.c", "tipc", container(syscalls=Syscalls(mode="strict")), (SHUT, "seccomp")),
        ("net/tipc/socket.c", "tipc", container(syscalls=None), (UNKNOWN, "seccomp")),
        # Netlink.
        ("net/netfilter/nf_tables_api.c", "nf_tables", container(), (SHUT, "capability")),
        ("net/netfilter/nf_tables_api.c", "nf_tables", container(capabilities=ADMIN), (OPEN, "")),
        ("net/netfilter/nf_tables_api.c", "nf_tables", container(capabilities=None), (UNKNOWN, "capability")),
        ("net/netfilter/nf_tables_api.c", "nf_tables", container(syscalls=no_filter()), (OPEN, "")),
        ("net/netfilter/nf_conntrack_core.c", "nf_conntrack", container(), (OPEN, "")),
        ("net/netfilter/nf_conntrack_core.c", "nf_conntrack", container(network="none"), (SHUT, "capability")),
        ("net/sched/sch_htb.c", "sch_htb", container(capabilities=ADMIN), (OPEN, "")),
        ("net/tls/tls_main.c", "tls", container(), (SHUT, "capability")),
        ("net/tls/tls_main.c", "tls", container(capabilities=ADMIN), (OPEN, "")),
        # File systems.
        ("fs/overlayfs/super.c", "overlay", container(), (OPEN, "")),
        ("fs/ext4/inode.c", "ext4", container(), (OPEN, "")),
        ("fs/xfs/xfs_inode.c", "xfs", container(), (SHUT, "capability")),
        ("fs/xfs/xfs_inode.c", "xfs", container(capabilities=SYS_ADMIN, syscalls=no_filter()), (OPEN, "")),
        ("fs/nfs/inode.c", "nfs", mounted("nfs4"), (SHUT, "capability")),
        # System calls and their switches.
        ("io_uring/io_uring.c", "vmlinux", container(), (OPEN, "")),
        ("kernel/bpf/verifier.c", "vmlinux", container(), (SHUT, "seccomp")),
        ("kernel/bpf/verifier.c", "vmlinux", container(syscalls=no_filter()), (SHUT, "unprivileged_bpf_disabled")),
        ("kernel/events/core.c", "vmlinux", container(syscalls=no_filter()), (SHUT, "perf_event_paranoid")),
        ("kernel/events/core.c", "vmlinux", PERFMON, (OPEN, "")),
        ("security/keys/keyring.c", "vmlinux", container(), (SHUT, "seccomp")),
        ("security/keys/keyring.c", "vmlinux", container(syscalls=no_filter()), (OPEN, "")),
        ("security/selinux/hooks.c", "vmlinux", container(), (NOT, "security-module")),
        ("security/apparmor/lsm.c", "vmlinux", container(), (OPEN, "")),
        ("kernel/trace/trace.c", "vmlinux", container(), (SHUT, "capability")),
        # Devices and hardware.
        ("arch/x86/kvm/x86.c", "kvm", container(), (SHUT, "device-node")),
        ("arch/x86/kvm/x86.c", "kvm", nodes(("/dev/kvm", "c", 10, 232)), (OPEN, "")),
        ("arch/x86/kvm/x86.c", "kvm", nodes(("", "c", 10, 232)), (OPEN, "")),
        ("arch/x86/kvm/x86.c", "kvm", MAY_NOT_MAKE_NODES, (SHUT, "device-node")),
        ("arch/x86/kvm/x86.c", "kvm", container(privileged=True), (OPEN, "")),
        ("drivers/gpu/drm/amd/a.c", "amdgpu", container(privileged=True), (NOT, "hardware")),
        ("drivers/net/virtio_net.c", "virtio_net", container(), (OPEN, "")),
        ("drivers/net/virtio_net.c", "virtio_net", container(network="none"), (SHUT, "network")),
        ("drivers/net/virtio_net.c", "virtio_net", container(network="", pod="shop/web-1"), (OPEN, "")),
        ("drivers/net/virtio_net.c", "virtio_net", container(network=""), (UNKNOWN, "network")),
        ("drivers/block/virtio_blk.c", "virtio_blk", container(), (OPEN, "")),
        ("drivers/leds/x.c", "veth", container(), (SHUT, "device-node")),
        ("drivers/tty/n_gsm.c", "n_gsm", container(), (OPEN, "")),
        # Core.
        ("mm/mmap.c", "vmlinux", container(capabilities=()), (OPEN, "")),
        ("init/main.c", "vmlinux", container(), (NOT, "no-entry")),
        ("net/nowhere/x.c", "vmlinux", container(), (UNKNOWN, "not-known")),
    ],
)  # fmt: skip
def test_what_a_container_reaches(file, holder, box, expected):
    """On a host as Debian sets it up."""
    assert reach(file, holder, box) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modules": blocked()}, (SHUT, "module-blocked")),
        ({"modules": blocked(by_alias_only=True)}, (SHUT, "module-blocked")),
        ({"modules": modules(loading_disabled=True)}, (SHUT, "modules-disabled")),
        ({"modules": modules(available=("overlay",))}, (NOT, "module-missing")),
        ({"modules": modules(aliases=())}, (UNKNOWN, "module-not-loaded")),
        ({"modules": modules(aliases=modules().aliases[1:])}, (NOT, "module-not-loaded")),
        ({"modules": replace(blocked(), loaded=(LoadedModule(name="tipc", size=1, users=0),))}, (OPEN, "")),
    ],
)
def test_modules_that_do_not_come_in(changes, expected):
    """Blocked, not there, or nothing asks for it; what is loaded already needs no request."""
    box = container()
    assert reach("net/tipc/socket.c", "tipc", box, host=facts(box, **changes)) == expected


def test_a_blocked_module_keeps_out_what_it_would_have_pulled_in():
    """A module that comes only with another one stays out when that one is blocked."""
    box = container()
    assert reach("net/x.c", "udp_tunnel", box)[0] is UNKNOWN
    host = facts(box, modules=blocked(by_alias_only=True))
    assert reach("net/tipc/udp_media.c", "udp_tunnel", box, host=host) == (SHUT, "module-blocked")


@pytest.mark.parametrize(
    ("sysctls", "expected"),
    [
        ({}, OPEN),
        ({"kernel.unprivileged_userns_clone": "0"}, SHUT),
        ({"user.max_user_namespaces": "0"}, SHUT),
        ({"kernel.apparmor_restrict_unprivileged_userns": "1"}, UNKNOWN),
    ],
)
def test_user_namespaces(sysctls, expected):
    """Without a filter a container makes one and has every capability in it, where the host lets it."""
    box = container(syscalls=no_filter())
    assert (
        reach("net/netfilter/nf_tables_api.c", "nf_tables", box, host=facts(box, sysctls=sysctls))[0] is expected
    )
    plain = replace(box, apparmor="unconfined")
    known = SHUT if sysctls else OPEN
    assert (
        reach("net/netfilter/nf_tables_api.c", "nf_tables", plain, host=facts(plain, sysctls=sysctls))[0] is known
    )


def test_capabilities_of_a_user_namespace_are_none_on_the_host():
    """In a user namespace of its own CAP_SYS_ADMIN does not mount what is not made for that, nor lift a sysctl."""
    box = of_host(kinds=(), capabilities=("CAP_SYS_ADMIN", "CAP_PERFMON"), syscalls=no_filter())
    assert reach("fs/xfs/xfs_inode.c", "xfs", box) == (SHUT, "capability")
    assert reach("kernel/events/core.c", "vmlinux", box) == (SHUT, "perf_event_paranoid")
    rooted = replace(box, namespaces=of_host().namespaces)
    assert reach("fs/xfs/xfs_inode.c", "xfs", rooted) == (OPEN, "")


@pytest.mark.parametrize(("value", "expected"), [("0", OPEN), ("1", SHUT), ("2", SHUT)])
def test_io_uring_switched_off(value, expected):
    """1 leaves it to those with CAP_SYS_ADMIN, 2 to nobody."""
    box = container()
    host = facts(box, sysctls={"kernel.io_uring_disabled": value})
    assert reach("io_uring/net.c", "vmlinux", box, host=host)[0] is expected
    root = of_host(capabilities=("CAP_SYS_ADMIN",))
    host = facts(root, sysctls={"kernel.io_uring_disabled": value})
    assert reach("io_uring/net.c", "vmlinux", root, host=host)[0] is (SHUT if value == "2" else OPEN)


def test_line_disciplines_switched_off():
    """Nobody without CAP_SYS_MODULE brings one in."""
    box = container()
    host = facts(box, sysctls={"dev.tty.ldisc_autoload": "0"})
    assert reach("drivers/tty/n_gsm.c", "n_gsm", box, host=host) == (SHUT, "ldisc_autoload")


ELSEWHERE = tuple(one for one in modules().aliases if one.module != "tipc")
OWNS = {"capabilities": ("CAP_SYS_MODULE",), "syscalls": no_filter()}


@pytest.mark.parametrize(
    ("box", "changes", "expected"),
    [
        (container(), {}, (NOT, "module-not-loaded")),
        (of_host(**OWNS), {}, (OPEN, "")),
        (of_host(**OWNS), {"blocked": blocked().blocked}, (OPEN, "")),
        (of_host(**OWNS), {"loading_disabled": True}, (SHUT, "modules-disabled")),
        (of_host(**OWNS), {"available": ()}, (NOT, "module-missing")),
        (of_host(kinds=("net",), **OWNS), {}, (NOT, "module-not-loaded")),
        (of_host(**{**OWNS, "syscalls": Syscalls(mode="filter")}), {}, (UNKNOWN, "seccomp")),
        (of_host(**{**OWNS, "capabilities": None}), {}, (UNKNOWN, "capability")),
    ],
)
def test_a_container_that_loads_modules_itself(box, changes, expected):
    """It needs no alias and heeds no modprobe.d; what no module gets past holds for it, too."""
    host = facts(box, modules=modules(aliases=ELSEWHERE, **changes))
    assert reach("net/tipc/socket.c", "tipc", box, host=host) == expected


def test_without_new_privileges_the_bounding_set_is_out_of_reach():
    """A container whose processes have nothing and can gain nothing is not counted as having its bounding set."""
    changes = {"effective": (), "uid": 65534, "no_new_privileges": True}
    nobody = Process(pid=1, name="sh", uid=65534, effective_uid=65534)
    assert reach("net/llc/af_llc.c", "llc", container(**changes, processes=(nobody,))) == (SHUT, "capability")
    root = replace(nobody, uid=0, capabilities=("CAP_NET_RAW",))
    assert reach("net/llc/af_llc.c", "llc", container(**changes, processes=(root,))) == (OPEN, "")


def test_packets_from_outside():
    """AV:N reaches what is in the kernel already, through a network; it loads nothing."""
    box = container(capabilities=())
    assert reach("net/netfilter/nf_tables_api.c", "nf_tables", box, from_network=True) == (OPEN, "")
    assert reach("net/bluetooth/sco.c", "bluetooth", box, from_network=True) == (SHUT, "host-network")
    alone = container(network="none", capabilities=())
    assert reach("net/netfilter/nf_tables_api.c", "nf_tables", alone, from_network=True)[0] is SHUT


def test_hardware_by_modalias():
    """A device that asks for the driver makes it reachable through its node."""
    box = container(privileged=True)
    host = facts(box, modules=modules(hardware=("pci:v00001002d000073BFsv00001002sd00000E3Abc03sc00i00",)))
    assert reach("drivers/gpu/drm/amd/a.c", "amdgpu", box, host=host) == (OPEN, "")


def test_containers_that_are_alike_stand_together():
    """Two of one name are told apart by the id; what does not run, or has its own kernel, is left out."""
    boxes = (
        container("a"),
        container("b"),
        REFUSES_TIPC,
        replace(container("d"), name="a"),
        container("gone", state="exited"),
        container("own", runtime="kata-runtime"),
    )
    judge = Judge(facts(*boxes))
    place = Place(Presence.MODULE, (("net/tipc/socket.c", ("tipc",)),))
    found = judge.reach(("net/tipc/socket.c",), place, from_network=False)
    assert [(one.reach, one.containers) for one in found] == [
        (OPEN, ("a@a-0123456789", "a@d-0123456789", "b")),
        (SHUT, ("c",)),
    ]
    assert judge.left_out == ("gone", "own")
    assert Judge(facts(*boxes), only="b").containers == ("b",)


def test_the_best_of_several_files_counts():
    """A repair in two places is reachable when one of them is; headers beside code say nothing."""
    box = container()
    files = (("fs/xfs/x.c", ("xfs",)), ("mm/mmap.c", ("vmlinux",)), ("include/linux/x.h", ()))
    place = Place(Presence.BUILT_IN, files)
    assert Judge(facts(box)).reach(tuple(file for file, _ in files), place, from_network=False)[0].reach is OPEN
    header = Place(Presence.HEADER, (("include/linux/x.h", ()),))
    assert Judge(facts(box)).reach(("include/linux/x.h",), header, from_network=False)[0].reach is UNKNOWN


def test_the_longest_path_decides():
    """Each path stands once in the table, and a part of a folder goes before the folder."""
    assert entry_of("net/netfilter/ipvs/ip_vs_core.c").name == "IPVS"
    assert entry_of("net/netfilter/nf_conntrack_core.c").name == "connection tracking"
    assert entry_of("net/netfilter/nft_set.c").name == "netfilter"
    paths = [path for entry in ENTRIES for path in entry.paths]
    assert len(paths) == len(set(paths))
    assert all(entry.source and entry.ways for entry in ENTRIES)
