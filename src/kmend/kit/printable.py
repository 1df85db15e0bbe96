"""Text from elsewhere, made fit for a terminal or a log: what a name holds never moves the cursor."""

from __future__ import annotations

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, most: int = 200) -> str:
    r"""The text on one line, at most so many letters long; control and format characters as ``\x1b``."""
    if len(text) > most:
        text = text[: most - 1] + "…"
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def printable_lines(text: str, *, most: int = 4000) -> str:
    """The same for text of several lines: they stay lines, and each is at most so long."""
    return "\n".join(printable(line.expandtabs(), most=most) for line in text.split("\n"))


def _escaped(letter: str) -> str:
    if letter in _NAMED:
        return _NAMED[letter]
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004


def counted(number: int, what: str) -> str:
    """So many of something, whose plural has an s: ``1 host``, ``2 hosts``."""
    return f"{number} {what}{'' if number == 1 else 's'}"
