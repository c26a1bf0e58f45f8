"""The `filter` of list calls: AIP-160 over protobuf messages.

`AND` binds looser than `OR`, as the standard has it; a blank between two restrictions is an `AND`. Names may
be snake_case or camelCase. On text, `:` matches the whole value with `*` as wildcard and `=` compares
literally; on a map, `labels.key=value`, `labels.key:*` and `labels:key`; on a list, any element counts. A Struct
is gone into by the kinds of its values, `metadata."a:b".number_value > 1`; `field:"a","b"` asks for either.
Source: https://google.aip.dev/160 and the filter descriptions of Vertex AI's list requests
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from google.api_core.exceptions import InvalidArgument
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from selfloop_apis import protobuf

from emulator.core.service import snake_case

Predicate = Callable[[Any], bool]
M = TypeVar("M", bound=Message)

#: Parentheses and NOTs inside one another; the parser recurses.
_DEEPEST = 50
_SPACE = re.compile(r"\s*")
_OPERATOR = re.compile(r"<=|>=|!=|=|<|>|:")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"|\'((?:[^\'\\]|\\.)*)\'', re.DOTALL)
#: A part of a field's name, or a keyword.
_WORD = re.compile(r"[^\s\"'()=<>!:.,]+")
#: What follows an operator without quotes: a time has colons, a version has dots.
_VALUE = re.compile(r"[^\s\"'()=<>!,]+")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_NUMBERS = frozenset(
    {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT32,
     FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
)  # fmt: skip
#: The kinds of a Struct's values that can be compared, by the fields that hold them.
_VALUE_KINDS: Mapping[str, FieldDescriptor] = {
    name: protobuf.Value.DESCRIPTOR.fields_by_name[name] for name in ("number_value", "string_value", "bool_value")
}


def compile(  # noqa: A001  # as in re.compile
    text: str,
    message_type: type[M],
    fields: Iterable[str],
    computed: Mapping[str, Callable[[M], str | Iterable[str]]] | None = None,
    canonical: Callable[[str], str] = lambda name: name,
    *,
    functions: Mapping[str, Callable[[str], Callable[[M], bool]]] | None = None,
    deepest: int = _DEEPEST,
) -> Callable[[M], bool]:
    """Whether a message passes the filter. An empty filter lets everything pass.

    fields: dotted snake_case paths that may be filtered by; a map or message allows what is below it.
    computed: snake_case names that are no fields, such as `model` for the last part of a Model's name, and their text,
    or texts, of which any counts.
    canonical: makes the stored form of a resource name that a client wrote with its project's id.
    functions: what may be called with one text, such as `in_context("…")`, and the test that it makes.
    deepest: parentheses and NOTs that may be inside one another.
    Raises InvalidArgument for bad syntax, a field outside the list, an operator or value that does not fit.
    """
    descriptor = descriptor_of(message_type)
    compiler = _Compiler(text, descriptor, fields, computed or {}, canonical, functions=functions or {})
    return _Parser(text, compiler, deepest).parse()


def wildcard(pattern: str) -> Callable[[str], bool]:
    """Whether the whole of a text matches a pattern in which `*` stands for any characters, or none.

    No regular expression: many stars would make one slow, and filters come from anyone.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return lambda text: text == pattern
    *middle, last = rest

    def matches(text: str) -> bool:
        if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return True

    return matches


