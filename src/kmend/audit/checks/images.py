"""Checks of images: who they run as, what is in them, how they were built, and whether their origin is proven."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from kmend.audit.check import Case, Check, Verdict, bad, check, good, judged, not_here, of_host, of_images, unknown
from kmend.audit.packages import open_holes
from kmend.audit.reading import ending, image_name
from kmend.model.facts import EngineKind, Image
from kmend.model.finding import Actionable, Area, Severity

_images = partial(check, Area.IMAGES, actionable=Actionable.REBUILD)
_DOCKERFILE = "Dockerfile reference"
_BEST = "Docker documentation, “Building best practices”"
_OLD = timedelta(days=180)
_SHOWN = 5
_MOST_UNUSED = 0.5
# An image may be built to keep a reader busy.
_MOST_STEPS = 300
_LONGEST_STEP = 1_000
_NEEDLESS = frozenset(
    (
        "gcc",
        "g++",
        "clang",
        "make",
        "gdb",
        "strace",
        "ltrace",
        "tcpdump",
        "nmap",
        "ncat",
        "netcat-openbsd",
        "netcat-traditional",
        "openssh-server",
        "openssh",
        "dropbear",
        "telnet",
        "telnetd",
        "rsh-server",
        "sudo",
        "vsftpd",
        "socat",
        "build-essential",
        "build-base",
        "docker.io",
        "docker-ce-cli",
    )
)
# First release that still gets fixes, in 2026.
_END_OF_LIFE = {
    "debian": (11, 0),
    "ubuntu": (22, 4),
    "alpine": (3, 20),
    "centos": (9, 0),
    "fedora": (42, 0),
    "rhel": (8, 0),
    "rocky": (8, 0),
    "almalinux": (8, 0),
}
_EXPECTED_SET_ID = re.compile(
    r"/?(usr/)?(s?bin|lib/openssh|lib/dbus-1\.0|libexec|lib)/"
    r"(su|mount|umount|passwd|gpasswd|chsh|chfn|newgrp|chage|expiry|wall|unix_chkpwd|pam_timestamp_check|bbsuid|write|"
    r"sg|newuidmap|newgidmap|ssh-agent|ssh-keysign|dbus-daemon-launch-helper)$"
)
_UPDATE = re.compile(
    r"\b(apt-get|apt|aptitude|apk|dnf|yum|microdnf|zypper)\s+(-\S+\s+)*(update|upgrade|check-update|refresh)\b"
)
_INSTALL = re.compile(r"\b(install|add|dist-upgrade|upgrade)\b")
_SECRET = re.compile(
    r"(?i)^(ENV|ARG|LABEL)\s.*?(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|ACCESS_KEY)"
    r"|id_(rsa|dsa|ecdsa|ed25519)\b|\.(netrc|npmrc|pypirc|pgpass)\b|\.aws/credentials|\.docker/config\.json"
    r"|--password[= ]|https?://[^/\s:@]+:[^/\s@]+@"
)
_UNVERIFIED = re.compile(
    r"--allow-unauthenticated|--allow-untrusted|--no-check-certificate|--nogpgcheck|--no-gpg-checks|--force-yes"
    r"|trusted=yes|\bcurl\b[^|&;]*\s(-\w*k\w*|--insecure)\s|AllowInsecureRepositories|http\.sslVerify(=|\s)false"
    r"|--trusted-host|strict-ssl(=|\s)false|\b(curl|wget)\b[^|;&]*\|\s*(sudo\s+)?(ba|da|z)?sh\b"
)
_POLICY = "/etc/containers/policy.json"
_REFUSING = frozenset(("reject", "signedBy", "sigstoreSigned"))


def instruction(line: str) -> str:
    """A line of an image's history as the instruction of its Dockerfile."""
    bare = re.sub(r"^\s*(/bin/sh -c )?#\(nop\)\s*", "", line)
    bare = re.sub(r"\s*# buildkit\s*$", "", bare).strip()
    return re.sub(r"^(\|\d+\s.*?)?/bin/sh -c ", "RUN ", bare)


