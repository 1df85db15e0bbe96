"""Entries into the core of the kernel, and into what single system calls lead to."""

from __future__ import annotations

from kmend.exposure.reach import gates
from kmend.exposure.reach.entry import Code, Entry, Way
from kmend.exposure.reach.gates import Call, Family, HostCapability, Never, NotKnown, SecurityModule, Sysctl

_IO_URING = Sysctl("kernel.io_uring_disabled", shuts=("1",), lifted_by=("CAP_SYS_ADMIN",), always=("2",))
_BPF = Sysctl("kernel.unprivileged_bpf_disabled", shuts=("1", "2"), lifted_by=("CAP_BPF", "CAP_SYS_ADMIN"))
_PERF = Sysctl("kernel.perf_event_paranoid", shuts=("3", "4"), lifted_by=("CAP_PERFMON", "CAP_SYS_ADMIN"))
_TRACE = HostCapability("CAP_SYS_ADMIN")
CALLS = (
    Entry(
        name="io_uring",
        paths=("io_uring/", "fs/io_uring.c", "fs/io-wq.c"),
        ways=(Way(name="io_uring_setup", gates=(Call(("io_uring_setup",)), _IO_URING)),),
        source="io_uring/io_uring.c, io_uring_allowed(); io_uring_setup(2)",
    ),
    Entry(
        name="BPF",
        paths=("kernel/bpf/", "net/bpf/"),
        ways=(Way(name="bpf", gates=(Call(("bpf",)), _BPF)),),
        source="kernel/bpf/syscall.c, __sys_bpf(); bpf(2)",
    ),
    Entry(
        name="perf events",
        paths=("kernel/events/", "arch/x86/events/", "drivers/perf/"),
        ways=(Way(name="perf_event_open", gates=(Call(("perf_event_open",)), _PERF)),),
        source="kernel/events/core.c, perf_event_open(); Documentation/admin-guide/perf-security.rst",
    ),
    Entry(
        name="kernel keys",
        paths=("security/keys/", "crypto/asymmetric_keys/"),
        ways=(
            Way(name="keyctl", gates=(Call(("add_key", "keyctl", "request_key")),), asks=("key-type-", "crypto-")),
        ),
        source="keyctl(2), add_key(2), request_key(2)",
    ),
    Entry(
        name="Landlock",
        paths=("security/landlock/",),
        ways=(Way(name="landlock", gates=(SecurityModule("landlock"), Call(("landlock_create_ruleset",)))),),
        source="landlock(7)",
    ),
    *(
        Entry(
            name=f"security module {name}",
            paths=(f"security/{name}/",),
            ways=(Way(name=f"checks of {name}", gates=(SecurityModule(name),)),),
            source="Documentation/admin-guide/LSM/index.rst",
        )
        for name in ("apparmor", "selinux", "smack", "tomoyo", "yama", "integrity", "ipe")
    ),
    Entry(
        name="tracing",
        paths=("kernel/trace/",),
        ways=(Way(name="tracefs", gates=(_TRACE,)),),
        source="Documentation/trace/ftrace.rst: tracefs belongs to root of the host",
    ),
    Entry(
        name="work for the host's root",
        paths=(
            "kernel/livepatch/",
            "kernel/module/",
            "kernel/kexec",
            "kernel/power/",
            "kernel/debug/",
            "mm/damon/",
            "drivers/base/",
            "drivers/acpi/",
            "drivers/firmware/",
            "kernel/crash",
            "kernel/reboot.c",
            "drivers/cpufreq/",
            "drivers/cpuidle/",
            "kernel/printk/",
            "drivers/edac/",
            "drivers/powercap/",
        ),
        ways=(Way(name="root of the host", gates=(HostCapability("CAP_SYS_ADMIN"),)),),
        source="capabilities(7), sysfs(5)",
    ),
    Entry(
        name="crypto by socket",
        paths=("crypto/", "arch/x86/crypto/", "lib/crypto/"),
        ways=(
            Way(
                name="socket AF_ALG",
                gates=(Family(38, "AF_ALG"),),
                asks=("net-pf-38", "algif-", "crypto-"),
            ),
        ),
        source="Documentation/crypto/userspace-if.rst",
    ),
    Entry(
        name="core",
        paths=(
            "kernel/",
            "mm/",
            "lib/",
            "ipc/",
            "security/",
            "arch/x86/kernel/",
            "arch/x86/mm/",
            "arch/x86/entry/",
            "arch/x86/lib/",
            "arch/x86/include/",
            "arch/x86/net/",
            "fs/proc/",
            "fs/sysfs/",
            "fs/kernfs/",
            "fs/notify/",
            "fs/iomap/",
            "fs/ramfs/",
            "fs/crypto/",
            "fs/verity/",
            "fs/exportfs/",
            "fs/nls/",
            "drivers/char/random.c",
            "drivers/char/mem.c",
            "drivers/tty/tty_",
            "drivers/tty/pty.c",
            "drivers/tty/n_tty.c",
        ),
        ways=(Way(name="any process", gates=(gates.always,)),),
        source="fork(2), mmap(2), futex(2), proc(5): every process comes there",
    ),
    Entry(
        name="boot",
        paths=("init/", "arch/x86/boot/", "arch/x86/realmode/", "arch/x86/purgatory/"),
        ways=(Way(name="boot", gates=(Never("it ran before the first container"),)),),
        source="Documentation/arch/x86/boot.rst",
    ),
    Entry(
        name="other machines",
        paths=("arch/",),
        ways=(Way(name="?", gates=(NotKnown(),), code=Code.UNKNOWN),),
        source="no rule",
    ),
)
