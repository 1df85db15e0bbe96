"""Entries into drivers: device nodes, and hardware that works for everybody."""

from __future__ import annotations

from kmend.exposure.reach import gates
from kmend.exposure.reach.entry import Code, Entry, Way
from kmend.exposure.reach.gates import AnyNode, Family, Node, Sysctl


def _device(name: str, *paths: str, node: Node, asks: tuple[str, ...] = (), code: Code = Code.HARDWARE) -> Entry:
    return Entry(
        name=name,
        paths=paths,
        ways=(Way(name=node.name, gates=(node,), asks=asks, code=code),),
        source="Documentation/admin-guide/devices.txt",
    )


DEVICES = (
    _device(
        "KVM",
        "virt/kvm/",
        "arch/x86/kvm/",
        node=Node("c", 10, (232,), "/dev/kvm"),
        asks=("char-major-10-232", "devname:kvm"),
        code=Code.ASKED,
    ),
    _device(
        "vhost",
        "drivers/vhost/",
        node=Node("c", 10, (238, 241), "/dev/vhost-net"),
        asks=("char-major-10-238", "char-major-10-241", "devname:vhost-net", "devname:vhost-vsock"),
        code=Code.ASKED,
    ),
    _device("VFIO", "drivers/vfio/", node=Node("c", 10, (196,), "/dev/vfio/vfio"), code=Code.LOADED),
    _device("graphics", "drivers/gpu/", "drivers/accel/", "drivers/dma-buf/", node=Node("c", 226, (), "/dev/dri")),
    _device("frame buffers", "drivers/video/", node=Node("c", 29, (), "/dev/fb0")),
    _device("sound", "sound/", node=Node("c", 116, (), "/dev/snd")),
    _device("video and television", "drivers/media/", node=Node("c", 81, (), "/dev/video0")),
    _device("input", "drivers/input/", node=Node("c", 13, (), "/dev/input")),
    _device(
        "HID", "drivers/hid/", node=Node("c", 10, (239,), "/dev/uhid"), asks=("devname:uhid",), code=Code.ASKED
    ),
    _device("USB", "drivers/usb/", node=Node("c", 189, (), "/dev/bus/usb")),
    _device("InfiniBand", "drivers/infiniband/", node=Node("c", 231, (), "/dev/infiniband")),
    _device("TPM", "drivers/char/tpm/", node=Node("c", 10, (224,), "/dev/tpm0")),
    _device("loop", "drivers/block/loop.c", node=Node("b", 7, (), "/dev/loop0"), code=Code.LOADED),
    _device("network block device", "drivers/block/nbd.c", node=Node("b", 43, (), "/dev/nbd0"), code=Code.LOADED),
    _device("device mapper", "drivers/md/dm", node=Node("c", 10, (236,), "/dev/mapper/control"), code=Code.LOADED),
    _device("binder", "drivers/android/", node=Node("c", 10, (), "/dev/binder"), code=Code.LOADED),
    _device("SGX", "arch/x86/kernel/cpu/sgx/", node=Node("c", 10, (), "/dev/sgx_enclave"), code=Code.LOADED),
    Entry(
        name="line disciplines",
        paths=(
            "drivers/tty/n_",
            "drivers/pps/clients/pps-ldisc.c",
            "drivers/net/ppp/ppp_async.c",
            "drivers/net/ppp/ppp_synctty.c",
        ),
        ways=(
            Way(
                name="TIOCSETD on a terminal",
                gates=(Sysctl("dev.tty.ldisc_autoload", shuts=("0",), lifted_by=("CAP_SYS_MODULE",)),),
                asks=("tty-ldisc-",),
            ),
        ),
        source="drivers/tty/tty_ldisc.c, tty_ldisc_get(): request_module(tty-ldisc-N)",
    ),
    Entry(
        name="disks",
        paths=(
            "drivers/nvme/host/",
            "drivers/scsi/",
            "drivers/ata/",
            "drivers/block/",
            "drivers/md/",
            "drivers/virtio/",
            "drivers/mmc/",
            "drivers/nvdimm/",
            "drivers/message/",
            "drivers/ufs/",
            "drivers/xen/",
            "drivers/dax/",
        ),
        ways=(Way(name="files on the disk", gates=(gates.always,), code=Code.HARDWARE),),
        source="Documentation/block: every file of a disk is read through its driver",
    ),
    Entry(
        name="crypto engines",
        paths=("drivers/crypto/",),
        ways=(Way(name="socket AF_ALG", gates=(Family(38, "AF_ALG"),), code=Code.HARDWARE),),
        source="Documentation/crypto/userspace-if.rst",
    ),
    Entry(
        name="drivers",
        paths=("drivers/",),
        ways=(Way(name="a device node", gates=(AnyNode(),), code=Code.HARDWARE),),
        source="Documentation/admin-guide/devices.txt",
    ),
)