def _of_history(wrong: Callable[[str], bool], what: str) -> Callable[[Image, Case], Verdict]:
    """A judgement on how the image was built."""

    def decide(image: Image, _: Case) -> Verdict:
        if not image.history:
            return unknown("How it was built was not seen.")
        found = [one for line in image.history[:_MOST_STEPS] if wrong(one := instruction(line[:_LONGEST_STEP]))]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        return bad(f"{found[0][:200]}{more}") if found else good(what)

    return decide


def _user(image: Image, _: Case) -> Verdict:
    name = image.user.partition(":")[0]
    return judged(name not in {"", "root", "0"}, f"Its user is {name or 'not set: root'}.")


def _health(image: Image, _: Case) -> Verdict:
    seen = "It has a health check." if image.has_health_check else "It has no health check."
    return judged(image.has_health_check, seen, missing="Its health check was not seen.")


def _needless(image: Image, _: Case) -> Verdict:
    if image.packages is None:
        return unknown("Its packages could not be read.")
    found = sorted({one.name for one in image.packages} & _NEEDLESS)
    return judged(not found, f"{len(image.packages)} packages; needless ones: {', '.join(found) or 'none'}.")


def _age(image: Image, case: Case) -> Verdict:
    if image.created is None or image.created.year < 2000:  # noqa: PLR2004 - reproducible builds say 1970 or 1980
        return unknown("When it was built was not seen.")
    days = (case.facts.collected - image.created).days
    return judged(case.facts.collected - image.created <= _OLD, f"Built {days} days ago.")


def _holes(image: Image, case: Case) -> Verdict:
    if image.packages is None:
        return unknown("Its packages could not be read.")
    if not case.advisories:
        return unknown("No advisories were given (--advisories).")
    found = open_holes(image.packages, image.distribution, case.advisories)
    if found is None:
        return unknown(f"The advisories say nothing of {image.distribution or 'its distribution'}.")
    named = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    return judged(not found, f"Holes that a newer package closes: {named or 'none'}.")


def _supported(image: Image, _: Case) -> Verdict:
    name, _blank, number = image.distribution.partition(" ")
    oldest = _END_OF_LIFE.get(name)
    found = re.match(r"(\d{1,6})(?:\.(\d{1,6}))?", number, re.ASCII)
    if not image.distribution or not found:
        return unknown("Its distribution was not seen.")
    if oldest is None:
        return unknown(f"When {image.distribution} ends is not known here.")
    current = (int(found[1]), int(found[2] or 0)) >= oldest
    return judged(current, f"It is made from {image.distribution}.")


def _set_id(image: Image, _: Case) -> Verdict:
    if image.set_user_id is None:
        return unknown("Its files could not be read.")
    odd = [one for one in image.set_user_id if not _EXPECTED_SET_ID.search(one)]
    if odd:
        return bad(f"Set-user-id where no distribution has it: {', '.join(odd[:_SHOWN])}.", severity=Severity.HIGH)
    seen = f"{len(image.set_user_id)} files: {', '.join(image.set_user_id[:_SHOWN])}"
    return bad(f"{seen}.") if image.set_user_id else good("No file has the set-user-id bit.")


def _added(line: str) -> bool:
    """ADD of an address or an archive; the first layer of a base image is added by nature."""
    return line.startswith("ADD ") and not re.match(
        r"ADD (rootfs|file:|\S+)\S* in /\s*$|ADD \S*rootfs\S* / ?", line
    )


def _lone_update(line: str) -> bool:
    return bool(_UPDATE.search(line)) and not _INSTALL.search(_UPDATE.sub("", line)) and "upgrade" not in line


