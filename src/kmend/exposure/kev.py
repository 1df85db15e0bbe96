"""CISA's list of known exploited vulnerabilities: its public JSON (``known_exploited_vulnerabilities.json``)."""

from __future__ import annotations

import json
from pathlib import Path

from kmend.kit.errors import InputError
from kmend.model.fix import CVE_ID

_LARGEST = 64 << 20
_DAY = 10


def read(path: Path) -> dict[str, str]:
    """CVE → the day on which it was taken up (``2024-05-30``).

    Raises:
        InputError: It cannot be read, or is not that list.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise InputError(f"{path} is larger than {_LARGEST >> 20} MiB.")
        found = {}
        for one in json.loads(path.read_bytes())["vulnerabilities"]:
            if CVE_ID.fullmatch(one["cveID"]):
                found[one["cveID"]] = str(one["dateAdded"])[:_DAY]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(
            f"{path} is not CISA's list of known exploited vulnerabilities.",
            hint="Give its JSON: known_exploited_vulnerabilities.json.",
        ) from None
    return found