class _Parser:
    """expression = sequence {AND sequence}; sequence = factor {factor}; factor = term {OR term}."""

    def __init__(self, text: str, compiler: _Compiler, deepest: int) -> None:
        self._text = text
        self._deepest = deepest
        self._at = 0
        self._depth = 0
        self._compiler = compiler

    def parse(self) -> Predicate:
        self._skip_space()
        if self._at == len(self._text):
            return lambda message: True
        found = self._expression()
        if self._at < len(self._text):
            raise self._unexpected()
        return found

    def _expression(self) -> Predicate:
        terms = [self._factor()]
        while self._at < len(self._text) and self._peek() != ")":
            self._keyword("AND")
            terms.append(self._factor())
        return terms[0] if len(terms) == 1 else lambda message: all(term(message) for term in terms)

    def _factor(self) -> Predicate:
        terms = [self._term()]
        while self._keyword("OR"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else lambda message: any(term(message) for term in terms)

    def _term(self) -> Predicate:
        self._depth += 1
        # A term within no parentheses is at depth 1.
        if self._depth > self._deepest + 1:
            raise self._compiler.error("it is nested too deeply")
        try:
            if self._keyword("NOT") or self._take("-"):
                inner = self._term()
                return lambda message: not inner(message)
            if self._take("("):
                inner = self._expression()
                if not self._take(")"):
                    raise self._unexpected()
                return inner
            return self._restriction()
        finally:
            self._depth -= 1

    def _restriction(self) -> Predicate:
        path = [self._name()]
        while self._text.startswith(".", self._at):
            self._at += 1
            path.append(self._name())
        self._skip_space()
        if len(path) == 1 and self._take("("):
            return self._call(path[0])
        found = _OPERATOR.match(self._text, self._at)
        if not found:
            raise self._unexpected()
        self._at = found.end()
        self._skip_space()
        tests = [self._compiler.restriction(path, found[0], self._value())]
        while found[0] == ":" and self._take(","):
            tests.append(self._compiler.restriction(path, found[0], self._value()))
        return tests[0] if len(tests) == 1 else lambda message: any(test(message) for test in tests)

    def _call(self, name: str) -> Predicate:
        test = self._compiler.call(name, self._value())
        if not self._take(")"):
            raise self._unexpected()
        return test

    def _value(self) -> str:
        value = self._quoted()
        if value is None:
            value = self._match(_VALUE)
        self._skip_space()
        return value

    def _name(self) -> str:
        quoted = self._quoted()
        return self._match(_WORD) if quoted is None else quoted

    def _quoted(self) -> str | None:
        found = _QUOTED.match(self._text, self._at)
        if not found:
            return None
        self._at = found.end()
        return re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2], flags=re.DOTALL)

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise self._unexpected()
        self._at = found.end()
        return found[0]

    def _keyword(self, word: str) -> bool:
        """Step over a keyword if it is next; `ORIGIN=1` does not begin with one."""
        found = _WORD.match(self._text, self._at)
        if not found or found[0] != word or self._text[found.end() : found.end() + 1] in (":", "=", "."):
            return False
        self._at = found.end()
        self._skip_space()
        return True

    def _take(self, mark: str) -> bool:
        if self._peek() != mark:
            return False
        self._at += 1
        self._skip_space()
        return True

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip_space(self) -> None:
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _unexpected(self) -> InvalidArgument:
        rest = self._text[self._at : self._at + 20]
        return self._compiler.error(f"unexpected {rest!r}" if rest else "it ends too early")


