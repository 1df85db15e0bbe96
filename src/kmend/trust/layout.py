"""Names inside a repository: pure, shared by those who write it and those who read it."""

from __future__ import annotations

import re

from kmend.kit.errors import InputError

METADATA = "metadata"
TARGETS = "targets"
_RESERVED = {"root", "targets", "snapshot", "timestamp"}
_CHANNEL = re.compile(r"[a-z][a-z0-9-]{0,31}")
_BUILD_ID = re.compile(r"[0-9a-f]{16,128}")
_MODULE = re.compile(r"kmend_[0-9a-z_]{1,50}")


def check_channel(name: str) -> str:
    """The name, if it can be a channel's; channel names are TUF role names too.

    Raises:
        InputError: It cannot.
    """
    if name in _RESERVED or not _CHANNEL.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a channel.",
            hint="Use lower-case letters, digits and dashes, e.g. edge or stable.",
        )
    return name


def check_build_id(build_id: str) -> str:
    """The build id, if it is one; it becomes part of paths.

    Raises:
        InputError: It is not lower-case hex.
    """
    if not _BUILD_ID.fullmatch(build_id):
        raise InputError(f"{build_id!r} is not a GNU build id (lower-case hex digits).")
    return build_id


def check_module(name: str) -> str:
    """The module name, if it is one of kmend's; it becomes part of paths, here and in /sys.

    Raises:
        InputError: It is not.
    """
    if not _MODULE.fullmatch(name):
        raise InputError(f"{name!r} is not the name of a kmend livepatch module (kmend_ and a number).")
    return name


def entry_target(channel: str, build_id: str) -> str:
    """TUF target path of what the channel holds for a kernel: a ChannelEntry of the newest livepatch."""
    return f"{channel}/{build_id}/entry.json"


def numbered_entry_target(channel: str, build_id: str, *, number: int) -> str:
    """TUF target path of one livepatch's ChannelEntry, the newest or an earlier one."""
    return f"{channel}/{build_id}/{number}.json"


def module_target(channel: str, build_id: str, *, module: str) -> str:
    """TUF target path of a signed module."""
    return f"{channel}/{build_id}/{module}.ko"


def report_target(channel: str, build_id: str, *, number: int) -> str:
    """TUF target path of the lab report that let a livepatch out."""
    return f"{channel}/{build_id}/{number}.lab.json"


def files_target(channel: str, build_id: str) -> str:
    """TUF target path of the list of source files that a kernel was built from (KernelFiles)."""
    return f"{channel}/{build_id}/kernel-files.json"


def stored_as(target: str, sha256: str) -> str:
    """Where a target's bytes lie under ``targets/`` (consistent snapshots, TUF specification section 6.2)."""
    folder, slash, name = target.rpartition("/")
    return f"{folder}{slash}{sha256}.{name}"
