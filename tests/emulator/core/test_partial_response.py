from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import BadRequest

from emulator.core import partial_response

DOCUMENT = {
    "kind": "k",
    "items": [{"name": "a", "size": "1", "metadata": {"x": "y", "z": "w"}}, {"name": "b", "size": "2"}],
    "nextPageToken": "t",
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("kind", {"kind": "k"}),
        ("items/name,nextPageToken", {"items": [{"name": "a"}, {"name": "b"}], "nextPageToken": "t"}),
        ("items(name, size)", {"items": [{"name": "a", "size": "1"}, {"name": "b", "size": "2"}]}),
        ("items/metadata/x", {"items": [{"metadata": {"x": "y"}}, {}]}),
        ("items(metadata/x,name),items/size", {"items": [
            {"name": "a", "size": "1", "metadata": {"x": "y"}}, {"name": "b", "size": "2"}]}),
        ("items,items/name", {"items": DOCUMENT["items"]}),
        ("*", DOCUMENT),
        ("missing", {}),
    ],
)  # fmt: skip
def test_select_takes_what_the_mask_names(fields: str, expected: dict[str, Any]) -> None:
    assert partial_response.select(DOCUMENT, partial_response.parse(fields)) == expected


@pytest.mark.parametrize("fields", [",", "a(", "a)", "a(b", "a//b", "a,", "(a)", "a/" * 99 + "a"])
def test_parse_of_a_malformed_mask_is_refused(fields: str) -> None:
    with pytest.raises(BadRequest, match="Invalid field selection"):
        partial_response.parse(fields)


def test_includes_tells_what_need_not_be_computed() -> None:
    mask = partial_response.parse("items(name,size)")
    assert partial_response.includes(mask, "items", "name")
    assert not partial_response.includes(mask, "items", "md5Hash")
    assert partial_response.includes(partial_response.parse("items"), "items", "md5Hash")
    assert partial_response.includes({}, "items", "md5Hash")
