"""The last attempt to load a livepatch, if it failed: the server hears of it. Never decides anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kmend.agent.apply import Host
from kmend.agent.config import Paths
from kmend.kit.errors import InputError, KmendError, TrustError
from kmend.kit.files import write_atomic
from kmend.model import wire
from kmend.model.fleet import Failure
from kmend.trust.refusal import Refusal

_LONGEST = 1000


@contextmanager
def attempt(host: Host, *, build_id: str, number: int) -> Iterator[None]:
    """Remembers how loading a livepatch ends; a repository that cannot be reached is no attempt."""
    try:
        yield
    except TrustError as error:
        if error.reason != Refusal.UNREACHABLE:
            _note(host, error, build_id=build_id, number=number)
        raise
    except KmendError as error:
        _note(host, error, build_id=build_id, number=number)
        raise
    with suppress(OSError):
        host.paths.attempt.unlink(missing_ok=True)


def last_failure(paths: Paths) -> Failure | None:
    """The last attempt, if it failed and that can be read."""
    try:
        return wire.load(Failure, paths.attempt.read_bytes(), what=str(paths.attempt))
    except (OSError, InputError):
        return None


def _note(host: Host, error: KmendError, *, build_id: str, number: int) -> None:
    failure = Failure(build_id=build_id, number=number, reason=error.message[:_LONGEST], at=host.clock.now())
    with suppress(OSError):  # a full disk is no reason to fail for this
        write_atomic(host.paths.attempt, wire.dump(failure), mode=0o600)
