"""Which modules are needed."""

from datetime import timedelta
from pathlib import Path

import pytest

from kmend.audit import use
from kmend.audit.needless import modprobe_file, needs, used_now
from kmend.kit.errors import InputError
from kmend.model.facts import Alias, BlockedModule, Facts, LoadedLivepatch, LoadedModule, Mount
from makers.audited import NOW, case_of, right_host, with_kernel, with_modules


def host(**changes: object) -> Facts:
    """A host with some modules of each kind."""
    base: dict[str, object] = {
        "loaded": (
            LoadedModule(name="overlay", size=1, users=3),
            LoadedModule(name="e1000", size=1, users=0),
            LoadedModule(name="libnic", size=1, users=1, holders=("e1000",)),
            LoadedModule(name="oddity", size=1, users=0),
            LoadedModule(name="livepatch_kmend_1", size=1, users=0),
            LoadedModule(name="patched", size=1, users=0),
        ),
        "available": (
            "overlay",
            "e1000",
            "libnic",
            "oddity",
            "dccp",
            "bridge",
            "strange",
            "hfs",
            "needed",
            "patched",
            "dep",
        ),
        "aliases": (
            Alias(pattern="pci:v00008086d0000100Esv*", module="e1000"),
            Alias(pattern="net-pf-99", module="strange"),
            Alias(pattern="fs-hfs", module="hfs"),
            Alias(pattern="net-pf-98", module="bridge"),
        ),
        "needs": (("needed", "dep"),),
        "at_boot": ("needed",),
        "hardware": ("pci:v00008086d0000100Esv00001AF4sd0bc02sc00i00",),
    }
    patched = LoadedLivepatch(
        module="livepatch_kmend_1", enabled=True, in_transition=False, objects=("vmlinux", "patched")
    )
    return with_kernel(with_modules(right_host(), **(base | changes)), livepatches=(patched,))


def test_what_is_needed_says_why():
    """Use, hardware, boot, dependencies, livepatches, and what engines may ask for."""
    why = needs(case_of(host())).why
    assert "in use" in why["overlay"]
    assert "hardware" in why["e1000"]
    assert "needed by" in why["dep"] or "is needed by" in why["dep"]
    assert "boot" in why["needed"]
    assert "livepatch" in why["livepatch_kmend_1"]
    assert "livepatch" in why["patched"]
    assert "engines" in why["bridge"]
    assert {"oddity", "dccp", "strange", "hfs"}.isdisjoint(why)


def test_what_is_left_is_idle_or_comes_on_demand():
    """Rare ones too, though no alias names them here."""
    found = needs(case_of(host()))
    assert found.idle == ("oddity",)
    assert found.on_demand == ("dccp", "hfs", "strange")


def test_a_mount_makes_its_module_needed():
    """Hfs is mounted: nobody takes it away."""
    facts = host()
    mounted = right_host(
        modules=facts.modules, mounts=(Mount(target="/a", source="/dev/sdb", kind="hfs", options=()),)
    )
    assert "hfs" in needs(case_of(mounted)).why


def test_what_was_used_on_an_earlier_day_stays():
    """Used on Sundays."""
    assert "strange" in needs(case_of(host(), used_modules=frozenset({"strange"}))).why


def test_what_is_kept_out_already_is_not_chosen_again():
    """It is counted as such."""
    found = needs(case_of(host(blocked=(BlockedModule(name="dccp", by_alias_only=False, source="a"),))))
    assert "dccp" not in found.on_demand
    assert found.blocked == ("dccp",)


def test_the_file_is_what_modprobe_reads():
    """By alias and by name; nothing in it comes from a name that is none, or from the host's."""
    facts = right_host(host="evil\ninstall ext4 /bin/sh")
    text = modprobe_file(case_of(facts), ["dccp", "x\ninstall a /bin/sh", "hfs"])
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines == ["blacklist dccp", "install dccp /bin/false", "blacklist hfs", "install hfs /bin/false"]


def test_use_is_learned_and_forgotten(tmp_path: Path):
    """A look adds what is in use; what was not for 400 days goes."""
    file = tmp_path / "modules.json"
    assert use.load(file) is None
    first = use.seen(None, frozenset({"old"}), now=NOW - timedelta(days=500))
    use.save(use.seen(first, used_now(case_of(host())), now=NOW), file)
    known = use.load(file)
    assert known is not None
    assert known.looks == 2
    assert "overlay" in known.last
    assert "old" not in known.last


def test_a_broken_state_is_an_error(tmp_path: Path):
    """Not a traceback."""
    file = tmp_path / "modules.json"
    file.write_text("{")
    with pytest.raises(InputError):
        use.load(file)
