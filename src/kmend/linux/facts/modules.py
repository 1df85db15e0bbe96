"""Modules: loaded, available, asked for by hardware, and kept out. From /proc, /sys, /lib/modules, modprobe.d."""

from __future__ import annotations

from collections.abc import Iterator

from kmend.linux.facts.look import Look
from kmend.linux.modules import module_name
from kmend.model.facts import Alias, BlockedModule, KernelFacts, LoadedModule, ModuleFacts

# In the order in which modprobe looks: a file hides those of the same name in later folders; modprobe.d(5)
MODPROBE_FOLDERS = (
    "etc/modprobe.d",
    "run/modprobe.d",
    "usr/local/lib/modprobe.d",
    "usr/lib/modprobe.d",
    "lib/modprobe.d",
)
LOAD_FOLDERS = (
    "etc/modules-load.d",
    "run/modules-load.d",
    "usr/local/lib/modules-load.d",
    "usr/lib/modules-load.d",
)
_TABLE = 16 << 20
_NOTHING = {"false", "true"}
_YES = {"1", "Y", "y"}
_MOST_FIELDS = 3


def modules(look: Look, kernel: KernelFacts) -> ModuleFacts:
    """What can be in the kernel, and what is; empty where the sources are not there."""
    folder = f"lib/modules/{kernel.release}"
    known = tuple(_needs(look, folder))
    if not known and not look.stat(f"{folder}/modules.dep"):
        look.miss("modules:available", f"/{folder}/modules.dep is not there")
    return ModuleFacts(
        loaded=tuple(_loaded(look)),
        available=tuple(one[0] for one in known) if known else None,
        built_in=tuple(module_name(line) for line in look.lines(f"{folder}/modules.builtin")),
        aliases=tuple(_aliases(look, folder)),
        needs=tuple(one for one in known if len(one) > 1),
        blocked=(*_blocked(look), *_blocked_at_boot(kernel.command_line)),
        at_boot=tuple(_at_boot(look)),
        hardware=tuple(_hardware(look)),
        loading_disabled=_flag(look, "proc/sys/kernel/modules_disabled"),
        signed_only=_signed_only(look, kernel),
    )


def _loaded(look: Look) -> Iterator[LoadedModule]:
    """Lines such as ``overlay 163840 2 - Live 0x0``; procfs(5)."""
    for line in look.lines("proc/modules"):
        words = line.split()
        if len(words) > _MOST_FIELDS and words[1].isdecimal() and words[2].isdecimal():
            holders = () if words[3] == "-" else tuple(filter(None, words[3].split(",")))
            yield LoadedModule(name=words[0], size=int(words[1]), users=int(words[2]), holders=holders)


def _needs(look: Look, folder: str) -> Iterator[tuple[str, ...]]:
    """Lines such as ``kernel/fs/overlayfs/overlay.ko: kernel/lib/a.ko``; depmod(8)."""
    for line in look.lines(f"{folder}/modules.dep", limit=_TABLE):
        module, colon, others = line.partition(":")
        if colon:
            yield (module_name(module), *(module_name(other) for other in others.split()))


def _aliases(look: Look, folder: str) -> Iterator[Alias]:
    for line in look.lines(f"{folder}/modules.alias", limit=_TABLE):
        words = line.split()
        if len(words) == _MOST_FIELDS and words[0] == "alias":
            yield Alias(pattern=words[1], module=words[2].replace("-", "_"))


def _blocked(look: Look) -> Iterator[BlockedModule]:
    for path in look.drop_ins(MODPROBE_FOLDERS):
        for line in _continued(look.lines(path)):
            if found := _block(line.split(), source=f"/{path}"):
                yield found


def _block(words: list[str], *, source: str) -> BlockedModule | None:
    """What one line of modprobe.d blocks; modprobe.d(5)."""
    if len(words) == 2 and words[0] == "blacklist":  # noqa: PLR2004
        return BlockedModule(name=words[1].replace("-", "_"), by_alias_only=True, source=source)
    if len(words) >= _MOST_FIELDS and words[0] == "install" and words[2].rpartition("/")[2] in _NOTHING:
        return BlockedModule(name=words[1].replace("-", "_"), by_alias_only=False, source=source)
    return None


def _blocked_at_boot(command_line: tuple[str, ...]) -> Iterator[BlockedModule]:
    """``module_blacklist=`` holds for every way of loading, ``modprobe.blacklist=`` is a line of modprobe.d."""
    for word in command_line:
        name, _, value = word.partition("=")
        if name in {"module_blacklist", "modprobe.blacklist"}:
            for one in filter(None, value.split(",")):
                yield BlockedModule(
                    name=one.replace("-", "_"),
                    by_alias_only=name == "modprobe.blacklist",
                    source=f"/proc/cmdline: {name}",
                )


def _at_boot(look: Look) -> Iterator[str]:
    for path in ("etc/modules", *look.drop_ins(LOAD_FOLDERS)):
        for line in look.lines(path):
            words = line.split()
            if words and words[0][0] not in "#;":
                yield words[0].replace("-", "_")


def _continued(lines: list[str]) -> Iterator[str]:
    """Lines without comments; a backslash at the end joins the next line."""
    held = ""
    for line in lines:
        if line.endswith("\\"):
            held += line[:-1] + " "
        else:
            whole, held = (held + line).strip(), ""
            if whole and not whole.startswith("#"):
                yield whole


def _hardware(look: Look) -> list[str]:
    """Each modalias once: of the devices of every bus, of the processor, and of the board."""
    places = ["sys/devices/system/cpu/modalias", "sys/devices/virtual/dmi/id/modalias"]
    for bus in look.names("sys/bus"):
        places += [f"sys/bus/{bus}/devices/{name}/modalias" for name in look.names(f"sys/bus/{bus}/devices")]
    return sorted({text for place in places if (text := look.text(place, note=False))})


def _signed_only(look: Look, kernel: KernelFacts) -> bool | None:
    enforced = _flag(look, "sys/module/module/parameters/sig_enforce")
    if enforced is None and not kernel.lockdown:
        return None
    return bool(enforced) or kernel.lockdown in {"integrity", "confidentiality"}


def _flag(look: Look, path: str) -> bool | None:
    text = look.text(path)
    return text in _YES if text else None
