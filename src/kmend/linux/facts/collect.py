"""Collect: one look at a host, from top to bottom."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from kmend.linux.facts import files, host, kernel, modules, packages, sysctls
from kmend.linux.facts.look import Limits, Look, looking
from kmend.model.facts import Facts


def collect(root: Path = Path("/"), *, now: datetime, limits: Limits | None = None) -> Facts:
    """What can be seen of a host, without starting anything; what cannot stands in ``unseen``, with its reason.

    Args:
        root: ``/``, or the folder of an image of a host: one without processes is judged by its files alone.
        now: The time.
        limits: How long it may take and how much it reads.

    Raises:
        MachineError: The folder is not there, or this kernel cannot open files safely below a folder (before 5.6).
    """
    with looking(root, limits=limits) as look:
        return _collected(look, now)


def _collected(look: Look, now: datetime) -> Facts:
    live = look.stat("proc/1/status") is not None
    installed = packages.packages(look)
    running = kernel.kernel(look, live=live, packages=installed)
    return Facts(
        collected=now,
        root=str(look.root),
        host=host.host_name(look),
        machine_id=host.machine_id(look),
        distribution=host.distribution(look),
        kernel=running,
        modules=modules.modules(look, running),
        sysctls=sysctls.sysctls(look) if live else (),
        configured_sysctls=sysctls.configured(look),
        mounts=host.mounts(look, "proc/1/mountinfo") or (),
        users=host.users(look),
        groups=host.groups(look),
        sub_uids=host.id_ranges(look, "etc/subuid"),
        sub_gids=host.id_ranges(look, "etc/subgid"),
        packages=installed,
        files=files.files(look),
        audit_rules=host.audit_rules(look),
        listening=host.listening(look),
        unseen=look.notes.all(),
    )
