"""The host itself: kernel, modules, sysctls, accounts, files and programs."""

import gzip
import hashlib
import os
import random
import shutil
from datetime import UTC, datetime

import pytest

from kmend.agent.facts import host_facts
from kmend.linux.facts.binary import build_info
from kmend.linux.facts.collect import collect
from kmend.linux.facts.kernel import _holds
from kmend.linux.facts.look import looking
from kmend.linux.facts.packages import dpkg
from kmend.model.facts import (
    BlockedModule,
    EngineKind,
    Group,
    IdRange,
    LoadedLivepatch,
    LoadedModule,
    Package,
    Setting,
    User,
)
from makers.container_host import BUILD_ID, RELEASE, VERSION, ContainerHost, status
from makers.go_binary import go_binary

NOW = datetime(2026, 2, 3, tzinfo=UTC)


@pytest.fixture
def host(tmp_path):
    """A running host."""
    return ContainerHost(tmp_path)


def look(host):
    """Its facts."""
    return collect(host.root, now=NOW)


def why(found, what):
    """Why something was not seen."""
    return next((unseen.why for unseen in found.unseen if unseen.what == what), "")


def test_kernel_is_the_running_one(host):
    """Identity, configuration, command line, livepatches, holes of the processor."""
    host.write("sys/kernel/livepatch/kmend_3/enabled", "1\n")
    host.write("sys/kernel/livepatch/kmend_3/transition", "0\n")
    host.write("sys/kernel/livepatch/kmend_3/vmlinux/f,1/patched", "1")
    host.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    host.write("sys/kernel/security/lsm", "lockdown,capability,apparmor")
    host.write("sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n")
    host.write("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\x06\0\0\0\x01")
    host.write("proc/sys/kernel/tainted", "32768")
    kernel = look(host).kernel
    assert (kernel.release, kernel.version, kernel.build_id) == (RELEASE, VERSION, BUILD_ID)
    assert (kernel.package, kernel.package_version) == (f"linux-image-{RELEASE}", "6.1.159-1")
    assert kernel.architecture == "x86_64"
    assert kernel.config
    assert {one.name: one.value for one in kernel.config} == {"CONFIG_A": "y", "CONFIG_B": "m", "CONFIG_NAME": "x"}
    assert kernel.livepatches == (
        LoadedLivepatch(module="kmend_3", enabled=True, in_transition=False, objects=("vmlinux",), number=3),
    )
    assert (kernel.lockdown, kernel.secure_boot, kernel.taint) == ("integrity", True, 32768)
    assert kernel.security_modules == ("lockdown", "capability", "apparmor")
    assert kernel.cpu_vulnerabilities == (Setting(name="meltdown", value="Mitigation: PTI"),)
    assert kernel.booted == datetime(2026, 1, 1, tzinfo=UTC)


def test_running_version_is_not_the_installed_one(host):
    """After an update without a reboot, the package's new version is not what runs."""
    host.write("var/lib/dpkg/status", status((f"linux-image-{RELEASE}", "6.1.170-1")))
    assert look(host).kernel.package_version == "6.1.159-1"


def test_ubuntu_says_its_version_elsewhere(host):
    """Its uname has the number of the build only."""
    host.write("proc/sys/kernel/version", "#52-Ubuntu SMP PREEMPT_DYNAMIC Thu")
    for said, version, stable in (
        ("Ubuntu 6.8.0-52.53-generic 6.8.12", "6.8.0-52.53", "6.8.12"),
        ("Ubuntu 6.8.0-1015.17~22.04.2-aws 6.8.8", "6.8.0-1015.17~22.04.2", "6.8.8"),
        ("Ubuntu 5.15.0-100.110-generic-64k 5.15.143", "5.15.0-100.110", "5.15.143"),
        ("something else", "", ""),
    ):
        host.write("proc/version_signature", said)
        kernel = look(host).kernel
        assert (kernel.package_version, kernel.stable) == (version, stable)


