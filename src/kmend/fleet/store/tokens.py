"""Tokens and lockouts. Of a token a slow hash is kept, of a host's secret a fast one: it is 256 random bits."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from kmend.fleet.store.tables import LOCKOUTS, TOKENS
from kmend.model import wire
from kmend.model.fleet import Role, Token

_log = logging.getLogger(__name__)
_WRITTEN = re.compile(r"kmend_([0-9a-z-]{1,40})\.([A-Za-z0-9_-]{20,100})")
_SECRET = {"salt", "hash"}
_WINDOW = timedelta(minutes=10)
_FAILURES = 10
SCRYPT_COST = 1 << 14
"""Of one try at a token: 16 MiB, some hundredths of a second."""
_MOST_PROVEN = 1000
_PROVEN: set[bytes] = set()
"""Hashes of tokens that held, each with what the database had of it."""
_FIRST_LOCK = timedelta(minutes=1)
_LONGEST_LOCK = timedelta(hours=1)


def add_token(connection: sa.Connection, token: Token) -> str:
    """Keep a new token and give back its text, which is not kept and cannot be shown again."""
    secret = secrets.token_urlsafe(32)
    salt = secrets.token_hex(16)
    values = {column.name: getattr(token, column.name) for column in TOKENS.c if column.name not in _SECRET}
    values |= {"role": token.role.value, "labels": wire.dump(token.labels)}
    connection.execute(sa.insert(TOKENS).values(**values, salt=salt, hash=_slow_hash(secret, salt)))
    return f"kmend_{token.id}.{secret}"


def token_for(connection: sa.Connection, text: str, *, now: datetime) -> Token | None:
    """The token that a text is, if it is one that holds now."""
    written = _WRITTEN.fullmatch(text)
    row = connection.execute(sa.select(TOKENS).where(TOKENS.c.id == (written[1] if written else ""))).first()
    if row is None or written is None:
        return None
    if not _proven(written[2], row):
        return None
    token = _token(row)
    over = token.revoked is not None or (token.expires is not None and token.expires <= now)
    return None if over else token


def note_use(connection: sa.Connection, token_id: str, *, now: datetime) -> None:
    """Keep when a token was used last."""
    connection.execute(sa.update(TOKENS).where(TOKENS.c.id == token_id).values(last_used=now))


def use_up(connection: sa.Connection, token_id: str, *, now: datetime) -> bool:
    """Take one use of an enrolment token; False when none is left. Two at once never take the same one."""
    left = sa.or_(TOKENS.c.uses_left.is_(None), TOKENS.c.uses_left > 0)
    done = connection.execute(
        sa.update(TOKENS)
        .where(TOKENS.c.id == token_id, TOKENS.c.revoked.is_(None), left)
        .values(uses_left=TOKENS.c.uses_left - 1, last_used=now)
    )
    return bool(done.rowcount)


def tokens(connection: sa.Connection) -> Sequence[Token]:
    """All tokens, the newest first."""
    wanted = sa.select(TOKENS).order_by(TOKENS.c.created.desc(), TOKENS.c.id)
    return [_token(row) for row in connection.execute(wanted)]


def find_token(connection: sa.Connection, token_id: str) -> Token | None:
    """The token with an id."""
    row = connection.execute(sa.select(TOKENS).where(TOKENS.c.id == token_id)).first()
    return _token(row) if row else None


def revoke_token(connection: sa.Connection, token_id: str, *, now: datetime) -> None:
    """A token holds no longer."""
    mine = (TOKENS.c.id == token_id, TOKENS.c.revoked.is_(None))
    connection.execute(sa.update(TOKENS).where(*mine).values(revoked=now))


def locked_until(connection: sa.Connection, source: str, *, now: datetime) -> datetime | None:
    """Until when an address may not try tokens; None when it may."""
    until: datetime | None = connection.execute(
        sa.select(LOCKOUTS.c.until).where(LOCKOUTS.c.source == source)
    ).scalar_one_or_none()
    # One that ends later than it could was made before the clock was set back.
    return until if until is not None and now < until <= now + _LONGEST_LOCK else None


def note_failure(connection: sa.Connection, source: str, *, now: datetime) -> None:
    """An address tried a token that does not hold; too many in a row lock it out, longer each time."""
    wanted = sa.select(LOCKOUTS).where(LOCKOUTS.c.source == source).with_for_update()
    row = connection.execute(wanted).first()
    if row is None:
        connection.execute(sa.insert(LOCKOUTS).values(source=source, failures=1, since=now))
        return
    fresh = now - row.since > _WINDOW and (row.until is None or now - row.until > _WINDOW)
    failures = 1 if fresh else row.failures + 1
    values = {"failures": failures, "since": now if fresh else row.since, "until": row.until}
    if failures % _FAILURES == 0:
        _log.warning("%s tried %d tokens that do not hold, and is locked out for a while", source, failures)
        values["until"] = now + min(_FIRST_LOCK * 2 ** min(failures // _FAILURES - 1, 10), _LONGEST_LOCK)
    connection.execute(sa.update(LOCKOUTS).where(LOCKOUTS.c.source == source).values(**values))


def fast_hash(secret: str) -> str:
    """The hash of a host's secret, which nobody can guess; it is checked at every check-in."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _proven(secret: str, row: sa.Row[Any]) -> bool:
    """Whether a secret is the token's. The same one again is known by a fast hash while the process runs.

    The slow hash is for those who read the database; who reads this memory sees the tokens themselves pass. What
    did not hold is not remembered, so trying costs as much as ever.
    """
    proof = hashlib.sha256(f"{row.salt} {row.hash} {secret}".encode()).digest()
    if proof in _PROVEN:
        return True
    if not hmac.compare_digest(_slow_hash(secret, row.salt), row.hash):
        return False
    if len(_PROVEN) >= _MOST_PROVEN:
        _PROVEN.clear()
    _PROVEN.add(proof)
    return True


def _slow_hash(secret: str, salt: str) -> str:
    return hashlib.scrypt(secret.encode(), salt=bytes.fromhex(salt), n=SCRYPT_COST, r=8, p=1, dklen=32).hex()


def _token(row: sa.Row[Any]) -> Token:
    known = {name: value for name, value in row._asdict().items() if name not in _SECRET}
    return Token(
        **{**known, "role": Role(row.role), "labels": wire.load(dict[str, str], row.labels, what="labels")}
    )
