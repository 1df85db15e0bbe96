"""Entries into file systems."""

from __future__ import annotations

from kmend.exposure.reach import gates
from kmend.exposure.reach.entry import Code, Entry, Way
from kmend.exposure.reach.gates import Call, Mounted, Mounts, Node


def _file_system(name: str, *kinds: str, in_user_namespace: bool = False) -> Entry:
    asks = tuple(f"fs-{kind}" for kind in kinds)
    mounts = Mounts(in_user_namespace=in_user_namespace)
    return Entry(
        name=f"file system {name}",
        paths=(f"fs/{name}/",),
        ways=(
            Way(name=f"files of a {kinds[0]} mount", gates=(Mounted(kinds),), code=Code.LOADED),
            Way(name=f"mount {kinds[0]}", gates=(mounts,), asks=asks),
        ),
        source="fs/namespace.c, mount_capable(): CAP_SYS_ADMIN, of the host without FS_USERNS_MOUNT",
    )


_KINDS = {
    "ext2": ("ext2",), "ext4": ("ext4", "ext3", "ext2"), "jbd2": ("ext4", "ext3", "ocfs2"),
    "fat": ("vfat", "msdos"), "isofs": ("iso9660",), "ntfs3": ("ntfs3", "ntfs"), "devpts": ("devpts",),
    "hugetlbfs": ("hugetlbfs",),
    "efivarfs": ("efivarfs",), "configfs": ("configfs",), "debugfs": ("debugfs",), "tracefs": ("tracefs",),
    "quota": ("ext4", "xfs", "f2fs"), "dlm": ("gfs2", "ocfs2"),
}  # fmt: skip
_NAMED = (
    "adfs", "affs", "autofs", "bcachefs", "befs", "bfs", "btrfs", "coda", "cramfs", "ecryptfs", "efs", "erofs",
    "exfat", "f2fs", "freevxfs", "gfs2", "hfs", "hfsplus", "hostfs", "hpfs", "jffs2", "jfs", "minix", "nilfs2",
    "ntfs", "ocfs2", "omfs", "orangefs", "pstore", "qnx4", "qnx6", "reiserfs", "romfs", "squashfs", "sysv",
    "ubifs", "udf", "ufs", "vboxsf", "xfs", "zonefs", "binfmt_misc",
)  # fmt: skip
FILES = (
    *(_file_system(name, *kinds) for name, kinds in _KINDS.items()),
    *(_file_system(name, name) for name in _NAMED),
    _file_system("overlayfs", "overlay", in_user_namespace=True),
    Entry(
        name="FUSE",
        paths=("fs/fuse/",),
        ways=(
            Way(
                name="/dev/fuse",
                gates=(Node("c", 10, (229,), "/dev/fuse"),),
                asks=("char-major-10-229", "devname:fuse", "fs-fuse"),
            ),
            Way(name="files of a fuse mount", gates=(Mounted(("fuse", "fuseblk", "virtiofs")),), code=Code.LOADED),
        ),
        source="fs/fuse/dev.c: a connection begins with /dev/fuse",
    ),
    Entry(
        name="virtual file system",
        paths=("fs/", "block/"),
        ways=(Way(name="files", gates=(gates.always,)),),
        source="open(2), read(2): every process works with files",
    ),
    Entry(
        name="userfaultfd",
        paths=("fs/userfaultfd.c", "mm/userfaultfd.c"),
        ways=(Way(name="userfaultfd", gates=(Call(("userfaultfd",)),)),),
        source="userfaultfd(2)",
    ),
)