def _policy(case: Case) -> Verdict:
    file = case.files.get(_POLICY)
    users = [one for one in case.facts.engines if one.kind in {EngineKind.PODMAN, EngineKind.CRI}]
    if file is None or not file.exists:
        return (
            bad(f"{_POLICY} is not here: any image is taken.")
            if users
            else not_here("Nothing here reads policy.json.")
        )
    policy = _parsed(file.text)
    if policy is None:
        return unknown(f"{_POLICY} was not read." if file.text is None else f"{_POLICY} is no JSON object.")
    kinds = _kinds(policy.get("default"))
    if kinds and kinds <= _REFUSING:
        return good(f"By default: {', '.join(sorted(kinds))}.")
    return bad(f"By default: {', '.join(sorted(kinds)) or 'nothing'}.")


def _kinds(rules: Any) -> set[str]:
    return {str(one.get("type")) for one in rules if isinstance(one, dict)} if isinstance(rules, list) else set()


def _parsed(text: str | None) -> dict[str, Any] | None:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _trust(case: Case) -> Iterator[Verdict]:
    """Whether what pulls images here proves where they come from."""
    environment = case.files.get("/etc/environment")
    docker = case.engines(EngineKind.DOCKER)
    containerd = [one for one in case.engines(EngineKind.CONTAINERD) if one.settings]
    for _ in docker[:1]:
        if environment is None or (environment.exists and environment.text is None):
            yield unknown("/etc/environment was not read.", subject="Docker")
        else:
            on = bool(re.search(r"(?m)^\s*(export\s+)?DOCKER_CONTENT_TRUST=[\"']?1", environment.text or ""))
            seen = f"DOCKER_CONTENT_TRUST is {'set' if on else 'not set'} in /etc/environment."
            yield (good if on else bad)(seen, subject="Docker")
    for one in containerd:
        folder = [found.value.strip("\"'") for found in ending(one.settings, "bindir.bin_dir")]
        there = [path for path in folder if path in case.files and case.files[path].exists]
        on = bool(folder) and (bool(there) or not any(path in case.files for path in folder))
        yield (good if on else bad)(f"Image verifiers: {', '.join(folder) or 'none'}.", subject="containerd")
    if not docker and not containerd:
        yield not_here("Neither Docker nor containerd is here.")


def _unused(case: Case) -> Verdict:
    if not case.facts.images:
        return not_here("No image is here.")
    used = {one.image_id for one in case.facts.containers}
    idle = [one for one in case.facts.images if one.id not in used]
    share = len(idle) / len(case.facts.images)
    seen = f"{len(idle)} of {len(case.facts.images)} images are used by no container."
    return judged(share <= _MOST_UNUSED, seen)


def _untagged(image: Image, _: Case) -> Verdict:
    named = [name for name in image.names if "<none>" not in name] or image.digests
    return judged(bool(named), f"It is {image_name(image)}.")


