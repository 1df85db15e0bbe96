"""The one JSON codec: nouns to JSON text and back, strictly."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.errors import BaseValidationError
from cattrs.strategies import configure_union_passthrough

from kmend.kit.errors import InputError

T = TypeVar("T")


def _strict(kind: type[Any]) -> Any:
    """Unchanged JSON primitives only: no silent "1" for 1."""

    def structure(value: Any, wanted: Any) -> Any:
        # A StrEnum is a str too, so it comes here; only its own values are members.
        if isinstance(wanted, type) and issubclass(wanted, Enum):
            return wanted(value)
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, got {value!r}")
        return value

    return structure


def _moment(value: Any, _: type[Any]) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"time without a time zone: {value}")
    return moment.astimezone(UTC)


def _codec() -> cattrs.Converter:
    codec = cattrs.Converter(forbid_extra_keys=False)
    for kind in (int, float, bool, str):
        codec.register_structure_hook(kind, _strict(kind))
    codec.register_structure_hook(datetime, _moment)
    codec.register_unstructure_hook(datetime, lambda moment: moment.astimezone(UTC).isoformat())
    codec.register_structure_hook(Path, lambda value, _: Path(value))
    codec.register_unstructure_hook(Path, str)
    configure_union_passthrough(str | None, codec)
    return codec


_CODEC = _codec()


def plain(noun: object) -> Any:
    """The noun as JSON-ready dicts, lists and strings."""
    return _CODEC.unstructure(noun)


def dump(noun: object) -> str:
    """The noun as JSON text: sorted keys, two spaces, newline at the end; the same noun gives the same text."""
    return json.dumps(plain(noun), indent=2, sort_keys=True) + "\n"


def line(noun: object) -> str:
    """The noun as JSON text in one line, which takes a third of the time of `dump`: for what no person reads."""
    return json.dumps(plain(noun), separators=(",", ":"))


def load(kind: type[T], text: str | bytes, *, what: str) -> T:
    """Parse JSON text into a noun.

    Args:
        kind: Class of the noun.
        text: The JSON.
        what: Where the text is from, for the error.

    Raises:
        InputError: It is not JSON, or a field is missing or of the wrong type.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _other(kind, [str(error)], what) from None
    return take(kind, value, what=what)


def take(kind: type[T], value: object, *, what: str) -> T:
    """Make a noun of decoded JSON; like `load` otherwise.

    Raises:
        InputError: A field is missing or of the wrong type.
    """
    try:
        return _CODEC.structure(value, kind)
    except (ValueError, BaseValidationError, TypeError, KeyError) as error:
        reasons = cattrs.transform_error(error) if isinstance(error, BaseValidationError) else [str(error)]
        raise _other(kind, reasons, what) from None


def _other(kind: type[Any], reasons: list[str], what: str) -> InputError:
    return InputError(
        f"{what} is not a {kind.__name__}: {'; '.join(reasons)}",
        hint="It was written by another version, or altered. Make it again.",
    )