class _Compiler:
    """Makes predicates of single restrictions, knowing the message's fields."""

    def __init__(
        self,
        text: str,
        descriptor: Descriptor,
        fields: Iterable[str],
        computed: Mapping[str, Callable[[Any], str | Iterable[str]]],
        canonical: Callable[[str], str],
        *,
        functions: Mapping[str, Callable[[str], Predicate]],
    ) -> None:
        self._text = text
        self._descriptor = descriptor
        self._fields = frozenset(fields)
        self._computed = computed
        self._canonical = canonical
        self._functions = functions

    def error(self, why: str) -> InvalidArgument:
        return InvalidArgument(f'Invalid filter "{self._text[:200]}": {why}.')

    def call(self, name: str, argument: str) -> Predicate:
        make = self._functions.get(name)
        if make is None:
            raise self.error(f"there is no function {name}")
        return make(self._name_form(argument))

    def restriction(self, path: list[str], comparator: str, value: str) -> Predicate:
        read = self._computed.get(snake_case(path[0])) if len(path) == 1 else None
        if read is not None:
            return self._text_test(path[0], comparator, value, lambda message: _texts(read(message)))
        steps, keys = self._resolve(path)
        field = steps[-1]
        name = ".".join(path)
        if _is_struct(field):
            return self._struct_test(steps, name, keys, comparator, value)
        entry = map_entry(field)
        if entry is not None:
            if keys:
                field = entry.fields_by_name["value"]
            elif comparator == ":":
                matches = wildcard(value)
                return lambda message: any(matches(item) for item in _values(message, steps, None))
            else:
                raise self.error(f"{name} is a map: ask with `:` for a key, or for {name}.key")
        key = keys[0] if keys else None

        def values(message: Message) -> Iterator[Any]:
            return _values(message, steps, key)

        if comparator == ":" and value == "*":
            return lambda message: any(_is_present(item) for item in values(message))
        return self._typed_test(field, name, comparator, value, values)

    def _typed_test(
        self,
        field: FieldDescriptor,
        name: str,
        comparator: str,
        value: str,
        values: Callable[[Any], Iterator[Any]],
    ) -> Predicate:
        if field.type == FieldDescriptor.TYPE_STRING:
            return self._text_test(name, comparator, value, values)
        if field.enum_type is not None:
            if value not in field.enum_type.values_by_name:
                raise self.error(f"{value!r} is not a value of {name}")
            return self._equality(name, comparator, field.enum_type.values_by_name[value].number, values)
        if field.type == FieldDescriptor.TYPE_BOOL:
            if value not in ("true", "false"):
                raise self.error(f"{name} is true or false")
            return self._equality(name, comparator, value == "true", values)
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
            return self._ordering(comparator, self._time(name, value), lambda m: map(_instant, values(m)))
        if field.cpp_type in _NUMBERS:
            try:
                return self._ordering(comparator, float(value), values)
            except ValueError:
                raise self.error(f"{name} is a number") from None
        raise self.error(f"{name} cannot be compared")

    def _struct_test(
        self, steps: list[FieldDescriptor], name: str, keys: list[str], comparator: str, value: str
    ) -> Predicate:
        """A test of one value in a Struct. keys: `field`, its kind, and so on where that is struct_value."""
        way = keys[::2]
        kinds = [snake_case(kind) for kind in keys[1::2]]
        if comparator == ":" and value == "*" and kinds == ["struct_value"] * (len(way) - 1):
            return lambda message: any(True for _ in _in_struct(message, steps, way))
        kind = kinds.pop() if kinds else ""
        if len(keys) % 2 or kinds != ["struct_value"] * len(kinds) or kind not in _VALUE_KINDS:
            raise self.error(f"{name} must end in one of {', '.join(sorted(_VALUE_KINDS))}")

        def values(message: Any) -> Iterator[Any]:
            for found in _in_struct(message, steps, way):
                if found.WhichOneof("kind") == kind:
                    yield getattr(found, kind)

        return self._typed_test(_VALUE_KINDS[kind], name, comparator, value, values)

    def _text_test(self, name: str, comparator: str, value: str, values: Callable[[Any], Iterator[Any]]) -> Predicate:
        if comparator == ":":
            matches = wildcard(self._name_form(value))
            return lambda message: any(matches(item) for item in values(message))
        return self._equality(name, comparator, self._name_form(value), values)

    def _name_form(self, value: str) -> str:
        return self._canonical(value) if value.startswith("projects/") and "*" not in value else value

    def _equality(self, name: str, comparator: str, wanted: Any, values: Callable[[Any], Iterator[Any]]) -> Predicate:
        if comparator in ("=", ":"):
            return lambda message: wanted in values(message)
        if comparator == "!=":
            return lambda message: wanted not in values(message)
        raise self.error(f"{name} cannot be compared with {comparator}")

    def _ordering(self, comparator: str, wanted: Any, values: Callable[[Any], Iterator[Any]]) -> Predicate:
        compare = _COMPARISONS.get(comparator)
        if compare is None:
            return self._equality("", comparator, wanted, values)
        return lambda message: any(compare(item, wanted) for item in values(message))

    def _time(self, name: str, value: str) -> tuple[int, int]:
        time = protobuf.Timestamp()
        try:
            time.FromJsonString(value)
        except ValueError:
            raise self.error(f"{name} is a time such as 2026-01-31T00:00:00Z, not {value!r}") from None
        return _instant(time)

    def _resolve(self, path: list[str]) -> tuple[list[FieldDescriptor], list[str]]:
        """Fields down the path, and the map's key where it ends in one."""
        steps: list[FieldDescriptor] = []
        descriptor: Descriptor | None = self._descriptor
        for index, part in enumerate(path):
            field = find_field(descriptor, part) if descriptor is not None else None
            if field is None:
                break
            steps.append(field)
            if _is_struct(field):
                if path[index + 1 :] and self._allows(steps):
                    return steps, path[index + 1 :]
                break
            if map_entry(field) is not None:
                key = path[index + 1 :]
                if len(key) <= 1 and self._allows(steps):
                    return steps, key
                break
            descriptor = field.message_type
        if len(steps) != len(path) or not self._allows(steps):
            raise self.error(f"there is no filtering by {'.'.join(path)}")
        return steps, []

    def _allows(self, steps: list[FieldDescriptor]) -> bool:
        names = [field.name for field in steps]
        return any(".".join(names[: length + 1]) in self._fields for length in range(len(names)))


