"""Entries into networking: sockets, netlink, packets."""

from __future__ import annotations

from kmend.exposure.reach import gates
from kmend.exposure.reach.entry import Code, Entry, Way
from kmend.exposure.reach.gates import (
    Call,
    Family,
    Gate,
    HostCapability,
    Mounted,
    Mounts,
    Node,
    NotKnown,
    OwnCapability,
)

_AUTOLOAD = "net/socket.c, __sock_create(): request_module(net-pf-N) for anybody"
_NETLINK = "net/netlink/af_netlink.c, netlink_net_capable(): CAP_NET_ADMIN in the owner of the network namespace"
_NET_ADMIN = OwnCapability("CAP_NET_ADMIN")
_NETLINK_SOCKET = Family(16, "AF_NETLINK")
_INET = (Family(2, "AF_INET"),)


def _family(number: int, name: str, *paths: str, also: tuple[Gate, ...] = (), asks: tuple[str, ...] = ()) -> Entry:
    way = Way(name=f"socket {name}", gates=(Family(number, name), *also), asks=(f"net-pf-{number}", *asks))
    return Entry(name=f"socket {name}", paths=paths, ways=(way,), source=_AUTOLOAD)


FAMILIES = (
    _family(1, "AF_UNIX", "net/unix/"),
    _family(3, "AF_AX25", "net/ax25/", "drivers/net/hamradio/"),
    _family(5, "AF_APPLETALK", "net/appletalk/"),
    _family(6, "AF_NETROM", "net/netrom/"),
    _family(8, "AF_ATMPVC", "net/atm/", "drivers/atm/", asks=("net-pf-20",)),
    _family(9, "AF_X25", "net/x25/", "net/lapb/"),
    _family(11, "AF_ROSE", "net/rose/"),
    _family(15, "AF_KEY", "net/key/", also=(_NET_ADMIN,)),
    _family(17, "AF_PACKET", "net/packet/", also=(OwnCapability("CAP_NET_RAW"),)),
    _family(21, "AF_RDS", "net/rds/"),
    _family(24, "AF_PPPOX", "drivers/net/ppp/pppox.c", "drivers/net/ppp/pppoe.c", "drivers/net/ppp/pptp.c"),
    _family(26, "AF_LLC", "net/llc/", also=(OwnCapability("CAP_NET_RAW"),)),
    _family(29, "AF_CAN", "net/can/", asks=("can-proto-",)),
    _family(30, "AF_TIPC", "net/tipc/"),
    _family(31, "AF_BLUETOOTH", "net/bluetooth/", also=(gates.host_network,), asks=("bt-proto-",)),
    _family(33, "AF_RXRPC", "net/rxrpc/"),
    _family(35, "AF_PHONET", "net/phonet/", also=(HostCapability("CAP_SYS_ADMIN"),)),
    _family(36, "AF_IEEE802154", "net/ieee802154/", "net/mac802154/", "net/6lowpan/", also=(gates.host_network,)),
    _family(37, "AF_CAIF", "net/caif/", "drivers/net/caif/", also=(HostCapability("CAP_SYS_ADMIN"),)),
    _family(38, "AF_ALG", "crypto/af_alg.c", "crypto/algif_", asks=("algif-",)),
    _family(39, "AF_NFC", "net/nfc/"),
    _family(40, "AF_VSOCK", "net/vmw_vsock/"),
    _family(41, "AF_KCM", "net/kcm/"),
    _family(42, "AF_QIPCRTR", "net/qrtr/"),
    _family(43, "AF_SMC", "net/smc/"),
    _family(44, "AF_XDP", "net/xdp/", also=(OwnCapability("CAP_NET_RAW"),)),
    _family(45, "AF_MCTP", "net/mctp/"),
)


def _protocol(name: str, number: int, *paths: str, more: tuple[Way, ...] = ()) -> Entry:
    asks = (f"net-pf-2-proto-{number}", f"net-pf-10-proto-{number}")
    return Entry(
        name=f"protocol {name}",
        paths=paths,
        ways=(Way(name=f"socket AF_INET, protocol {name}", gates=_INET, asks=asks), *more),
        source="net/ipv4/af_inet.c, inet_create(): request_module(net-pf-2-proto-N-type-M) for anybody",
    )


def _net_admin(name: str, *paths: str, asks: tuple[str, ...], source: str, more: tuple[Way, ...] = ()) -> Entry:
    way = Way(name=name, gates=(_NETLINK_SOCKET, _NET_ADMIN), asks=asks)
    return Entry(name=name, paths=paths, ways=(way, *more), source=source)


def _traffic(code: Code = Code.LOADED) -> Way:
    return Way(name="packets that it sends and receives", gates=(gates.has_network,), code=code)


