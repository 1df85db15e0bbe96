"""VerifiedLivepatch: the proof that everything in docs/explanation/trust.md held. Only this package makes one."""

from __future__ import annotations

from dataclasses import dataclass, field

from kmend.kit.errors import BugError
from kmend.model.host import ChannelEntry
from kmend.model.livepatch import Livepatch

SEAL = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedLivepatch:
    """A signed livepatch module whose every check held; ``content`` are the very bytes that were checked.

    Raises:
        BugError: Somebody other than kmend.trust tries to make one.
    """

    entry: ChannelEntry
    channel: str
    content: bytes = field(repr=False)
    seal: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what was not made by kmend.trust."""
        if self.seal is not SEAL:
            raise BugError("A VerifiedLivepatch comes from kmend.trust.repository only.")

    @property
    def livepatch(self) -> Livepatch:
        """The manifest."""
        return self.entry.livepatch
