"""Whether a channel has what a rollout is to bring, so that a wrong number is refused before a host waits for it.

The repository that the server hands out is read as a host would read it, from its own first root. That convinces
nobody: what may be loaded is decided on each host, by the root that was pinned there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from kmend.fleet.acts import ConflictError
from kmend.kit.errors import TrustError
from kmend.model.kernel import Kernel
from kmend.model.rollout import RolloutPlan
from kmend.trust.repository import open_repository

_FIRST_ROOT = "metadata/1.root.json"


def check_published(folder: Path, plan: RolloutPlan) -> None:
    """Check that the channel of a plan holds each of its livepatches.

    Raises:
        ConflictError: It does not, or the repository cannot be read.
    """
    missing = _missing(folder, plan)
    if missing:
        raise ConflictError(
            f"Channel {plan.channel} of the repository has no {', '.join(missing)}.",
            hint="Publish or promote it to that channel first (`kmend release`), or name another number.",
        )


def _missing(folder: Path, plan: RolloutPlan) -> list[str]:
    try:
        pinned = (folder / _FIRST_ROOT).read_bytes()
        with tempfile.TemporaryDirectory(prefix="kmend-") as cache:
            repository = open_repository(
                str(folder), channel=plan.channel, pinned_root=pinned, cache=Path(cache) / "seen"
            )
            return [
                f"livepatch {target.number} for {target.build_id[:12]}"
                for target in plan.livepatches
                if repository.offered(_kernel(target.build_id), number=target.number) is None
            ]
    except TrustError as error:
        raise ConflictError(f"The repository does not hold: {error.message}", hint=error.hint) from None
    except OSError as error:
        raise ConflictError(
            f"The repository cannot be read: {error.strerror or error}.", hint="Is --repository right?"
        ) from None


def _kernel(build_id: str) -> Kernel:
    return Kernel(release="", version="", build_id=build_id)