_NFNETLINK = (
    "net-pf-16-proto-12",
    "nfnetlink-subsys-",
    "nft-",
    "xt_",
    "ipt_",
    "ip6t_",
    "ipt-",
    "ip_set_",
    "ip_set-",
    "nf_conntrack-",
    "nf-nat-",
    "nf_log_",
    "nf-logger-",
)
NETWORK = (
    _protocol("SCTP", 132, "net/sctp/"),
    _protocol("DCCP", 33, "net/dccp/"),
    _protocol(
        "L2TP",
        115,
        "net/l2tp/",
        more=(
            Way(name="L2TP netlink", gates=(_NET_ADMIN,), asks=("net-pf-16-proto-16-family-l2tp",)),
            Way(name="socket AF_PPPOX", gates=(Family(24, "AF_PPPOX"),), asks=("net-pf-24-proto-1",)),
        ),
    ),
    _protocol("MPTCP", 262, "net/mptcp/"),
    _net_admin(
        "netfilter",
        "net/netfilter/",
        "net/ipv4/netfilter/",
        "net/ipv6/netfilter/",
        "net/bridge/netfilter/",
        asks=_NFNETLINK,
        source="net/netfilter/nfnetlink.c, nfnetlink_rcv(): CAP_NET_ADMIN over the network namespace",
    ),
    _net_admin(
        "connection tracking",
        "net/netfilter/nf_conntrack",
        "net/netfilter/nf_nat",
        "net/netfilter/nf_flow_table",
        asks=_NFNETLINK,
        more=(_traffic(),),
        source="net/netfilter/nf_conntrack_proto.c, hooks: every packet once rules ask for it",
    ),
    _net_admin(
        "IPVS",
        "net/netfilter/ipvs/",
        asks=("net-pf-16-proto-16-family-IPVS", "ip_vs_"),
        source="net/netfilter/ipvs/ip_vs_ctl.c, do_ip_vs_set_ctl(): CAP_NET_ADMIN",
    ),
    _net_admin(
        "traffic control",
        "net/sched/",
        asks=("sch_", "cls_", "act_", "em_", "net-sch-", "net-cls-", "net-act-"),
        source="net/sched/sch_api.c, tc_modify_qdisc() by rtnetlink: " + _NETLINK,
    ),
    _net_admin(
        "IPsec",
        "net/xfrm/",
        "net/ipv4/esp4",
        "net/ipv4/ah4",
        "net/ipv4/ipcomp",
        "net/ipv4/xfrm4",
        "net/ipv6/esp6",
        "net/ipv6/ah6",
        "net/ipv6/ipcomp6",
        "net/ipv6/xfrm6",
        asks=("net-pf-16-proto-6", "xfrm-type-", "xfrm-offload-"),
        source="net/xfrm/xfrm_user.c, xfrm_user_rcv_msg(): CAP_NET_ADMIN over the network namespace",
    ),
    _net_admin(
        "network links",
        "net/bridge/",
        "net/8021q/",
        "net/hsr/",
        "net/batman-adv/",
        "net/openvswitch/",
        "net/mpls/",
        "net/devlink/",
        "net/ethtool/",
        "net/ife/",
        "net/psample/",
        "net/nsh/",
        "drivers/net/bonding/",
        "drivers/net/team/",
        "drivers/net/macvlan.c",
        "drivers/net/macsec.c",
        "drivers/net/macvtap.c",
        "drivers/net/ipvlan/",
        "drivers/net/vxlan",
        "drivers/net/geneve.c",
        "drivers/net/gtp.c",
        "drivers/net/bareudp.c",
        "drivers/net/wireguard/",
        "drivers/net/dummy.c",
        "drivers/net/ifb.c",
        "drivers/net/vrf.c",
        "drivers/net/veth.c",
        "drivers/net/netkit.c",
        "drivers/net/amt.c",
        "drivers/net/nlmon.c",
        "drivers/net/vsockmon.c",
        "drivers/net/pfcp.c",
        "drivers/net/ovpn/",
        "drivers/net/can/vcan.c",
        "drivers/net/can/vxcan.c",
        "drivers/net/can/slcan",
        asks=("rtnl-link-", "net-pf-16-proto-16-family-", "net-pf-28"),
        source="net/core/rtnetlink.c, rtnl_newlink(): request_module(rtnl-link-KIND). " + _NETLINK,
        more=(_traffic(),),
    ),
    Entry(
        name="TUN and TAP",
        paths=("drivers/net/tun.c", "drivers/net/tap.c"),
        ways=(
            Way(
                name="/dev/net/tun",
                gates=(Node("c", 10, (200,), "/dev/net/tun"),),
                asks=("char-major-10-200", "devname:net/tun"),
            ),
        ),
        source="drivers/net/tun.c, tun_chr_open(): anybody with the node; TUNSETIFF needs CAP_NET_ADMIN",
    ),
    Entry(
        name="PPP",
        paths=("drivers/net/ppp/", "drivers/net/slip/"),
        ways=(
            Way(
                name="/dev/ppp",
                gates=(Node("c", 108, (0,), "/dev/ppp"), _NET_ADMIN),
                asks=("char-major-108", "devname:ppp"),
            ),
        ),
        source="drivers/net/ppp/ppp_generic.c, ppp_open(): CAP_NET_ADMIN over the user namespace",
    ),
    Entry(
        name="kernel TLS",
        paths=("net/tls/",),
        ways=(
            Way(name="setsockopt TCP_ULP, loaded before", gates=_INET, code=Code.LOADED),
            Way(
                name="setsockopt TCP_ULP",
                gates=(*_INET, HostCapability("CAP_NET_ADMIN")),
                asks=("tcp-ulp-tls",),
            ),
        ),
        source="net/ipv4/tcp_ulp.c, __tcp_ulp_find_autoload(): loads it only with CAP_NET_ADMIN",
    ),
    Entry(
        name="TCP congestion control",
        paths=("net/ipv4/tcp_bbr", "net/ipv4/tcp_dctcp", "net/ipv4/tcp_vegas", "net/ipv4/tcp_cdg"),
        ways=(
            Way(name="setsockopt TCP_CONGESTION, loaded before", gates=_INET, code=Code.LOADED),
            Way(
                name="setsockopt TCP_CONGESTION",
                gates=(*_INET, HostCapability("CAP_NET_ADMIN")),
                asks=("tcp_",),
            ),
        ),
        source="net/ipv4/tcp_cong.c, tcp_ca_find_autoload(): loads it only with CAP_NET_ADMIN",
    ),
    Entry(
        name="sockets and packets",
        paths=(
            "net/socket.c",
            "net/compat.c",
            "net/core/",
            "net/ipv4/",
            "net/ipv6/",
            "net/ethernet/",
            "net/netlink/",
            "net/802/",
            "net/netlabel/",
            "net/strparser/",
            "net/handshake/",
        ),
        ways=(
            Way(
                name="socket AF_INET",
                gates=_INET,
                asks=("net-pf-2", "net-pf-10", "net-pf-2-proto-", "net-pf-10-proto-", "net-pf-16-proto-4"),
            ),
            Way(
                name="network links",
                gates=(_NETLINK_SOCKET, _NET_ADMIN),
                asks=("rtnl-link-", "rtnl-lwt-", "net-pf-16-proto-16-family-"),
            ),
        ),
        source="socket(2), packet(7); net/core/sock_diag.c: request_module(net-pf-16-proto-4-…) for anybody",
    ),
    Entry(
        name="network file systems",
        paths=(
            "net/sunrpc/",
            "fs/nfs/",
            "fs/nfs_common/",
            "net/ceph/",
            "net/9p/",
            "fs/netfs/",
            "fs/fscache/",
            "fs/cachefiles/",
            "fs/smb/client/",
            "fs/smb/common/",
            "fs/cifs/",
            "fs/ceph/",
            "fs/afs/",
            "fs/9p/",
        ),
        ways=(
            Way(
                name="files of a mount",
                gates=(Mounted(("nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "9p")),),
                code=Code.LOADED,
            ),
            Way(
                name="mount",
                gates=(Mounts(in_user_namespace=False),),
                asks=("fs-nfs", "fs-nfs4", "fs-cifs", "fs-smb3", "fs-ceph", "fs-afs", "fs-9p"),
            ),
        ),
        source="fs/namespace.c, mount_capable(): CAP_SYS_ADMIN of the host without FS_USERNS_MOUNT",
    ),
    Entry(
        name="file servers",
        paths=("fs/nfsd/", "fs/lockd/", "fs/smb/server/", "fs/ksmbd/", "drivers/target/", "drivers/nvme/target/"),
        ways=(_traffic(),),
        source="Documentation/filesystems/nfs, ksmbd.rst: the host serves whoever reaches its ports",
    ),
    Entry(
        name="wireless",
        paths=("net/wireless/", "net/mac80211/", "net/rfkill/", "drivers/net/wireless/", "net/nfc/nci/"),
        ways=(
            Way(
                name="nl80211 or its packets, in the host's network namespace",
                gates=(gates.host_network,),
                code=Code.HARDWARE,
            ),
        ),
        source="net/wireless/nl80211.c: a wireless device is in the host's network namespace",
    ),
    Entry(
        name="network cards",
        paths=("drivers/net/", "net/dsa/"),
        ways=(_traffic(Code.HARDWARE),),
        source="Documentation/networking/netdevices.rst: packets of a bridge leave by the card",
    ),
    Entry(
        name="DNS resolver keys",
        paths=("net/dns_resolver/",),
        ways=(Way(name="request_key", gates=(Call(("add_key", "request_key")),), asks=("dns_resolver",)),),
        source="Documentation/networking/dns_resolver.rst",
    ),
    Entry(
        name="networking, else",
        paths=("net/",),
        ways=(Way(name="?", gates=(NotKnown(),), code=Code.UNKNOWN),),
        source="no rule",
    ),
)
