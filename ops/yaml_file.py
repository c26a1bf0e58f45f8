"""A YAML file as plain values, with the line that each key stands on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.errors import ConfigError

KeyPath = tuple[str | int, ...]

MAX_DEPTH = 20
"""levels of nesting; also what ends an alias that holds itself"""


@dataclass(frozen=True)
class Position:
    """Where a value was written."""

    file: str
    line: int | None = None
    """counted from 1; None for what is no line of a file, such as an environment variable"""

    def __str__(self) -> str:
        return self.file if self.line is None else f"{self.file}:{self.line}"


@dataclass
class Document:
    """The mapping that a file (or several, merged) holds, and where each of its keys was written."""

    values: dict[str, Any] = field(default_factory=dict)
    positions: dict[KeyPath, Position] = field(default_factory=dict)

    def position(self, path: KeyPath) -> Position | None:
        """Position of the key, or of its nearest ancestor that was written anywhere."""
        for length in range(len(path), -1, -1):
            found = self.positions.get(path[:length])
            if found is not None:
                return found
        return None

    def overlaid(self, other: Document) -> Document:
        """This document with another's values over it: mappings are merged, everything else is replaced."""
        merged = Document(dict(self.values), dict(self.positions))
        _overlay(merged.values, other.values, merged, other, ())
        return merged

    def set(self, path: tuple[str, ...], value: object, position: Position) -> None:
        """Write one value, making the mappings above it."""
        values = self.values
        for length, key in enumerate(path[:-1], start=1):
            inner = values.get(key)
            values[key] = dict(inner) if isinstance(inner, Mapping) else {}
            self.positions.setdefault(path[:length], position)
            values = values[key]
        values[path[-1]] = value
        self.positions[path] = position


def read_yaml(path: Path, shown_as: str) -> Document:
    """The file's mapping; an empty file is an empty mapping.

    shown_as: the name by which messages call the file.
    Raises ConfigError that names file and line: a tab, a duplicate key, a tag, something that is no mapping.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown_as}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    # The round-trip loader is as safe as the safe one (it builds no objects) and alone remembers lines.
    yaml = YAML(typ="rt", pure=True)
    try:
        loaded = yaml.load(text)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        key = _duplicate_key(str(error.problem))
        raise ConfigError(f"{Position(shown_as, line)}: {key} is written twice; keep one of the two") from None
    except MarkedYAMLError as error:
        raise ConfigError(_syntax_message(text, error, shown_as)) from None
    except YAMLError as error:
        raise ConfigError(f"{shown_as}: is not YAML: {' '.join(str(error).split())}; mend it by hand") from None
    document = Document(positions={(): Position(shown_as, 1)})
    if loaded is None:
        return document
    if not isinstance(loaded, Mapping):
        raise ConfigError(
            f"{shown_as}:1: holds a {_kind(loaded)}, not a mapping; begin with a key such as `project: my-project`"
        )
    document.values = _plain(loaded, (), document, shown_as)
    return document


def _plain(value: Any, path: KeyPath, document: Document, file: str) -> Any:
    """The loader's node as a plain value; notes the positions of keys on the way."""
    if len(path) > MAX_DEPTH:
        raise ConfigError(f"{document.position(path)}: nested deeper than {MAX_DEPTH} levels; flatten it")
    tag = getattr(getattr(value, "tag", None), "value", None)
    if tag:
        raise ConfigError(f"{document.position(path)}: {dotted(path)}: tags such as {tag} are not read; remove it")
    if isinstance(value, Mapping):
        plain: dict[str, Any] = {}
        for key, inner in value.items():
            line = _line(value, key)
            if not isinstance(key, str):
                raise ConfigError(
                    f"{Position(file, line)}: {dotted((*path, str(key)))}: a key must be text; write it in quotes"
                )
            document.positions[(*path, str(key))] = Position(file, line)
            plain[str(key)] = _plain(inner, (*path, str(key)), document, file)
        return plain
    if isinstance(value, list):
        items = []
        for index, inner in enumerate(value):
            document.positions[(*path, index)] = Position(file, _line(value, index))
            items.append(_plain(inner, (*path, index), document, file))
        return items
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)
    return None if value is None else str(value)


def _line(container: Any, key: object) -> int | None:
    try:
        marks = container.lc
        line, _ = marks.key(key) if isinstance(container, Mapping) else marks.item(key)
    except (KeyError, TypeError, AttributeError):
        return None  # a key that a merge (`<<`) brought has no line of its own
    return int(line) + 1


def _overlay(below: dict[str, Any], above: Mapping[str, Any], merged: Document, other: Document, path: KeyPath) -> None:
    for key, value in above.items():
        here = (*path, key)
        merged.positions.update({p: at for p, at in other.positions.items() if p == here})
        current = below.get(key)
        if isinstance(value, Mapping) and isinstance(current, Mapping):
            below[key] = dict(current)
            _overlay(below[key], value, merged, other, here)
            continue
        below[key] = value
        size = len(here)
        for stale in [p for p in merged.positions if p[:size] == here and p != here]:
            del merged.positions[stale]
        merged.positions.update({p: at for p, at in other.positions.items() if p[:size] == here})


def _syntax_message(text: str, error: Any, file: str) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{file}: is not YAML: {error.problem}; mend it by hand"
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in str(error.problem):
        return f"{file}:{mark.line + 1}: the line is indented with a tab; YAML takes spaces only"
    return f"{file}:{mark.line + 1}: is not YAML: {error.problem} (column {mark.column + 1}); mend that line"


def _duplicate_key(problem: str) -> str:
    """The key's name out of `found duplicate key "name" with value …`."""
    parts = problem.split('"')
    return f"key {parts[1]}" if len(parts) > 2 else "a key"


def _kind(value: object) -> str:
    return "list" if isinstance(value, list) else "single value"


def dotted(path: KeyPath) -> str:
    """The path as people write it: `models.taxi-tips.training`."""
    return ".".join(map(str, path)) or "the file"
