"""The Logging query language: text to a tree.

`a AND b OR c` is `a AND (b OR c)`: NOT binds closest, then OR, then AND; words beside one another are joined by
AND. The keywords are upper case only; `--` begins a comment.
Source: https://cloud.google.com/logging/docs/view/logging-query-language
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from google.api_core.exceptions import InvalidArgument

LONGEST_FILTER = 20_000
#: Parentheses and negations inside one another; the real service has a limit as well, and does not say which.
DEEPEST_NESTING = 100


@dataclass(frozen=True)
class Literal:
    """A value as it was written, escapes resolved."""

    text: str
    quoted: bool = True


@dataclass(frozen=True)
class Field:
    """A path into an entry: `("labels", "compute.googleapis.com/zone")`."""

    path: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """`SEARCH("words")`, `log_id("x")`, or a function to the left of a comparison."""

    name: str
    """lower case"""
    arguments: tuple[Literal | Field | Call, ...]


@dataclass(frozen=True)
class Comparison:
    left: Field | Call
    operator: str
    """one of `= != < <= > >= : =~ !~`"""
    value: Literal


@dataclass(frozen=True)
class Text:
    """A value that stands alone: it is looked for in every field."""

    text: str


@dataclass(frozen=True)
class And:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    part: Node


Node = And | Or | Not | Comparison | Text | Call

#: What is true of every entry.
EVERYTHING = And(())


def parse(text: str) -> Node:
    """The tree of a filter; `EVERYTHING` for an empty one. Raises InvalidArgument in the service's words."""
    if len(text) > LONGEST_FILTER:
        raise InvalidArgument(
            f"Unparseable filter: the filter has {len(text)} characters, the longest one {LONGEST_FILTER}"
        )
    return _Parser(text).parse()


@dataclass(frozen=True)
class _Token:
    kind: str
    """`text`, `string`, `operator`, `(`, `)`, `,` or `end`"""
    value: str
    start: int
    end: int


