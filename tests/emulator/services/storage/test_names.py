from __future__ import annotations

import pytest
from google.api_core.exceptions import BadRequest
from hypothesis import given
from hypothesis import strategies as st

from emulator.services.storage.names import after_prefix, check_bucket_name, check_object_name, path_of, split_uri


@pytest.mark.parametrize("name", ["abc", "my-bucket_1", "a.b.c", "0" * 63, ".".join(["a" * 60] * 3)])
def test_bucket_name_within_the_rules_is_taken(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    ["ab", "-abc", "abc-", "Abc", "a b", "0" * 64, "1.2.3.4", "googly", "my-google-data", "a..b", "a/b", "", "abc\n"],
)
def test_bucket_name_outside_the_rules_is_refused(name: str) -> None:
    with pytest.raises(BadRequest, match="Invalid bucket name"):
        check_bucket_name(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "a\rb", "é" * 513, "\ud800", ".well-known/acme-challenge/x"])
def test_object_name_outside_the_rules_is_refused(name: str) -> None:
    with pytest.raises(BadRequest):
        check_object_name(name)


@pytest.mark.parametrize("name", ["a//b", "/a", "a/", "a/../b", "./a", "a/.", "x" * 256, "a\0b"])
def test_path_of_an_awkward_name_is_none(name: str) -> None:
    assert path_of(name) is None


@given(st.text())
def test_path_never_leaves_its_folder(name: str) -> None:
    parts = path_of(name)
    if parts is not None:
        assert "/".join(parts) == name
        assert not {"", ".", ".."} & set(parts)
        assert not any("/" in part or "\0" in part for part in parts)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"])))
def test_after_prefix_is_beyond_every_name_with_it(prefix: str, rest: str) -> None:
    beyond = after_prefix(prefix)
    if beyond is None:
        assert set(prefix) == {"\U0010ffff"}
    else:
        assert (prefix + rest).encode() < beyond.encode()


@pytest.mark.parametrize("uri", ["s3://a/b", "/gcs/a", "gs://", ""])
def test_split_uri_of_anything_else_is_refused(uri: str) -> None:
    with pytest.raises(BadRequest, match="gs://bucket/object"):
        split_uri(uri)


def test_split_uri_gives_bucket_and_name() -> None:
    assert split_uri("gs://b/a/c") == ("b", "a/c")
    assert split_uri("gs://b") == ("b", "")
