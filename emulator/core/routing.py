"""Which method a REST call means: URI templates against raw paths.

Matching comes before decoding, because an object or log name may hold %2F. A trailing `:verb` is split off
first, or many URLs would match two methods. Templates of the same HTTP verb, number of segments and custom verb that
have their literals at the same places are told apart by these at one look into a dictionary.
Source: google/api/http.proto, path template syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote

T = TypeVar("T")


@dataclass(frozen=True)
class _Template(Generic[T]):
    segments: tuple[str, ...]
    """a literal, `*`, or `**` for any number"""
    variables: tuple[tuple[str, int, int], ...]
    """name, first and last segment (exclusive; from the right behind `**`)"""
    target: T


@dataclass(frozen=True)
class _Shape(Generic[T]):
    """Templates with their literals at the same places."""

    places: tuple[int, ...]
    templates: dict[tuple[str, ...], _Template[T]] = field(default_factory=dict)
    """by these literals, in order"""


class Router(Generic[T]):
    """Templates of one host."""

    def __init__(self) -> None:
        self._fixed: dict[tuple[str, int, str], list[_Shape[T]]] = {}
        self._open: dict[tuple[str, str], list[_Template[T]]] = {}
        self._verbs: set[str] = set()

    def add(self, http_method: str, uri: str, target: T) -> None:
        """Register `/v1/{name=projects/*/locations/*}:verb`, or `/b/{bucket}/o/{object}`."""
        path, verb = _split_verb(uri)
        segments: list[str] = []
        variables = []
        for literal, name, glob in _tokens(path):
            if literal is not None:
                segments.append(literal)
                continue
            parts = (glob or "*").split("/")
            variables.append((name, len(segments), len(parts)))
            segments.extend(parts)
        spans = tuple((name, start, start + length) for name, start, length in variables)
        if verb:
            self._verbs.add(verb)
        if "**" in segments:
            at = segments.index("**")
            total = len(segments)
            # Counted from the right for what ends behind the open part, whose length is known at matching.
            spans = tuple(
                (name, start if start <= at else start - total, end if end <= at else end - total)
                for name, start, end in spans
            )
            self._open.setdefault((http_method, verb), []).append(_Template(tuple(segments), spans, target))
        else:
            template = _Template(tuple(segments), spans, target)
            shapes = self._fixed.setdefault((http_method, len(segments), verb), [])
            places = tuple(place for place, segment in enumerate(segments) if segment != "*")
            shape = next((shape for shape in shapes if shape.places == places), None)
            if shape is None:
                shape = _Shape(places)
                shapes.append(shape)
                # `tagKeys/namespaced` is a method of its own, not a tag key of that name.
                shapes.sort(key=lambda shape: -len(shape.places))
            shape.templates.setdefault(tuple(segments[place] for place in places), template)

    def match(self, http_method: str, raw_path: str) -> tuple[T, dict[str, str]] | None:
        """The target and its path variables, decoded; None where no template fits."""
        path = raw_path.strip("/")
        head, colon, verb = path.rpartition(":")
        if colon and verb in self._verbs:
            found = self._match(http_method, head.split("/"), verb)
            if found:
                return found
        return self._match(http_method, path.split("/"), "")

    def _match(self, http_method: str, segments: list[str], verb: str) -> tuple[T, dict[str, str]] | None:
        for shape in self._fixed.get((http_method, len(segments), verb), ()):
            template = shape.templates.get(tuple([segments[place] for place in shape.places]))
            if template is not None and all(segments):
                return template.target, _variables(template, segments)
        for template in self._open.get((http_method, verb), ()):
            if _matches_open(template.segments, segments):
                return template.target, _variables(template, segments)
        return None


def _split_verb(uri: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*[^/{]):(\w+)", uri)
    if match and "}" not in match[2]:
        return match[1], match[2]
    return uri, ""


def _tokens(path: str) -> Iterator[tuple[str | None, str, str]]:
    for match in re.finditer(r"\{(\w[\w.]*)(?:=([^}]*))?\}|([^/{}]+)", path):
        yield match[3], match[1] or "", match[2] or ""


def _matches_open(template: tuple[str, ...], segments: list[str]) -> bool:
    if template[0] not in ("*", "**", segments[0]):
        return False
    at = template.index("**")
    tail = template[at + 1 :]
    if len(segments) < at + len(tail):
        return False
    ends = segments[len(segments) - len(tail) :]
    fixed = [*zip(template[:at], segments, strict=False), *zip(tail, ends, strict=True)]
    return all(want in ("*", have) and have for want, have in fixed)


def _variables(template: _Template[T], segments: list[str]) -> dict[str, str]:
    values = {}
    for name, start, end in template.variables:
        parts = segments[start : end or None]
        if len(parts) == 1:
            values[name] = unquote(parts[0])
        else:
            # Within a name of several segments an encoded slash stays encoded: it belongs to one of them.
            values[name] = "/".join(unquote(part.replace("%2F", "%252F").replace("%2f", "%252F")) for part in parts)
    return values
