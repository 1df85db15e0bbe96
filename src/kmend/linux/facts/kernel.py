"""The kernel: identity, configuration, livepatches, lockdown. From /proc, /sys and /boot."""

from __future__ import annotations

import errno
import re
import zlib
from datetime import UTC, datetime

from kmend.linux import livepatch
from kmend.linux.facts.look import Look
from kmend.linux.kernel import note_build_id
from kmend.model.facts import KernelFacts, LoadedLivepatch, Package, Setting

_CONFIG = 8 << 20
_DIGITS = 11
_PACKAGE = re.compile(r"\bDebian\s+(\d\S*)")
_SIGNATURE = re.compile(r"Ubuntu (?P<version>\d\S*?)-[a-z]\S* (?P<stable>\d+(?:\.\d+)+)")
"""/proc/version_signature: the package's version, its flavour, the stable release that is in it."""
_SET = re.compile(r"^(CONFIG_\w+)=(.*)$", re.MULTILINE)
_LOCKDOWN = re.compile(r"\[(\w+)\]")
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_HOLES = "sys/devices/system/cpu/vulnerabilities"
# e_machine of an ELF header; elf.h
_MACHINES = {3: "i686", 21: "ppc64le", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


def kernel(look: Look, *, live: bool, packages: tuple[Package, ...] | None) -> KernelFacts:
    """The running kernel, or, of an image, the one that would boot."""
    release = look.text("proc/sys/kernel/osrelease") if live else bootable(look)
    if not release:
        look.miss("kernel", "nothing says which kernel runs here" if live else "no kernel lies in /boot")
    version = look.text("proc/sys/kernel/version")
    architecture = look.text("proc/sys/kernel/arch") or _architecture(look)
    signature = _SIGNATURE.match(look.text("proc/version_signature"))
    owner = next((one for one in packages or () if _holds(one, release, architecture)), None)
    return KernelFacts(
        release=release,
        version=version,
        architecture=architecture,
        build_id=note_build_id(look.read("sys/kernel/notes") or b""),
        package=owner.name if owner else "",
        package_version=_package_version(version, signature, owner, live=live),
        stable=signature["stable"] if signature else "",
        command_line=tuple(look.text("proc/cmdline").split()),
        config=_config(look, release),
        livepatches=_livepatches(look),
        taint=_number(look.text("proc/sys/kernel/tainted")),
        lockdown=_lockdown(look),
        security_modules=tuple(filter(None, look.text("sys/kernel/security/lsm").split(","))),
        secure_boot=_secure_boot(look, live=live),
        booted=_booted(look),
        cpu_vulnerabilities=tuple(
            Setting(name=name, value=look.text(f"{_HOLES}/{name}")) for name in look.names(_HOLES)
        ),
    )


def bootable(look: Look) -> str:
    """The release of the kernel that an image would boot: where /vmlinuz leads, else the newest in /boot."""
    for name in ("vmlinuz", "boot/vmlinuz"):
        if release := look.link(name).rpartition("vmlinuz-")[2]:
            return release
    found = [name.removeprefix("vmlinuz-") for name in look.names("boot") if name.startswith("vmlinuz-")]
    return max(found, key=_natural, default="")


def _natural(release: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", release)]


def _holds(package: Package, release: str, architecture: str) -> bool:
    """Whether a package is that of the kernel: by its name; rpm's by its version, to which SUSE adds a number."""
    if package.origin != "rpm":
        return package.name == f"linux-image-{release}"
    name, _, kind = package.name.partition("-")
    if name != "kernel":
        return False
    if f"{package.version}.{architecture}" == release:
        return kind in {"", "core"} or kind.endswith("-core")
    ours = release.removesuffix(f"-{kind}")
    return ours != release and f"{package.version}.".startswith(f"{ours}.")


def _package_version(version: str, signature: re.Match[str] | None, owner: Package | None, *, live: bool) -> str:
    """The version of the package that the kernel is from: in its own words, or by what is installed.

    Debian's and Ubuntu's releases outlive versions, so what is installed need not be what runs; rpm's do not.
    """
    if found := _PACKAGE.search(version):
        return found[1]
    if signature:
        return signature["version"]
    return owner.version if owner and (owner.origin == "rpm" or not live) else ""


def _architecture(look: Look) -> str:
    try:
        header = look.take("bin/sh", limit=16 << 20)[:20]
    except OSError:
        return ""
    return _MACHINES.get(int.from_bytes(header[18:20], "little"), "") if header[:4] == b"\x7fELF" else ""


def _config(look: Look, release: str) -> tuple[Setting, ...] | None:
    for path in ("proc/config.gz", f"boot/config-{release}", f"lib/modules/{release}/config"):
        content = look.read(path)
        if content is None:
            continue
        try:
            text = _unpacked(content) if path.endswith(".gz") else content
        except OSError as error:
            look.miss(f"/{path}", error.strerror or str(error))
            continue
        found = _SET.findall(text.decode(errors="replace"))
        return tuple(Setting(name=name, value=value.strip('"'), source=f"/{path}") for name, value in found)
    look.miss("kernel:config", f"neither /proc/config.gz nor /boot/config-{release} can be read")
    return None


def _unpacked(content: bytes) -> bytes:
    """What a .gz holds.

    Raises:
        OSError: It is damaged, or holds too much.
    """
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(content, _CONFIG)
    except zlib.error as error:
        raise OSError(errno.EINVAL, f"it is damaged: {error}") from None
    if unpacker.unconsumed_tail:
        raise OSError(errno.EFBIG, f"it holds more than {_CONFIG} bytes")
    return text


def _livepatches(look: Look) -> tuple[LoadedLivepatch, ...]:
    """Every livepatch in sysfs; it may go while it is being read."""
    found = []
    for name in look.names("sys/kernel/livepatch"):
        folder = f"sys/kernel/livepatch/{name}"
        enabled, moving = look.text(f"{folder}/enabled"), look.text(f"{folder}/transition")
        if not enabled:
            continue
        known = livepatch.LoadedLivepatch(name=name, enabled=enabled == "1", in_transition=moving == "1")
        objects = tuple(one for one in look.names(folder) if _is_folder(look, f"{folder}/{one}"))
        found.append(
            LoadedLivepatch(
                module=name,
                enabled=known.enabled,
                in_transition=known.in_transition,
                objects=objects,
                number=known.number,
            )
        )
    return tuple(found)


def _is_folder(look: Look, path: str) -> bool:
    return bool(look.names(path))


def _lockdown(look: Look) -> str:
    found = _LOCKDOWN.search(look.text("sys/kernel/security/lockdown"))
    return found[1] if found else ""


def _secure_boot(look: Look, *, live: bool) -> bool | None:
    """None where nothing says: firmware that is not EFI has no secure boot."""
    content = look.read(_SECURE_BOOT)
    if content:
        return content[-1] == 1
    return False if live and look.names("sys/firmware") and not look.names("sys/firmware/efi") else None


def _booted(look: Look) -> datetime | None:
    for line in look.lines("proc/stat"):
        words = line.split()
        seconds = _number(words[1]) if words[:1] == ["btime"] and len(words) > 1 else None
        if seconds is not None:
            return datetime.fromtimestamp(seconds, tz=UTC)
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS else None
