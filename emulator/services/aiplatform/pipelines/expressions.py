"""The expressions of compiled pipelines: conditions of tasks, and selectors of a value's parts.

A condition is CEL over `inputs.parameter_values`; kfp emits comparisons, `!`, `&&` and the conversions `int` and
`double`, and this reads those, `||`, `string`, `bool` and parentheses besides. It is parsed when a pipeline is
submitted and evaluated when its task is due.

Sources: kfp's compiler (pipeline_spec_builder.py); https://github.com/google/cel-spec/blob/master/doc/langdef.md
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

#: What a parsed condition is: it gives the value for a task's inputs, or raises ExpressionError.
Expression = Callable[[Mapping[str, Any]], Any]

_SPACE = re.compile(r"\s*")
_INPUT = re.compile(r"inputs\.parameter_values\[\s*(?:'([^']*)'|\"([^\"]*)\")\s*\]")
_NUMBER = re.compile(r"-?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_COMPARISON = re.compile(r"==|!=|<=|>=|<|>")
#: kfp does not escape quotes inside a text: one that ends it has nothing or an operator behind it.
_AFTER_TEXT = re.compile(r"\s*(?:$|\)|&&|\|\||==|!=|<|>)")
_SELECTOR = re.compile(r"parseJson\(\s*string_value\s*\)((?:\[(?:\"[^\"]*\"|'[^']*'|\d+)\])*)")
_PART = re.compile(r"\[(?:\"([^\"]*)\"|'([^']*)'|(\d+))\]")
_DEEPEST = 100
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class ExpressionError(Exception):
    """An expression that cannot be read, or has no value for these inputs; the sentence says why."""


def parse_condition(text: str) -> Expression:
    """A condition ready to be evaluated. Raises ExpressionError for what is no such expression."""
    return _Parser(text).parse()


def is_true(condition: Expression, inputs: Mapping[str, Any]) -> bool:
    """Whether a condition holds for a task's parameters. Raises ExpressionError."""
    return _boolean(condition(inputs))


def parse_selector(text: str) -> Callable[[Any], Any]:
    """The function that takes its part out of a value: `parseJson(string_value)["a"]`, of a text or a structure.

    Raises ExpressionError for another form; so does the function when the value has no such part.
    """
    found = _SELECTOR.fullmatch(text.strip())
    if found is None:
        raise ExpressionError(f"the selector {text!r} is not of the form parseJson(string_value)[...]")
    path = [int(part[2]) if part[2] else part[0] or part[1] for part in _PART.findall(found[1])]

    def select(value: Any) -> Any:
        part = value
        try:
            if isinstance(part, str):
                part = json.loads(part)
            for key in path:
                part = part[key]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError):
            raise ExpressionError(f"{text} finds nothing in {json.dumps(value)[:200]}") from None
        return part

    return select


