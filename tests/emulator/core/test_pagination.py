"""List calls: pages, order, filter and mask together."""

from __future__ import annotations

import base64
import json

import pytest
from google.api_core.exceptions import InvalidArgument
from selfloop_apis import aiplatform_v1

from emulator.core import pagination

Model = aiplatform_v1.Model
Request = aiplatform_v1.ListModelsRequest
PARENT = "projects/1/locations/l"


def models(*names: str) -> list[aiplatform_v1.Model]:
    result = []
    for index, name in enumerate(names):
        model = Model(name=f"{PARENT}/models/{name}", display_name=f"model {name}")
        model.create_time.FromSeconds(1000 - index)
        result.append(model)
    return result


def shown(
    items: list[aiplatform_v1.Model], request: aiplatform_v1.ListModelsRequest, **options: int
) -> tuple[str, str]:
    """The last letters of the names on a page, and the token of the next one."""
    page = pagination.page(
        items,
        request,
        Model,
        filterable=("display_name",),
        sortable=("display_name", "create_time"),
        **options,  # type: ignore[arg-type]
    )
    return "".join(item.name[-1] for item in page.items), page.next_page_token


def test_page_walks_the_whole_list_once() -> None:
    items = models(*"abcdefg")
    seen, token, calls = "", "", 0
    while calls == 0 or token:
        names, token = shown(items, Request(parent=PARENT, page_size=3, page_token=token))
        seen += names
        calls += 1
    assert (seen, calls) == ("abcdefg", 3)


def test_page_that_fits_exactly_has_no_next() -> None:
    assert shown(models(*"abc"), Request(page_size=3)) == ("abc", "")


def test_page_size_has_a_default_and_a_limit() -> None:
    assert shown(models(*"abcde"), Request(), default_size=2)[0] == "ab"
    assert shown(models(*"abcde"), Request(page_size=5), largest_size=4)[0] == "abcd"


def test_page_goes_on_behind_the_last_item_when_others_come_and_go() -> None:
    _, token = shown(models(*"cdefg"), Request(page_size=2))
    request = Request(page_size=9, page_token=token)
    assert shown(models(*"abcdefg"), request)[0] == "efg"
    # The last one shown is gone: its place in the list counts.
    assert shown(models(*"cefg"), request)[0] == "fg"


@pytest.mark.parametrize("token", ["x", "!!", "bm90IGpzb24", base64.b64encode(json.dumps([1, 2]).encode()).decode()])
def test_page_of_bad_token_is_invalid_argument(token: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        shown(models("a"), Request(page_token=token))


def test_page_of_token_from_another_query_is_invalid_argument() -> None:
    _, token = shown(models(*"abc"), Request(page_size=1))
    with pytest.raises(InvalidArgument, match="another query"):
        shown(models(*"abc"), Request(page_size=1, page_token=token, filter='display_name="model a"'))


def test_page_of_negative_size_is_invalid_argument() -> None:
    with pytest.raises(InvalidArgument, match="page_size"):
        shown(models("a"), Request(page_size=-1))


@pytest.mark.parametrize(
    ("order_by", "expected"),
    [
        ("", "bca"),
        ("display_name", "abc"),
        ("displayName desc", "cba"),
        ("create_time", "acb"),
        ("create_time desc, display_name", "bca"),
        ("  create_time   DESC ", "bca"),
    ],
)
def test_page_is_ordered(order_by: str, expected: str) -> None:
    assert shown(models(*"bca"), Request(order_by=order_by))[0] == expected


@pytest.mark.parametrize("order_by", ["labels", "no_such", "display_name up", "display_name,", "update_time", "a b c"])
def test_page_of_bad_order_is_invalid_argument(order_by: str) -> None:
    with pytest.raises(InvalidArgument, match="order_by"):
        shown([], Request(order_by=order_by))


def test_page_is_filtered_even_when_there_is_nothing() -> None:
    assert shown(models(*"abc"), Request(filter='display_name:"* b"'))[0] == "b"
    with pytest.raises(InvalidArgument, match="Invalid filter"):
        shown([], Request(filter="color=red"))


def test_page_shows_what_the_read_mask_names() -> None:
    request = Request()
    request.read_mask.paths.append("display_name")
    page = pagination.page(models("a"), request, Model)
    assert page.items == [Model(name=f"{PARENT}/models/a", display_name="model a")]