def find_field(descriptor: Descriptor, name: str) -> FieldDescriptor | None:
    """A message's field by its snake_case or camelCase name."""
    return descriptor.fields_by_name.get(name) or descriptor.fields_by_camelcase_name.get(name)


def map_entry(field: FieldDescriptor) -> Descriptor | None:
    """The message of a map's entries, with its fields `key` and `value`; None for a field that is no map."""
    entry = field.message_type
    return entry if entry is not None and entry.has_options and entry.GetOptions().map_entry else None


def descriptor_of(message: Message | type[Message]) -> Descriptor:
    """The descriptor, by the name under which the type checker knows it."""
    return cast(Descriptor, message.DESCRIPTOR)


def _values(message: Any, steps: list[FieldDescriptor], key: str | None) -> Iterator[Any]:
    """What is down the path: nothing where a message is unset, several for a list, keys for a bare map."""
    field, rest = steps[0], steps[1:]
    value = getattr(message, field.name)
    if map_entry(field) is not None:
        if key is None:
            yield from value
        elif key in value:
            yield value[key]
    elif field.is_repeated:
        for item in value:
            yield from _values(item, rest, key) if rest else (item,)
    elif field.message_type is None:
        yield value
    elif message.HasField(field.name):
        yield from _values(value, rest, key) if rest else (value,)


def _in_struct(message: Any, steps: list[FieldDescriptor], way: list[str]) -> Iterator[Any]:
    """The Values at the end of a way of keys through the Structs that are down the path."""
    *before, last = way
    structs = list(_values(message, steps, None))
    for key in before:
        structs = [struct.fields[key].struct_value for struct in structs if key in struct.fields]
    yield from (struct.fields[last] for struct in structs if last in struct.fields)


def _is_struct(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Struct"


def _texts(given: str | Iterable[str]) -> Iterator[str]:
    return iter((given,)) if isinstance(given, str) else iter(given)


def _is_present(value: Any) -> bool:
    """Whether `:*` holds: a message that is set always is there, a scalar when it is not its default."""
    return isinstance(value, Message) or bool(value)


def _instant(time: Any) -> tuple[int, int]:
    return time.seconds, time.nanos
