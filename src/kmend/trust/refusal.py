"""Why something was not trusted: one code for programs, one sentence for people."""

from __future__ import annotations

from enum import StrEnum

from securesystemslib.exceptions import StorageError
from tuf.api import exceptions as tuf

from kmend.kit.errors import TrustError


class Refusal(StrEnum):
    """The reason in ``TrustError.reason``; docs/reference/agent.md explains each."""

    ALTERED = "altered"
    """Bytes are not the ones that were signed."""
    EXPIRED = "expired"
    ROLLED_BACK = "rolled-back"
    """Older than what this host has already seen."""
    WRONG_KEY = "wrong-key"
    """Too few valid signatures of keys that the pinned root trusts: another's key, a revoked one, or altered."""
    INCONSISTENT = "inconsistent"
    """Files of two versions of the repository were mixed, or one of them was altered."""
    TOO_LONG = "too-long"
    CUT = "cut"
    TOO_SLOW = "too-slow"
    UNREADABLE = "unreadable"
    OTHER_KERNEL = "other-kernel"
    UNREACHABLE = "unreachable"
    """Nothing could be read; not a sign of an attack, but nothing is known either."""


_MEANING = {
    Refusal.ALTERED: "is not the file that was signed: its bytes were altered",
    Refusal.EXPIRED: "is too old: its signed expiry has passed",
    Refusal.ROLLED_BACK: "is older than what this host has already seen",
    Refusal.WRONG_KEY: "is not signed by enough of the trusted keys (another's key, a revoked key, or altered)",
    Refusal.INCONSISTENT: "does not belong to the rest: mixed from two versions, cut or altered",
    Refusal.TOO_LONG: "is longer than allowed (an endless download?)",
    Refusal.TOO_SLOW: "came too slowly",
    Refusal.CUT: "was cut on the way",
    Refusal.UNREADABLE: "cannot be read as signed metadata: altered or cut",
    Refusal.UNREACHABLE: "could not be fetched",
}

_BAD_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"
"""As OpenSSL says it."""
_HINTS = {
    Refusal.EXPIRED: "Run `kmend release refresh` where the keys are, and check this machine's clock.",
    Refusal.ROLLED_BACK: "The mirror may be stale. If the repository was set up anew, enrol this host again.",
    Refusal.WRONG_KEY: "Check that the URL is the repository whose root.json this host has pinned.",
    Refusal.INCONSISTENT: "A mirror may be half synchronised: try again later, or another mirror.",
    Refusal.UNREACHABLE: "Check the URL, the network and the web server, then try again.",
}


def refused(reason: Refusal, *, what: str, detail: str = "") -> TrustError:
    """The error for one refusal: what was refused, why, and what to do."""
    tail = f" ({detail})" if detail else ""
    hint = _HINTS.get(
        reason, "Nothing of it was used. Try again; if it stays, look at the repository or its mirror."
    )
    if _BAD_CERTIFICATE in detail:
        hint = (
            "Name who signed its certificate, or that one itself if self-made: ca_file in /etc/kmend/agent.toml."
        )
    return TrustError(f"{what} {_MEANING.get(reason, 'is refused')}{tail}.", hint=hint, reason=reason)


def reason_of(error: Exception) -> Refusal:
    """Which refusal an error of the TUF client stands for (TUF specification, section 5)."""
    if isinstance(error, tuf.BadVersionNumberError):
        return _version_reason(str(error))
    for kind, reason in _KINDS:
        if isinstance(error, kind):
            return reason
    return Refusal.UNREADABLE


_KINDS: tuple[tuple[type[Exception], Refusal], ...] = (
    (tuf.ExpiredMetadataError, Refusal.EXPIRED),
    (tuf.UnsignedMetadataError, Refusal.WRONG_KEY),
    (tuf.LengthOrHashMismatchError, Refusal.INCONSISTENT),
    (tuf.DownloadLengthMismatchError, Refusal.TOO_LONG),
    (tuf.SlowRetrievalError, Refusal.TOO_SLOW),
    (tuf.DownloadError, Refusal.UNREACHABLE),
    (StorageError, Refusal.UNREACHABLE),
)


def _version_reason(text: str) -> Refusal:
    """Tell a version that went back from one that does not fit the others; python-tuf has one class for both."""
    went_back = ">=" in text or ".json version" in text
    return Refusal.ROLLED_BACK if went_back else Refusal.INCONSISTENT
