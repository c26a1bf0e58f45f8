"""`matchGlob` of objects.list: a pattern run as a finite automaton, so that no pattern takes long.

`*` and `?` stay within a folder, `**` crosses folders and `/**/` also matches a single `/`; `[a-z]`, `[!a-z]` and
`{jpg,png}` as in a shell; a backslash takes the next character literally.
Source: https://cloud.google.com/storage/docs/json_api/v1/objects/list#list-objects-and-prefixes-using-glob
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise, takewhile

from google.api_core.exceptions import BadRequest

_MAX_ALTERNATIVES = 256
#: Steps remembered by one pattern; beyond it they are worked out anew.
_MAX_STEPS = 20_000

_Test = Callable[[str], bool]


class Glob:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        self._chains = [_parse(alternative) for alternative in _expand(pattern)]
        self._steps: dict[tuple[frozenset[tuple[int, int]], str], frozenset[tuple[int, int]]] = {}
        self._start = self._closure({(chain, 0) for chain in range(len(self._chains))})

    def matches(self, name: str) -> bool:
        states = self._start
        for character in name:
            if not states:
                return False
            states = self._step(states, character)
        return any(at == len(self._chains[chain]) for chain, at in states)

    def _step(self, states: frozenset[tuple[int, int]], character: str) -> frozenset[tuple[int, int]]:
        key = (states, character)
        if key not in self._steps:
            if len(self._steps) >= _MAX_STEPS:
                self._steps.clear()
            reached = set()
            for chain, at in states:
                if at == len(self._chains[chain]):
                    continue
                test, repeats = self._chains[chain][at]
                if test(character):
                    reached.add((chain, at if repeats else at + 1))
            self._steps[key] = self._closure(reached)
        return self._steps[key]

    def _closure(self, states: set[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """With the states that follow a part which may match nothing."""
        closed = set(states)
        for chain, at in states:
            parts = self._chains[chain]
            skipped = sum(1 for _ in takewhile(lambda part: part[1], parts[at:]))
            closed.update((chain, at + step) for step in range(1, skipped + 1))
        return frozenset(closed)


@lru_cache(maxsize=64)
def compile_glob(pattern: str) -> Glob:
    """Raises BadRequest for an unclosed bracket or brace."""
    return Glob(pattern)


def literal_prefix(pattern: str) -> str:
    """What every match begins with: the pattern up to its first special character."""
    return "".join(takewhile(lambda character: character not in "*?[{\\", pattern))


def _expand(pattern: str) -> list[str]:
    """The alternatives that braces and `/**/` stand for."""
    finished: list[str] = []
    waiting = [pattern]
    while waiting:
        if len(finished) + len(waiting) > _MAX_ALTERNATIVES:
            raise BadRequest(f"Invalid glob pattern: more than {_MAX_ALTERNATIVES} alternatives.")
        text = waiting.pop()
        found = _first_brace(text)
        if found is None:
            finished.append(text)
            continue
        start, commas, end = found
        cuts = [start, *commas, end]
        waiting.extend(text[:start] + text[left + 1 : right] + text[end + 1 :] for left, right in pairwise(cuts))
    whole = []
    for text in finished:
        whole.append(text)
        if "/**/" in text and len(whole) < _MAX_ALTERNATIVES:
            whole.append(text.replace("/**/", "/"))
    return whole


def _first_brace(text: str) -> tuple[int, list[int], int] | None:
    """Where the first brace opens, its own commas, and where it closes."""
    start, depth, commas, escaped = -1, 0, [], False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == "{":
            depth += 1
            if depth == 1:
                start = at
        elif character == "," and depth == 1:
            commas.append(at)
        elif character == "}" and depth:
            depth -= 1
            if not depth:
                return start, commas, at
    if depth:
        raise BadRequest(f"Invalid glob pattern: '{text}' has an unclosed brace.")
    return None


def _parse(pattern: str) -> list[tuple[_Test, bool]]:
    """Parts of a pattern without braces: which characters one takes, and whether it takes any number of them."""
    parts: list[tuple[_Test, bool]] = []
    at = 0
    while at < len(pattern):
        character = pattern[at]
        if pattern.startswith("**", at):
            parts.append((lambda _: True, True))
            at += 2
        elif character == "*":
            parts.append((lambda given: given != "/", True))
            at += 1
        elif character == "?":
            parts.append((lambda given: given != "/", False))
            at += 1
        elif character == "[":
            end = pattern.find("]", at + 2)
            if end < 0:
                raise BadRequest(f"Invalid glob pattern: '{pattern}' has an unclosed bracket.")
            parts.append((_character_class(pattern[at + 1 : end]), False))
            at = end + 1
        else:
            if character == "\\" and at + 1 < len(pattern):
                at += 1
            parts.append((pattern[at].__eq__, False))
            at += 1
    return parts


def _character_class(text: str) -> _Test:
    negated = text[:1] in ("!", "^")
    text = text[negated:]
    spans, at = [], 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            spans.append((text[at], text[at + 2]))
            at += 3
        else:
            spans.append((text[at], text[at]))
            at += 1
    return lambda given: given != "/" and any(low <= given <= high for low, high in spans) != negated
