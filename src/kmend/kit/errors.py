"""One tree of errors, its families named by whose fault it is.

An expected "no" is a value (Objection, Offer, Finding), never an exception.
"""

from __future__ import annotations


class KmendError(Exception):
    """Something that a person has to hear about: what happened, and in ``hint`` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InputError(KmendError):
    """The caller gave something that cannot be used: a bad file, an unknown name, a wrong option."""


class MachineError(KmendError):
    """This machine lacks something: a program, disk space, a permission."""


class SourceError(KmendError):
    """Something outside did not deliver: a mirror, a server, a package that left the archive."""


class TrustError(KmendError):
    """A signature, a hash, a version or an expiry does not hold. Nothing of it was used.

    ``reason`` is one short code for programs (kmend.trust.refusal.Refusal); the message is for people.
    """

    def __init__(self, message: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class BusyError(KmendError):
    """Another run holds the lock."""


class ProgramError(MachineError):
    """A program that kmend ran failed, timed out or is missing."""

    def __init__(self, message: str, *, hint: str = "", code: int | None = None, output: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.output = output


class BugError(KmendError):
    """kmend itself is wrong; what it checks about its own work did not hold."""
