"""Findings of pydantic as lines for the person who edits the file: where, what is wrong, what to write."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ops.yaml_file import Document, KeyPath, dotted

_WRITE = {
    "int_type": "write a whole number without quotes",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "float_type": "write a number without quotes",
    "bool_type": "write true or false",
    "string_type": "write text, in quotes where it looks like a number",
    "dict_type": "write a mapping: `key: value` lines, indented below it",
    "model_type": "write a mapping: `key: value` lines, indented below it",
    "model_attributes_type": "write a mapping: `key: value` lines, indented below it",
    "tuple_type": "write a list: lines that begin with `- `",
    "list_type": "write a list: lines that begin with `- `",
}


def messages(error: ValidationError, model: type[BaseModel], document: Document) -> list[str]:
    """One line a finding, in the order of the files."""
    return [_message(finding, model, document) for finding in error.errors(include_url=False)]


def _message(finding: ErrorDetails, model: type[BaseModel], document: Document) -> str:
    path = tuple(part for part in finding["loc"] if part != "[key]")
    kind = finding["type"]
    where = document.position(path)
    if kind == "extra_forbidden":
        return f"{where}: {dotted(path)}: there is no such key; {_suggestion(path, model)}"
    if kind == "missing":
        return f"{where}: {dotted(path)}: is missing; add it{_purpose(path, model)}"
    if kind == "value_error":
        return f"{where}: {dotted(path)}: {finding['ctx']['error']}"
    value = finding["input"]
    shown = "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)
    text = finding["msg"].removeprefix("Input should be ").removeprefix("String should ").removeprefix("match ")
    advice = _WRITE.get(kind) or f"write {text}"
    if kind == "string_pattern_mismatch":
        advice = f"write what matches {finding['ctx']['pattern']}"
    if value is None:
        shown = "empty"
    return f"{where}: {dotted(path)}: is {shown}; {advice}"


def _suggestion(path: KeyPath, model: type[BaseModel]) -> str:
    known = sorted(_fields(path[:-1], model))
    near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else f"keys here: {', '.join(known) or 'none'}"


def _purpose(path: KeyPath, model: type[BaseModel]) -> str:
    holder = _model_at(path[:-1], model)
    field = holder.model_fields.get(str(path[-1])) if holder else None
    return f" ({field.description})" if field and field.description else ""


def _fields(path: KeyPath, model: type[BaseModel]) -> set[str]:
    holder = _model_at(path, model)
    return {name for name, field in holder.model_fields.items() if not field.exclude} if holder else set()


def _model_at(path: KeyPath, model: type[BaseModel]) -> type[BaseModel] | None:
    """The model that describes the mapping at a path."""
    at: Any = model
    for part in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
        else:
            # A dict's value or a tuple's element: the last type argument that is not the ellipsis.
            arguments = [argument for argument in typing.get_args(at) if argument is not Ellipsis]
            at = arguments[-1] if arguments else None
        at = next(_models(at), at)
    return at if isinstance(at, type) and issubclass(at, BaseModel) else None


def _models(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union that are models."""
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        yield from (a for a in typing.get_args(annotation) if isinstance(a, type) and issubclass(a, BaseModel))