@pytest.mark.parametrize(
    ("release", "name", "version", "found"),
    [
        ("5.14.0-427.13.1.el9_4.x86_64", "kernel-core", "5.14.0-427.13.1.el9_4", True),
        ("5.14.0-427.13.1.el9_4.x86_64", "kernel-core", "5.14.0-427.20.1.el9_4", False),
        ("5.14.0-427.13.1.el9_4.x86_64", "kernel-headers", "5.14.0-427.13.1.el9_4", False),
        ("5.15.0-200.131.27.el9uek.x86_64", "kernel-uek-core", "5.15.0-200.131.27.el9uek", True),
        ("5.14.21-150500.55.52-default", "kernel-default", "5.14.21-150500.55.52.1", True),
        ("5.14.21-150500.55.5-default", "kernel-default", "5.14.21-150500.55.52.1", False),
        ("5.14.21-150500.55.52-default", "kernel-macros", "5.14.21-150500.55.52.1", False),
    ],
)
def test_rpms_kernel_is_found_by_its_version(release, name, version, found):
    """Red Hat's releases are version and architecture; SUSE leaves a number out and adds the flavour."""
    one = Package(name=name, version=version, source="kernel", source_version=version, origin="rpm")
    assert _holds(one, release, "x86_64") is found


def test_config_may_be_packed(host):
    """/proc/config.gz comes first; one that unpacks to too much is refused, and the next is read."""
    host.write("proc/config.gz", gzip.compress(b"CONFIG_Z=y\n"))
    found = look(host)
    assert [one.name for one in found.kernel.config or ()] == ["CONFIG_Z"]
    host.write("proc/config.gz", gzip.compress(bytes(64 << 20)))
    found = look(host)
    assert "CONFIG_A" in [one.name for one in found.kernel.config or ()]
    assert "more than" in why(found, "/proc/config.gz")
    host.write("proc/config.gz", b"\x1f\x8bgarbage")
    assert "damaged" in why(look(host), "/proc/config.gz")


def test_image_of_a_host_would_boot_its_newest_kernel(host):
    """/vmlinuz says which; else the numbers do, and not the letters."""
    for name in ("1", "sys/kernel"):
        shutil.rmtree(host.root / "proc" / name)
    for release in ("6.1.0-9-amd64", "6.1.0-10-amd64"):
        host.write(f"boot/vmlinuz-{release}", "")
    host.write("var/lib/dpkg/status", status(("linux-image-6.1.0-10-amd64", "6.1.38-1")))
    found = look(host)
    assert (found.kernel.release, found.kernel.package_version) == ("6.1.0-10-amd64", "6.1.38-1")
    assert found.sysctls == ()
    host.link("vmlinuz", "boot/vmlinuz-6.1.0-9-amd64")
    assert look(host).kernel.release == "6.1.0-9-amd64"


def test_modules_are_loaded_available_and_kept_out(host):
    """From depmod's files, modprobe.d in its order, and the command line."""
    folder = f"lib/modules/{RELEASE}"
    host.write(f"{folder}/modules.dep", "kernel/net/a-b.ko: kernel/net/c.ko kernel/d.ko\nkernel/net/c.ko:\n")
    host.write(f"{folder}/modules.alias", "# made\nalias net-pf-38 a-b\nalias fs-x c\nbroken\n")
    host.write(f"{folder}/modules.builtin", "kernel/fs/ext4.ko\n")
    host.write(
        "etc/modprobe.d/one.conf", "# no\nblacklist a-b\ninstall c \\\n /bin/false\ninstall d /sbin/modprobe d2\n"
    )
    host.write("usr/lib/modprobe.d/one.conf", "blacklist hidden-by-the-first\n")
    host.write("usr/lib/modprobe.d/two.conf", "blacklist two\n")
    host.write("etc/modules", "# no\nnf_tables\n")
    host.write("etc/modules-load.d/x.conf", "br-netfilter arg=1\n; no\n")
    host.write("sys/devices/pci0/modalias", "pci:v1")
    host.link("sys/bus/pci/devices/0", "../../../devices/pci0")
    host.link("sys/bus/pci/devices/1", "../../../devices/pci0")
    host.write("proc/sys/kernel/modules_disabled", "0")
    host.write("sys/module/module/parameters/sig_enforce", "Y")
    modules = look(host).modules
    assert modules.loaded == (
        LoadedModule(name="overlay", size=163840, users=2),
        LoadedModule(name="nf_tables", size=290816, users=1, holders=("nft_compat",)),
    )
    assert modules.available == ("a_b", "c")
    assert modules.needs == (("a_b", "c", "d"),)
    assert [(one.pattern, one.module) for one in modules.aliases] == [("net-pf-38", "a_b"), ("fs-x", "c")]
    assert modules.built_in == ("ext4",)
    assert modules.blocked == (
        BlockedModule(name="a_b", by_alias_only=True, source="/etc/modprobe.d/one.conf"),
        BlockedModule(name="c", by_alias_only=False, source="/etc/modprobe.d/one.conf"),
        BlockedModule(name="two", by_alias_only=True, source="/usr/lib/modprobe.d/two.conf"),
        BlockedModule(name="dccp", by_alias_only=False, source="/proc/cmdline: module_blacklist"),
    )
    assert modules.at_boot == ("nf_tables", "br_netfilter")
    assert modules.hardware == ("pci:v1",)
    assert (modules.loading_disabled, modules.signed_only) == (False, True)


