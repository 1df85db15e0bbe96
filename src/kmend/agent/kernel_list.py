"""Which source files the running kernel was built from: the repository's signed list, kept on the host."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from kmend.agent.apply import Host
from kmend.agent.config import switched_off
from kmend.agent.settings import UpdatePolicy
from kmend.agent.sync import repository_of
from kmend.agent.watching import WHAT
from kmend.kit.errors import InputError, KmendError
from kmend.kit.files import lock, write_atomic
from kmend.linux.kernel import running_kernel
from kmend.model import wire
from kmend.model.exposure import KernelFiles
from kmend.model.kernel import Kernel
from kmend.trust.download import Limits

log = logging.getLogger(__name__)


def kernel_list(host: Host, *, limits: Limits | None = None) -> Path | None:
    """The file with the list (a KernelFiles) of the running kernel; None when nobody has signed one.

    The repository is asked as for livepatches, verified as those are. Where it cannot be reached, or an agent may
    not ask it (``kmend=off``, update_policy ``local``), the list that was kept is good while its kernel runs.
    """
    kernel = running_kernel(host.root).kernel
    file = host.paths.kernel_files
    if switched_off(host.paths) is None and host.settings.update_policy != UpdatePolicy.LOCAL:
        try:
            with lock(host.paths.lock, what=WHAT):
                content = repository_of(host, limits=limits).kernel_files(kernel)
            if content is not None and _is_of(content, kernel):
                write_atomic(file, content)
        except (KmendError, OSError) as error:
            log.info("the list of the kernel's files was not brought up to date: %s", error)
    with suppress(OSError):
        return file if _is_of(file.read_bytes(), kernel) else None
    return None


def _is_of(content: bytes, kernel: Kernel) -> bool:
    with suppress(InputError):
        return wire.load(KernelFiles, content, what="the list").kernel.build_id == kernel.build_id
    return False