class _Parser:
    """or = and {"||" and}; and = unary {"&&" unary}; unary = "!" unary | operand [comparison operand]."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> Expression:
        found = self._or()
        if self._rest():
            raise self._unexpected()
        return found

    def _or(self) -> Expression:
        terms = [self._and()]
        while self._take("||"):
            terms.append(self._and())
        return terms[0] if len(terms) == 1 else lambda inputs: any(_boolean(term(inputs)) for term in terms)

    def _and(self) -> Expression:
        terms = [self._unary()]
        while self._take("&&"):
            terms.append(self._unary())
        return terms[0] if len(terms) == 1 else lambda inputs: all(_boolean(term(inputs)) for term in terms)

    def _unary(self) -> Expression:
        self._rest()
        if not self._text.startswith("!=", self._at) and self._take("!"):
            term = self._nested(self._unary)
            return lambda inputs: not _boolean(term(inputs))
        left = self._operand()
        self._rest()
        found = _COMPARISON.match(self._text, self._at)
        if found is None:
            return left
        self._at = found.end()
        right = self._operand()
        return lambda inputs: _compare(found[0], left(inputs), right(inputs))

    def _operand(self) -> Expression:
        self._rest()
        if self._take("("):
            return self._in_parentheses()
        if found := self._match(_INPUT):
            name = found[1] if found[1] is not None else found[2]
            return lambda inputs: _value(inputs, name)
        if found := self._match(_NUMBER):
            return _constant(float(found[0]) if re.search(r"[.eE]", found[0]) else int(found[0]))
        if self._text[self._at : self._at + 1] in ("'", '"'):
            return _constant(self._quoted())
        word = self._match(_WORD)
        if word is not None and word[0] in ("true", "false", "null"):
            return _constant({"true": True, "false": False, "null": None}[word[0]])
        if word is not None and word[0] in _CONVERSIONS and self._take("("):
            convert, argument = _CONVERSIONS[word[0]], self._in_parentheses()
            return lambda inputs: convert(argument(inputs))
        if word is not None:
            self._at = word.start()
        raise self._unexpected()

    def _in_parentheses(self) -> Expression:
        found = self._nested(self._or)
        if not self._take(")"):
            raise self._unexpected()
        return found

    def _nested(self, parse: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ExpressionError(f"the condition is nested more than {_DEEPEST} deep")
        found = parse()
        self._depth -= 1
        return found

    def _quoted(self) -> str:
        quote, start = self._text[self._at], self._at + 1
        end = self._text.find(quote, start)
        while end >= 0 and not _AFTER_TEXT.match(self._text, end + 1):
            end = self._text.find(quote, end + 1)
        if end < 0:
            raise self._unexpected()
        self._at = end + 1
        return self._text[start:end]

    def _take(self, token: str) -> bool:
        self._rest()
        if not self._text.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
        return found

    def _rest(self) -> str:
        """What is left, leading blanks passed over."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._text[self._at :]

    def _unexpected(self) -> ExpressionError:
        rest = self._rest()
        what = f"{rest[:40]!r} is unexpected" if rest else "it ends too soon"
        return ExpressionError(f"the condition {self._text[:200]!r} cannot be read: {what}")


def _constant(value: Any) -> Expression:
    return lambda inputs: value


def _value(inputs: Mapping[str, Any], name: str) -> Any:
    if name not in inputs:
        raise ExpressionError(f"no such key: {name}")
    return inputs[name]


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"{json.dumps(value)[:80]} is not a bool")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _compare(sign: str, left: Any, right: Any) -> bool:
    """CEL compares numbers with numbers and else only what is of one type."""
    if not (_is_number(left) and _is_number(right)):
        if sign in ("==", "!=") and (left is None or right is None):
            return _COMPARE[sign](left, right)
        if type(left) is not type(right) or (sign not in ("==", "!=") and not isinstance(left, (str, bool))):
            types = f"({type(left).__name__}, {type(right).__name__})"
            raise ExpressionError(f"no matching overload for '{sign}' applied to {types}")
    return _COMPARE[sign](left, right)


def _to_int(value: Any) -> int:
    try:
        if isinstance(value, str):
            # Texts of whole doubles too: values travel as doubles.
            return int(value) if re.fullmatch(r"[+-]?\d+", value.strip()) else _whole(float(value))
        if _is_number(value) and math.isfinite(value):
            return int(value)
    except ValueError:
        pass
    raise ExpressionError(f"int() has no value for {json.dumps(value)[:80]}")


def _whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError
    return int(number)


def _to_double(value: Any) -> float:
    try:
        if isinstance(value, str) or _is_number(value):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ExpressionError(f"double() has no value for {json.dumps(value)[:80]}")


def _to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) or _is_number(value):
        return str(value)
    raise ExpressionError(f"string() has no value for {json.dumps(value)[:80]}")


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ExpressionError(f"bool() has no value for {json.dumps(value)[:80]}")


_CONVERSIONS: Mapping[str, Callable[[Any], Any]] = {
    "int": _to_int, "double": _to_double, "string": _to_string, "bool": _to_bool,
}  # fmt: skip
