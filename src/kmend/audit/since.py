"""What changed since an older report."""

from __future__ import annotations

from kmend.audit.views.common import failed
from kmend.model.finding import AuditReport, Difference, Finding


def difference(older: AuditReport, newer: AuditReport) -> Difference:
    """New failures, gone ones, and how many stayed.

    A failure is the same when check and subject are. A check that only one of the reports has made is left out:
    it says nothing of the host.
    """
    shared = {one.id for one in older.rules} & {one.id for one in newer.rules}
    before = {_key(one): one for one in failed(older) if one.check in shared}
    now = {_key(one): one for one in failed(newer) if one.check in shared}
    return Difference(
        since=older.collected,
        new=tuple(one for key, one in now.items() if key not in before),
        gone=tuple(one for key, one in before.items() if key not in now),
        stayed=len(before.keys() & now.keys()),
    )


def _key(one: Finding) -> tuple[str, str]:
    return one.check, one.subject