def test_sysctls_hold_now_and_at_the_next_boot(host):
    """Those of single interfaces, and those that may only be written, are left out."""
    host.write("proc/sys/net/ipv4/conf/all/rp_filter", "2\n")
    host.write("proc/sys/net/ipv4/conf/veth1/rp_filter", "0\n")
    host.write("proc/sys/net/ipv4/route/flush", "").chmod(0o200)
    host.write("etc/sysctl.d/10-a.conf", "kernel.kptr_restrict = 2\n# no\n-net/ipv4/conf/eth0.1/rp_filter=1\n")
    host.write("usr/lib/sysctl.d/10-a.conf", "kernel.hidden = 1\n")
    host.write("etc/sysctl.conf", "kernel.kptr_restrict=1\n")
    found = look(host)
    assert found.sysctl("net.ipv4.conf.all.rp_filter") == "2"
    assert found.sysctl("net.ipv4.conf.veth1.rp_filter") is None
    assert found.sysctl("net.ipv4.route.flush") is None
    assert found.configured_sysctls == (
        Setting(name="kernel.kptr_restrict", value="2", source="/etc/sysctl.d/10-a.conf"),
        Setting(name="net.ipv4.conf.eth0/1.rp_filter", value="1", source="/etc/sysctl.d/10-a.conf"),
        Setting(name="kernel.kptr_restrict", value="1", source="/etc/sysctl.conf"),
    )


def test_accounts_sockets_and_rules(host):
    """Lines that are not as they should be are left out."""
    host.write("etc/subuid", "anna:100000:65536\nbad\nben:x:1\n")
    tcp = "  sl  local\n 0: 00000000:0947 00000000:0000 0A 0\n 1: 0100007F:0050 0100007F:0051 01 0\n"
    host.write("proc/1/net/tcp", tcp)
    host.write("proc/1/net/tcp6", "  sl\n 0: 00000000000000000000000001000000:01BB 0:0 0A 0\n 1: zz:1 0:0 0A 0\n")
    host.write("proc/1/net/udp", "  sl\n 0: 00000000:0035 0:0 07 0\n")
    host.write("etc/audit/rules.d/a.rules", "# no\n-w /etc/docker -p wa\n")
    found = look(host)
    assert found.users == (
        User(name="root", uid=0, gid=0, home="/root", shell="/bin/bash"),  # noqa: S604 - a field
        User(name="anna", uid=1000, gid=1000, home="/home/anna", shell="/bin/sh"),  # noqa: S604
    )
    assert Group(name="docker", gid=999, members=("anna", "ben")) in found.groups
    assert found.sub_uids == (IdRange(inside=1, outside=100000, count=65536, owner="anna"),)
    assert found.listening == ("tcp 0.0.0.0:2375", "tcp [::1]:443", "udp 0.0.0.0:53")
    assert found.audit_rules == ("-w /etc/docker -p wa",)
    assert found.distribution == "debian 12"


def test_files_have_rights_and_only_settings_have_text(host):
    """Passwords in addresses are taken out, keys are not read."""
    host.write(
        "etc/docker/daemon.json", '{"proxies":{"http-proxy":"http://u:geheim@proxy.example"},"icc":false}'
    ).chmod(0o600)
    host.write("etc/docker/server-key.pem", "geheim")
    host.write("etc/default/docker", "x" * (300 << 10))
    found = look(host)
    daemon = found.file("/etc/docker/daemon.json")
    assert daemon
    assert (daemon.kind, daemon.mode, daemon.exists) == ("file", 0o600, True)
    assert daemon.text
    assert "http://…@proxy.example" in daemon.text
    key = found.file("/etc/docker/server-key.pem")
    assert key
    assert key.text is None
    assert "geheim" not in repr(found)
    missing = found.file("/var/lib/kubelet/config.yaml")
    assert missing
    assert not missing.exists
    assert why(found, "/etc/default/docker")
    (docker,) = found.engines
    assert (docker.kind, docker.answers) == (EngineKind.DOCKER, False)
    assert Setting(name="icc", value="false", source="/etc/docker/daemon.json") in docker.settings


