"""Request bodies against the schemas of the discovery document: wrong types are refused, unknown keys dropped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import selfloop_apis
from google.api_core.exceptions import BadRequest


def typed(kind: str, document: Any) -> dict[str, Any]:
    """The document with the types of a schema such as `Object`; null stays null, for it removes in a patch.

    int64 values become text, as the API writes them. Raises BadRequest naming the field that does not fit.
    """
    value = _typed({"$ref": kind}, document, "")
    if not isinstance(value, dict):
        raise _misfit("", document)
    return value


@cache
def _schemas() -> dict[str, Any]:
    schemas: dict[str, Any] = json.loads((selfloop_apis.FOLDER / "storage.v1.json").read_bytes())["schemas"]
    return schemas


def _typed(schema: Mapping[str, Any], value: Any, path: str) -> Any:
    if "$ref" in schema:
        schema = _schemas()[schema["$ref"]]
    if value is None:
        return None
    kind = schema.get("type", "any")
    if kind == "object":
        if not isinstance(value, dict):
            raise _misfit(path, value)
        return _typed_object(schema, value, path)
    if kind == "array":
        if not isinstance(value, list):
            raise _misfit(path, value)
        return [_typed(schema["items"], item, f"{path}[{at}]") for at, item in enumerate(value)]
    if kind == "string":
        return _text(schema, value, path)
    if kind == "integer":
        return _integer(value, path)
    return _boolean(value, path) if kind == "boolean" else value


def _typed_object(schema: Mapping[str, Any], value: dict[str, Any], path: str) -> dict[str, Any]:
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties")
    result = {}
    for key, item in value.items():
        place = f"{path}.{key}" if path else key
        if key in properties:
            result[key] = _typed(properties[key], item, place)
        elif others is not None:
            result[key] = _typed(others, item, place)
    return result


def _text(schema: Mapping[str, Any], value: Any, path: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        value = str(value)
    if not isinstance(value, str):
        raise _misfit(path, value)
    if schema.get("format") in ("int64", "uint64") and not value.removeprefix("-").isdecimal():
        raise _misfit(path, value)
    return value


def _integer(value: Any, path: str) -> int:
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise _misfit(path, value)
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise _misfit(path, value) from None


def _boolean(value: Any, path: str) -> bool:
    if value in (True, "true", "True"):
        return True
    if value in (False, "false", "False"):
        return False
    raise _misfit(path, value)


def _misfit(path: str, value: Any) -> BadRequest:
    text = json.dumps(value)
    return BadRequest(
        f"Invalid value for {path or 'the request body'}: {text if len(text) < 200 else text[:200] + '…'}"
    )
