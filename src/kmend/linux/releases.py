"""Releases of distributions: what os-release(5) calls them, and what advisories do."""

from __future__ import annotations

import re

_DEBIAN = {
    "buster": "debian 10", "bullseye": "debian 11", "bookworm": "debian 12", "trixie": "debian 13",
    "forky": "debian 14", "sid": "debian sid",
}  # fmt: skip
_IDS = {"Rocky Linux": "rocky", "Azure Linux": "azurelinux", "Photon OS": "photon"}
"""Ecosystems whose os-release(5) has another ID."""
_PRODUCTS = (
    (re.compile(r"Red Hat:enterprise_linux:(\d+)(?:::\w+)?"), "rhel {}"),
    (re.compile(r"SUSE:Linux Enterprise (?:Server|Module for [\w ]+?) (\d+)(?: SP(\d+))?"), "sles {}.{}"),
    (re.compile(r"SUSE:Linux Enterprise Desktop (\d+)(?: SP(\d+))?"), "sled {}.{}"),
    (re.compile(r"SUSE:Linux Enterprise Micro (\d+)\.(\d+)"), "sle-micro {}.{}"),
    (re.compile(r"openSUSE:Leap (\d+)\.(\d+)"), "opensuse-leap {}.{}"),
    (re.compile(r"openSUSE:Tumbleweed"), "opensuse-tumbleweed"),
)
"""Ecosystems that are named by products; modules of SUSE are part of every server."""


def of_osv(ecosystem: str) -> str:
    """ID and VERSION_ID of os-release(5) for OSV's name of a release: ``Ubuntu:22.04:LTS`` is ``ubuntu 22.04``.

    Variants that are paid for by themselves, such as ``Ubuntu:Pro:…`` or ``…-LTSS``, keep a name that no
    os-release has: it does not say who uses them.
    """
    for pattern, form in _PRODUCTS:
        if match := pattern.fullmatch(ecosystem):
            return form.format(*(part or "0" for part in match.groups()))
    name, _, release = ecosystem.partition(":")
    if name == "Alpine":
        release = release.removeprefix("v")
    elif name == "Ubuntu":
        release = release.removesuffix(":LTS")
    return f"{_IDS.get(name, name.lower())} {release}".strip()


def of_tracker(codename: str) -> str:
    """ID and VERSION_ID for a codename of Debian's; the codename itself where it is not known."""
    return _DEBIAN.get(codename) or codename


def is_of(release: str, distribution: str) -> bool:
    """Whether an advisory's release is a distribution's: one of 9 is one of 9.3, a name alone of all."""
    return release in {distribution, ""} or distribution.startswith((f"{release}.", f"{release} "))