def test_programs_have_owner_version_and_processes(host):
    """Of a package, of none, and one that was replaced while it runs."""
    host.write("usr/bin/runc", go_binary(version="(devel)", flags='"-X main.version=1.1.5+ds1"')).chmod(0o755)
    host.write("usr/local/bin/containerd", go_binary()).chmod(0o755)
    host.write("usr/bin/crun", b"#!/bin/sh\n").chmod(0o755)
    host.link("bin", "usr/bin")
    host.write("var/lib/dpkg/info/runc.list", "/.\n/usr/bin/runc\n/usr/share/doc/runc\n")
    host.process(60, name="containerd", exe="/usr/local/bin/containerd")
    host.process(61, name="dockerd", exe="/usr/bin/dockerd (deleted)")
    programs = {one.path: one for one in look(host).programs}
    runc, containerd, crun = (
        programs[f"/usr/{name}"] for name in ("bin/runc", "local/bin/containerd", "bin/crun")
    )
    assert (runc.package, runc.package_version, runc.build_version) == ("runc", "1.1.5+ds1-1", "1.1.5+ds1")
    assert (runc.sha256, runc.pids) == ("", ())
    assert (containerd.package, containerd.build_version, containerd.toolchain) == ("", "1.7.3", "go1.22.1")
    assert containerd.sha256 == hashlib.sha256(go_binary()).hexdigest()
    assert (containerd.pids, containerd.replaced) == ((60,), False)
    assert (crun.build_version, crun.toolchain) == ("", "")
    gone = programs["/usr/bin/dockerd"]
    assert (gone.pids, gone.replaced, gone.package_version) == ((61,), True, "")
    assert set(programs) == {"/usr/bin/runc", "/usr/local/bin/containerd", "/usr/bin/crun", "/usr/bin/dockerd"}


def test_binary_that_is_damaged_says_nothing(tmp_path):
    """Bytes changed at random: never an exception, never a long text."""
    chance = random.Random(5)  # noqa: S311 - the same damage each time
    whole = go_binary()
    path = tmp_path / "binary"
    for _ in range(300):
        content = bytearray(whole[: chance.randrange(len(whole)) + 1])
        for _ in range(chance.randrange(6)):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        with path.open("rb") as file:
            assert len(build_info(file.fileno()).toolchain) <= 40


def test_real_process_is_read_through_proc():
    """The file of this very process, by its link in the real /proc."""
    from pathlib import Path  # noqa: PLC0415

    with looking(Path("/")) as here, here.running(os.getpid()) as file:
        assert os.pread(file, 4, 0) == b"\x7fELF"


def test_dpkg_status_knows_what_is_installed():
    """Names of sources, and packages that were removed."""
    text = b"Package: a\nStatus: install ok installed\nVersion: 2\nSource: b (1)\n\n"
    text += b"Package: c\nStatus: deinstall ok config-files\nVersion: 1\n"
    (one,) = dpkg(text)
    assert (one.name, one.version, one.source, one.source_version) == ("a", "2", "b", "1")


def test_host_without_a_known_package_database_says_so(host):
    """Of a damaged one what is wrong."""
    (host.root / "var/lib/dpkg/status").unlink()
    found = look(host)
    assert found.packages is None
    assert why(found, "packages") == "there is no package database that is known"
    host.write("var/lib/rpm/Packages", "x")
    assert "Packages cannot be read: the database is damaged" in why(look(host), "packages")
    host.write("usr/lib/sysimage/rpm/rpmdb.sqlite", "x")
    assert "rpmdb.sqlite cannot be read: the database is damaged" in why(look(host), "packages")


def test_livepatch_that_the_agent_did_not_load_has_unknown_cves(host):
    """It is said, and the list of CVEs stays empty."""
    host.write("sys/kernel/livepatch/kmend_3/enabled", "1\n")
    found = host_facts(host.root, now=NOW)
    assert found.kernel.livepatches[0].cves == ()
    assert why(found, "livepatch:kmend_3:cves")
