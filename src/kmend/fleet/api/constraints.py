"""What the OpenAPI document says of values beyond their type; `kmend.fleet.checks` holds the same."""

from __future__ import annotations

from typing import Any

from kmend.fleet.api.call import LONGEST_PAGE
from kmend.fleet.checks import HIGHEST, QUARANTINES
from kmend.fleet.store.standing import SHOWN_STATES
from kmend.model.look import CHECKS, CVES, GROUPS, LINE, NAMES, SCORES, SUBJECTS, WORD, Told
from kmend.model.rollout import RolloutState, Stage
from kmend.model.webhook import Happening

_KEY = r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_PART = rf"(!? *{_KEY}|{_KEY} *(==|=|!=) *{_VALUE}|{_KEY} +(in|notin) *\({_VALUE}(, *{_VALUE})*\))"
_YEAR = 366 * 24 * 3600

WORDS = {"minLength": 1, "maxLength": 255, "pattern": r"^[^\u0000]*\S[^\u0000]*$"}
PLAIN = {"pattern": r"^[^\u0000]*$"}
REASON = {"maxLength": 1000, **PLAIN}
NOTE = {"maxLength": 2000, **PLAIN}
NAME = {"pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}
CHANNEL = {"pattern": "^(?!(root|targets|snapshot|timestamp)$)[a-z][a-z0-9-]{0,31}$"}
NO_CHANNEL = {"pattern": "^([a-z][a-z0-9-]{0,31})?$"}
BUILD_ID = {"pattern": "^[0-9a-f]{16,128}$"}
NUMBER = {"minimum": 1, "maximum": HIGHEST}
ANY_NUMBER = {"minimum": -(1 << 53), "maximum": 1 << 53}
SELECTOR = {"maxLength": 1000, "pattern": f"^({_PART}(,{_PART})*)?$"}
SECRET = {"pattern": "^[0-9a-f]{64}$"}
LABELS = {
    "maxProperties": 32,
    "propertyNames": {"pattern": f"^{_KEY}$"},
    "additionalProperties": {"type": "string", "pattern": f"^{_VALUE}$"},
}
POINTS = {"minimum": 0, "maximum": 100}
COUNT = {"minimum": 0, "maximum": 1_000_000_000}
SHORT = {**WORDS, "maxLength": WORD}
CVE = {"maxLength": 32, "pattern": "^CVE-[0-9]{4}-[0-9]{4,19}$"}


def _lines(most: int) -> dict[str, Any]:
    return {"maxItems": most, "items": {"type": "string", "maxLength": LINE, **PLAIN}}


FIELDS: dict[tuple[str, str], dict[str, Any]] = {
    ("AreaScore", "area"): SHORT,
    ("AreaScore", "failed"): COUNT,
    ("AreaScore", "percent"): POINTS,
    ("AreaScore", "unknown"): COUNT,
    ("AuditLook", "failed"): {"maxItems": CHECKS},
    ("AuditLook", "scores"): {"maxItems": SCORES},
    ("BackTo", "build_id"): BUILD_ID,
    ("BackTo", "number"): NUMBER,
    ("Blocking", "reason"): {**WORDS, "maxLength": 1000},
    ("ChannelChange", "reason"): REASON,
    ("Enrolment", "labels"): LABELS,
    ("Enrolment", "name"): WORDS,
    ("Enrolment", "secret"): SECRET,
    ("ExposureLook", "containers"): COUNT,
    ("ExposureLook", "groups"): {"maxItems": GROUPS},
    ("ExposureLook", "left_out"): COUNT,
    ("ExposureLook", "missing"): _lines(SCORES),
    ("ExposureLook", "reachable"): COUNT,
    ("ExposureLook", "verdicts"): {
        "maxProperties": SCORES,
        "propertyNames": {"pattern": "^[a-z][a-z-]{0,39}$"},
        "additionalProperties": {"type": "integer", **COUNT},
    },
    ("FailedCheck", "check"): SHORT,
    ("FailedCheck", "count"): COUNT,
    ("FailedCheck", "subjects"): _lines(SUBJECTS),
    ("Failure", "build_id"): PLAIN,
    ("Failure", "number"): ANY_NUMBER,
    ("Failure", "reason"): PLAIN,
    ("GroupChange", "selector"): SELECTOR,
    ("HostChange", "channel"): CHANNEL,
    ("HostChange", "labels"): LABELS,
    ("HostChange", "name"): WORDS,
    ("HostReport", "agent"): NOTE,
    ("HostReport", "boot_id"): WORDS,
    ("HostReport", "held"): NOTE,
    ("HostReport", "note"): NOTE,
    ("HostReport", "quarantined"): {"maxItems": QUARANTINES},
    ("HostReport", "running"): NUMBER,
    ("Kernel", "build_id"): BUILD_ID,
    ("Kernel", "release"): WORDS,
    ("Kernel", "version"): PLAIN,
    ("Limits", "failed"): POINTS,
    ("Limits", "quarantined"): POINTS,
    ("Limits", "rebooted"): POINTS,
    ("Limits", "silent"): POINTS,
    ("Look", "errors"): _lines(SCORES),
    ("Look", "lifted"): _lines(SCORES),
    ("Look", "version"): {"maxLength": WORD, **PLAIN},
    ("NewRollout", "group"): {"pattern": "^([a-z0-9][a-z0-9-]{0,62})?$"},
    ("NewSecret", "secret"): SECRET,
    ("OpenCve", "cve"): CVE,
    ("OpenCve", "score"): {"minimum": 0, "maximum": 10},
    ("Quarantine", "build_id"): PLAIN,
    ("Quarantine", "number"): ANY_NUMBER,
    ("Quarantine", "reason"): PLAIN,
    ("ReachGroup", "containers"): _lines(NAMES),
    ("ReachGroup", "count"): COUNT,
    ("ReachGroup", "cves"): {"maxItems": CVES},
    ("Reason", "reason"): REASON,
    ("Rollback", "reason"): REASON,
    ("RolloutPlan", "channel"): CHANNEL,
    ("RolloutPlan", "livepatches"): {"minItems": 1, "maxItems": 100, "uniqueItems": True},
    ("RolloutPlan", "max_concurrent"): {"minimum": 0, "maximum": HIGHEST},
    ("RolloutPlan", "name"): WORDS,
    ("RolloutPlan", "selector"): SELECTOR,
    ("RolloutPlan", "waves"): {"minItems": 1, "maxItems": 20},
    ("Target", "build_id"): BUILD_ID,
    ("Target", "number"): NUMBER,
    ("TokenRequest", "channel"): NO_CHANNEL,
    ("TokenRequest", "days"): {"minimum": 1, "maximum": 3660},
    ("TokenRequest", "labels"): LABELS,
    ("TokenRequest", "name"): WORDS,
    ("TokenRequest", "uses"): NUMBER,
    ("WebhookRequest", "happenings"): {"maxItems": len(Happening)},
    ("WebhookRequest", "name"): WORDS,
    ("WebhookRequest", "url"): {
        "maxLength": 2000,
        "pattern": r"^https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[1-9][0-9]{0,3})?(/[!$-;=?-Z_a-z~]*)?$",
    },
    ("Wave", "percent"): {"exclusiveMinimum": 0, "maximum": 100},
    ("Wave", "selector"): SELECTOR,
    ("Wave", "soak"): {"minimum": 0, "maximum": _YEAR},
}
"""(Noun, field) → JSON schema keywords; of a field that may be null they hold for the other kind."""

NOUNS: dict[str, dict[str, Any]] = {
    "TokenRequest": {
        "if": {"properties": {"role": {"const": "enrol"}}},
        "else": {
            "properties": {"uses": {"type": "null"}, "channel": {"const": ""}, "labels": {"maxProperties": 0}}
        },
    }
}
"""Noun → JSON schema keywords for the whole of it."""

PATH: dict[str, dict[str, Any]] = {
    "build_id": BUILD_ID,
    "channel": CHANNEL,
    "cve": {"maxLength": 32, "pattern": "^[Cc][Vv][Ee]-[0-9]{4}-[0-9]{4,19}$"},
    "group": NAME,
    "number": {"type": "integer", **NUMBER},
}
"""Parameter of a path → JSON schema keywords."""

QUERY: dict[str, dict[str, Any]] = {
    "after": {"minimum": 0, "maximum": 1 << 53},
    "limit": {"minimum": 1, "maximum": LONGEST_PAGE},
    "open_to": {"pattern": "^([Cc][Vv][Ee]-[0-9]{4}-[0-9]{4,19})?$"},
    "reach": {"enum": ["", *Told]},
    "running": NUMBER,
    "selector": SELECTOR,
    "stage": {"enum": ["", *Stage]},
    "state": {"enum": ["", *RolloutState]},
    "in_state": {"enum": ["", *SHOWN_STATES]},
}
"""Parameter of a query → JSON schema keywords."""