_TOKENS = re.compile(
    r"""(?P<skip>\s+|--[^\n]*)
      | (?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
      | (?P<operator>=~|!~|!=|<=|>=|=|<|>|:)
      | (?P<punctuation>[(),])
      | (?P<text>[^\s"'()=!<>:~,]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_KEYWORDS = frozenset({"AND", "OR", "NOT"})


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._read()
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        if self._next.kind == "end":
            return EVERYTHING
        node = self._conjunction(None)
        if self._next.kind != "end":
            self._fail(self._next)
        return node

    def _read(self) -> list[_Token]:
        tokens = []
        position = 0
        while position < len(self._text):
            match = _TOKENS.match(self._text, position)
            if match is None:
                self._fail(_Token("", self._text[position], position, position + 1))
            kind = str(match.lastgroup)
            if kind != "skip":
                kind = match[0] if kind == "punctuation" else kind
                tokens.append(_Token(kind, match[0], match.start(), match.end()))
            position = match.end()
        return [*tokens, _Token("end", "", len(self._text), len(self._text))]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self) -> _Token:
        token = self._next
        self._at += token.kind != "end"
        return token

    def _is_keyword(self, *words: str) -> bool:
        return self._next.kind == "text" and self._next.value in words

    def _conjunction(self, subject: tuple[Field | Call, str] | None) -> Node:
        """subject: what the values of `field=(a OR b)` are compared with; None outside such a list."""
        parts = [self._disjunction(subject)]
        while self._next.kind not in ("end", ")"):
            if self._is_keyword("AND"):
                self._take()
            parts.append(self._disjunction(subject))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _disjunction(self, subject: tuple[Field | Call, str] | None) -> Node:
        parts = [self._negation(subject)]
        while self._is_keyword("OR"):
            self._take()
            parts.append(self._negation(subject))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _negation(self, subject: tuple[Field | Call, str] | None) -> Node:
        token = self._next
        negated = self._is_keyword("NOT")
        if negated:
            self._take()
        elif token.kind == "text" and token.value.startswith("-") and subject is None:
            # The minus is an operator here, and part of a number behind a comparison.
            negated = True
            if token.value == "-":
                self._take()
            else:
                self._tokens[self._at] = _Token("text", token.value[1:], token.start + 1, token.end)
        if not negated:
            return self._primary(subject)
        self._deeper(token)
        part = self._negation(subject)
        self._depth -= 1
        return Not(part)

    def _primary(self, subject: tuple[Field | Call, str] | None) -> Node:
        token = self._next
        if token.kind == "(":
            self._take()
            self._deeper(token)
            node = self._conjunction(subject)
            self._depth -= 1
            self._expect(")")
            return node
        if token.kind not in ("text", "string") or self._is_keyword(*_KEYWORDS):
            self._fail(token)
        if subject is not None:
            return self._compare(subject, self._take())
        if self._starts_call():
            call = self._call()
            return self._comparison(call) if self._next.kind == "operator" else call
        at = self._at
        path = self._path()
        if self._next.kind == "operator":
            return self._comparison(Field(path))
        self._at = at
        self._take()
        return Text(_literal(token).text)

    def _comparison(self, left: Field | Call) -> Node:
        operator = self._take().value
        token = self._next
        if token.kind == "(":
            self._take()
            self._deeper(token)
            node = self._conjunction((left, operator))
            self._depth -= 1
            self._expect(")")
            return node
        if token.kind not in ("text", "string") or self._is_keyword(*_KEYWORDS):
            self._fail(token)
        return self._compare((left, operator), self._take())

    def _compare(self, subject: tuple[Field | Call, str], token: _Token) -> Comparison:
        left, operator = subject
        if operator in ("=~", "!~") and token.kind != "string":
            self._fail(token, "regular expressions must begin and end with '\"'")
        return Comparison(left, operator, _literal(token))

    def _starts_call(self) -> bool:
        token = self._next
        following = self._tokens[self._at + 1] if token.kind == "text" else token
        return token.kind == "text" and following.kind == "(" and following.start == token.end

    def _call(self) -> Call:
        name = self._take()
        self._expect("(")
        self._deeper(name)
        arguments: list[Literal | Field | Call] = []
        while self._next.kind != ")":
            if arguments:
                self._expect(",")
            arguments.append(self._argument())
        self._depth -= 1
        self._expect(")")
        return Call(name.value.lower(), tuple(arguments))

    def _argument(self) -> Literal | Field | Call:
        if self._next.kind == "string":
            return _literal(self._take())
        if self._next.kind != "text":
            self._fail(self._next)
        return self._call() if self._starts_call() else Field(self._path())

    def _path(self) -> tuple[str, ...]:
        """`labels."a.b".c`: words and quoted parts, with dots and no spaces between them."""
        segments: list[str] = []
        open_end = True
        while True:
            token = self._next
            if segments and token.start != self._tokens[self._at - 1].end:
                break
            if token.kind == "string" and open_end:
                segments.append(_literal(token).text)
                open_end = False
            elif token.kind == "text" and (open_end or token.value.startswith(".")):
                words = token.value.removeprefix(".") if segments else token.value
                segments.extend(word for word in words.removesuffix(".").split(".") if words != "")
                open_end = token.value.endswith(".")
            else:
                break
            self._take()
        return tuple(segments)

    def _expect(self, kind: str) -> None:
        if self._next.kind != kind:
            self._fail(self._next)
        self._take()

    def _deeper(self, token: _Token) -> None:
        self._depth += 1
        if self._depth > DEEPEST_NESTING:
            self._fail(token, "the filter is nested too deeply")

    def _fail(self, token: _Token, problem: str = "syntax error") -> NoReturn:
        before = self._text[: token.start]
        line = before.count("\n") + 1
        column = token.start - (before.rfind("\n") + 1) + 1
        raise InvalidArgument(
            f"Unparseable filter: {problem} at line {line}, column {column}, token '{token.value.strip(chr(34))}'"
        )


def _literal(token: _Token) -> Literal:
    if token.kind == "text":
        return Literal(token.value, quoted=False)
    return Literal(
        re.sub(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", _unescape, token.value[1:-1], flags=re.S)
    )


def _unescape(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] in "ux" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    if escape[0] in "01234567":
        return chr(int(escape, 8))
    return _ESCAPES.get(escape, escape)
