"""Progress of long work as plain events; what is shown, and how, is up to the caller (cli)."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives what long work reports. All methods return at once and never raise."""

    def step(self, text: str) -> None:
        """A new step begins; the one before has ended."""

    def amount(self, done: float, total: float, *, unit: str = "") -> None:
        """How far the current step is; ``total`` 0 means unknown."""

    def note(self, text: str) -> None:
        """Something worth a line of its own."""


class Silent:
    """Progress that nobody watches."""

    def step(self, text: str) -> None:
        """Nothing."""

    def amount(self, done: float, total: float, *, unit: str = "") -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