CHECKS: tuple[Check, ...] = (
    _images(
        "image-user",
        "Images name a user that is not root",
        Severity.MEDIUM,
        of_images(_user),
        source=_DOCKERFILE + ", USER",
        remedy="Add `USER` to the Dockerfile, or run it with --user.",
        cis="4.1",
        breaks="Programs that bind ports below 1024 or write where root may.",
    ),
    _images(
        "image-policy",
        "Images without a signature are refused by policy.json",
        Severity.MEDIUM,
        of_host(_policy),
        source="containers-policy.json(5)",
        remedy="Set the default to reject, and list what is signedBy or sigstoreSigned.",
        cis="4.2",
        breaks="Images of registries that are not listed.",
        actionable=Actionable.RUNTIME,
    ),
    _images(
        "image-needless-packages",
        "Images hold no compilers, debuggers, servers for logins and the like",
        Severity.LOW,
        of_images(_needless),
        source=_BEST + ", “Don't install unnecessary packages”",
        remedy="Build in one stage, and copy what runs into another (multi-stage build).",
        cis="4.3",
    ),
    _images(
        "image-age",
        "Images were built in the last 180 days",
        Severity.LOW,
        of_images(_age),
        source=_BEST + ", “Rebuild your images often”",
        remedy="Build it anew with `--pull --no-cache`, and start its containers from that.",
        cis="4.4",
    ),
    _images(
        "image-known-holes",
        "Packages in images have no hole that a newer package closes",
        Severity.HIGH,
        of_images(_holes),
        source="Debian security tracker, OSV (given with --advisories)",
        remedy="Build it anew, so that the newer packages come in.",
        cis="4.4",
    ),
    _images(
        "image-distribution",
        "Images are made from a distribution that still gets fixes",
        Severity.HIGH,
        of_images(_supported),
        source="The distributions' own end-of-life tables",
        remedy="Build it anew from a current base image.",
    ),
    _images(
        "image-trust",
        "What pulls images here checks signatures",
        Severity.MEDIUM,
        _trust,
        source="Docker documentation, “Content trust”; containerd documentation, “Image verification”",
        remedy="Set DOCKER_CONTENT_TRUST=1 in /etc/environment; for containerd set the bindir image verifier.",
        cis="4.5",
        level=2,
        breaks="Images without a signature.",
        actionable=Actionable.RUNTIME,
    ),
    _images(
        "image-health-check",
        "Images say how their health is checked",
        Severity.LOW,
        of_images(_health),
        source=_DOCKERFILE + ", HEALTHCHECK",
        remedy="Add `HEALTHCHECK` to the Dockerfile.",
        cis="4.6",
    ),
    _images(
        "image-lone-update",
        "No image updates package lists in a layer of their own",
        Severity.LOW,
        of_images(_of_history(_lone_update, "No layer only updates package lists.")),
        source=_BEST + ", “apt-get”",
        remedy="Write update and install into one RUN, or an old list is taken from the cache.",
        cis="4.7",
    ),
    _images(
        "image-set-user-id",
        "No file in an image has the set-user-id bit",
        Severity.LOW,
        of_images(_set_id),
        source="Linux manual, execve(2), “Effect on process attributes”",
        remedy="`RUN find / -xdev -perm /6000 -type f -exec chmod a-s {} +`, or no-new-privileges.",
        cis="4.8",
        level=2,
        breaks="su, mount, ping and the like for users of the container that are not root.",
    ),
    _images(
        "image-add",
        "Images are built with COPY rather than ADD",
        Severity.LOW,
        of_images(_of_history(_added, "Nothing was brought in with ADD.")),
        source=_BEST + ", “ADD or COPY”",
        remedy="Use COPY for files; fetch addresses in a RUN that checks a hash.",
        cis="4.9",
    ),
    _images(
        "image-secrets",
        "No secret went into an image",
        Severity.HIGH,
        of_images(
            _of_history(lambda line: bool(_SECRET.search(line)), "Nothing in its history looks like a secret.")
        ),
        source="Docker documentation, “Build secrets”",
        remedy="Give it with `RUN --mount=type=secret`, change the secret, and build anew.",
        cis="4.10",
    ),
    _images(
        "image-unverified",
        "Images were built from what was verified",
        Severity.MEDIUM,
        of_images(
            _of_history(lambda line: bool(_UNVERIFIED.search(line)), "No check was turned off while it was built.")
        ),
        source=_BEST,
        remedy="Leave the checks on; verify downloads by hash or signature before they run.",
        cis="4.11",
        level=2,
    ),
    _images(
        "image-unused",
        "Most images are used by a container",
        Severity.LOW,
        of_host(_unused),
        source="Docker documentation, “Prune unused Docker objects”",
        remedy="`docker image prune -a` (or `podman image prune -a`) after a look at what goes.",
        cis="6.1",
        actionable=Actionable.RUNTIME,
    ),
    _images(
        "image-named",
        "Every image has a name or a digest",
        Severity.LOW,
        of_images(_untagged),
        source="Docker documentation, “Prune unused Docker objects”",
        remedy="`docker image prune` takes out what nothing names.",
        actionable=Actionable.RUNTIME,
    ),
)
