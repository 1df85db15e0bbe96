"""The OpenAPI 3.1 document, made from the table of endpoints and the nouns themselves."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from dataclasses import MISSING, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from kmend import __version__
from kmend.fleet.api.call import LENIENT
from kmend.fleet.api.constraints import FIELDS, NOUNS, PATH, PLAIN, QUERY
from kmend.fleet.api.endpoint import CURSOR, Bearer, Endpoint
from kmend.fleet.api.problems import MEDIA_TYPE
from kmend.fleet.api.table import PREFIX
from kmend.fleet.streams import MEDIA_TYPE as STREAM
from kmend.model.fleet import Role
from kmend.model.protocol import Problem

_PRIMITIVES: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
}
_IN_PATH = {"type": "string", "minLength": 1}
_ALWAYS = (400, 500, 503)
_WITH_TOKEN = (401, 403, 429)


def document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document as JSON-ready dicts."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        operation = _operation(endpoint, schemas)
        paths.setdefault(f"{PREFIX}{endpoint.path}", {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "kmend fleet", "version": __version__, "license": {"name": "GPL-2.0-or-later"}},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "kmend_ID.SECRET"},
                "host": {"type": "http", "scheme": "bearer", "description": "kmend-host.HOST.SECRET"},
            },
        },
    }


def schema_of(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of a type; nouns are put into ``schemas`` and referred to."""
    if kind in _PRIMITIVES:
        return dict(_PRIMITIVES[kind])
    if is_dataclass(kind) and isinstance(kind, type):
        return _noun(kind, schemas)
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return {"type": "string", "enum": [member.value for member in kind]}
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return {"type": "array", "items": schema_of(inner[0], schemas)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1], schemas)}
    if origin in {types.UnionType, typing.Union}:
        return {"anyOf": [{"type": "null"} if one is type(None) else schema_of(one, schemas) for one in inner]}
    raise TypeError(f"no schema for {kind}")


def _noun(kind: type[Any], schemas: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in schemas:
        schemas[name] = {}  # a noun that holds itself would come back here
        hints = typing.get_type_hints(kind)
        required = [one.name for one in fields(kind) if one.default is MISSING and one.default_factory is MISSING]
        schemas[name] = {
            "type": "object",
            "description": (kind.__doc__ or "").partition("\n")[0],
            "properties": {
                one.name: _with(schema_of(hints[one.name], schemas), FIELDS.get((name, one.name), {}))
                for one in fields(kind)
            },
            "required": required,
            "additionalProperties": kind in LENIENT,
            **NOUNS.get(name, {}),
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _with(schema: dict[str, Any], keywords: dict[str, Any]) -> dict[str, Any]:
    """The schema with what else holds; where null is allowed too, it holds for the other kind."""
    if not keywords:
        return schema
    if "anyOf" in schema:
        return {"anyOf": [one if one == {"type": "null"} else {**one, **keywords} for one in schema["anyOf"]]}
    return {**schema, **keywords}


def _operation(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    words = re.findall(r"\w+", f"{endpoint.method.lower()} {endpoint.path}")
    operation: dict[str, Any] = {
        "operationId": "-".join(words),
        "summary": endpoint.about,
        "description": f"Needs: {endpoint.needs}.",
        "parameters": _parameters(endpoint),
        "security": _security(endpoint),
        "responses": _responses(endpoint, schemas),
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": schema_of(endpoint.body, schemas)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {**_IN_PATH, **PATH.get(name, {})}}
        for name in re.findall(r"{(\w+)}", endpoint.path)
    ]
    in_query = [
        {
            "name": one.name,
            "in": "query",
            "description": one.about,
            "schema": {**_PRIMITIVES[one.kind], **QUERY.get(one.name, PLAIN if one.kind is str else {})},
        }
        for one in endpoint.query
    ]
    in_header = [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The last event that the reader had; goes before `after`.",
            "schema": {"type": "integer", **QUERY["after"]},
        }
    ]
    return [*in_path, *in_query, *(in_header if endpoint.stream else [])]


def _security(endpoint: Endpoint) -> list[dict[str, list[str]]]:
    if endpoint.needs == Bearer.NOBODY:
        return []
    return [{"host" if endpoint.needs == Bearer.HOST else "token": []}]


def _responses(endpoint: Endpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.stream:
        event = schema_of(endpoint.answer, schemas)["$ref"]
        about = f"Server-sent events; each data line is JSON of {event}."
        done["content"] = {STREAM: {"schema": {"type": "string", "description": about}}}
    elif endpoint.answer is not None:
        done["content"] = {"application/json": {"schema": schema_of(endpoint.answer, schemas)}}
    statuses = {*_ALWAYS, *endpoint.refuses}
    statuses |= set(_WITH_TOKEN) if isinstance(endpoint.needs, Role | Bearer) else set()
    statuses |= {404} if "{" in endpoint.path or CURSOR in endpoint.query else set()
    statuses |= {408, 409, 413, 415} if endpoint.body else set()
    problem = {MEDIA_TYPE: {"schema": schema_of(Problem, schemas)}}
    refused = {
        str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in sorted(statuses)
    }
    return {str(endpoint.status): done, **refused}
