"""Texts without secrets: what leaves the host in a support archive goes through here. Pure."""

from __future__ import annotations

import re

GONE = "***"
_KEY = r"[\w-]*(?:token|passw(?:or)?d|passphrase|secret|credential|api[_-]?key|cookie)[\w-]*"
_RULES = (
    (re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"(\w+://)[^/\s\"'@]*(?:@[^/\s\"'@]*)*@"), rf"\1{GONE}@"),
    (re.compile(r"(\w+://[^\s\"'?#]*)[?#][^\s\"']*"), rf"\1?{GONE}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), rf"\1 {GONE}"),
    (re.compile(rf"(?i)({_KEY}[\"']?\s*[:=]\s*)(\"[^\"\n]*\"|'[^'\n]*'|[^\s,}}]+)"), rf"\1{GONE}"),
)


def redacted(text: str) -> str:
    """The text without names and passwords in addresses, queries, tokens, passwords and private keys."""
    for pattern, instead in _RULES:
        text = pattern.sub(instead, text)
    return text
