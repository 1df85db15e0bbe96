"""What can be asked of the server: each check says what is wrong and what would be right. Pure."""

from __future__ import annotations

import math
import re
import types
import typing
from dataclasses import is_dataclass
from functools import cache
from typing import Any

from kmend.kit.errors import InputError
from kmend.model.fix import CVE_ID
from kmend.model.fleet import HostReport
from kmend.model.labels import parse_selector
from kmend.model.look import (
    CHECKS,
    CVES,
    GROUPS,
    LINE,
    NAMES,
    SCORES,
    SUBJECTS,
    WORD,
    AuditLook,
    ExposureLook,
    Look,
)
from kmend.model.rollout import Limits, RolloutPlan, Wave
from kmend.trust.layout import check_build_id

HIGHEST = 1_000_000
"""Of a livepatch's number, and of concurrent hosts."""
_WAVES = 20
_KERNELS = 100
QUARANTINES = 200
_YEAR = 366 * 24 * 3600
_MOST = 1_000_000_000
_LONGEST_CVE = 32
_VERDICT = re.compile(r"[a-z][a-z-]{0,39}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def check_words(value: str, *, what: str, most: int = 255, empty: bool = False) -> None:
    """Check a line or two of text.

    Raises:
        InputError: It is empty (unless it may be) or too long.
    """
    if len(value) > most:
        raise InputError(f"{what} is {len(value)} characters long; {most} is the most.")
    if not empty and not value.strip():
        raise InputError(f"{what} is empty.")


def check_name(value: str, *, what: str) -> None:
    """Check a short name that stands in addresses.

    Raises:
        InputError: It is not lower-case letters, digits and dashes.
    """
    if not _NAME.fullmatch(value):
        raise InputError(f"{value!r} cannot be {what}.", hint="Use lower-case letters, digits and dashes.")


def check_number(number: int, *, what: str, lowest: int = 1, highest: int = HIGHEST) -> None:
    """Check a whole number.

    Raises:
        InputError: It is out of range.
    """
    if not lowest <= number <= highest:
        raise InputError(f"{what} is {number}; it has to be from {lowest} to {highest}.")


def check_plan(plan: RolloutPlan) -> None:
    """Check all that can be checked of a plan without knowing the fleet.

    Raises:
        InputError: Something in it cannot be.
    """
    check_words(plan.name, what="the rollout's name")
    check_number(len(plan.livepatches), what="the number of kernels", highest=_KERNELS)
    check_number(len(plan.waves), what="the number of waves", highest=_WAVES)
    for target in plan.livepatches:
        check_build_id(target.build_id)
        check_number(target.number, what="the livepatch's number")
    for wave in plan.waves:
        _check_wave(wave)
    check_selector(plan.selector)
    check_number(plan.max_concurrent, what="max_concurrent", lowest=0)
    _check_limits(plan.limits)


def check_selector(selector: str) -> None:
    """Check a label selector.

    Raises:
        InputError: It cannot be read or is too long.
    """
    check_words(selector, what="the selector", most=1000, empty=True)
    parse_selector(selector)


def check_report(report: HostReport) -> None:
    """Check a report as far as it is compared or kept in columns.

    Raises:
        InputError: Something in it cannot be.
    """
    check_build_id(report.kernel.build_id)
    if report.running is not None:
        check_number(report.running, what="the running livepatch's number")
    if len(report.quarantined) > QUARANTINES:
        raise InputError(f"{len(report.quarantined)} quarantines are too many; {QUARANTINES} is the most.")
    words = {"release": report.kernel.release, "boot_id": report.boot_id}
    for name, value in words.items():
        check_words(value, what=name)
    for name, value in {"held": report.held, "note": report.note, "agent": report.agent}.items():
        check_words(value, what=name, most=2000, empty=True)


def check_look(look: Look) -> None:
    """Check that a look keeps to the limits of `kmend.model.look`.

    Raises:
        InputError: Something in it cannot be.
    """
    check_words(look.version, what="the version", most=WORD, empty=True)
    _check_lines(look.errors, what="errors")
    _check_lines(look.lifted, what="lifted mitigations")
    if look.audit is not None:
        _check_audit(look.audit)
    if look.exposure is not None:
        _check_exposure(look.exposure)


def check_plain(value: object, *, depth: int = 20) -> None:
    """Check decoded JSON for what no database keeps: NUL, halves of surrogate pairs, numbers without end.

    Raises:
        InputError: There is some in it.
    """
    if depth == 0:
        raise InputError("The JSON is nested too deeply.")
    if isinstance(value, str):
        if "\0" in value or not _encodes(value):
            raise InputError("A text holds characters that are none (NUL, or half of a surrogate pair).")
    elif isinstance(value, dict):
        for name, part in value.items():
            check_plain(name, depth=depth - 1)
            check_plain(part, depth=depth - 1)
    elif isinstance(value, list):
        for part in value:
            check_plain(part, depth=depth - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError("A number is infinite or none at all.")
    elif isinstance(value, int) and abs(value) > 1 << 53:
        raise InputError(f"A number is out of range: {str(value)[:20]}.")


def check_shape(kind: Any, value: object, *, lenient: bool) -> None:
    """Check that decoded JSON has objects where a noun has nouns, and no fields that the noun does not know.

    Raises:
        InputError: It has not; a misspelt field would be left out without a word.
    """
    noun, origin, inner = _form(kind)
    if noun:
        if not isinstance(value, dict):
            raise InputError(f"A {kind.__name__} has to be a JSON object.")
        hints = _hints(kind)
        if not lenient and (strange := sorted(value.keys() - hints.keys())):
            raise InputError(f"A {kind.__name__} has no {strange[0][:40]!r}.", hint=f"Known: {', '.join(hints)}.")
        for name in value.keys() & hints.keys():
            check_shape(hints[name], value[name], lenient=lenient)
    elif origin is tuple and isinstance(value, list):
        for one in value:
            check_shape(inner[0], one, lenient=lenient)
    elif origin in {types.UnionType, typing.Union} and value is not None:
        for one in inner:
            check_shape(one, value, lenient=lenient)


def known_part(kind: Any, value: object) -> object:
    """Decoded JSON without the fields that a noun does not know."""
    noun, origin, inner = _form(kind)
    if noun and isinstance(value, dict):
        hints = _hints(kind)
        return {name: known_part(hints[name], part) for name, part in value.items() if name in hints}
    if origin is tuple and isinstance(value, list):
        return [known_part(inner[0], one) for one in value]
    if origin in {types.UnionType, typing.Union}:
        return known_part(next((one for one in inner if is_dataclass(one)), None), value)
    return value


@cache
def _form(kind: Any) -> tuple[bool, Any, tuple[Any, ...]]:
    """Whether a type is a noun, what it is made from, and of what: asked for every field of every report."""
    return is_dataclass(kind) and isinstance(kind, type), typing.get_origin(kind), typing.get_args(kind)


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _check_wave(wave: Wave) -> None:
    if not 0 < wave.percent <= 100:  # noqa: PLR2004 - percent
        raise InputError(f"A wave of {wave.percent}% is none.", hint="More than 0, and 100 at most.")
    check_number(wave.soak, what="the soak in seconds", lowest=0, highest=_YEAR)
    check_selector(wave.selector)


def _check_audit(audit: AuditLook) -> None:
    _check_many(len(audit.scores), SCORES, what="scores")
    _check_many(len(audit.failed), CHECKS, what="failed checks")
    for score in audit.scores:
        check_words(score.area, what="an area", most=WORD)
        check_number(score.percent or 0, what="a score", lowest=0, highest=100)
        check_number(score.failed, what="failed", lowest=0, highest=_MOST)
        check_number(score.unknown, what="unknown", lowest=0, highest=_MOST)
    for one in audit.failed:
        check_words(one.check, what="a check's id", most=WORD)
        check_number(one.count, what="a check's count", lowest=0, highest=_MOST)
        _check_lines(one.subjects, what="subjects", most=SUBJECTS)


def _check_exposure(exposure: ExposureLook) -> None:
    counts = {"reachable": exposure.reachable, "containers": exposure.containers, "left_out": exposure.left_out}
    _check_many(len(exposure.verdicts), SCORES, what="verdicts")
    for verdict in exposure.verdicts:
        if not _VERDICT.fullmatch(verdict):
            raise InputError(f"{verdict[:30]!r} is no verdict.")
    for name, count in {**counts, **exposure.verdicts}.items():
        check_number(count, what=name, lowest=0, highest=_MOST)
    _check_many(len(exposure.groups), GROUPS, what="groups")
    _check_lines(exposure.missing, what="missing")
    for group in exposure.groups:
        check_number(group.count, what="a group's count", lowest=0, highest=_MOST)
        _check_lines(group.containers, what="containers", most=NAMES)
        _check_many(len(group.cves), CVES, what="CVEs")
        for one in group.cves:
            if len(one.cve) > _LONGEST_CVE or not one.cve.isascii() or not CVE_ID.fullmatch(one.cve):
                raise InputError(f"{one.cve[:30]!r} is no CVE id.")
            if not 0 <= one.score <= 10:  # noqa: PLR2004 - CVSS
                raise InputError(f"The score of {one.cve} is {one.score}; it is from 0 to 10.")


def _check_many(count: int, most: int, *, what: str) -> None:
    if count > most:
        raise InputError(f"{count} {what} are too many; {most} is the most.")


def _check_lines(lines: tuple[str, ...], *, what: str, most: int = SCORES) -> None:
    _check_many(len(lines), most, what=what)
    for line in lines:
        check_words(line, what=f"one of {what}", most=LINE, empty=True)


def _check_limits(limits: Limits) -> None:
    for name in ("failed", "quarantined", "rebooted", "silent"):
        allowed = getattr(limits, name)
        if not 0 <= allowed <= 100:  # noqa: PLR2004 - percentage points
            raise InputError(f"The limit {name} is {allowed}; it is in percentage points, from 0 to 100.")


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
