"""Values of protobuf and plain objects, each way."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from selfloop_apis import protobuf

from emulator.services.aiplatform import values

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_is_filled_in_is_read_back(item: Any) -> None:
    value = protobuf.Value()
    values.fill(value, item)
    assert values.plain(value) == item


@given(JSON)
def test_fill_does_what_json_format_does(item: Any) -> None:
    value, expected = protobuf.Value(), protobuf.Value()
    values.fill(value, item)
    json_format.ParseDict(item, expected)
    assert value == expected


@pytest.mark.parametrize(
    ("number", "text"),
    [(20.0, "20"), (-3.0, "-3"), (0.5, "0.5"), (1e300, "1e+300"), (2.0**60, "1.152921504606847e+18")],
)
def test_plain_writes_whole_numbers_whole(number: float, text: str) -> None:
    assert json.dumps(values.plain(protobuf.Value(number_value=number))) == text


def test_fill_refuses_a_number_that_no_double_is() -> None:
    with pytest.raises(OverflowError):
        values.fill(protobuf.Value(), 10**400)
